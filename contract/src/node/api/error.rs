//! A refusal, for programs and for people.

use serde::{Deserialize, Serialize};

/// The body of every answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {next}", .message.trim_end_matches('.'))]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiError {
    /// For programs.
    pub code: Code,
    /// What failed, and on what.
    pub message: String,
    /// What to do.
    pub next: String,
}

impl ApiError {
    /// A refusal.
    pub fn new(code: Code, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { code, message: message.into(), next: next.into() }
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Code {
    /// The request is malformed.
    Invalid,
    /// The caller may not do that.
    Forbidden,
    /// There is no such route.
    NotFound,
    /// The route does not take this method.
    MethodNotAllowed,
    /// The body is too large.
    TooLarge,
    /// The node's state does not allow it at present.
    Conflict,
    /// A rule that an operator cannot override forbids it.
    Held,
    /// Others are asking for the same; try again.
    Busy,
    /// It took too long.
    Timeout,
    /// Something else failed on the node.
    Internal,
    /// Of a later generation of this software.
    #[serde(other)]
    Unknown,
}

impl Code {
    /// The HTTP status that goes with it (RFC 9110).
    pub fn http_status(self) -> u16 {
        match self {
            Code::Invalid => 400,
            Code::Forbidden => 403,
            Code::NotFound => 404,
            Code::MethodNotAllowed => 405,
            Code::Conflict | Code::Held => 409,
            Code::TooLarge => 413,
            Code::Busy => 503,
            Code::Timeout => 504,
            Code::Internal | Code::Unknown => 500,
        }
    }
}
