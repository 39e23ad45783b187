//! Answers that are no success: always JSON, with a code, a message and a next step.

use axum::Json;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use contract::node::api::{ApiError, Code, MAX_REQUEST_BYTES};
use serde::de::DeserializeOwned;

/// A refusal on its way to the caller.
#[derive(Debug)]
pub struct Refusal(pub ApiError);

impl Refusal {
    /// A refusal.
    pub fn new(code: Code, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self(ApiError::new(code, message, next))
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<BytesRejection> for Refusal {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let message = format!("the body has more than {MAX_REQUEST_BYTES} bytes");
            return Self::new(Code::TooLarge, message, "send less");
        }
        Self::new(Code::Invalid, "the body broke off", "send the request again")
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        let message = format!("the query cannot be read: {}", rejection.body_text());
        Self::new(Code::Invalid, message, "see /v1/openapi.json for what this route takes")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.http_status());
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(self.0)).into_response()
    }
}

/// A body of JSON; an empty one counts as `{}`.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body is not what this route takes: {error}");
        Refusal::new(Code::Invalid, message, "see /v1/openapi.json for its fields")
    })
}
