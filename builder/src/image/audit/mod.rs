//! The audit: what must not be in an image, and is searched for in the finished tree.
//!
//! In: a [`Composed`] tree and the manifest's exceptions. Out: [`Audited`], the only type
//! that can be packed, or all findings at once. **Invariant:** an [`Audited`] tree has no
//! finding without an exception, and no exception without a finding.

mod names;
mod rules;

use std::fmt;

use serde::Serialize;

use crate::formats::tree::{Tree, TreePath};
use crate::image::compose::Composed;
use crate::manifest::Exception;

/// What a rule looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A program that reads commands from people.
    Shell,
    /// A program that runs scripts, or a script itself.
    Interpreter,
    /// A program that installs software.
    PackageManager,
    /// A server that lets people log in.
    LoginServer,
    /// The setuid or setgid bit.
    Setuid,
    /// The `security.capability` attribute.
    FileCapability,
    /// Writable by everyone.
    WorldWritable,
    /// A library that the dynamic linker would not find.
    UnresolvedLibrary,
    /// A link to something that is not in the image.
    UnresolvedLink,
    /// An entry that no part explains.
    Unexplained,
    /// A program that the manifest does not give by its full name.
    UnlistedExecutable,
    /// A unit that takes a credential from outside.
    CredentialImport,
    /// No label of SELinux, or one of a type that `[selinux]` does not give.
    Unlabelled,
    /// A label that changes who acts, on a file that `[selinux]` does not name.
    Entrypoint,
}

impl Rule {
    /// Every rule, in the order of the report.
    pub const ALL: [Rule; 14] = [
        Rule::Shell,
        Rule::Interpreter,
        Rule::PackageManager,
        Rule::LoginServer,
        Rule::Setuid,
        Rule::FileCapability,
        Rule::WorldWritable,
        Rule::UnresolvedLibrary,
        Rule::UnresolvedLink,
        Rule::Unexplained,
        Rule::UnlistedExecutable,
        Rule::CredentialImport,
        Rule::Unlabelled,
        Rule::Entrypoint,
    ];

    /// The name in manifests and reports.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Shell => "shell",
            Rule::Interpreter => "interpreter",
            Rule::PackageManager => "package-manager",
            Rule::LoginServer => "login-server",
            Rule::Setuid => "setuid",
            Rule::FileCapability => "file-capability",
            Rule::WorldWritable => "world-writable",
            Rule::UnresolvedLibrary => "unresolved-library",
            Rule::UnresolvedLink => "unresolved-link",
            Rule::Unexplained => "unexplained",
            Rule::UnlistedExecutable => "unlisted-executable",
            Rule::CredentialImport => "credential-import",
            Rule::Unlabelled => "unlabelled",
            Rule::Entrypoint => "entrypoint",
        }
    }
}

/// Something that a rule found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// Where.
    pub path: TreePath,
    /// What exactly, as a clause.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.rule.name(), self.path, self.detail)
    }
}

/// Why the audit failed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Findings without exception.
    #[error("the audit of the {image} found what must not be there:\n  {}\nLeave it out, or write an [[audit.exceptions]] with rule, path and reason.", lines(.findings))]
    Findings {
        /// `root` or `initrd`.
        image: &'static str,
        /// All of them.
        findings: Vec<Finding>,
    },
    /// Exceptions that let nothing pass.
    #[error("[[audit.exceptions]] for {path} (rule `{rule}`) lets nothing pass{hint}: remove it")]
    IdleException {
        /// Its path.
        path: TreePath,
        /// Its rule.
        rule: String,
        /// Whether the rule exists, as a clause.
        hint: String,
    },
    /// A file cannot be read.
    #[error(
        "cannot read {path} for the audit: run the build again, or clear the cache if it repeats"
    )]
    Read {
        /// Path in the image.
        path: TreePath,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n  ")
}

/// A tree that passed the audit.
#[derive(Debug)]
pub struct Audited {
    tree: Tree,
    excused: Vec<(Finding, String)>,
}

impl Audited {
    /// The tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What the audit found and the manifest lets pass, with the reasons.
    pub fn excused(&self) -> &[(Finding, String)] {
        &self.excused
    }
}

/// Audits the root and the initrd together, because an exception may belong to either.
///
/// # Errors
/// [`AuditError::Findings`] with every finding that no exception covers.
pub fn audit(
    root: Composed,
    initrd: Composed,
    exceptions: &[Exception],
) -> Result<(Audited, Audited), AuditError> {
    let mut used = vec![false; exceptions.len()];
    let root = audit_one("root", root, exceptions, &mut used)?;
    let initrd = audit_one("initrd", initrd, exceptions, &mut used)?;
    for (exception, used) in exceptions.iter().zip(used) {
        if !used {
            let known = Rule::ALL.iter().map(|rule| rule.name());
            let hint = if known.clone().any(|name| name == exception.rule) {
                String::new()
            } else {
                format!(
                    ", because there is no such rule (there are {})",
                    known.collect::<Vec<_>>().join(", ")
                )
            };
            return Err(AuditError::IdleException {
                path: exception.path.clone(),
                rule: exception.rule.clone(),
                hint,
            });
        }
    }
    Ok((root, initrd))
}

fn audit_one(
    image: &'static str,
    composed: Composed,
    exceptions: &[Exception],
    used: &mut [bool],
) -> Result<Audited, AuditError> {
    let (mut open, mut excused) = (Vec::new(), Vec::new());
    for finding in rules::findings(&composed)? {
        let matching = exceptions
            .iter()
            .position(|known| known.rule == finding.rule.name() && known.path == finding.path);
        match matching {
            Some(index) => {
                used[index] = true;
                excused.push((finding, exceptions[index].reason.clone()));
            }
            None => open.push(finding),
        }
    }
    if !open.is_empty() {
        return Err(AuditError::Findings { image, findings: open });
    }
    Ok(Audited { tree: composed.tree, excused })
}
