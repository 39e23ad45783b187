//! The UKIs of a slot on the EFI system partition.

use std::io;

use contract::node::api::{DriftItem, Outcome, Subject};
use contract::release::layout::MIB;
use contract::release::offer::MAX_UKI_BYTES;
use contract::{Digest, Slot, UkiName};
use sha2::{Digest as _, Sha256};

use super::item;
use crate::effects::Esp;

/// An item for each UKI of the slot.
pub fn items(esp: &dyn Esp, slot: Slot, expected: Option<Digest>) -> Vec<DriftItem> {
    let names = match esp.list() {
        Ok(names) => names,
        Err(error) => {
            let detail = format!("the EFI system partition cannot be read: {error}");
            return vec![item(Subject::Uki, format!("slot {slot}"), Outcome::Unknown, detail)];
        }
    };
    let of_slot = names.into_iter().filter(|name| name.slot == slot);
    of_slot.map(|name| compared(esp, &name, expected)).collect()
}

fn compared(esp: &dyn Esp, name: &UkiName, expected: Option<Digest>) -> DriftItem {
    let (outcome, detail) = match (digest(esp, name), expected) {
        (Err(error), _) => (Outcome::Unknown, format!("cannot be read: {error}")),
        (Ok(found), Some(expected)) if found == expected => (Outcome::Same, found.to_string()),
        (Ok(found), Some(expected)) => {
            (Outcome::Differs, format!("SHA-256 {found}, but {expected} was installed"))
        }
        (Ok(found), None) => {
            (Outcome::Unknown, format!("SHA-256 {found}; what was installed is not recorded"))
        }
    };
    item(Subject::Uki, name.to_string(), outcome, detail)
}

fn digest(esp: &dyn Esp, name: &UkiName) -> io::Result<Digest> {
    let bytes = esp.uki_bytes(name)?;
    if bytes > MAX_UKI_BYTES {
        return Err(io::Error::other(format!("it has {bytes} bytes, more than any UKI")));
    }
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; MIB as usize];
    let mut offset = 0;
    while offset < bytes {
        let piece = (bytes - offset).min(MIB) as usize;
        esp.read(name, offset, &mut buffer[..piece])?;
        hasher.update(&buffer[..piece]);
        offset += piece as u64;
    }
    Ok(<[u8; 32]>::from(hasher.finalize()).into())
}
