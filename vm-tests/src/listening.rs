//! What a node listens on, as its kernel says.
//!
//! In: `/proc/net/{tcp,udp}{,6}` of the node. Out: `PROTOCOL/PORT` of each socket that takes what comes
//! from other machines.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use crate::BOOT_SECONDS;
use crate::machine::{Machine, PROBE_PORT};

/// Clients of DHCP and DHCPv6, and what only the test image has.
const KNOWN: [&str; 2] = ["udp/68", "udp/546"];
/// State of a TCP socket that listens (`include/net/tcp_states.h` of the kernel).
const LISTEN: &str = "0A";
/// State of a UDP socket without a peer.
const UNCONNECTED: &str = "07";
/// 127.0.0.0/8 and ::1 as the kernel writes them on a little-endian machine.
const LOOPBACK: &str = "7F";
const LOOPBACK_6: &str = "00000000000000000000000001000000";

/// Every socket that is not of loopback alone.
///
/// # Errors
/// When the probe does not answer, or the kernel's table has another form.
pub fn beyond_loopback(machine: &mut Machine) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for protocol in ["tcp", "tcp6", "udp", "udp6"] {
        let path = format!("/read?path=/proc/net/{protocol}");
        let table = String::from_utf8(machine.get(PROBE_PORT, &path, BOOT_SECONDS)?)?;
        found.extend(sockets(protocol.trim_end_matches('6'), &table)?);
    }
    Ok(found)
}

/// Those of one table.
fn sockets(protocol: &str, table: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for line in table.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, ..] = words[..] else {
            anyhow::bail!("not a line of /proc/net/{protocol}: {line:?}")
        };
        let (address, port) = local.split_once(':').with_context(|| local.to_owned())?;
        let is_open = state == if protocol == "tcp" { LISTEN } else { UNCONNECTED };
        let is_loopback =
            address == LOOPBACK_6 || (address.len() == 8 && address.ends_with(LOOPBACK));
        if is_open && !is_loopback {
            found.insert(format!("{protocol}/{}", u16::from_str_radix(port, 16)?));
        }
    }
    Ok(found)
}

/// Fails when there is another than these TCP ports, the test probe, and what a node asks for addresses
/// with.
///
/// # Errors
/// With those that are not known.
pub fn are_known(open: &BTreeSet<String>, tcp: &[u16]) -> Result<()> {
    let mut known: BTreeSet<String> = KNOWN.map(str::to_owned).into();
    known.extend(tcp.iter().chain([&PROBE_PORT]).map(|port| format!("tcp/{port}")));
    let unknown: Vec<_> = open.difference(&known).collect();
    ensure!(unknown.is_empty(), "the node listens on {unknown:?}");
    let missing = tcp.iter().map(|port| format!("tcp/{port}")).find(|port| !open.contains(port));
    ensure!(missing.is_none(), "{missing:?} is not in {open:?}: is the table read right?");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_to_others_is_found() {
        let tcp = "  sl  local_address rem_address   st\n\
            0: 3500007F:0035 00000000:0000 0A\n\
            1: 00000000:14EB 00000000:0000 0A\n\
            2: 0F02000A:280A 0202000A:C000 01\n";
        assert_eq!(sockets("tcp", tcp).unwrap(), BTreeSet::from(["tcp/5355".to_owned()]));
        let udp = "  sl  local_address rem_address   st\n\
            1: 00000000000000000000000000000000:14E9 00000000000000000000000000000000:0000 07\n\
            2: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07\n";
        let open = sockets("udp", udp).unwrap();
        assert_eq!(open, BTreeSet::from(["udp/5353".to_owned()]));
        assert!(are_known(&open, &[]).is_err());
        assert!(sockets("udp", "head\nshort").is_err());
    }
}
