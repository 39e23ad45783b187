//! systemd-boot as far as it decides what boots: order of entries, and counting of tries.
//!
//! Follows `boot_entry_compare`, `boot_entry_parse_tries` and `boot_entry_bump_counters` of systemd
//! 257 for entries that differ in nothing but their names, which ours do. An entry is known by its
//! name without the counter. The last one is started whatever its counter says, and counted on.

use std::cmp::Reverse;

use contract::UkiName;
use contract::release::uki_name::Tries;

/// The largest number that the loader takes for a counter.
const MOST: u32 = i32::MAX as u32;

/// The counter as the loader reads it.
fn counter(name: &UkiName) -> Option<Tries> {
    name.tries.filter(|tries| tries.left <= MOST && tries.done <= MOST)
}

/// The entry that boots: one with tries left before one without, then the highest name; under the
/// same name the one with more tries left, then the one with fewer done.
pub(super) fn choose(entries: &[UkiName]) -> Option<UkiName> {
    let order = |name: &&UkiName| {
        let tries = counter(name);
        let (left, done) =
            tries.map_or((-1, -1), |tries| (i64::from(tries.left), i64::from(tries.done)));
        (left == 0, Reverse((name.generation, name.slot)), Reverse(left), done)
    };
    entries.iter().min_by_key(order).copied()
}

/// The name after the loader counted a try, which it does before it starts the entry.
pub(super) fn counted(name: UkiName) -> UkiName {
    match counter(&name) {
        None => name,
        Some(Tries { left, done }) => {
            let tries = Tries { left: left.saturating_sub(1), done: (done + 1).min(MOST) };
            UkiName { tries: Some(tries), ..name }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> String {
        let names: Vec<UkiName> = names.iter().map(|name| name.parse().unwrap()).collect();
        choose(&names).unwrap().to_string()
    }

    #[test]
    fn the_newest_entry_with_tries_left_boots() {
        let (old, new) = ("slipway-000009-b.efi", "slipway-000012-a+3.efi");
        assert_eq!(chosen(&[old, new]), new);
        assert_eq!(chosen(&[old, "slipway-000012-a+0-3.efi"]), old);
        assert_eq!(chosen(&["slipway-000001-a+0-3.efi"]), "slipway-000001-a+0-3.efi");
        let blessed = "slipway-000012-a+0-103.efi";
        assert_eq!(chosen(&[old, blessed]), old);
        assert_eq!(chosen(&["slipway-000009-b+1-102.efi", blessed]), "slipway-000009-b+1-102.efi");
        assert_eq!(chosen(&["slipway-000009-b+0-103.efi", blessed]), blessed);
    }

    #[test]
    fn tries_count_down_and_a_name_without_a_counter_stays() {
        let mut name = UkiName::first();
        let mut seen = Vec::new();
        for _ in 0..4 {
            name = counted(name);
            seen.push(name.to_string());
        }
        let expected = ["+2-1", "+1-2", "+0-3", "+0-4"];
        assert_eq!(seen, expected.map(|tries| format!("slipway-000001-a{tries}.efi")));
        assert_eq!(counted(name.uncounted()), name.uncounted());
        assert_eq!(counted(name.blessed()), name.blessed().started_once());
    }
}
