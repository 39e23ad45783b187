//! Unified kernel images: kernel, initrd and command line behind systemd's stub, in one
//! PE file that is signed as a whole.
//!
//! In: the stub and the sections. Out: an unsigned UKI whose bytes depend on them alone
//! (UAPI group: Unified Kernel Image; Microsoft: PE format).

mod pe;

use std::ops::Range;

use contract::{Digest, RootHash};

pub use pe::{InvalidPe, PeLayout, PeSection, write_checksum};

/// Alignment of sections in memory.
const PAGE: usize = 4096;

/// Initialised data that is read: `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
const SECTION_FLAGS: u32 = 0x4000_0040;

/// Largest UKI that is read or made, in bytes.
pub const MAX_UKI_BYTES: usize = 512 << 20;

/// What a UKI is made of.
#[derive(Debug, Clone, Copy)]
pub struct Sections<'a> {
    /// Kernel image (bzImage).
    pub linux: &'a [u8],
    /// Compressed initrd.
    pub initrd: &'a [u8],
    /// Kernel command line.
    pub cmdline: &'a str,
    /// os-release, which the loader shows and sorts by.
    pub os_release: &'a str,
    /// Kernel release.
    pub uname: &'a str,
}

/// A UKI that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uki {
    /// Kernel command line.
    pub cmdline: String,
    /// os-release.
    pub os_release: String,
    /// Kernel release.
    pub uname: String,
    /// All sections, in order.
    pub sections: Vec<UkiSection>,
}

/// One section of a UKI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UkiSection {
    /// Name, such as `.linux`.
    pub name: String,
    /// Where its bytes are in the file.
    pub range: Range<usize>,
    /// SHA-256 of them.
    pub sha256: Digest,
}

/// Why there is no UKI.
#[derive(Debug, thiserror::Error)]
pub enum UkiError {
    /// The stub or the file is no usable PE file.
    #[error(transparent)]
    Pe(#[from] InvalidPe),
    /// The stub's header has no room for more sections.
    #[error(
        "the stub has room for {room} more sections, {needed} are needed: take another version of systemd-boot-efi"
    )]
    NoRoom {
        /// Free places in the header.
        room: usize,
        /// Places needed.
        needed: usize,
    },
    /// Over [`MAX_UKI_BYTES`].
    #[error(
        "the UKI would have {0} bytes: at most {MAX_UKI_BYTES} fit the EFI system partition; leave modules out of the initrd"
    )]
    TooLarge(usize),
    /// A section that a UKI must have.
    #[error("the file has no `{0}` section: it is no UKI")]
    Missing(&'static str),
}

/// Puts the sections behind the stub.
///
/// # Errors
/// [`UkiError`] for a stub that is not one, or too much content.
pub fn assemble(stub: &[u8], sections: &Sections<'_>) -> Result<Vec<u8>, UkiError> {
    // The stub reads the command line as a C string.
    let cmdline = [sections.cmdline.as_bytes(), &[0]].concat();
    // The kernel comes last: it is unpacked in place and may grow over what follows.
    let added: [(&str, &[u8]); 5] = [
        (".osrel", sections.os_release.as_bytes()),
        (".cmdline", &cmdline),
        (".uname", sections.uname.as_bytes()),
        (".initrd", sections.initrd),
        (".linux", sections.linux),
    ];
    let layout = PeLayout::parse(stub)?;
    let room = layout.free_section_headers();
    if room < added.len() {
        return Err(UkiError::NoRoom { room, needed: added.len() });
    }
    let total: usize = stub.len() + added.iter().map(|(_, data)| data.len() + PAGE).sum::<usize>();
    if total > MAX_UKI_BYTES {
        return Err(UkiError::TooLarge(total));
    }
    let mut file = Vec::with_capacity(total);
    file.extend(stub);
    // Debug symbols stand behind the last section and would be covered by none.
    file.truncate(layout.end_of_sections());
    layout.drop_symbols(&mut file);
    file.resize(file.len().next_multiple_of(layout.file_alignment), 0);
    let mut address = layout.end_of_memory().next_multiple_of(PAGE);
    for (index, (name, data)) in added.iter().enumerate() {
        let start = file.len();
        file.extend(*data);
        file.resize(file.len().next_multiple_of(layout.file_alignment), 0);
        let header = section_header(name, data.len(), address, start..file.len());
        let at = layout.section_header(layout.section_count + index);
        file[at..at + header.len()].copy_from_slice(&header);
        address = (address + data.len()).next_multiple_of(PAGE);
    }
    layout.set_section_count(&mut file, layout.section_count + added.len());
    layout.set_image_bytes(&mut file, address);
    write_checksum(&mut file)?;
    Ok(file)
}

fn section_header(name: &str, bytes: usize, address: usize, raw: Range<usize>) -> [u8; 40] {
    let mut header = [0; 40];
    header[..name.len()].copy_from_slice(name.as_bytes());
    let fields = [(8, bytes), (12, address), (16, raw.len()), (20, raw.start)];
    for (at, value) in fields {
        header[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }
    header[36..40].copy_from_slice(&SECTION_FLAGS.to_le_bytes());
    header
}

/// Reads a UKI.
///
/// # Errors
/// [`UkiError`] for a file that is no UKI, whatever its bytes are.
pub fn inspect(file: &[u8]) -> Result<Uki, UkiError> {
    if file.len() > MAX_UKI_BYTES {
        return Err(UkiError::TooLarge(file.len()));
    }
    let layout = PeLayout::parse(file)?;
    let mut sections = Vec::new();
    for section in layout.sections(file)? {
        let bytes = file.get(section.range.clone()).unwrap_or_default();
        let sha256 = Digest::of(bytes);
        sections.push(UkiSection { name: section.name, range: section.range, sha256 });
    }
    let text = |name: &'static str| -> Result<String, UkiError> {
        let section = sections.iter().find(|section| section.name == name);
        let bytes = section.and_then(|section| file.get(section.range.clone()));
        let bytes = bytes.ok_or(UkiError::Missing(name))?;
        Ok(String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned())
    };
    let (cmdline, os_release, uname) = (text(".cmdline")?, text(".osrel")?, text(".uname")?);
    for needed in [".linux", ".initrd"] {
        if !sections.iter().any(|section| section.name == needed) {
            return Err(UkiError::Missing(needed));
        }
    }
    Ok(Uki { cmdline, os_release, uname, sections })
}

/// The root hash that a UKI's command line demands.
pub fn root_hash(cmdline: &str) -> Option<RootHash> {
    cmdline.split_whitespace().find_map(|word| word.strip_prefix("roothash=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::pe::tests::minimal_pe;
    use super::*;

    const SECTIONS: Sections<'static> = Sections {
        linux: &[3; 5000],
        initrd: b"initrd",
        cmdline: "root=/dev/mapper/root ro",
        os_release: "ID=slipway\n",
        uname: "6.12.0",
    };

    #[test]
    fn what_is_assembled_is_read_back() {
        let uki = assemble(&minimal_pe(), &SECTIONS).unwrap();
        let read = inspect(&uki).unwrap();
        assert_eq!(read.cmdline, SECTIONS.cmdline);
        assert_eq!(read.os_release, SECTIONS.os_release);
        assert_eq!(read.uname, SECTIONS.uname);
        let linux = read.sections.iter().find(|section| section.name == ".linux").unwrap();
        assert_eq!(&uki[linux.range.clone()], SECTIONS.linux);
        assert_eq!(assemble(&minimal_pe(), &SECTIONS).unwrap(), uki);
    }

    #[test]
    fn a_stub_alone_is_no_uki() {
        assert!(matches!(inspect(&minimal_pe()), Err(UkiError::Missing(_))));
    }

    #[test]
    fn damaged_files_never_panic() {
        let uki = assemble(&minimal_pe(), &SECTIONS).unwrap();
        for at in 0..1024 {
            let mut bad = uki.clone();
            bad[at] ^= 0xff;
            // Either outcome is right; a panic is not.
            drop(inspect(&bad));
            drop(inspect(&uki[..at]));
            drop(assemble(&bad[..900], &SECTIONS));
        }
    }
}
