//! Documents of the fake node. One is replaced whole and lasts, as on the state partition, whose
//! file system has a journal and whose files are synced before they get their name.

use std::io;

use super::{Effect, FakeNode, Fault, Reading, flip};
use crate::effects::StateStore;

impl StateStore for FakeNode {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut parts = self.parts();
        let lie = parts.begin_reading(Reading::Document)?;
        if parts.unreadable.contains(name) {
            return Err(Fault::Device.error());
        }
        let mut document = parts.documents.get(name).cloned();
        if let (Some(bytes), Some(bit)) = (&mut document, lie) {
            flip(bytes, bit);
        }
        Ok(document)
    }

    fn save(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.perform(Effect::Save(name.to_owned()), |parts, _| {
            let others = parts.documents.iter().filter(|(other, _)| *other != name);
            let used: usize = others.map(|(_, document)| document.len()).sum();
            if used + bytes.len() > parts.sizes.state {
                return Err(Fault::Full.error());
            }
            let bytes = parts.falsified(bytes);
            parts.documents.insert(name.to_owned(), bytes);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.perform(Effect::RemoveDocument(name.to_owned()), |parts, _| {
            parts.documents.remove(name);
            parts.unreadable.remove(name);
            Ok(())
        })
    }
}
