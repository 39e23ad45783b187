//! Where a probe asks: a plain HTTP address with a port.

use std::fmt;
use std::str::FromStr;

/// A plain HTTP address, such as `http://127.0.0.1:10248/healthz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAddress {
    host: String,
    path: String,
}

/// A text that is no such address.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no address such as http://127.0.0.1:10248/healthz")]
pub struct InvalidAddress(String);

impl FromStr for HttpAddress {
    type Err = InvalidAddress;
    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.to_owned());
        let rest = text.strip_prefix("http://").ok_or_else(invalid)?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let has_port = host.rsplit_once(':').is_some_and(|(name, port)| {
            !name.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        if !has_port || !rest.chars().all(|c| c.is_ascii_graphic()) {
            return Err(invalid());
        }
        Ok(Self { host: host.to_owned(), path: format!("/{path}") })
    }
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.host, self.path)
    }
}

impl HttpAddress {
    /// `HOST:PORT`, to connect to and for the header.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The path, with its slash.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        let good: HttpAddress = "http://127.0.0.1:10248/healthz?x".parse().unwrap();
        assert_eq!(good.to_string(), "http://127.0.0.1:10248/healthz?x");
        for text in ["https://a:1/", "http://a/", "http://:1/", "http://a:0/", "http://a:1/\r\nX:"]
        {
            assert!(text.parse::<HttpAddress>().is_err(), "{text}");
        }
    }
}
