//! Where a node is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use contract::node::api::SOCKET;
use contract::node::settings::DEFAULT_API_PORT;
use url::Url;

/// An address of a node's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeAddress {
    /// `https://HOST[:PORT]`, without a path.
    Https(String),
    /// A Unix socket, on the node itself.
    Unix(PathBuf),
}

/// A text that is no such address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address of a node: give https://HOST[:PORT], or unix:{SOCKET} on the node")]
pub struct InvalidAddress(String);

impl FromStr for NodeAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(contract::node::api::printable(text));
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err(invalid());
            }
            return Ok(NodeAddress::Unix(path.into()));
        }
        let url = Url::parse(text).map_err(|_| invalid())?;
        let plain = url.scheme() == "https"
            && url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        let host = url.host_str().filter(|host| plain && !host.is_empty()).ok_or_else(invalid)?;
        // `Url` leaves out the scheme's own port, so only an explicit 443 cannot be told from
        // none: look at the text.
        let explicit = text.trim_end_matches('/').ends_with(":443").then_some(443);
        let port = url.port().or(explicit).unwrap_or(DEFAULT_API_PORT);
        Ok(NodeAddress::Https(format!("https://{host}:{port}")))
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeAddress::Https(base) => f.write_str(base),
            NodeAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_the_port_of_the_api() {
        for (text, expected) in [
            ("https://10.0.2.15", "https://10.0.2.15:7443"),
            ("https://node-1.example.org:8443/", "https://node-1.example.org:8443"),
            ("https://node-1:443", "https://node-1:443"),
            ("https://[fd00::1]", "https://[fd00::1]:7443"),
            ("unix:/run/slipway/api.sock", "unix:/run/slipway/api.sock"),
        ] {
            assert_eq!(text.parse::<NodeAddress>().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "10.0.2.15",
            "http://10.0.2.15",
            "https://user:secret@node",
            "https://node/v1",
            "https://node?x=1",
            "unix:api.sock",
        ] {
            assert!(text.parse::<NodeAddress>().is_err(), "{text}");
        }
    }
}
