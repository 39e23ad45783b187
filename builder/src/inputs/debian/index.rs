//! A suite's list of packages. In goes the text of a `Packages` file whose digest was
//! checked, out come its records.
//!
//! **Invariant:** a record's path stays inside the archive's `pool/`.

use contract::Digest;
use deb822_fast::borrowed::{BorrowedParagraph, BorrowedParagraphIter};
use debversion::Version;

use crate::lock::names::{check_path, is_package_name};

/// Largest compressed index that is read, in bytes (trixie's main has 10 MB).
pub const MAX_COMPRESSED_BYTES: u64 = 64 << 20;
/// Largest index after decompression, in bytes.
pub const MAX_INDEX_BYTES: u64 = 512 << 20;
/// Largest package, in bytes: what ar(5)'s ten digits can say (trixie has one of 3 GB).
pub const MAX_PACKAGE_BYTES: u64 = 9_999_999_999;

/// A record that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the package index of {suite} is damaged at `{package}`: {reason}; try another `--mirror`")]
pub struct InvalidIndex {
    /// The suite.
    pub suite: String,
    /// The record's package, as far as it is known.
    pub package: String,
    /// What is wrong.
    pub reason: String,
}

/// One version of one package, as an index describes it.
#[derive(Debug, Clone)]
pub struct Record {
    /// Binary package name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Number of the suite, in the order of the request.
    pub suite: usize,
    /// `Pre-Depends` and `Depends`, unparsed.
    pub depends: [String; 2],
    /// `Conflicts` and `Breaks`, unparsed.
    pub conflicts: [String; 2],
    /// `Provides`, unparsed.
    pub provides: String,
    /// `Priority`: 0 is `required`, 4 anything below `optional`.
    pub priority: u8,
    /// Path below the archive.
    pub path: String,
    /// Size of the `.deb`, in bytes.
    pub size: u64,
    /// SHA-256 of the `.deb`.
    pub sha256: Digest,
}

/// Parses a whole index; `number` is the suite's in the request, `suite` its name.
///
/// # Errors
/// [`InvalidIndex`] at the first record that cannot be used.
pub fn parse_index(text: &str, suite: &str, number: usize) -> Result<Vec<Record>, InvalidIndex> {
    let mut records = Vec::new();
    for paragraph in BorrowedParagraphIter::new(text) {
        let invalid = |package: &str, reason: String| InvalidIndex {
            suite: suite.to_owned(),
            package: package.chars().take(120).collect(),
            reason,
        };
        let paragraph = paragraph.map_err(|error| invalid("?", format!("{error:?}")))?;
        let name = paragraph.get_single("Package").unwrap_or_default();
        let record = parse_record(&paragraph, number);
        records.push(record.map_err(|reason| invalid(name, reason))?);
    }
    Ok(records)
}

fn parse_record(paragraph: &BorrowedParagraph, suite: usize) -> Result<Record, String> {
    let field = |name: &str| paragraph.get_single(name).unwrap_or_default().trim();
    let folded =
        |name: &str| paragraph.get_field(name).map(|field| field.join()).unwrap_or_default();
    let name = field("Package");
    if !is_package_name(name) {
        return Err("its name is not a package name".into());
    }
    let size: u64 = field("Size").parse().map_err(|_| "its Size is not a number".to_owned())?;
    if size > MAX_PACKAGE_BYTES {
        return Err(format!("it is larger than {MAX_PACKAGE_BYTES} bytes"));
    }
    let path = field("Filename");
    check_path(path)?;
    Ok(Record {
        name: name.to_owned(),
        version: field("Version").parse().map_err(|_| "its Version is none".to_owned())?,
        architecture: field("Architecture").to_owned(),
        suite,
        depends: [folded("Pre-Depends"), folded("Depends")],
        conflicts: [folded("Conflicts"), folded("Breaks")],
        provides: folded("Provides"),
        priority: match field("Priority") {
            "required" => 0,
            "important" => 1,
            "standard" => 2,
            "optional" => 3,
            _ => 4,
        },
        path: path.to_owned(),
        size,
        sha256: field("SHA256").parse().map_err(|_| "its SHA256 is none".to_owned())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &str) -> String {
        format!(
            "Package: kmod\nVersion: 34.2-2\nArchitecture: amd64\nDepends: libc6 (>= 2.38),\n \
             libkmod2\nPriority: important\nFilename: {path}\nSize: 5\nSHA256: {}\n",
            Digest::of(b"x")
        )
    }

    #[test]
    fn records_are_read_with_folded_fields() {
        let text = record("pool/main/k/kmod/kmod_34.2-2_amd64.deb");
        let records = parse_index(&format!("{text}\n{text}"), "trixie", 0).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].priority, 1);
        assert!(records[0].depends[1].contains("libkmod2"));
    }

    #[test]
    fn a_path_out_of_the_pool_is_refused() {
        for path in ["/etc/passwd", "pool/../../x", "pool//x", "dists/x", "pool/a?b", "pool/é"] {
            let error = parse_index(&record(path), "trixie", 0).unwrap_err();
            assert_eq!(error.package, "kmod", "{path}");
        }
    }
}
