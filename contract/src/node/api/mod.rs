//! What a node answers and takes over HTTP: JSON below `/v1`, the same for `slipwayd`, which
//! serves it, and for `slipway node`, which asks.
//!
//! Answers may gain fields and names of variants: a reader passes over what it does not know.
//! Requests may not: a node refuses a field that it does not know. **Invariant:** no type here
//! can hold a secret.

mod action;
mod answers;
mod describe;
mod error;
mod judgement;
#[cfg(feature = "openapi")]
mod schema;
mod status;

pub use action::{Accepted, Action, ClearBody, PinBody, SettingsMode, SettingsOutcome, Started};
pub use answers::{
    Depth, Drift, DriftItem, Event, EventKind, History, LogsQuery, Outcome, Subject, Why,
};
pub use describe::{ago, clipped, hold_line, printable, size, status_lines};
pub use error::{ApiError, Code};
pub use judgement::{
    CauseKind, Check, CheckOutcome, Fallback, Follows, Hold, Pin, PinnedBy, Probe, ProbeState,
    Problem, ProblemKind, Reached, RefusedRelease, Rule,
};
pub use status::{
    Boot, NodeClock, OtherSlot, Phase, Progress, Running, SettingsState, Status, Step, TransferWay,
};

/// Socket on the node itself.
pub const SOCKET: &str = "/run/slipway/api.sock";
/// Organization in the client certificates of those who may look.
pub const READERS: &str = "slipway:readers";
/// Organization in the client certificates of those who may change things, and look.
pub const OPERATORS: &str = "slipway:operators";
/// Largest body of a request, in bytes: a whole settings document.
pub const MAX_REQUEST_BYTES: usize = crate::node::settings::MAX_SETTINGS_BYTES as usize;
/// Largest answer but for logs, in bytes.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Most journal entries of one answer.
pub const MAX_LOG_LINES: u32 = 10_000;

/// Paths of the routes.
#[allow(missing_docs)]
pub mod paths {
    pub const STATUS: &str = "/v1/status";
    pub const WHY: &str = "/v1/why";
    pub const HISTORY: &str = "/v1/history";
    pub const LOGS: &str = "/v1/logs";
    pub const DRIFT: &str = "/v1/drift";
    pub const SETTINGS: &str = "/v1/settings";
    pub const OPENAPI: &str = "/v1/openapi.json";
    pub const METRICS: &str = "/metrics";
    pub const CHECK: &str = "/v1/check";
    pub const STAGE: &str = "/v1/stage";
    pub const UPDATE: &str = "/v1/update";
    pub const ROLLBACK: &str = "/v1/rollback";
    pub const PIN: &str = "/v1/pin";
    pub const UNPIN: &str = "/v1/unpin";
    pub const CLEAR: &str = "/v1/clear";
}
