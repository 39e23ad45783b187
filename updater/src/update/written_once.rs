//! Documents of the state partition as they were written once: all are read.
//!
//! What lies in `written/` was written by the commits that its folders name, and **never changes**:
//! nodes have such documents, and read them after an update or a fallback.

use contract::{Digest, Slot};

use super::journal::{DOCUMENT, JournalCondition};
use super::*;
use crate::effects::StateStore;
use crate::effects::fake::{FakeNode, Sizes};
use crate::verdict::is_silence_alone;

macro_rules! written {
    ($name:literal, $digest:literal) => {
        ($name, include_str!(concat!("written/77b89a1/", $name, ".json")), $digest)
    };
}

const WRITTEN: [(&str, &str, &str); 7] = [
    written!("journal-armed", "bc20f70c2e03f2a9799039def2446189cbee3169ebef900a2d2ba3f928940165"),
    written!(
        "journal-condemned",
        "721d3bdd6a1d06747dccab8e857c417ffc59e883aa8956947e5443f1163e7749"
    ),
    written!("journal-pending", "4494e23932e05800ab79aaae8215bf755afafcef2814a8d07e07c3fc21eef049"),
    written!("journal-staged", "0cccebb21ed2c0721ab33f9e33f8ebd11125b0edb4a1ed62cd91fdc7dd9c7a11"),
    written!("journal-staging", "72267a861af578fd2fb74f8c5557af424993bebe98e7e9851cd3bea6a6e99696"),
    written!("journal-steady", "9b3f290fc35c67226c24c13b5f5f3793d78d596fa7530ec0f069fb72b2b9c0b6"),
    written!("verdict", "fae8006b36cac1c7265908c08cb4020e6eb1e314fbde935d2027327ecc8590bf"),
];

fn bytes(name: &str) -> &'static [u8] {
    WRITTEN.iter().find(|(known, _, _)| *known == name).unwrap().1.as_bytes()
}

fn journal(name: &str) -> Journal {
    let node = FakeNode::new(0, Sizes::default());
    node.save(DOCUMENT, bytes(name)).unwrap();
    let (journal, condition) = Journal::load(&node).unwrap();
    assert_eq!(condition, JournalCondition::Good, "{name}");
    journal
}

#[test]
fn no_document_has_changed() {
    for (name, bytes, digest) in WRITTEN {
        let found = Digest::of(bytes.as_bytes()).to_string();
        assert_eq!(found, digest, "{name} was written once and never changes: put it back");
    }
}

#[test]
fn journals_of_the_first_generation_are_read_and_written_alike() {
    for (name, bytes, _) in WRITTEN.iter().filter(|(name, _, _)| name.starts_with("journal")) {
        let text = serde_json::to_vec(&journal(name)).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), *bytes, "{name}");
    }
    let steady = journal("journal-steady");
    assert_eq!((steady.refusals.len(), steady.history.len()), (7, 14));
    assert_eq!(steady.slots[&Slot::B].blessed, None);
    let Phase::Pending { failing: Some(failing), .. } = journal("journal-pending").phase else {
        panic!("what fails is lost");
    };
    assert_eq!((failing.probe.as_str(), failing.also), ("kubelet", None));
}

#[test]
fn a_refusal_that_does_not_say_which_probes_failed_is_not_forgiven() {
    let steady = journal("journal-steady");
    let failures = steady.refusals.iter().filter_map(|refusal| match &refusal.cause {
        Cause::Verdict(failure) => Some(failure),
        _ => None,
    });
    let failures: Vec<_> = failures.collect();
    assert_eq!(failures.len(), 2);
    assert!(failures.iter().all(|failure| !is_silence_alone(failure)));
    assert!(
        failures[0].message.ends_with("(also: containerd, node-ready)"),
        "people still read it"
    );
}

#[test]
fn the_times_of_a_verdict_are_read() {
    let node = FakeNode::new(0, Sizes::default());
    node.save("verdict.json", bytes("verdict")).unwrap();
    assert_eq!(carried::times(&node, None).deadline().as_secs(), 600);
}
