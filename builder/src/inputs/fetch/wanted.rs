//! A file that is wanted in the cache, and the address that it is at.

use std::path::PathBuf;

use contract::Digest;
use url::Url;

use super::mirror::Location;

/// Where one file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Behind a web server.
    Url(Url),
    /// On this machine.
    File(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Url(url) => without_credentials(url).fmt(f),
            Address::File(path) => path.display().fmt(f),
        }
    }
}

/// An address as messages show it: logs are read by more people than passwords.
pub(super) fn without_credentials(url: &Url) -> String {
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    // Inside the credentials an `@` is always encoded.
    match (url.as_str().split_once("://"), url.as_str().split_once('@')) {
        (Some((scheme, _)), Some((_, behind))) if has_credentials => format!("{scheme}://{behind}"),
        _ => url.to_string(),
    }
}

impl Location {
    /// Where the file at `path` below this place is; `path` is checked to have no `..`.
    pub fn address(&self, path: &str) -> Address {
        match self {
            Location::Folder(folder) => Address::File(folder.join(path)),
            Location::Web(base) => {
                let mut url = base.clone();
                url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
                Address::Url(url)
            }
        }
    }
}

/// A file that is wanted in the cache.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What a person calls it.
    pub name: String,
    /// Where it is.
    pub address: Address,
    /// Its size in bytes, where it is known.
    pub size: Option<u64>,
    /// Most bytes that are taken.
    pub limit: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_show_no_credentials() {
        let shown = |text: &str| Address::Url(text.parse().unwrap()).to_string();
        assert_eq!(shown("https://me:secret%40@m.test/debian/x"), "https://m.test/debian/x");
        assert_eq!(shown("https://m.test/a@b"), "https://m.test/a@b");
    }

    #[test]
    fn addresses_keep_the_characters_of_package_paths() {
        let base = Location::Web("http://m.test/debian/".parse().unwrap());
        let path = "pool/main/g/g++/g++_1.0~rc1+b2_amd64.deb";
        assert_eq!(base.address(path).to_string(), format!("http://m.test/debian/{path}"));
    }
}
