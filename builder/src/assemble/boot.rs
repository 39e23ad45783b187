//! The boot files: one UKI for each slot, and the loader, all signed.

use std::collections::BTreeMap;

use contract::release::layout::ESP_UKI_DIR;
use contract::{Slot, UkiName};

use super::pack::Packed;
use super::{BuildError, slot_command_line};
use crate::formats::tree::{Content, TreePath};
use crate::formats::uki::{self, Sections};
use crate::image::compose::{BootFiles, ComposeError, os_release};
use crate::manifest::Manifest;
use crate::signing::keys::KeyFolder;
use crate::signing::secure_boot::sign_pe;

/// What the firmware and the loader read.
pub struct SignedBoot {
    /// A UKI for each slot.
    pub ukis: BTreeMap<Slot, Content>,
    /// Files of the EFI system partition.
    pub esp: BTreeMap<TreePath, Content>,
}

/// Assembles and signs everything that boots.
pub fn sign(
    manifest: &Manifest,
    boot: &BootFiles,
    packed: &Packed,
    keys: &KeyFolder,
) -> Result<SignedBoot, BuildError> {
    let read =
        |what, content: &Content| content.read().map_err(|error| BuildError::BootFile(what, error));
    let (kernel, stub) = (read("kernel", &boot.kernel)?, read("stub", &boot.stub)?);
    let signer = keys.signer();
    let mut ukis = BTreeMap::new();
    for slot in Slot::ALL {
        let mut cmdline = slot_command_line(slot, &packed.root.root_hash);
        let selinux = manifest.selinux.as_ref().map(|selinux| selinux.state.command_line());
        let words = manifest.boot.command_line.iter().map(String::as_str);
        for word in words.chain(selinux.unwrap_or_default().iter().copied()) {
            cmdline = cmdline + " " + word;
        }
        let unsigned = uki::assemble(
            &stub,
            &Sections {
                linux: &kernel,
                initrd: &packed.initrd,
                cmdline: &cmdline,
                // Without a version: the loader then sorts by file name, and a rollback
                // needs no more than a rename.
                os_release: &os_release(manifest, None),
                uname: &boot.kernel_release,
            },
        )?;
        ukis.insert(slot, Content::from_bytes(sign_pe(&unsigned, signer)?));
    }
    let loader = sign_pe(&read("loader", &boot.loader)?, signer)?;
    let esp = esp(manifest, &ukis[&Slot::A], loader, keys)?;
    Ok(SignedBoot { ukis, esp })
}

fn esp(
    manifest: &Manifest,
    first: &Content,
    loader: Vec<u8>,
    keys: &KeyFolder,
) -> Result<BTreeMap<TreePath, Content>, BuildError> {
    let variables = keys.enrolment();
    let mut conf = String::new();
    for line in &manifest.boot.loader_conf {
        conf = conf + line + "\n";
    }
    let mut esp = BTreeMap::new();
    let mut put = |path: &str, content: Content| -> Result<(), BuildError> {
        esp.insert(TreePath::parse(path).map_err(ComposeError::from)?, content);
        Ok(())
    };
    put("EFI/BOOT/BOOTX64.EFI", Content::from_bytes(loader))?;
    put(&format!("{ESP_UKI_DIR}/{}", UkiName::first()), first.clone())?;
    put("loader/loader.conf", Content::from_bytes(conf.into_bytes()))?;
    // Only entries of type 2 (UKIs) are there; the loader wants to be told once.
    put("loader/entries.srel", Content::from_bytes(*b"type1\n"))?;
    for (name, bytes) in [("PK", &variables.pk), ("KEK", &variables.kek), ("db", &variables.db)] {
        put(&format!("loader/keys/auto/{name}.auth"), Content::from_bytes(bytes.as_slice()))?;
    }
    Ok(esp)
}
