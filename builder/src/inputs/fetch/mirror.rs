//! Where packages come from. In go the `--mirror` flag, the environment variable and the
//! host's apt configuration; out come the bases of the main and of the security archive.
//!
//! A mirror given by hand, be it an address or a folder, holds both archives side by side:
//! `<mirror>/debian/...` and `<mirror>/debian-security/...`. A store filled by
//! `slipway fetch --store DIR` has the same layout, so that it can be given as a folder or
//! put behind any web server.
//!
//! **Invariant:** no mirror is built in; without a source there is an error.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use url::Url;

use super::apt_sources::{AptSource, parse_deb822, parse_one_line};

/// Folder of the main archive in a mirror.
pub const MAIN_FOLDER: &str = "debian";
/// Folder of the security archive in a mirror.
pub const SECURITY_FOLDER: &str = "debian-security";
/// The environment variable that stands in for `--mirror`.
pub const ENVIRONMENT_VARIABLE: &str = "SLIPWAY_MIRROR";

/// Largest apt source file that is read, in bytes.
const MAX_SOURCE_FILE_BYTES: u64 = 1 << 20;

/// Why there is no usable mirror.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// Nothing names one.
    #[error(
        "no Debian mirror is known: {0} has no Debian source; give `--mirror URL` (with \
         URL/debian and URL/debian-security below it), or set {ENVIRONMENT_VARIABLE}"
    )]
    None(PathBuf),
    /// Given by hand, but not usable.
    #[error(
        "`{given}` is not a mirror: {reason}; give `--mirror` or {ENVIRONMENT_VARIABLE} an \
         http(s) address or an existing folder"
    )]
    Invalid {
        /// What was given, shortened.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The apt configuration cannot be read.
    #[error("cannot read the apt configuration at {path}: give `--mirror URL` instead")]
    Unreadable {
        /// File or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// The base of one archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Behind a web server; the path ends with a slash.
    Web(Url),
    /// A folder on this machine.
    Folder(PathBuf),
}

/// Both archives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    main: Location,
    security: Location,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Web(base) => f.write_str(base.as_str().trim_end_matches('/')),
            Location::Folder(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Location {
    /// What lies below this place, such as `debian`.
    fn child(&self, name: &str) -> Self {
        match self {
            Location::Folder(path) => Location::Folder(path.join(name)),
            Location::Web(base) => {
                let mut base = base.clone();
                let path = format!("{}/{name}/", base.path().trim_end_matches('/'));
                base.set_path(&path);
                Location::Web(base)
            }
        }
    }

    fn parse_uri(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("file:").or_else(|| text.strip_prefix("copy:")) {
            let path = format!("/{}", path.trim_start_matches('/'));
            return Some(Location::Folder(PathBuf::from(path)));
        }
        let mut base = Url::parse(text).ok()?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return None;
        }
        let path = format!("{}/", base.path().trim_end_matches('/'));
        base.set_path(&path);
        Some(Location::Web(base))
    }

    fn last_name(&self) -> String {
        match self {
            Location::Web(base) => {
                base.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
            }
            Location::Folder(path) => {
                path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
        }
    }

    /// The folder above, for `…/debian`.
    fn parent(&self) -> Option<Self> {
        match self {
            Location::Folder(path) => path.parent().map(|path| Location::Folder(path.into())),
            Location::Web(base) => {
                let (above, _) = base.path().trim_end_matches('/').rsplit_once('/')?;
                let mut parent = base.clone();
                parent.set_path(&format!("{above}/"));
                Some(Location::Web(parent))
            }
        }
    }
}

impl Mirrors {
    /// Takes the flag, else the environment's value, else the host's apt configuration in
    /// `apt_folder` (`/etc/apt`). Reads files; reaches no network.
    ///
    /// # Errors
    /// [`MirrorError`], with the way on.
    pub fn discover(
        flag: Option<&str>,
        environment: Option<&str>,
        apt_folder: &Path,
    ) -> Result<Self, MirrorError> {
        let given = [flag, environment].into_iter().flatten().find(|text| !text.trim().is_empty());
        match given {
            Some(text) => Self::parse(text),
            None => {
                let sources = read_apt_sources(apt_folder)?;
                Self::from_sources(&sources).ok_or_else(|| MirrorError::None(apt_folder.to_owned()))
            }
        }
    }

    /// A mirror given by hand: an address, or an existing folder.
    ///
    /// # Errors
    /// [`MirrorError::Invalid`].
    pub fn parse(text: &str) -> Result<Self, MirrorError> {
        let text = text.trim();
        let invalid = |reason: &str| MirrorError::Invalid {
            given: text.chars().take(200).collect(),
            reason: reason.to_owned(),
        };
        let base = if text.contains("://") {
            Location::parse_uri(text).ok_or_else(|| invalid("it is not an http(s) address"))?
        } else if Path::new(text).is_dir() {
            Location::Folder(
                std::path::absolute(text).map_err(|error| invalid(&error.to_string()))?,
            )
        } else {
            return Err(invalid("there is no such folder"));
        };
        // `--mirror http://host/debian` is meant as the mirror whose main archive this is.
        let base = match base.last_name().as_str() {
            MAIN_FOLDER | SECURITY_FOLDER if matches!(base, Location::Web(_)) => {
                base.parent().unwrap_or(base)
            }
            _ => base,
        };
        Ok(Self { main: base.child(MAIN_FOLDER), security: base.child(SECURITY_FOLDER) })
    }

    /// Picks Debian's own archives among apt's sources; `None` when there is no main archive.
    pub fn from_sources(sources: &[AptSource]) -> Option<Self> {
        let located: Vec<(Location, &AptSource)> = sources
            .iter()
            .filter(|source| source.components.iter().any(|component| component == "main"))
            .filter_map(|source| Some((Location::parse_uri(&source.uri)?, source)))
            .collect();
        let find = |wanted: fn(&Location, &AptSource) -> bool| {
            located.iter().find(|(place, source)| wanted(place, source)).map(|(place, _)| place)
        };
        let main = find(|place, source| place.last_name() == MAIN_FOLDER && !is_security(source))
            .or_else(|| find(|_, source| is_debian_suite(source) && !is_security(source)))?;
        let security = find(|place, _| place.last_name() == SECURITY_FOLDER)
            .or_else(|| find(|_, source| is_debian_suite(source) && is_security(source)))
            .cloned()
            // Debian's mirrors carry both archives side by side.
            .or_else(|| Some(main.parent()?.child(SECURITY_FOLDER)))?;
        Some(Self { main: main.clone(), security })
    }

    /// The archive that holds `suite`.
    pub fn archive(&self, suite: &str) -> &Location {
        if archive_folder(suite) == SECURITY_FOLDER { &self.security } else { &self.main }
    }
}

/// The folder of a mirror or store that holds `suite`.
pub fn archive_folder(suite: &str) -> &'static str {
    if suite.ends_with("-security") { SECURITY_FOLDER } else { MAIN_FOLDER }
}

fn is_security(source: &AptSource) -> bool {
    let names = &source.suites;
    !names.is_empty()
        && names.iter().all(|suite| suite.ends_with("-security") || suite.ends_with("/updates"))
}

fn is_debian_suite(source: &AptSource) -> bool {
    const NAMES: [&str; 10] = [
        "stable",
        "oldstable",
        "testing",
        "unstable",
        "sid",
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
        "duke",
    ];
    source
        .suites
        .iter()
        .any(|suite| NAMES.contains(&suite.split(['-', '/']).next().unwrap_or_default()))
}

fn read_apt_sources(apt_folder: &Path) -> Result<Vec<AptSource>, MirrorError> {
    let parts = apt_folder.join("sources.list.d");
    let mut paths = vec![apt_folder.join("sources.list")];
    match fs::read_dir(&parts) {
        Ok(listing) => {
            for item in listing {
                let item =
                    item.map_err(|source| MirrorError::Unreadable { path: parts.clone(), source })?;
                paths.push(item.path());
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(MirrorError::Unreadable { path: parts, source }),
    }
    // apt reads its parts by name, and the first usable source wins.
    paths[1..].sort();
    let mut found = Vec::new();
    for path in paths {
        let parse: fn(&str) -> Vec<AptSource> = match path.extension().and_then(|e| e.to_str()) {
            Some("sources") => parse_deb822,
            Some("list") => parse_one_line,
            _ => continue,
        };
        match read_bounded(&path) {
            Ok(text) => found.extend(parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(MirrorError::Unreadable { path, source }),
        }
    }
    Ok(found)
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_SOURCE_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uri: &str, suites: &[&str], component: &str) -> AptSource {
        AptSource {
            uri: uri.into(),
            suites: suites.iter().map(|suite| (*suite).to_owned()).collect(),
            components: vec![component.into()],
        }
    }

    #[test]
    fn an_address_by_hand_holds_both_archives() {
        for text in ["http://m.test", "http://m.test/", "http://m.test/debian/"] {
            let mirrors = Mirrors::parse(text).unwrap();
            assert_eq!(mirrors.archive("trixie").to_string(), "http://m.test/debian", "{text}");
            assert_eq!(
                mirrors.archive("trixie-security").to_string(),
                "http://m.test/debian-security"
            );
        }
    }

    #[test]
    fn foreign_sources_are_not_taken_for_debian() {
        let sources = [
            source("https://vendor.test/linux/debian", &["bookworm"], "stable"),
            source("https://vendor.test/node_22.x", &["nodistro"], "main"),
            source("http://m.test/debian-security", &["bookworm-security"], "main"),
            source("http://m.test/debian", &["bookworm", "bookworm-updates"], "main"),
        ];
        let mirrors = Mirrors::from_sources(&sources).unwrap();
        assert_eq!(mirrors.archive("trixie-updates").to_string(), "http://m.test/debian");
        assert_eq!(mirrors.archive("trixie-security").to_string(), "http://m.test/debian-security");
        assert_eq!(Mirrors::from_sources(&sources[..2]), None);
    }

    #[test]
    fn a_proxy_with_other_names_is_found_by_its_suites() {
        let sources = [
            source("http://proxy.test/apt-main/", &["trixie"], "main"),
            source("http://proxy.test/apt-sec/", &["trixie-security"], "main"),
        ];
        let mirrors = Mirrors::from_sources(&sources).unwrap();
        assert_eq!(mirrors.archive("trixie").to_string(), "http://proxy.test/apt-main");
        assert_eq!(mirrors.archive("trixie-security").to_string(), "http://proxy.test/apt-sec");
    }

    #[test]
    fn without_any_source_the_error_names_the_flag() {
        let folder = tempfile::tempdir().unwrap();
        let error = Mirrors::discover(None, Some(""), folder.path()).unwrap_err();
        assert!(error.to_string().contains("--mirror URL"), "{error}");
        for text in ["ftp://m.test", "http://", "/no/such/folder"] {
            assert!(Mirrors::parse(text).is_err(), "{text}");
        }
    }
}
