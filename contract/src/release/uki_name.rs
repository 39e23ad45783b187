//! The file name of a UKI on the ESP, which is the whole state of the boot: which
//! installation it is, in which slot, and how many tries it has left.
//!
//! systemd-boot sorts by name and reads `+LEFT[-DONE]` as its boot counter
//! (Automatic Boot Assessment); the generation is zero-padded so that text order is
//! number order. At each start it takes one from LEFT and adds one to DONE, an entry whose LEFT
//! is 0 ranks behind all others, and one that has nothing before it is started all the same, with
//! a DONE that goes on. So the hundreds of DONE can say who gave the tries: see [`Trust`].
//!
//! **Invariant:** no name that this software gives has more than 26 characters, two entries of a
//! long name on FAT: the updater's renames count on it.

use std::fmt;
use std::str::FromStr;

use crate::Slot;

/// Largest generation: six digits.
pub const MAX_GENERATION: u32 = 999_999;

/// Tries that a fresh installation gets, and each boot that has stood.
pub const FIRST_TRIES: u32 = 3;
/// DONE of a blessed release with all its tries.
const BLESSED: u32 = 100;
/// DONE of a blessed release that got its tries back from the other slot.
const GIVEN_BACK: u32 = 500;

/// What a UKI's name says of its release. A release that is started a hundred times in vain, with
/// nothing to fall back to, passes for a blessed one: then nothing depends on the difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// It was never found good here. DONE starts at 0.
    OnTrial,
    /// It was found good. DONE starts at 100, or there is no counter.
    Blessed,
    /// It was found good, used up its tries, and got them back once. DONE starts at 500.
    GivenBack,
}

/// A parsed `slipway-<generation>-<slot>[+left[-done]].efi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UkiName {
    /// Number of this installation on the node; the highest is tried first.
    pub generation: u32,
    /// The slot whose partitions the UKI's command line names.
    pub slot: Slot,
    /// `None` for a blessed release whose boots are not counted.
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
        Self::on_trial(1, Slot::A)
    }

    /// The name of a fresh installation.
    pub fn on_trial(generation: u32, slot: Slot) -> Self {
        Self { generation, slot, tries: Some(Tries { left: FIRST_TRIES, done: 0 }) }
    }

    /// The name of the same installation, blessed and with all its tries.
    #[must_use]
    pub fn blessed(self) -> Self {
        Self { tries: Some(Tries { left: FIRST_TRIES, done: BLESSED }), ..self }
    }

    /// The name of the same installation, blessed and not counted: a slipwayd that knows no other
    /// blessed name reads it too.
    #[must_use]
    pub fn uncounted(self) -> Self {
        Self { tries: None, ..self }
    }

    /// The name of the same installation, with the tries that the other slot gives back.
    #[must_use]
    pub fn given_back(self) -> Self {
        Self { tries: Some(Tries { left: FIRST_TRIES, done: GIVEN_BACK }), ..self }
    }

    /// The name of the same installation after its first start with all tries.
    #[must_use]
    pub fn started_once(self) -> Self {
        let base = self.trust().base();
        Self { tries: Some(Tries { left: FIRST_TRIES - 1, done: base + 1 }), ..self }
    }

    /// The name with one more try, if it is counted and has none.
    #[must_use]
    pub fn with_a_try(self) -> Self {
        let tries = self.tries.map(|tries| Tries { left: tries.left.max(1), ..tries });
        Self { tries, ..self }
    }

    /// What the name says of its release.
    pub fn trust(&self) -> Trust {
        match self.tries {
            None => Trust::Blessed,
            Some(tries) if tries.done >= GIVEN_BACK => Trust::GivenBack,
            Some(tries) if tries.done >= BLESSED => Trust::Blessed,
            Some(_) => Trust::OnTrial,
        }
    }

    /// Whether the release was never found good here.
    pub fn is_on_trial(&self) -> bool {
        self.trust() == Trust::OnTrial
    }

    /// Whether the loader prefers every other entry.
    pub fn is_exhausted(&self) -> bool {
        self.tries.is_some_and(|tries| tries.left == 0)
    }

    /// Starts that the loader counted since the tries were given.
    pub fn starts(&self) -> u32 {
        self.tries.map_or(0, |tries| tries.done - self.trust().base())
    }

    /// Whether it is blessed, and has been started as often as it had tries.
    pub fn has_lapsed(&self) -> bool {
        !self.is_on_trial() && self.starts() >= FIRST_TRIES
    }
}

impl Trust {
    /// DONE of a counter with all tries.
    fn base(self) -> u32 {
        match self {
            Trust::OnTrial => 0,
            Trust::Blessed => BLESSED,
            Trust::GivenBack => GIVEN_BACK,
        }
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
            "slipway-000002-b+3-100.efi",
            "slipway-000002-b+0-503.efi",
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

    /// The tests' own table: what is named today is read so for ever.
    #[test]
    fn a_name_tells_whether_its_release_was_found_good() {
        let read = |counter: &str| {
            let name: UkiName = format!("slipway-000002-b{counter}.efi").parse().unwrap();
            (name.trust(), name.starts(), name.is_exhausted(), name.has_lapsed())
        };
        for (counter, trust, starts, exhausted, lapsed) in [
            ("+3", Trust::OnTrial, 0, false, false),
            ("+2-1", Trust::OnTrial, 1, false, false),
            ("+0-3", Trust::OnTrial, 3, true, false),
            ("+0-99", Trust::OnTrial, 99, true, false),
            ("", Trust::Blessed, 0, false, false),
            ("+3-100", Trust::Blessed, 0, false, false),
            ("+1-102", Trust::Blessed, 2, false, false),
            ("+0-103", Trust::Blessed, 3, true, true),
            ("+1-103", Trust::Blessed, 3, false, true),
            ("+0-107", Trust::Blessed, 7, true, true),
            ("+3-500", Trust::GivenBack, 0, false, false),
            ("+0-503", Trust::GivenBack, 3, true, true),
            ("+0-4294967295", Trust::GivenBack, u32::MAX - 500, true, true),
        ] {
            assert_eq!(read(counter), (trust, starts, exhausted, lapsed), "{counter}");
        }
    }

    #[test]
    fn every_name_that_is_given_takes_two_long_entries_of_fat() {
        let fresh = UkiName::on_trial(MAX_GENERATION, Slot::B);
        let given = [fresh, fresh.blessed(), fresh.uncounted(), fresh.given_back()];
        let started = given.map(UkiName::started_once);
        for name in given.into_iter().chain(started).chain(given.map(UkiName::with_a_try)) {
            assert!(name.to_string().len() <= 26, "{name}");
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        assert_eq!(fresh.blessed().started_once().to_string(), "slipway-999999-b+2-101.efi");
        let lapsed: UkiName = "slipway-000002-b+0-503.efi".parse().unwrap();
        assert_eq!(lapsed.with_a_try().to_string(), "slipway-000002-b+1-503.efi");
    }

    #[test]
    fn text_order_is_generation_order() {
        assert!("slipway-000009-b" < "slipway-000012-a");
    }
}
