//! The routes: one table of method, path, role and handler, from which router and limits
//! follow.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Extension, Query, Request, State};
use axum::http::{Method, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use axum::{Json, Router};
use bytes::Bytes;
use contract::node::api::{
    Accepted, Action, ApiError, ClearBody, Code, Depth, Drift, History, LogsQuery,
    MAX_REQUEST_BYTES, PinBody, SettingsMode, SettingsOutcome, Status, Why, paths,
};
use serde::Deserialize;
use tokio::time::timeout;

use super::reply::{Refusal, parse};
use super::{Caller, Role, Shared};

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long a comparison of every byte may take.
const DRIFT_LIMIT: Duration = Duration::from_secs(600);

/// A route.
pub struct Route {
    /// Method; it decides who may call.
    pub method: Method,
    /// Path.
    pub path: &'static str,
    limit: Duration,
    handler: MethodRouter<Arc<Shared>>,
}

impl Route {
    /// Who may call it: readers only what changes nothing.
    pub fn role(&self) -> Role {
        if self.method == Method::GET { Role::Reader } else { Role::Operator }
    }
}

/// All routes. A handler that is not in here cannot be reached.
pub fn routes() -> Vec<Route> {
    let of = |method: Method| {
        move |path, handler| Route { method: method.clone(), path, limit: ANSWER_LIMIT, handler }
    };
    let (read, write, replace) = (of(Method::GET), of(Method::POST), of(Method::PUT));
    vec![
        read(paths::STATUS, routing::get(status)),
        read(paths::WHY, routing::get(why)),
        read(paths::HISTORY, routing::get(history)),
        read(paths::LOGS, routing::get(logs)),
        Route { limit: DRIFT_LIMIT, ..read(paths::DRIFT, routing::get(drift)) },
        read(paths::SETTINGS, routing::get(settings)),
        read(paths::OPENAPI, routing::get(openapi)),
        read(paths::METRICS, routing::get(metrics)),
        write(paths::CHECK, routing::post(check)),
        write(paths::STAGE, routing::post(stage)),
        write(paths::UPDATE, routing::post(update)),
        write(paths::ROLLBACK, routing::post(rollback)),
        write(paths::PIN, routing::post(pin)),
        write(paths::UNPIN, routing::post(unpin)),
        write(paths::CLEAR, routing::post(clear)),
        replace(paths::SETTINGS, routing::put(replace_settings)),
    ]
}

/// The router of all routes.
pub fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let role = route.role();
        let Route { path, limit, handler, .. } = route;
        let guard = from_fn(move |request, next| guarded(role, limit, request, next));
        router = router.route(path, handler.route_layer(guard));
    }
    router
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(shared)
}

/// Lets through whoever may pass, for as long as an answer may take.
async fn guarded(role: Role, limit: Duration, request: Request, next: Next) -> Response {
    let allowed = request.extensions().get::<Caller>().is_some_and(|caller| caller.may(role));
    if !allowed {
        let (message, next) = match role {
            Role::Reader => (
                "the client certificate has no role on this node",
                "use one that `slipway keys access issue` made with --reader or --operator",
            ),
            Role::Operator => (
                "only operators may do that",
                "use a certificate that `slipway keys access issue` made with --operator",
            ),
        };
        return Refusal::new(Code::Forbidden, message, next).into_response();
    }
    match timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("no answer within {} s", limit.as_secs());
            Refusal::new(Code::Timeout, message, "look at /v1/logs, and try again").into_response()
        }
    }
}

async fn unknown_path() -> Refusal {
    let next = "see /v1/openapi.json for the routes";
    Refusal::new(Code::NotFound, "there is no such route", next)
}

async fn wrong_method() -> Refusal {
    let message = "the route does not take this method";
    Refusal::new(Code::MethodNotAllowed, message, "see /v1/openapi.json for its methods")
}

/// The state of the node.
#[utoipa::path(get, path = paths::STATUS, responses(
    (status = 200, body = Status), (status = "default", body = ApiError)))]
pub async fn status(State(shared): State<Arc<Shared>>) -> Json<Status> {
    Json(shared.node.status().await)
}

/// Each rule that holds the node where it is.
#[utoipa::path(get, path = paths::WHY, responses(
    (status = 200, body = Why), (status = "default", body = ApiError)))]
pub async fn why(State(shared): State<Arc<Shared>>) -> Json<Why> {
    Json(shared.node.why().await)
}

/// What happened, the newest last.
#[utoipa::path(get, path = paths::HISTORY, responses(
    (status = 200, body = History), (status = "default", body = ApiError)))]
pub async fn history(State(shared): State<Arc<Shared>>) -> Json<History> {
    Json(shared.node.history().await)
}

/// Journal entries: one JSON object each, a line each.
#[utoipa::path(get, path = paths::LOGS,
    params(
        ("unit" = Option<String>, Query, description = "Only this systemd unit."),
        ("since" = Option<u64>, Query, description = "Only the last so many seconds."),
        ("lines" = Option<u32>, Query, description = "The newest so many; 100 by default."),
        ("follow" = Option<bool>, Query, description = "Go on with new entries."),
        ("boot" = Option<i32>, Query, description = "0 is this boot, -1 the one before."),
    ),
    responses(
        (status = 200, content_type = "application/x-ndjson", body = String),
        (status = "default", body = ApiError)))]
pub async fn logs(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<LogsQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query?;
    let body = shared.journal.read(&query).await?;
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// What `GET /v1/drift` takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftQuery {
    #[serde(default)]
    depth: Depth,
}

/// The node beside what was signed.
#[utoipa::path(get, path = paths::DRIFT,
    params(("depth" = Option<Depth>, Query, description = "`full` reads every byte.")),
    responses((status = 200, body = Drift), (status = "default", body = ApiError)))]
pub async fn drift(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<DriftQuery>, QueryRejection>,
) -> Result<Json<Drift>, Refusal> {
    let Query(DriftQuery { depth }) = query?;
    let permit = match depth {
        Depth::Quick => None,
        Depth::Full => Some(shared.full_drift.try_acquire().map_err(|_| {
            let message = "another full comparison is under way";
            Refusal::new(Code::Busy, message, "wait until it is done")
        })?),
    };
    let drift = shared.node.drift(depth).await;
    drop(permit);
    Ok(Json(drift?))
}

/// The settings in force, without secrets.
#[utoipa::path(get, path = paths::SETTINGS, responses(
    (status = 200, body = Object), (status = "default", body = ApiError)))]
pub async fn settings(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<serde_json::Value>, Refusal> {
    Ok(Json(shared.node.settings().await?))
}

/// What `PUT /v1/settings` takes besides the document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SettingsQuery {
    #[serde(default)]
    dry_run: bool,
}

/// Replaces the settings, or only checks the new ones.
#[utoipa::path(put, path = paths::SETTINGS, request_body = Object,
    params(("dry-run" = Option<bool>, Query, description = "Only check.")),
    responses((status = 200, body = SettingsOutcome), (status = "default", body = ApiError)))]
pub async fn replace_settings(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<SettingsQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<SettingsOutcome>, Refusal> {
    let Query(SettingsQuery { dry_run }) = query?;
    let mode = if dry_run { SettingsMode::DryRun } else { SettingsMode::Apply };
    Ok(Json(shared.node.replace_settings(&caller, body?, mode).await?))
}

/// This document.
#[utoipa::path(get, path = paths::OPENAPI, responses(
    (status = 200, body = Object), (status = "default", body = ApiError)))]
pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], super::DOCUMENT).into_response()
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = paths::METRICS, responses(
    (status = 200, content_type = "application/openmetrics-text", body = String),
    (status = "default", body = ApiError)))]
pub async fn metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Refusal> {
    let text = shared.node.metrics().await?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// A body without fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Hands an action to the node.
async fn act(shared: &Shared, caller: &Caller, action: Action) -> Result<Json<Accepted>, Refusal> {
    Ok(Json(shared.node.act(caller, action).await?))
}

macro_rules! plain_action {
    ($(#[$doc:meta])* $name:ident, $path:expr, $action:expr) => {
        $(#[$doc])*
        #[utoipa::path(post, path = $path, responses(
            (status = 200, body = Accepted), (status = "default", body = ApiError)))]
        pub async fn $name(
            State(shared): State<Arc<Shared>>,
            Extension(caller): Extension<Caller>,
            body: Result<Bytes, BytesRejection>,
        ) -> Result<Json<Accepted>, Refusal> {
            let Nothing {} = parse(&body?)?;
            act(&shared, &caller, $action).await
        }
    };
}

plain_action! {
    /// Asks the channel, and follows what it says as policy allows.
    check, paths::CHECK, Action::Check
}
plain_action! {
    /// Writes the wanted release to the other slot, without waiting for its wave.
    stage, paths::STAGE, Action::Stage
}
plain_action! {
    /// Stages the wanted release and restarts into it, without waiting for wave or window.
    update, paths::UPDATE, Action::Update
}
plain_action! {
    /// Restarts into what the other slot holds.
    rollback, paths::ROLLBACK, Action::Rollback
}
plain_action! {
    /// Follows channel and group again.
    unpin, paths::UNPIN, Action::Unpin
}

/// Runs one release, whatever channel and group say.
#[utoipa::path(post, path = paths::PIN, request_body = PinBody, responses(
    (status = 200, body = Accepted), (status = "default", body = ApiError)))]
pub async fn pin(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Accepted>, Refusal> {
    let PinBody { version } = parse(&body?)?;
    act(&shared, &caller, Action::Pin(version)).await
}

/// Forgets that a release was bad: the given one, or all.
#[utoipa::path(post, path = paths::CLEAR, request_body = ClearBody, responses(
    (status = 200, body = Accepted), (status = "default", body = ApiError)))]
pub async fn clear(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Accepted>, Refusal> {
    let ClearBody { version } = parse(&body?)?;
    act(&shared, &caller, Action::Clear(version)).await
}
