//! Will this machine's firmware start a UKI?
//!
//! In: a UKI on the EFI system partition, and the firmware's variables. Out: nothing, or the
//! reason why the firmware would refuse it. **Invariant:** no UKI gets a name that the loader
//! takes before it was asked for here: after a UKI that the firmware refuses, systemd-boot may
//! end in the firmware's menu, where nothing counts tries and nothing falls back.
//!
//! A firmware starts a program when a certificate of its `db` is in the chain of who signed it,
//! or when `db` has the program's digest, and nothing of that is in `dbx` (UEFI 2.10, section
//! 32.5.3.3). Which certificates a program carries is compared here; signatures are not computed
//! again, since only what the channel's keys vouch for comes this far. An operator may have
//! enrolled the authority of a signer that does not carry it: so the certificates of the UKI that
//! runs, which the firmware has taken, are good as well. A new signer under such an authority is
//! refused until its own certificate is in `db`, although the firmware would take it: to stay
//! where it is costs a node less. Entries of `dbx` that forbid a certificate by its hash are passed
//! over.

mod der;
mod lists;
mod signature;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;

use contract::release::layout::MIB;
use contract::{Digest, UkiName};
use sha2::{Digest as _, Sha256};

use crate::chain;
use crate::effects::{Effects, Esp, TargetSlot, Variable};
use signature::{Damaged, HEADER_BYTES, Layout};

/// Bytes that are read at a time.
const PIECE: usize = MIB as usize;
/// Certificates that an error names.
const MAX_NAMED: usize = 4;
/// Longest common name in an error, in characters.
const MAX_NAME: usize = 64;

/// A UKI on the EFI system partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uki {
    /// What was staged.
    Temporary,
    /// One that has a name.
    Named(UkiName),
}

/// Why the loader must not find a UKI.
#[derive(Debug, thiserror::Error)]
pub enum SecureBootError {
    /// It carries no signature.
    #[error(
        "the firmware would refuse its UKI, which is not signed: build the release with keys \
         that the node's firmware trusts"
    )]
    Unsigned,
    /// It is signed by somebody whom the firmware does not know.
    #[error(
        "the firmware would refuse its UKI: it is signed by {signers}, and the firmware's db \
         holds {trusted}: sign the release with a key that the node's firmware trusts, or enrol \
         the new certificate first"
    )]
    Stranger {
        /// Whose certificates it carries.
        signers: String,
        /// Whose certificates `db` holds.
        trusted: String,
    },
    /// The firmware's list of what it never starts has it.
    #[error(
        "the firmware would refuse its UKI: the firmware's dbx forbids {0}: sign the release \
         with another key"
    )]
    Forbidden(String),
    /// Its signature cannot be read.
    #[error("the firmware would refuse its UKI: {0}: build the release again and publish it")]
    Damaged(Damaged),
    /// A variable cannot be read.
    #[error(
        "whether the firmware takes its UKI is not known, for `{0}` cannot be read: restart the \
         node, and update its firmware if that does not help"
    )]
    Variable(&'static str, #[source] io::Error),
    /// A variable cannot be understood.
    #[error(
        "whether the firmware takes its UKI is not known, for `{0}` has damaged signature lists: \
         enrol the keys again in the firmware"
    )]
    Lists(&'static str),
    /// The EFI system partition fails.
    #[error(
        "cannot read the signature of its UKI on the EFI system partition: check that partition"
    )]
    Read(#[source] io::Error),
}

impl From<Damaged> for SecureBootError {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged)
    }
}

/// Asks the firmware's variables whether it will start `uki`, which is for the slot `target`; the
/// other slot runs. Reads, and writes nothing. Without Secure Boot, or where the firmware shows
/// no variables, every UKI is good.
///
/// # Errors
/// [`SecureBootError`]: the UKI must not be armed.
pub fn check(effects: &Effects, uki: Uki, target: TargetSlot) -> Result<(), SecureBootError> {
    let read = |name, variable| {
        let value = effects.firmware.variable(variable);
        value.map_err(|source| SecureBootError::Variable(name, source))
    };
    if read("SecureBoot", Variable::SecureBoot)?.as_deref() != Some(&[1][..]) {
        return Ok(());
    }
    let Some(db) = read("db", Variable::Db)? else { return Ok(()) };
    let dbx = read("dbx", Variable::Dbx)?.unwrap_or_default();
    let trusted = lists::parse(&db).ok_or(SecureBootError::Lists("db"))?;
    let forbidden = lists::parse(&dbx).ok_or(SecureBootError::Lists("dbx"))?;

    let program = Program::open(effects.esp.as_ref(), uki)?;
    let table = program.table()?;
    let signers = signature::certificates(&table)?;
    if let Some(signer) = signers.iter().find(|one| forbidden.certificates.contains(*one)) {
        return Err(SecureBootError::Forbidden(named(signer)));
    }
    // The whole UKI is read once more for this, so only where it matters.
    if !(trusted.digests.is_empty() && forbidden.digests.is_empty()) {
        let digest = program.digest()?;
        let digest = &digest.as_bytes()[..];
        if forbidden.digests.contains(&digest) {
            return Err(SecureBootError::Forbidden("this very UKI".to_owned()));
        }
        if trusted.digests.contains(&digest) {
            return Ok(());
        }
    }
    if signers.is_empty() {
        return Err(SecureBootError::Unsigned);
    }
    if signers.iter().any(|signer| trusted.certificates.contains(signer))
        || has_those_of_booted(effects.esp.as_ref(), &signers, target)
    {
        return Ok(());
    }
    Err(SecureBootError::Stranger {
        signers: all_named(&signers),
        trusted: all_named(&trusted.certificates),
    })
}

/// Whether the UKI that runs carries the same certificates. One that cannot be read says nothing.
fn has_those_of_booted(esp: &dyn Esp, signers: &[&[u8]], target: TargetSlot) -> bool {
    let table = match table_of_booted(esp, target) {
        Ok(Some(table)) => table,
        Ok(None) => return false,
        Err(error) => {
            let text = chain(&error);
            tracing::warn!("who signed the UKI that runs is not known: {text}");
            return false;
        }
    };
    let known = match signature::certificates(&table) {
        Ok(known) => known,
        Err(damaged) => {
            tracing::warn!("who signed the UKI that runs is not known: {damaged}");
            return false;
        }
    };
    let is_known = |signer: &&[u8]| known.contains(signer);
    signers.iter().all(is_known) && known.iter().all(|one| signers.contains(one))
}

/// The certificate table of the UKI that runs; none when it is not there.
fn table_of_booted(esp: &dyn Esp, target: TargetSlot) -> Result<Option<Vec<u8>>, SecureBootError> {
    let ukis = esp.list().map_err(SecureBootError::Read)?;
    let booted = target.booted().uki(&ukis);
    booted.map(|name| Program::open(esp, Uki::Named(name))?.table()).transpose()
}

/// A program on the EFI system partition.
struct Program<'a> {
    esp: &'a dyn Esp,
    uki: Uki,
    bytes: u64,
    layout: Layout,
}

impl<'a> Program<'a> {
    fn open(esp: &'a dyn Esp, uki: Uki) -> Result<Self, SecureBootError> {
        let bytes = match uki {
            Uki::Temporary => esp.temporary_bytes().map(Option::unwrap_or_default),
            Uki::Named(name) => esp.uki_bytes(&name),
        };
        let bytes = bytes.map_err(SecureBootError::Read)?;
        let header = 0..bytes.min(HEADER_BYTES as u64);
        let header = read(esp, uki, header).map_err(SecureBootError::Read)?;
        Ok(Self { esp, uki, bytes, layout: Layout::parse(&header, bytes)? })
    }

    /// The certificate table; [`Layout`] bounds its size.
    fn table(&self) -> Result<Vec<u8>, SecureBootError> {
        read(self.esp, self.uki, self.layout.table.clone()).map_err(SecureBootError::Read)
    }

    /// The Authenticode digest.
    fn digest(&self) -> Result<Digest, SecureBootError> {
        let mut hasher = Sha256::new();
        for part in self.layout.covered(self.bytes) {
            for start in part.clone().step_by(PIECE) {
                let end = part.end.min(start + PIECE as u64);
                let piece = read(self.esp, self.uki, start..end);
                hasher.update(&piece.map_err(SecureBootError::Read)?);
            }
        }
        Ok(Digest::from(<[u8; 32]>::from(hasher.finalize())))
    }
}

fn read(esp: &dyn Esp, uki: Uki, part: Range<u64>) -> io::Result<Vec<u8>> {
    let bytes = part.end.saturating_sub(part.start);
    let mut buffer = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    match uki {
        _ if buffer.is_empty() => {}
        Uki::Temporary => esp.read_temporary(part.start, &mut buffer)?,
        Uki::Named(name) => esp.read(&name, part.start, &mut buffer)?,
    }
    Ok(buffer)
}

/// A certificate in words. Keys that follow one another have the same name, so the start of its
/// SHA-256 is in them.
fn named(certificate: &[u8]) -> String {
    let digest = Digest::of(certificate).to_string();
    let digest = digest.get(..16).unwrap_or_default();
    match signature::common_name(certificate) {
        Some(name) => {
            let name: String =
                contract::node::api::printable(&name).chars().take(MAX_NAME).collect();
            format!("CN={name} (SHA-256 {digest}…)")
        }
        None => format!("a certificate without a name (SHA-256 {digest}…)"),
    }
}

fn all_named(certificates: &[&[u8]]) -> String {
    let mut names: Vec<_> = certificates.iter().take(MAX_NAMED).map(|one| named(one)).collect();
    match certificates.len().saturating_sub(MAX_NAMED) {
        0 if names.is_empty() => return "no certificate".to_owned(),
        0 => {}
        more => names.push(format!("{more} more")),
    }
    names.join(", ")
}
