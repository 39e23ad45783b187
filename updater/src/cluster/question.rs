//! A question to the API server as this node, with kubelet's certificate.
//!
//! In: method, path, body. Out: status and body. **Invariant:** an answer is read up to a bound.

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::{Cluster, MAX_SAID, SEE, Unanswered, bounded_body};
use crate::effects::Request;

/// What is asked of the API server as this node.
pub(super) struct Question<'a> {
    pub(super) method: Method,
    /// With its query.
    pub(super) path: &'a str,
    /// Content type and content.
    pub(super) body: Option<(&'static str, String)>,
    /// Largest answer that is read, in bytes.
    pub(super) most: usize,
}

/// What the API server answers to that.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// What an answer means that is no success: the API server is down, or it refuses. `what` is
    /// the thing that it does not do.
    pub(super) fn refusal(&self, what: &str) -> Unanswered {
        let said = said(&self.body);
        let text = format!("the API server does not {what} ({}): {said}", self.status);
        match self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS {
            true => Unanswered::Down(text),
            false => Unanswered::Wrong(text),
        }
    }
}

/// The message of a Status, with that of its first cause: of an eviction it is the budget's.
fn said(body: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Status {
        message: String,
        details: Details,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Details {
        causes: Vec<Cause>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Cause {
        message: String,
    }
    let status: Status = serde_json::from_slice(body).unwrap_or_default();
    let cause = status.details.causes.into_iter().next().unwrap_or_default();
    let both = format!("{} {}", status.message, cause.message);
    let text: String = both.trim().trim_end_matches('.').chars().take(MAX_SAID).collect();
    if text.is_empty() { "it does not say why".to_owned() } else { text }
}

impl Cluster {
    /// Sends `question` with kubelet's certificate, and reads the answer, whatever its status.
    pub(super) async fn ask_as_node(&self, question: Question<'_>) -> Result<Answer, Unanswered> {
        let certificate = self.certificate().await.map_err(Unanswered::Wrong)?;
        let certificate = certificate.ok_or_else(|| {
            Unanswered::Wrong(format!("kubelet has no certificate of the cluster; {SEE}"))
        })?;
        let client = self.client(Some(certificate))?;
        let mut request = Request::new(question.method, self.address(question.path)?);
        if let Some((kind, body)) = question.body {
            request = request.with(CONTENT_TYPE, HeaderValue::from_static(kind));
            request.body = body.into_bytes();
        }
        let answer = client.send(request).await.map_err(|error| self.unanswered(&error))?;
        let status = answer.status;
        Ok(Answer { status, body: bounded_body(answer, question.most).await? })
    }
}
