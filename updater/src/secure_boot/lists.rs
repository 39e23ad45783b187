//! Signature lists: what the firmware's `db` and `dbx` hold (UEFI 2.10, section 32.4.1).
//!
//! In: the variable's value. Out: certificates and digests, which borrow from it.
//! **Invariant:** kinds of entries that are not known here are passed over, and lists that
//! contradict themselves are none.

/// `EFI_CERT_X509_GUID`, a5c059a1-94e4-4aa7-87b5-ab155c2bf072, as it is stored.
pub const X509: [u8; 16] = [
    0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72,
];
/// `EFI_CERT_SHA256_GUID`, c1c41626-504c-4092-aca9-41f936934328, as it is stored.
pub const SHA256: [u8; 16] = [
    0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28,
];
/// Type, and the sizes of the list, of its own header and of each entry.
const HEADER: usize = 28;
/// Who put an entry there.
const OWNER: usize = 16;

/// What a variable names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lists<'a> {
    /// Certificates in DER.
    pub certificates: Vec<&'a [u8]>,
    /// SHA-256 of programs, as Authenticode computes it.
    pub digests: Vec<&'a [u8]>,
}

/// Reads all lists; `None` when they are damaged.
pub fn parse(mut bytes: &[u8]) -> Option<Lists<'_>> {
    let mut lists = Lists::default();
    while !bytes.is_empty() {
        let (kind, sizes) = bytes.get(..HEADER)?.split_first_chunk::<16>()?;
        let [list, header, entry] = [0, 4, 8].map(|at| size(sizes, at));
        let (content, rest) = bytes.split_at_checked(list?)?;
        bytes = rest;
        let found = match *kind {
            X509 => &mut lists.certificates,
            SHA256 => &mut lists.digests,
            // Its size was checked, and is not 0: this ends.
            _ if content.len() >= HEADER => continue,
            _ => return None,
        };
        let entries = content.get(HEADER.checked_add(header?)?..)?;
        let entry = entry.filter(|size| *size > OWNER)?;
        if !entries.len().is_multiple_of(entry) {
            return None;
        }
        found.extend(entries.chunks(entry).filter_map(|entry| entry.get(OWNER..)));
    }
    Some(lists)
}

fn size(sizes: &[u8], at: usize) -> Option<usize> {
    let digits = sizes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*digits)).ok()
}
