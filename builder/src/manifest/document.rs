//! The manifest as it is written: TOML tables, before anything is merged or checked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_spanned::Spanned;

use super::{Boot, ContainerImage, Debian, Download, Exception, GoProgram, User};

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Document {
    /// A manifest beside this one that gives everything this one does not.
    pub extends: Option<PathBuf>,
    /// Parts of the extended manifest that are left out.
    #[serde(default)]
    pub without: Vec<Spanned<String>>,
    /// `[image]`.
    #[serde(default)]
    pub image: ImageTable,
    /// `[debian]`.
    pub debian: Option<Debian>,
    /// `[boot]` of a manifest that extends none.
    pub boot: Option<Boot>,
    /// `[initrd]`.
    pub initrd: Option<PartTable>,
    /// `[parts.NAME]`.
    #[serde(default)]
    pub parts: BTreeMap<String, Spanned<PartTable>>,
    /// `[users.NAME]`.
    #[serde(default)]
    pub users: BTreeMap<String, User>,
    /// `[selinux]`.
    pub selinux: Option<SelinuxTable>,
    /// `[audit]`.
    #[serde(default)]
    pub audit: AuditTable,
    /// Words appended to the extended manifest's kernel command line.
    #[serde(default)]
    pub append_command_line: Vec<String>,
}

/// `[image]`; an extending manifest may give any of these anew.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImageTable {
    /// See [`super::Image`].
    pub name: Option<String>,
    /// See [`super::Image`].
    pub architecture: Option<contract::Architecture>,
    /// See [`super::Image`].
    pub version: Option<contract::ReleaseVersion>,
}

/// `[selinux]`; see [`super::Selinux`] for each key.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SelinuxTable {
    pub policy: Option<PathBuf>,
    pub state: Option<super::SelinuxState>,
    pub labels: BTreeMap<String, String>,
}

/// `[audit]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AuditTable {
    /// `[[audit.exceptions]]`.
    #[serde(default)]
    pub exceptions: Vec<Exception>,
}

/// `[parts.NAME]` or `[initrd]`; see [`super::Part`] for each key.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PartTable {
    pub why: String,
    pub packages: Vec<String>,
    pub files: Vec<String>,
    pub modules: Vec<String>,
    pub tree: Option<PathBuf>,
    pub links: BTreeMap<String, String>,
    pub directories: Vec<String>,
    pub modes: BTreeMap<String, String>,
    pub concatenate: BTreeMap<String, String>,
    pub enable: Vec<String>,
    pub go: Option<GoProgram>,
    pub workspace: BTreeMap<String, String>,
    pub downloads: Vec<Download>,
    pub container_images: Vec<ContainerImage>,
}
