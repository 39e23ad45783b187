//! What a check says of one field: nothing, or its name and what would be right.

use super::{MAX_SETTINGS_BYTES, SCHEMA};

/// Longest list of anything.
pub(super) const MAX_ENTRIES: usize = 64;

/// Why settings were refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// Not JSON, or not this shape.
    #[error("the settings are not JSON of the right form, correct them: {0}")]
    Json(String),
    /// Written for another generation of this software.
    #[error(
        "the settings have schema {0}, this program reads up to {SCHEMA}: write `\"schema\": {SCHEMA}`"
    )]
    Schema(u32),
    /// Over [`MAX_SETTINGS_BYTES`].
    #[error(
        "the settings have {0} bytes, more than the allowed {MAX_SETTINGS_BYTES}: shorten them"
    )]
    TooLarge(u64),
    /// A field that the types allow and the node cannot use.
    #[error("{field}: {problem}")]
    Field {
        /// Where, such as `channel.mirrors[0]`.
        field: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

impl From<serde_json::Error> for InvalidSettings {
    /// Without the texts that were found: one may be a secret in the wrong place.
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        let shows_value = ["invalid type", "invalid value", "invalid length", "unknown variant"]
            .iter()
            .any(|start| text.starts_with(start));
        Self::Json(match text.rfind(", expected ") {
            Some(at) if shows_value => {
                format!("another value is{}", text.get(at + 1..).unwrap_or(""))
            }
            _ => text,
        })
    }
}

pub(super) type Checked = Result<(), InvalidSettings>;

pub(super) fn wrong(field: impl Into<String>, problem: impl Into<String>) -> Checked {
    Err(InvalidSettings::Field { field: field.into(), problem: problem.into() })
}

/// Few enough entries.
pub(super) fn bounded<T>(field: &str, list: &[T]) -> Checked {
    if list.len() > MAX_ENTRIES {
        return wrong(field, format!("{} entries: at most {MAX_ENTRIES} are allowed", list.len()));
    }
    Ok(())
}

/// The frame of a PEM text; what is inside is for those who use it. The text is not shown.
pub(super) fn pem(field: &str, text: &str, label: &str) -> Checked {
    let (begin, end) = (format!("{label}-----"), "-----END ");
    let text = text.trim();
    // Certificates are shown.
    if label == "CERTIFICATE" && text.contains("PRIVATE KEY-----") {
        return wrong(field, "holds a private key: give the certificates alone");
    }
    if !text.starts_with("-----BEGIN ") || !text.contains(&begin) || !text.contains(end) {
        return wrong(field, format!("give a PEM text that starts with -----BEGIN {label}-----"));
    }
    Ok(())
}
