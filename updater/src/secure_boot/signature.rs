//! Whose certificates a signed EFI program carries.
//!
//! In: its header and its certificate table (Microsoft: PE Format; Windows Authenticode Portable
//! Executable Signature Format). Out: certificates in DER, not yet believed.
//! **Invariant:** every offset that a file names is checked against the file's size; whether the
//! signature is right is for the firmware to say.

use std::ops::Range;

use super::der::{self, CONTEXT_0, IDENTIFIER, INTEGER, SEQUENCE, SET};

/// Bytes at the start of a program in which all that is needed of its header must be.
pub const HEADER_BYTES: usize = 4096;
/// Largest certificate table, in bytes: a signature with its certificates has a few thousand.
pub const MAX_TABLE_BYTES: u64 = 256 << 10;

/// `signedData` of PKCS#7: 1.2.840.113549.1.7.2.
pub const SIGNED_DATA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// `commonName` of X.520: 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// `WIN_CERT_TYPE_PKCS_SIGNED_DATA`.
const TYPE_PKCS7: u16 = 0x0002;
/// `IMAGE_NT_OPTIONAL_HDR64_MAGIC`.
const PE32_PLUS: u16 = 0x020b;
/// Signature and COFF header, before the optional header.
const BEFORE_OPTIONAL: usize = 24;
/// In the optional header: the checksum of four bytes, the count of directories, and the entry
/// of the certificate table, which is the fifth.
const CHECKSUM: usize = 64;
const DIRECTORY_COUNT: usize = 108;
const CERTIFICATE_ENTRY: usize = 112 + 4 * 8;

/// Neither signed nor unsigned: a program that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damaged(&'static str);

/// Where in a program its signature is, and what the signature does not cover. In bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The certificate table; empty for a program that is not signed.
    pub table: Range<u64>,
    /// In the header, ascending, in front of the table: the checksum, and the table's entry.
    pub uncovered: [Range<u64>; 2],
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|digits| u16::from_le_bytes(*digits))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|digits| u32::from_le_bytes(*digits))
}

impl Layout {
    /// Reads the first [`HEADER_BYTES`], or fewer, of a program of `bytes` bytes.
    ///
    /// # Errors
    /// [`Damaged`].
    pub fn parse(header: &[u8], bytes: u64) -> Result<Self, Damaged> {
        const SHORT: Damaged = Damaged("its header is cut short");
        let start = le32(header, 0x3c).and_then(|start| usize::try_from(start).ok());
        let program = start.and_then(|start| header.get(start..)).ok_or(SHORT)?;
        if !header.starts_with(b"MZ") || !program.starts_with(b"PE\0\0") {
            return Err(Damaged("it is no EFI program"));
        }
        let optional = program.get(BEFORE_OPTIONAL..).ok_or(SHORT)?;
        if le16(optional, 0) != Some(PE32_PLUS) {
            return Err(Damaged("it is no 64-bit EFI program"));
        }
        if le32(optional, DIRECTORY_COUNT).ok_or(SHORT)? < 5 {
            return Err(Damaged("its header has no place for a signature"));
        }
        let table = le32(optional, CERTIFICATE_ENTRY).map(u64::from).ok_or(SHORT)?;
        let size = le32(optional, CERTIFICATE_ENTRY + 4).map(u64::from).ok_or(SHORT)?;
        let place = |at: usize, size: u64| {
            let start = (header.len() - optional.len() + at) as u64;
            start..start + size
        };
        let uncovered = [place(CHECKSUM, 4), place(CERTIFICATE_ENTRY, 8)];
        let inside = uncovered[1].end <= table && table + size <= bytes;
        if size > 0 && !(inside && size <= MAX_TABLE_BYTES) {
            return Err(Damaged("its signature is not inside of it"));
        }
        Ok(Self { table: table..table + size, uncovered })
    }

    /// What the Authenticode digest of a program of `bytes` bytes is computed over, where its
    /// sections follow one another without gaps, as those of a UKI do.
    pub fn covered(&self, bytes: u64) -> [Range<u64>; 3] {
        let [checksum, entry] = &self.uncovered;
        let end = if self.table.is_empty() { bytes } else { self.table.start };
        [0..checksum.start, checksum.end..entry.start, entry.end..end.max(entry.end)]
    }
}

/// Every certificate in every signature of a certificate table.
///
/// # Errors
/// [`Damaged`].
pub fn certificates(mut table: &[u8]) -> Result<Vec<&[u8]>, Damaged> {
    const DAMAGED: Damaged = Damaged("its signature is damaged");
    let mut found = Vec::new();
    while !table.is_empty() {
        let length = le32(table, 0).and_then(|length| usize::try_from(length).ok());
        let entry = length.and_then(|length| table.get(..length)).ok_or(DAMAGED)?;
        let content = entry.get(8..).ok_or(DAMAGED)?;
        if le16(entry, 6) == Some(TYPE_PKCS7) {
            found.extend(of_signed_data(content).ok_or(DAMAGED)?);
        }
        // Each begins at a multiple of 8; the last may be without its padding.
        table = table.get(entry.len().next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(found)
}

/// The certificates of PKCS#7 signed data (RFC 2315, section 9.1), in their order.
fn of_signed_data(pkcs7: &[u8]) -> Option<Vec<&[u8]>> {
    let (info, _) = der::expect(pkcs7, SEQUENCE)?;
    let (kind, rest) = der::expect(info, IDENTIFIER)?;
    if kind != SIGNED_DATA {
        return None;
    }
    let (explicit, _) = der::expect(rest, CONTEXT_0)?;
    let (signed, _) = der::expect(explicit, SEQUENCE)?;
    let (_version, rest) = der::expect(signed, INTEGER)?;
    let (_algorithms, rest) = der::expect(rest, SET)?;
    let (_content, rest) = der::expect(rest, SEQUENCE)?;
    // Without certificates the next one is the set of signers.
    let Some((all, _)) = der::expect(rest, CONTEXT_0) else { return Some(Vec::new()) };
    let all = der::all(all)?.into_iter();
    Some(all.filter(|one| one.tag == SEQUENCE).map(|one| one.whole).collect())
}

/// The common name of a certificate's subject; `None` when it has none.
pub fn common_name(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = der::expect(certificate, SEQUENCE)?;
    let (body, _) = der::expect(certificate, SEQUENCE)?;
    // The version is left out where it is the first.
    let body = der::expect(body, CONTEXT_0).map_or(body, |(_version, rest)| rest);
    let (_serial, rest) = der::expect(body, INTEGER)?;
    let (_algorithm, rest) = der::expect(rest, SEQUENCE)?;
    let (_issuer, rest) = der::expect(rest, SEQUENCE)?;
    let (_validity, rest) = der::expect(rest, SEQUENCE)?;
    let (subject, _) = der::expect(rest, SEQUENCE)?;
    der::all(subject)?.into_iter().find_map(|name| {
        let (attribute, _) = der::expect(name.content, SEQUENCE)?;
        let (kind, value) = der::expect(attribute, IDENTIFIER)?;
        let (value, _) = der::first(value)?;
        (kind == COMMON_NAME).then(|| String::from_utf8_lossy(value.content).into_owned())
    })
}
