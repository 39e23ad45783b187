//! The trace that the initrd of each boot leaves on the state partition: one boot id a line.
//!
//! In: the file's bytes. Out: whether a boot after a given one came as far as the end of its
//! initrd. **Invariant:** the file is a witness, not an authority; lines that are no boot ids
//! are passed over.

use std::io;

use crate::effects::StateStore;
use crate::effects::boot::BootId;

/// Name of the file below the state folder; systemd-tmpfiles in the initrd appends to it.
pub const DOCUMENT: &str = "boot/initrd";
/// Lines that are looked at, from the end.
const MAX_LINES: usize = 1000;
/// Above so many lines the file is cut to [`KEPT_LINES`].
const CROWDED_LINES: usize = 200;
const KEPT_LINES: usize = 50;

/// Boot ids in the order of the boots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks(Vec<BootId>);

impl Marks {
    /// Reads the file; one that is not there has no marks.
    ///
    /// # Errors
    /// As the store gives them.
    pub fn load(store: &dyn StateStore) -> io::Result<Self> {
        Ok(store.load(DOCUMENT)?.map_or_else(Self::default, |bytes| Self::parse(&bytes)))
    }

    /// Parses the file's last lines.
    pub fn parse(bytes: &[u8]) -> Self {
        let lines = bytes.rsplit(|byte| *byte == b'\n').take(MAX_LINES);
        let ids = lines.filter_map(|line| std::str::from_utf8(line).ok()?.trim().parse().ok());
        let mut ids: Vec<BootId> = ids.collect();
        ids.reverse();
        Self(ids)
    }

    /// Whether a boot after `armed_in` and before `current` left its mark. When the mark of
    /// `armed_in` is gone, every other one counts.
    pub fn between(&self, armed_in: BootId, current: BootId) -> bool {
        let start = self.0.iter().rposition(|id| *id == armed_in).map_or(0, |at| at + 1);
        self.0.iter().skip(start).any(|id| *id != current)
    }

    /// Cuts a file that grew long.
    ///
    /// # Errors
    /// As the store gives them.
    pub fn trim(&self, store: &dyn StateStore) -> io::Result<()> {
        if self.0.len() <= CROWDED_LINES {
            return Ok(());
        }
        let kept = self.0.iter().skip(self.0.len() - KEPT_LINES);
        let text: String = kept.map(|id| format!("{id}\n")).collect();
        store.save(DOCUMENT, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::fake::{FakeNode, Sizes};

    fn id(number: u128) -> BootId {
        BootId::from_u128(number)
    }

    #[test]
    fn only_boots_between_arming_and_this_one_count() {
        let text = format!("{}\n{}\n\n{}\n", id(1), id(2), id(4));
        let marks = Marks::parse(text.as_bytes());
        assert!(marks.between(id(1), id(4)), "boot 2 came through its initrd");
        assert!(!marks.between(id(2), id(4)), "boot 3 did not");
        assert!(marks.between(id(9), id(4)));
        assert!(!Marks::default().between(id(1), id(4)));
    }

    #[test]
    fn a_hostile_file_is_read_as_far_as_it_makes_sense() {
        let mut bytes = vec![0xff; 1 << 16];
        bytes.extend(format!("\n{}\nrubbish\n%b\n", id(7)).into_bytes());
        assert_eq!(Marks::parse(&bytes), Marks(vec![id(7)]));
        let many: String = (0..5000).map(|number| format!("{}\n", id(number))).collect();
        assert!(Marks::parse(many.as_bytes()).0.len() <= MAX_LINES);
    }

    #[test]
    fn a_long_file_is_cut_and_keeps_the_newest() {
        let node = FakeNode::new(0, Sizes::default());
        (0..300).for_each(|number| node.append(DOCUMENT, &format!("{}\n", id(number))));
        let store = node.effects().state;
        Marks::load(store.as_ref()).unwrap().trim(store.as_ref()).unwrap();
        let kept = Marks::load(store.as_ref()).unwrap();
        assert_eq!((kept.0.len(), kept.0.last()), (KEPT_LINES, Some(&id(299))));
    }
}
