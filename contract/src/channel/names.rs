//! Names that operators give: of channels and of node groups.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name, in bytes; that of a Kubernetes label value.
pub const MAX_NAME_LENGTH: usize = 63;

/// A text that cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot be a name: use 1 to {MAX_NAME_LENGTH} of `a-z`, `0-9` and `-`, with a letter or \
     digit at both ends"
)]
pub struct InvalidName(String);

/// RFC 1123's label: it becomes part of file names, addresses and Kubernetes names.
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_NAME_LENGTH).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

macro_rules! name_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.to_owned().try_into()
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                if is_label(&text) {
                    return Ok(Self(text));
                }
                Err(InvalidName(text.chars().take(80).collect()))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

name_newtype! {
    /// The name of a channel, such as `stable`.
    ChannelName
}
name_newtype! {
    /// The name of a node group, such as `workers`.
    GroupName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels() {
        for text in ["stable", "a", "2026-11", &"a".repeat(63)] {
            assert_eq!(text.parse::<ChannelName>().unwrap().as_str(), text);
        }
        for text in ["", "Stable", "-a", "a-", "a/b", "..", "a b", &"a".repeat(64)] {
            assert!(text.parse::<GroupName>().is_err(), "{text}");
        }
    }
}
