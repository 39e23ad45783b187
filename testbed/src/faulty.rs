//! A proxy in front of a web server that misbehaves when told to.
//!
//! In: requests of a node. Out: the server's answers, spoiled by the fault that is switched on.
//! **Invariant:** it listens on loopback alone, and ends with its process.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::Result;

use crate::http::read_head;

/// Port on loopback that scenarios run the proxy on.
pub const PORT: u16 = 8001;

const CHUNK: usize = 64 << 10;
/// How long a connection that says nothing is held.
const SILENCE: Duration = Duration::from_secs(600);

/// What is wrong with the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The connection closes after so many bytes of a body.
    Cut(usize),
    /// After so many bytes of a body nothing follows, and the connection stays.
    Stall(usize),
    /// The body ends after so many bytes, and the head says so.
    Truncate(usize),
    /// One bit in each 64 KiB of a body is another.
    Corrupt,
    /// Every answer has this status and no body worth having.
    Status(u16),
    /// `Range` is not understood: everything is sent with status 200.
    IgnoreRange,
    /// So many bytes a second.
    Trickle(usize),
    /// The body never ends.
    Endless,
}

/// A running proxy.
#[derive(Debug, Clone)]
pub struct FaultyProxy {
    switch: Arc<Mutex<Switch>>,
}

#[derive(Debug)]
struct Switch {
    fault: Fault,
    /// Only paths that hold this text are spoiled.
    part: String,
    /// How many answers were.
    spoiled: u64,
}

impl FaultyProxy {
    /// Listens on `127.0.0.1:port` and passes everything on to `127.0.0.1:upstream`.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(port: u16, upstream: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let switch = Switch { fault: Fault::None, part: String::new(), spoiled: 0 };
        let proxy = Self { switch: Arc::new(Mutex::new(switch)) };
        let own = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let own = own.clone();
                thread::spawn(move || {
                    // A node that hangs up on a bad answer does the right thing.
                    if let Err(error) = own.pass_on(client, upstream) {
                        eprintln!("faulty proxy: {error}");
                    }
                });
            }
        });
        Ok(proxy)
    }

    /// Answers to paths that hold `part` have this fault from now on.
    pub fn switch(&self, fault: Fault, part: &str) {
        let mut switch = self.switch.lock().unwrap_or_else(PoisonError::into_inner);
        *switch = Switch { fault, part: part.to_owned(), spoiled: 0 };
    }

    /// How many answers had the fault since it was switched on.
    pub fn spoiled(&self) -> u64 {
        self.switch.lock().unwrap_or_else(PoisonError::into_inner).spoiled
    }

    fn fault_for(&self, path: &str) -> Fault {
        let mut switch = self.switch.lock().unwrap_or_else(PoisonError::into_inner);
        if switch.fault == Fault::None || !path.contains(&switch.part) {
            return Fault::None;
        }
        switch.spoiled += 1;
        switch.fault
    }

    fn pass_on(&self, mut client: TcpStream, upstream: u16) -> io::Result<()> {
        let (head, _) = read_head(&mut client)?;
        let first = head.lines().next().unwrap_or_default();
        let path = first.split(' ').nth(1).unwrap_or("/");
        let fault = self.fault_for(path);
        if let Fault::Status(status) = fault {
            return write!(client, "HTTP/1.1 {status} Spoiled\r\nContent-Length: 0\r\n\r\n");
        }
        let mut server = TcpStream::connect(("127.0.0.1", upstream))?;
        write!(server, "{}\r\n", request(&head, fault))?;
        let (head, rest) = read_head(&mut server)?;
        client.write_all(answer_head(&head, fault).as_bytes())?;
        let mut body = Body { client, fault, sent: 0 };
        let mut open = body.send(&rest)?;
        let mut buffer = vec![0; CHUNK];
        while open {
            let count = server.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            open = body.send(&buffer[..count])?;
        }
        while fault == Fault::Endless && open {
            open = body.send(&buffer)?;
        }
        Ok(())
    }
}

/// The request as it is passed on: one answer for each connection.
fn request(head: &str, fault: Fault) -> String {
    let dropped = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        name == "connection"
            || (fault == Fault::IgnoreRange && (name == "range" || name == "if-range"))
    };
    let kept = head.lines().filter(|line| !line.is_empty() && !dropped(line));
    kept.map(|line| format!("{line}\r\n")).collect::<String>() + "Connection: close\r\n"
}

/// The answer's head, with a length that the fault makes of it.
fn answer_head(head: &str, fault: Fault) -> String {
    let mut text = String::new();
    for line in head.lines().filter(|line| !line.is_empty()) {
        let length = line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned);
        match (fault, length.and_then(|length| length.trim().parse::<usize>().ok())) {
            (Fault::Truncate(most), Some(length)) => {
                text += &format!("Content-Length: {}\r\n", length.min(most));
            }
            (Fault::Endless, Some(_)) => {}
            _ => text += &format!("{line}\r\n"),
        }
    }
    text + "\r\n"
}

/// The body on its way to the node.
struct Body {
    client: TcpStream,
    fault: Fault,
    sent: usize,
}

impl Body {
    /// Sends what the fault leaves of `bytes`; false when nothing may follow.
    fn send(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let limit = match self.fault {
            Fault::Cut(most) | Fault::Stall(most) | Fault::Truncate(most) => most,
            _ => usize::MAX,
        };
        let room = limit.saturating_sub(self.sent).min(bytes.len());
        let mut bytes = bytes[..room].to_vec();
        if self.fault == Fault::Corrupt {
            bytes.iter_mut().step_by(CHUNK).for_each(|byte| *byte ^= 1);
        }
        if let Fault::Trickle(rate) = self.fault {
            for piece in bytes.chunks(rate.max(1)) {
                self.client.write_all(piece)?;
                sleep(Duration::from_secs(1));
            }
        } else {
            self.client.write_all(&bytes)?;
        }
        self.sent += bytes.len();
        if self.sent >= limit && matches!(self.fault, Fault::Stall(_)) {
            self.client.set_read_timeout(Some(SILENCE))?;
            // Until the node hangs up.
            let mut byte = [0];
            return self.client.read(&mut byte).map(|_| false);
        }
        Ok(self.sent < limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(fault: Fault) -> io::Result<Vec<u8>> {
        let server = TcpListener::bind("127.0.0.1:0")?;
        let upstream = server.local_addr()?.port();
        thread::spawn(move || {
            let Ok((mut stream, _)) = server.accept() else { return };
            let Ok((head, _)) = read_head(&mut stream) else { return };
            let status = if head.contains("Range:") { "206 Partial" } else { "200 OK" };
            let body = vec![0; 1000];
            let written = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 1000\r\n\r\n")
                .and_then(|()| stream.write_all(&body));
            assert!(written.is_ok() || fault != Fault::None);
        });
        let own = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let proxy = FaultyProxy::start(own, upstream).map_err(io::Error::other)?;
        proxy.switch(fault, "/blobs/");
        let mut client = TcpStream::connect(("127.0.0.1", own))?;
        write!(client, "GET /blobs/x HTTP/1.1\r\nHost: x\r\nRange: bytes=0-999\r\n\r\n")?;
        let mut bytes = Vec::new();
        client.take(100_000).read_to_end(&mut bytes)?;
        assert_eq!(proxy.spoiled(), u64::from(fault != Fault::None));
        Ok(bytes)
    }

    #[test]
    fn each_fault_spoils_what_it_says() {
        let whole = answer(Fault::None).unwrap();
        let text = String::from_utf8_lossy(&whole).into_owned();
        assert!(text.starts_with("HTTP/1.1 206") && text.contains("Length: 1000"), "{text}");
        assert!(whole.ends_with(&[0; 1000]));
        let head = whole.len() - 1000;
        assert_eq!(answer(Fault::Cut(10)).unwrap().len(), head + 10);
        let short = answer(Fault::Truncate(10)).unwrap();
        assert!(String::from_utf8_lossy(&short).contains("Content-Length: 10\r\n"));
        assert_ne!(answer(Fault::Corrupt).unwrap(), whole);
        assert!(answer(Fault::Status(416)).unwrap().starts_with(b"HTTP/1.1 416"));
        assert!(answer(Fault::IgnoreRange).unwrap().starts_with(b"HTTP/1.1 200"));
        assert_eq!(answer(Fault::Endless).unwrap().len(), 100_000);
    }
}
