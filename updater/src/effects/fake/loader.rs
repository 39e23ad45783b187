//! systemd-boot as far as it decides what boots: order of entries, and counting of tries.
//!
//! Follows `boot_entry_compare` and `boot_entry_parse_tries` of systemd 257 for entries
//! without sort key and version, which ours are.

use std::cmp::Reverse;

use contract::UkiName;
use contract::release::uki_name::Tries;

/// The entry that boots: one with tries left before one without, then the highest name.
pub(super) fn choose(entries: &[UkiName]) -> Option<UkiName> {
    let order = |name: &&UkiName| {
        let exhausted = name.tries.is_some_and(|tries| tries.left == 0);
        (exhausted, Reverse((name.generation, name.slot)))
    };
    entries.iter().min_by_key(order).copied()
}

/// The name after the loader counted a try, which it does before it starts the entry.
pub(super) fn counted(name: UkiName) -> UkiName {
    let tries = name.tries.map(|tries| Tries {
        left: tries.left.saturating_sub(1),
        done: tries.done.saturating_add(1),
    });
    UkiName { tries, ..name }
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
    }

    #[test]
    fn tries_count_down_and_a_blessed_name_stays() {
        let mut name = UkiName::first();
        let mut seen = Vec::new();
        for _ in 0..4 {
            name = counted(name);
            seen.push(name.to_string());
        }
        let expected = ["+2-1", "+1-2", "+0-3", "+0-4"];
        assert_eq!(seen, expected.map(|tries| format!("slipway-000001-a{tries}.efi")));
        let blessed = UkiName { tries: None, ..name };
        assert_eq!(counted(blessed), blessed);
    }
}
