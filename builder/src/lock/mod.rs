//! The lock: every input of an image, pinned, in a text that reads well in a diff.
//!
//! A lock never names a mirror: `path` is relative to one.

pub mod names;
mod packages;

use std::collections::{BTreeMap, BTreeSet};

use contract::Digest;
use serde::{Deserialize, Serialize};

pub use packages::{LockError, LockRequest, lock_packages};

use names::{check_path, is_package_name};

/// The format that this program writes and reads.
pub const FORMAT: u32 = 1;

/// Largest lock file that is read, in bytes.
pub const MAX_LOCK_BYTES: u64 = 4 << 20;

/// All pinned inputs of one manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`FORMAT`].
    pub format: u32,
    /// The Debian part.
    pub debian: DebianLock,
    /// Go modules by the name of their part.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub go: BTreeMap<String, GoLock>,
}

/// Packages, and the signed indexes that they were taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DebianLock {
    /// The package names that the manifest asks for, sorted.
    pub requested: Vec<String>,
    /// One per suite, in the manifest's order.
    pub index: Vec<IndexLock>,
    /// The whole closure, sorted by name.
    pub package: Vec<PackageLock>,
}

/// A verified InRelease file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexLock {
    /// Such as `trixie-security`.
    pub suite: String,
    /// The Release file's `Date`, as written there.
    pub date: String,
    /// OpenPGP fingerprints of the certificates whose signatures verified, sorted.
    pub signed_by: Vec<String>,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageLock {
    /// Binary package name.
    pub name: String,
    /// Debian version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Suite whose index lists it.
    pub suite: String,
    /// Size of the `.deb`, in bytes.
    pub size: u64,
    /// SHA-256 of the `.deb`.
    pub sha256: Digest,
    /// Path inside the mirror, such as `pool/main/k/kmod/kmod_34.2-2_amd64.deb`.
    pub path: String,
}

/// A Go module and what its `go.sum` says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoLock {
    /// Module path.
    pub module: String,
    /// Module version.
    pub version: String,
    /// `h1:` sum of the module, from `go.sum`.
    pub sum: String,
    /// Go toolchain that compiles it, such as `go1.26.8`.
    pub toolchain: String,
    /// SHA-256 of `go.mod` and `go.sum`, which pin everything else.
    pub files: Digest,
}

/// What stands above every lock.
const HEAD: &str = "# Written by `slipway lock`: every input of the image, pinned.\n\
                    # Renew it with that command instead of editing it.\n\n";

/// Why a lock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidLock {
    /// Over [`MAX_LOCK_BYTES`].
    #[error("the lock has {0} bytes, more than the allowed {MAX_LOCK_BYTES}: run `slipway lock`")]
    TooLarge(u64),
    /// Not TOML, or not this shape; the source tells line and column.
    #[error("the lock cannot be understood: run `slipway lock` to write it again")]
    Toml(#[from] toml::de::Error),
    /// Written by another generation of this program.
    #[error(
        "the lock has format {0}, this program reads {FORMAT}: run `slipway lock` to write it again"
    )]
    Format(u32),
    /// A value that this program would not have written.
    #[error("the lock's package `{name}` {reason}: run `slipway lock` to write it again")]
    Package {
        /// As written, shortened.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a manifest asks of Debian, to be compared with a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebianRequest<'a> {
    /// Suites, in the manifest's order.
    pub suites: &'a [String],
    /// Package names.
    pub packages: &'a BTreeSet<String>,
}

impl Lock {
    /// Parses and checks a lock.
    ///
    /// # Errors
    /// [`InvalidLock`] for whatever [`Lock::to_text`] would not have written.
    pub fn parse(text: &str) -> Result<Self, InvalidLock> {
        if text.len() as u64 > MAX_LOCK_BYTES {
            return Err(InvalidLock::TooLarge(text.len() as u64));
        }
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        // Before the fields are judged: a later format has others.
        let head: Head = toml::from_str(text)?;
        if head.format != FORMAT {
            return Err(InvalidLock::Format(head.format));
        }
        let lock: Self = toml::from_str(text)?;
        lock.debian.check()?;
        Ok(lock)
    }

    /// The text that is written: one table for each package, so that a diff shows which
    /// packages changed, and how.
    ///
    /// # Errors
    /// Only when serialisation fails, which no value of this type causes.
    pub fn to_text(&self) -> Result<String, toml::ser::Error> {
        Ok(format!("{HEAD}{}", toml::to_string_pretty(self)?))
    }
}

impl DebianLock {
    /// How the lock differs from what a manifest asks for, a clause each; empty when it
    /// matches. Newer versions on the mirror are no difference.
    pub fn mismatches(&self, request: &DebianRequest) -> Vec<String> {
        let locked: BTreeSet<&String> = self.requested.iter().collect();
        let wanted: BTreeSet<&String> = request.packages.iter().collect();
        let named = |names: Vec<&&String>| -> String {
            names.into_iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let mut found = Vec::new();
        let added: Vec<_> = wanted.difference(&locked).collect();
        if !added.is_empty() {
            found.push(format!("not locked yet: {}", named(added)));
        }
        let removed: Vec<_> = locked.difference(&wanted).collect();
        if !removed.is_empty() {
            found.push(format!("locked, but no longer in the manifest: {}", named(removed)));
        }
        let suites: Vec<&String> = self.index.iter().map(|index| &index.suite).collect();
        if suites != request.suites.iter().collect::<Vec<_>>() {
            let list = |names: &[&String]| {
                names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
            };
            let wanted: Vec<&String> = request.suites.iter().collect();
            found.push(format!(
                "locked from the suites {}, the manifest names {}",
                list(&suites),
                list(&wanted)
            ));
        }
        found
    }

    /// Packages reach file names and addresses: none may lead elsewhere.
    fn check(&self) -> Result<(), InvalidLock> {
        let mut before: Option<&str> = None;
        for package in &self.package {
            let invalid = |reason: &str| InvalidLock::Package {
                name: package.name.chars().take(120).collect(),
                reason: reason.to_owned(),
            };
            if !is_package_name(&package.name) {
                return Err(invalid("has no package's name"));
            }
            if package.version.parse::<debversion::Version>().is_err() {
                return Err(invalid("has no Debian version"));
            }
            if !matches!(package.architecture.as_str(), "amd64" | "all") {
                return Err(invalid("is of an unknown architecture"));
            }
            check_path(&package.path).map_err(|_| invalid("has a path outside of pool/"))?;
            if !self.index.iter().any(|index| index.suite == package.suite) {
                return Err(invalid("is of a suite without an index"));
            }
            if before.is_some_and(|before| before >= package.name.as_str()) {
                return Err(invalid("is there twice, or out of order"));
            }
            before = Some(&package.name);
        }
        match self.requested.iter().find(|name| !self.has(name)) {
            None => Ok(()),
            Some(name) => Err(InvalidLock::Package {
                name: name.chars().take(120).collect(),
                reason: "is requested, and not locked".into(),
            }),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.package.binary_search_by(|package| package.name.as_str().cmp(name)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str) -> PackageLock {
        PackageLock {
            name: name.into(),
            version: "34.2-2".into(),
            architecture: "amd64".into(),
            suite: "trixie".into(),
            size: 92_000,
            sha256: Digest::of(name.as_bytes()),
            path: format!("pool/main/k/kmod/{name}_34.2-2_amd64.deb"),
        }
    }

    fn lock() -> Lock {
        Lock {
            format: FORMAT,
            debian: DebianLock {
                requested: vec!["kmod".into()],
                index: vec![IndexLock {
                    suite: "trixie".into(),
                    date: "Sat, 21 Nov 2026 09:15:44 UTC".into(),
                    signed_by: vec!["4CB50190207B4758A3F73A796ED0E7B82643E131".into()],
                }],
                package: vec![package("kmod"), package("libkmod2")],
            },
            go: BTreeMap::new(),
        }
    }

    #[test]
    fn the_text_reads_well_in_a_diff() {
        let text = lock().to_text().unwrap();
        insta::assert_snapshot!(text, @r#"
        # Written by `slipway lock`: every input of the image, pinned.
        # Renew it with that command instead of editing it.

        format = 1

        [debian]
        requested = ["kmod"]

        [[debian.index]]
        suite = "trixie"
        date = "Sat, 21 Nov 2026 09:15:44 UTC"
        signed_by = ["4CB50190207B4758A3F73A796ED0E7B82643E131"]

        [[debian.package]]
        name = "kmod"
        version = "34.2-2"
        architecture = "amd64"
        suite = "trixie"
        size = 92000
        sha256 = "43908ec50e3d1107c06035715db493e61e1f903ace33144190d01ffc48e00971"
        path = "pool/main/k/kmod/kmod_34.2-2_amd64.deb"

        [[debian.package]]
        name = "libkmod2"
        version = "34.2-2"
        architecture = "amd64"
        suite = "trixie"
        size = 92000
        sha256 = "b9329f0131dbd3c3f88ed22fc2ab2a14e8de71dc547da29b0d01e55a3d606da9"
        path = "pool/main/k/kmod/libkmod2_34.2-2_amd64.deb"
        "#);
        assert_eq!(Lock::parse(&text).unwrap(), lock());
    }

    #[test]
    fn a_later_format_is_named_before_its_fields_are_judged() {
        let error = Lock::parse("format = 2\nnovel = true\n").unwrap_err();
        assert!(matches!(error, InvalidLock::Format(2)), "{error}");
    }

    #[test]
    fn edited_packages_are_refused() {
        let edits: [fn(&mut PackageLock); 5] = [
            |package| package.path = "pool/../../etc/passwd".into(),
            |package| package.path = "/etc/passwd".into(),
            |package| package.name = "../kmod".into(),
            |package| package.suite = "sid".into(),
            |package| package.name = "aaa".into(),
        ];
        for (number, edit) in edits.into_iter().enumerate() {
            let mut hostile = lock();
            edit(&mut hostile.debian.package[1]);
            assert!(Lock::parse(&hostile.to_text().unwrap()).is_err(), "edit {number}");
        }
        let mut incomplete = lock();
        incomplete.debian.requested.push("runc".into());
        assert!(Lock::parse(&incomplete.to_text().unwrap()).is_err());
    }

    #[test]
    fn a_lock_tells_how_it_differs_from_its_manifest() {
        let suites = ["trixie".to_owned()];
        let packages = BTreeSet::from(["kmod".to_owned()]);
        let request = DebianRequest { suites: &suites, packages: &packages };
        assert_eq!(lock().debian.mismatches(&request), Vec::<String>::new());

        let suites = ["trixie".to_owned(), "trixie-security".to_owned()];
        let packages = BTreeSet::from(["runc".to_owned()]);
        let request = DebianRequest { suites: &suites, packages: &packages };
        assert_eq!(
            lock().debian.mismatches(&request),
            [
                "not locked yet: runc",
                "locked, but no longer in the manifest: kmod",
                "locked from the suites trixie, the manifest names trixie, trixie-security",
            ]
        );
    }
}
