//! Texts in settings that follow a form of their own: addresses, and secrets.
//!
//! **Invariant:** an address has no blanks, control characters or passwords in it; a
//! [`Secret`] shows its content to nobody but [`Secret::expose`].

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest address, in bytes.
pub const MAX_URL_BYTES: usize = 2048;
/// What stands in the place of a secret.
pub const REDACTED: &str = "(redacted)";

/// A text that must not reach logs, errors or answers. It serialises as [`REDACTED`].
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The placeholder.
    pub fn redacted() -> Self {
        Self(REDACTED.to_owned())
    }

    /// True for the placeholder, which somebody copied from what was shown.
    pub fn is_redacted(&self) -> bool {
        self.0 == REDACTED
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

/// An `http` or `https` address without user, password, query and fragment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpUrl(String);

/// A text that is no such address. The text itself is left out: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an address of the form https://HOST[:PORT]/PATH: give http or https, a host, and no \
     user, blank, `?` or `#`"
)]
pub struct InvalidUrl;

impl HttpUrl {
    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when the host follows without TLS.
    pub fn is_plain_http(&self) -> bool {
        self.0.starts_with("http://")
    }

    /// Host and port, as written.
    pub fn authority(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or("")
    }
}

impl FromStr for HttpUrl {
    type Err = InvalidUrl;
    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let known = text.starts_with("http://") || text.starts_with("https://");
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '@' | '\\' | '"');
        if !known || text.len() > MAX_URL_BYTES || !text.chars().all(plain) {
            return Err(InvalidUrl);
        }
        let url = Self(text.to_owned());
        let authority = url.authority();
        let (host, port) = match authority.rsplit_once(':') {
            // The last colon of `[::1]` belongs to the host.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let has_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
        if host.is_empty() || !has_port || !is_host(host) {
            return Err(InvalidUrl);
        }
        Ok(url)
    }
}

/// A name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(rest) => {
            rest.strip_suffix(']').is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
        }
        None => is_domain_name(text),
    }
}

/// Labels of letters, digits, `-` and `_` between dots, of at most 253 bytes in all.
pub(super) fn is_domain_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for HttpUrl {
    type Error = InvalidUrl;
    fn try_from(text: String) -> Result<Self, InvalidUrl> {
        text.parse()
    }
}

impl From<HttpUrl> for String {
    fn from(url: HttpUrl) -> Self {
        url.0
    }
}

/// An address and the length of its network's prefix, such as `10.0.0.5/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressPrefix {
    address: IpAddr,
    length: u8,
}

/// A text that is no address with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address with the length of its prefix, such as 10.0.0.5/24")]
pub struct InvalidAddressPrefix(String);

impl AddressPrefix {
    /// The address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Length of the prefix in bits.
    pub fn length(&self) -> u8 {
        self.length
    }
}

impl FromStr for AddressPrefix {
    type Err = InvalidAddressPrefix;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidAddressPrefix(text.chars().take(80).collect());
        let (address, length) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let length: u8 = length.parse().map_err(|_| invalid())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if length == 0 || length > longest {
            return Err(invalid());
        }
        Ok(Self { address, length })
    }
}

impl fmt::Display for AddressPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl TryFrom<String> for AddressPrefix {
    type Error = InvalidAddressPrefix;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AddressPrefix> for String {
    fn from(prefix: AddressPrefix) -> Self {
        prefix.to_string()
    }
}
