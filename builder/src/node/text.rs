//! A node's answers in words.
//!
//! **Invariant:** nothing that a node sends reaches the terminal with a control character.

use contract::node::api::{
    Drift, DriftItem, History, Outcome, Status, Why, hold_line, printable, status_lines,
};
use jiff::Timestamp;
use serde_json::Value;

/// Columns of the labels.
const LABEL: usize = 10;

/// A status, a line for each thing.
pub fn status(status: &Status) -> String {
    let mut text = String::new();
    let mut last = "";
    for (label, line) in status_lines(status) {
        let shown = if label == last { "" } else { label };
        last = label;
        text += format!("{shown:<LABEL$} {line}").trim_end();
        text.push('\n');
    }
    text
}

/// Why a node stays where it is.
pub fn why(why: &Why) -> String {
    let version = |version: &Option<contract::ReleaseVersion>| {
        version.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string)
    };
    let mut text =
        format!("running    {}\nwanted     {}\n", version(&why.running), version(&why.wanted));
    if let [_, _, ..] = why.way.as_slice() {
        let steps: Vec<_> = why.way.iter().map(ToString::to_string).collect();
        text += &format!("way        {}\n", steps.join(", "));
    }
    if why.holds.is_empty() {
        text += "Nothing holds the node.\n";
    }
    for hold in &why.holds {
        text += &format!("- {}\n", hold_line(hold));
    }
    text
}

/// What happened, the newest last.
pub fn history(history: &History) -> String {
    if history.events.is_empty() {
        return "Nothing has happened yet.\n".to_owned();
    }
    let mut text = String::new();
    for event in &history.events {
        let version = event.version.as_ref().map(ToString::to_string).unwrap_or_default();
        let generation = event.generation.map(|number| format!("#{number}")).unwrap_or_default();
        let message = printable(&event.message);
        let (at, kind) = (event.at, event.kind.name());
        let line = format!("{at:.0}  {kind:<16} {version:<12} {generation:<6} {message}");
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// What differs, first; then what could not be compared, what others added, and what is the
/// same.
pub fn drift(drift: &Drift) -> String {
    let mut text = String::new();
    for (outcome, word) in [
        (Outcome::Differs, "DIFFERS"),
        (Outcome::Unknown, "unknown"),
        (Outcome::Added, "added"),
        (Outcome::Same, "same"),
    ] {
        let items = drift.items.iter().filter(|item| item.outcome == outcome);
        text.extend(items.map(|item| drift_line(word, item)));
    }
    text
}

fn drift_line(word: &str, item: &DriftItem) -> String {
    let subject = serde_json::to_value(item.subject).unwrap_or_default();
    let subject = subject.as_str().unwrap_or_default().to_owned();
    let (name, detail) = (printable(&item.name), printable(&item.detail));
    format!("{word:<8} {subject:<12} {name}: {detail}\n")
}

/// One journal entry: time, who, what. `None` when it is no entry.
pub fn log_entry(line: &[u8]) -> Option<String> {
    let entry: Value = serde_json::from_slice(line).ok()?;
    let field = |name: &str| entry.get(name).and_then(Value::as_str);
    let time = field("__REALTIME_TIMESTAMP").and_then(|micros| micros.parse().ok());
    let time = time.and_then(|micros| Timestamp::from_microsecond(micros).ok())?;
    let who = field("_SYSTEMD_UNIT").or_else(|| field("SYSLOG_IDENTIFIER")).unwrap_or("-");
    let process = field("_PID").map(|id| format!("[{id}]")).unwrap_or_default();
    let message = match entry.get("MESSAGE") {
        Some(Value::String(text)) => text.clone(),
        // Bytes that are no UTF-8 come as numbers.
        Some(Value::Array(bytes)) => {
            let bytes = bytes.iter().filter_map(Value::as_u64);
            let bytes: Vec<u8> = bytes.filter_map(|byte| u8::try_from(byte).ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => "(too long to show)".to_owned(),
    };
    Some(format!("{time:.3} {}{}: {}", printable(who), printable(&process), printable(&message)))
}

/// The boot that a journal entry is of.
pub fn boot_of(line: &[u8]) -> Option<String> {
    let entry: Value = serde_json::from_slice(line).ok()?;
    entry.get("_BOOT_ID").and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
pub(crate) mod tests {
    use contract::Slot;
    use contract::node::api::*;
    use insta::assert_snapshot;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    pub(crate) fn fallback() -> Fallback {
        Fallback {
            version: "1.4.1".parse().ok(),
            generation: 6,
            at: at("2026-11-25T11:20:00Z"),
            reached: Reached::Probe,
            kind: CauseKind::Probe,
            probe: Some("web".into()),
            also: vec!["ingress".into()],
            cause: "probe `web` failed: http://127.0.0.1:8080/ answered 503".into(),
        }
    }

    pub(crate) fn problem() -> Problem {
        Problem {
            kind: ProblemKind::Staging,
            at: at("2026-11-25T11:58:30Z"),
            message: "cannot fetch the release 1.4.2: connection refused".into(),
            next: "check that the mirrors of the settings can be reached".into(),
        }
    }

    /// A node at rest.
    pub(crate) fn example() -> Status {
        Status {
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            hostname: "node-1".into(),
            addresses: vec!["10.0.2.15".parse().unwrap(), "fd00::15".parse().unwrap()],
            running: Running {
                image: Some("node".into()),
                version: "1.4.0".parse().ok(),
                root_hash: Some([0xab; 32].into()),
                slot: Slot::A,
                generation: 5,
                boot: Boot::Blessed,
                tries_left: None,
            },
            other: Some(OtherSlot { slot: Slot::B, generation: 4, version: "1.3.0".parse().ok() }),
            phase: Phase::Idle,
            target: None,
            progress: None,
            health: vec![
                Probe { name: "containerd".into(), state: ProbeState::Passing, message: None },
                Probe { name: "kubelet".into(), state: ProbeState::Passing, message: None },
            ],
            follows: Follows {
                group: "workers".parse().ok(),
                channel: "stable".parse().ok(),
                ..Follows::default()
            },
            holds: vec![Hold {
                rule: Rule::UpToDate,
                sentence: "runs 1.4.0, which channel `stable` points at".into(),
                ends: None,
            }],
            last_check: Some(Check {
                at: at("2026-11-25T11:55:00Z"),
                outcome: CheckOutcome::Succeeded,
                message: "channel `stable` points at 1.4.0".into(),
            }),
            problem: None,
            fallback: None,
            refused: Vec::new(),
            drift: None,
            settings: Some(SettingsState { schema: 1, source: "the seed disk".into() }),
            clock: NodeClock {
                now: at("2026-11-25T12:00:00Z"),
                synchronized: true,
                uptime_seconds: 10_800,
            },
            updater: "0.1.0".into(),
        }
    }

    #[test]
    fn a_node_at_rest() {
        assert_snapshot!(status(&example()));
    }

    #[test]
    fn a_node_that_stages_after_a_bad_release() {
        let mut node = example();
        node.phase = Phase::Staging;
        node.target = "1.4.2".parse().ok();
        node.progress = Some(Progress {
            step: Step::WritingRoot,
            way: Some(TransferWay::Blocks),
            bytes_done: 12 << 20,
            bytes_total: 48 << 20,
        });
        node.health[1].state = ProbeState::Failing;
        node.health[1].message = Some("connection refused\u{1b}[2J".into());
        node.follows.pin = Some(Pin { version: "1.4.2".parse().unwrap(), by: PinnedBy::Operator });
        node.holds = vec![Hold {
            rule: Rule::Window,
            sentence: "the next maintenance window opens on Friday".into(),
            ends: Some(at("2026-11-27T21:00:00Z")),
        }];
        node.problem = Some(problem());
        node.fallback = Some(fallback());
        node.refused = vec![RefusedRelease {
            version: "1.4.1".parse().ok(),
            root_hash: [0xcd; 32].into(),
            since: at("2026-11-25T11:20:00Z"),
            reached: Reached::Probe,
            kind: CauseKind::Probe,
            probe: fallback().probe,
            also: fallback().also,
            cause: fallback().cause,
        }];
        node.drift = Some(drifted());
        node.clock.synchronized = false;
        assert_snapshot!(status(&node));
    }

    fn drifted() -> Drift {
        let item = |subject, name: &str, outcome, detail: &str| DriftItem {
            subject,
            name: name.into(),
            outcome,
            detail: detail.into(),
        };
        Drift {
            at: at("2026-11-25T11:50:00Z"),
            depth: Depth::Full,
            items: vec![
                item(Subject::RootHash, "kernel command line", Outcome::Same, "abab"),
                item(Subject::File, "/opt/cni/bin/calico", Outcome::Added, "9 bytes, mode 755"),
                item(Subject::Uki, "slipway-000004-b.efi", Outcome::Unknown, "not recorded"),
                item(Subject::Slot, "slot b", Outcome::Differs, "blocks that differ: 1"),
            ],
        }
    }

    #[test]
    fn what_differs_comes_first() {
        assert_snapshot!(drift(&drifted()));
    }

    #[test]
    fn reasons_have_an_end() {
        let hold = |rule, sentence: &str, ends: Option<&str>| Hold {
            rule,
            sentence: sentence.into(),
            ends: ends.map(at),
        };
        assert_snapshot!(why(&Why {
            running: "1.3.0".parse().ok(),
            wanted: "1.4.0".parse().ok(),
            way: vec!["1.3.5".parse().unwrap(), "1.4.0".parse().unwrap()],
            holds: vec![
                hold(Rule::Wave, "the node's wave has not come", Some("2026-11-25T16:00:00Z")),
                hold(Rule::Refused, "1.4.0 was bad on this node", None),
            ],
        }));
        assert_snapshot!(why(&Why {
            running: None,
            wanted: None,
            way: Vec::new(),
            holds: Vec::new()
        }));
    }

    #[test]
    fn events_are_listed_in_order() {
        let event = |time: &str, kind, version: &str, generation, message: &str| Event {
            at: at(time),
            kind,
            version: version.parse().ok(),
            generation,
            message: message.into(),
        };
        assert_snapshot!(history(&History {
            events: vec![
                event("2026-11-25T11:00:00Z", EventKind::Armed, "1.4.1", Some(6), ""),
                event("2026-11-25T11:20:00Z", EventKind::FellBack, "1.4.1", Some(6), "web\nfailed"),
                event("2026-11-25T11:30:00Z", EventKind::SettingsChanged, "", None, "by otto"),
            ],
        }));
        assert_eq!(history(&History::default()), "Nothing has happened yet.\n");
    }

    #[test]
    fn journal_entries_of_every_kind_become_lines() {
        let time = r#""__REALTIME_TIMESTAMP": "1795608000123456""#;
        let line = |rest: &str| log_entry(format!("{{{time}, {rest}}}").as_bytes()).unwrap();
        assert_eq!(
            line(r#""_SYSTEMD_UNIT": "kubelet.service", "_PID": "7", "MESSAGE": "a\u001b[2Jb""#),
            "2026-11-25T12:00:00.123Z kubelet.service[7]: a [2Jb"
        );
        assert_eq!(
            line(r#""SYSLOG_IDENTIFIER": "kernel", "MESSAGE": [104, 105, 255]"#),
            "2026-11-25T12:00:00.123Z kernel: hi\u{fffd}"
        );
        assert_eq!(line(r#""MESSAGE": null"#), "2026-11-25T12:00:00.123Z -: (too long to show)");
        assert_eq!(log_entry(b"no entry"), None);
    }
}
