//! A time server on the host's loopback that speaks SNTP (RFC 4330), for a guest whose clock is
//! wrong.
//!
//! **Invariant:** it listens on loopback alone, and ends with its process.

use std::net::UdpSocket;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// The port that clients ask; a scenario's own network namespace lets it be opened.
const PORT: u16 = 123;
const PACKET: usize = 48;
/// Seconds from 1900, where NTP begins, to 1970.
const TO_1970: u64 = 2_208_988_800;
/// Version 4, mode 4: an answer of a server.
const SERVER: u8 = 4 << 3 | 4;
/// Set by a reference clock, as far as the guest is concerned.
const STRATUM: u8 = 1;

/// Answers for as long as the process lives.
///
/// # Errors
/// When the port cannot be opened.
pub fn start() -> Result<()> {
    let socket = UdpSocket::bind(("127.0.0.1", PORT)).context("the port of time servers")?;
    thread::spawn(move || {
        let mut question = [0; PACKET];
        loop {
            let answered = socket
                .recv_from(&mut question)
                .and_then(|(_, client)| socket.send_to(&answer(&question), client));
            if let Err(error) = answered {
                eprintln!("time server: {error}");
            }
        }
    });
    Ok(())
}

/// The packet that answers `question`.
fn answer(question: &[u8; PACKET]) -> [u8; PACKET] {
    let now = now().to_be_bytes();
    let mut answer = [0; PACKET];
    answer[0] = SERVER;
    answer[1] = STRATUM;
    answer[2] = question[2];
    // Precision: 2^-20 seconds.
    answer[3] = (-20_i8).to_be_bytes()[0];
    answer[12..16].copy_from_slice(b"TEST");
    answer[16..24].copy_from_slice(&now);
    // What the client sent as its time comes back as the origin.
    answer[24..32].copy_from_slice(&question[40..48]);
    answer[32..40].copy_from_slice(&now);
    answer[40..48].copy_from_slice(&now);
    answer
}

/// Seconds since 1900 in the upper half, their fraction in the lower.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (since.as_secs() + TO_1970) << 32 | fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_its_question() {
        let mut question = [0; PACKET];
        question[40..48].copy_from_slice(b"my clock");
        let answer = answer(&question);
        assert_eq!(&answer[24..32], b"my clock");
        assert_eq!(answer[0] & 7, 4);
        assert!(answer[40..48] > 3_900_000_000_u32.to_be_bytes()[..]);
    }
}
