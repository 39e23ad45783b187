//! The last judge, who knows nothing of probes: may a boot go on that slipwayd has perhaps not
//! judged?
//!
//! In: time since power-on, the times that slipwayd judges this boot by, the UKIs. Out: yes or
//! no. **Invariant:** no boot is ended before its own deadline, and none that was found good; where
//! the deadline is not known, the default counts, so that a damaged state partition does not keep a
//! bad boot running.

use std::time::Duration;

use crate::chain;
use crate::effects::{BootedSlot, Effects, StateStore};
use crate::settings;
use crate::update::{Journal, Machine, UpdateError, carried};

/// Time after the last moment of a verdict in which slipwayd ends a bad boot itself, and can say why.
const GRACE: Duration = Duration::from_secs(5 * 60);

/// Whether this boot may go on: it has time left, was found good, or has nothing to fall back
/// to.
///
/// # Errors
/// When the time is over, the EFI system partition cannot be read, and the journal does not say
/// that this boot was found good.
pub fn may_go_on(effects: &Effects, booted: BootedSlot) -> Result<bool, UpdateError> {
    let state = effects.state.as_ref();
    // Settings that cannot be read have no say in slipwayd either.
    let settings = settings::load(state, booted).unwrap_or_else(|error| {
        tracing::warn!("the settings' deadline does not count: {}", chain(&error));
        None
    });
    let health = settings.as_ref().map(|settings| &settings.settings().health);
    let times = carried::times(state, health);
    let latest = times.deadline() + times.api_server_grace();
    if effects.clock.uptime() < latest + GRACE {
        return Ok(true);
    }
    match Machine::is_judged(effects, booted) {
        Err(_) if was_found_good(state, booted) => Ok(true),
        judged => judged,
    }
}

/// By the journal, which counts when the EFI system partition is gone: a node that lost it runs on.
fn was_found_good(state: &dyn StateStore, booted: BootedSlot) -> bool {
    match Journal::load(state) {
        Ok((journal, _)) => {
            let record = journal.slots.get(&booted.slot());
            record.is_some_and(|record| record.blessed.is_some())
        }
        Err(error) => {
            tracing::warn!("whether this boot was found good is not known: {}", chain(&error));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::{RootHash, Slot};
    use jiff::Timestamp;

    use super::*;
    use crate::effects::fake::{FakeNode, Sizes};
    use crate::policy::VerdictTimes;
    use crate::settings::NodeSettings;
    use crate::update::{ReleaseId, SlotRecord};

    /// A node that runs an untested slot B, with a way back.
    fn on_trial() -> (FakeNode, BootedSlot) {
        let node = FakeNode::new(0, Sizes::default());
        for name in ["slipway-000001-a.efi", "slipway-000002-b+2-1.efi"] {
            node.install_uki(name.parse().unwrap(), b"uki");
        }
        (node, BootedSlot::forged_for_a_test(Slot::B))
    }

    fn minutes_until_the_end(node: &FakeNode, booted: BootedSlot) -> u64 {
        let effects = node.effects();
        for minute in 0..600 {
            if !may_go_on(&effects, booted).unwrap() {
                return minute;
            }
            node.pass(Duration::from_secs(60));
        }
        panic!("the boot is never ended");
    }

    #[test]
    fn the_deadline_of_the_group_is_waited_for() {
        let (node, booted) = on_trial();
        let health = serde_json::from_str(r#"{"deadline": "2h", "apiServerGrace": "30m"}"#);
        let times = VerdictTimes::new(None, Some(&health.unwrap()));
        carried::save_times(&node, &times).unwrap();
        assert_eq!(minutes_until_the_end(&node, booted), 155);
    }

    #[test]
    fn no_damaged_document_keeps_a_boot_for_ever() {
        let (node, booted) = on_trial();
        let times = r#"{"settle": "1m", "deadline": "9000h", "api_server_grace": "9000h"}"#;
        node.append("verdict.json", times);
        node.pass(Duration::from_secs(49 * 3600));
        assert!(!may_go_on(&node.effects(), booted).unwrap());
    }

    #[test]
    fn without_one_that_of_the_settings_and_then_the_default_counts() {
        let (node, booted) = on_trial();
        let document = br#"{"schema": 1, "health": {"deadline": "45m"}}"#;
        let given = NodeSettings::from_bytes(document.to_vec()).unwrap();
        settings::save(&node, booted, &given).unwrap();
        assert_eq!(minutes_until_the_end(&node, booted), 60);
        for damaged in ["", "{", "{\"deadline\": \"P1Y\"}"] {
            let (node, booted) = on_trial();
            node.append("verdict.json", damaged);
            node.append("settings-b.json", damaged);
            assert_eq!(minutes_until_the_end(&node, booted), 25, "{damaged}");
        }
    }

    #[test]
    fn a_boot_that_was_found_good_outlives_the_efi_system_partition() {
        for blessed in [None, Some(Timestamp::UNIX_EPOCH)] {
            let (node, booted) = on_trial();
            let release =
                ReleaseId { version: "1.0.0".parse().unwrap(), root_hash: RootHash::from([7; 32]) };
            let mut journal = Journal::new();
            journal.slots.insert(Slot::B, SlotRecord { release, uki: None, blessed });
            journal.save(&node).unwrap();
            node.pass(Duration::from_secs(24 * 3600));
            node.unmount_esp();
            let answer = may_go_on(&node.effects(), booted);
            assert_eq!(matches!(answer, Ok(true)), blessed.is_some(), "{answer:?}");
        }
    }

    #[test]
    fn a_boot_that_is_judged_or_has_no_way_back_is_never_ended() {
        let (node, booted) = on_trial();
        node.pass(Duration::from_secs(24 * 3600));
        let blessed = BootedSlot::forged_for_a_test(Slot::A);
        assert!(may_go_on(&node.effects(), blessed).unwrap());
        assert!(!may_go_on(&node.effects(), booted).unwrap());
        let alone = FakeNode::new(0, Sizes::default());
        alone.install_uki("slipway-000001-a+3.efi".parse().unwrap(), b"uki");
        alone.pass(Duration::from_secs(24 * 3600));
        assert!(may_go_on(&alone.effects(), blessed).unwrap());
    }
}
