//! The file name of a UKI on the ESP, which is the whole state of the boot: which
//! installation it is, in which slot, and how many tries it has left.
//!
//! systemd-boot sorts by name and reads `+LEFT[-DONE]` as its boot counter
//! (Automatic Boot Assessment); the generation is zero-padded so that text order is
//! number order.

use std::fmt;
use std::str::FromStr;

use crate::Slot;

/// Largest generation: six digits.
pub const MAX_GENERATION: u32 = 999_999;

/// Tries that a fresh installation gets.
pub const FIRST_TRIES: u32 = 3;

/// A parsed `slipway-<generation>-<slot>[+left[-done]].efi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UkiName {
    /// Number of this installation on the node; the highest is tried first.
    pub generation: u32,
    /// The slot whose partitions the UKI's command line names.
    pub slot: Slot,
    /// `None` once blessed.
    pub tries: Option<Tries>,
}

/// The loader's boot counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tries {
    /// Boots that the loader will still attempt.
    pub left: u32,
    /// Boots attempted so far.
    pub done: u32,
}

/// A file name that is not ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a UKI name of the form slipway-000001-a+3.efi")]
pub struct InvalidUkiName(String);

impl UkiName {
    /// The name that an image file carries: first generation, slot A, all tries left.
    pub fn first() -> Self {
        Self { generation: 1, slot: Slot::A, tries: Some(Tries { left: FIRST_TRIES, done: 0 }) }
    }
}

impl fmt::Display for UkiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slipway-{:06}-{}", self.generation, self.slot)?;
        match self.tries {
            Some(Tries { left, done: 0 }) => write!(f, "+{left}")?,
            Some(Tries { left, done }) => write!(f, "+{left}-{done}")?,
            None => {}
        }
        f.write_str(".efi")
    }
}

impl FromStr for UkiName {
    type Err = InvalidUkiName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || -> Option<Self> {
            let stem = text.strip_prefix("slipway-")?.strip_suffix(".efi")?;
            let (name, counter) = match stem.split_once('+') {
                Some((name, counter)) => (name, Some(counter)),
                None => (stem, None),
            };
            let (generation, slot) = name.split_once('-')?;
            if generation.len() != 6 {
                return None;
            }
            let slot = Slot::ALL.into_iter().find(|known| slot == known.to_string())?;
            let tries = match counter {
                None => None,
                Some(counter) => {
                    let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
                    Some(Tries { left: number(left)?, done: number(done)? })
                }
            };
            Some(Self { generation: number(generation)?, slot, tries })
        };
        parse().ok_or_else(|| InvalidUkiName(text.chars().take(80).collect()))
    }
}

/// Digits only: `u32::from_str` alone would accept a leading `+`.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_survives_a_round_trip() {
        for text in [
            "slipway-000001-a+3.efi",
            "slipway-000012-b+2-1.efi",
            "slipway-999999-a.efi",
            "slipway-000002-b+0-3.efi",
        ] {
            assert_eq!(text.parse::<UkiName>().unwrap().to_string(), text);
        }
        assert_eq!(UkiName::first().to_string(), "slipway-000001-a+3.efi");
    }

    #[test]
    fn foreign_names_are_refused() {
        for text in [
            "linux.efi",
            "slipway-1-a.efi",
            "slipway-000001-c.efi",
            "slipway-000001-a++3.efi",
            "slipway-000001-a+3-.efi",
            "slipway-000001-a.efi.tmp",
        ] {
            assert!(text.parse::<UkiName>().is_err(), "{text}");
        }
    }

    #[test]
    fn text_order_is_generation_order() {
        assert!("slipway-000009-b" < "slipway-000012-a");
    }
}
