//! A range of addresses for pods, as a Node names it.
//!
//! In: text of the API server. Out: a [`PodRange`]. **Invariant:** what is none is refused, so that it
//! may be written into a configuration.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Addresses of pods, `ADDRESS/LENGTH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodRange {
    address: IpAddr,
    length: u8,
}

impl TryFrom<String> for PodRange {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let range = text.split_once('/').and_then(|(address, length)| {
            Some(Self { address: address.parse().ok()?, length: length.parse().ok()? })
        });
        let most = |range: &Self| if range.address.is_ipv4() { 32 } else { 128 };
        range
            .filter(|range| range.length <= most(range))
            .ok_or_else(|| format!("`{}` is no range of addresses", text.escape_debug()))
    }
}

impl From<PodRange> for String {
    fn from(range: PodRange) -> Self {
        format!("{}/{}", range.address, range.length)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_range_is_refused() {
        let parse = |text: &str| serde_json::from_value::<PodRange>(json!(text));
        assert_eq!(String::from(parse("10.244.3.0/24").unwrap()), "10.244.3.0/24");
        for text in ["10.244.3.0", "10.244.3.0/33", "fd00::/129", "x/8", "10.0.0.0/8\", \"x", ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
