//! The daemon: one task that owns the machine and decides, and others that answer and show.
//!
//! In: what is booted, the settings, the channel, operators. Out: a node on the release that it
//! should run. **Invariant:** only the [`conductor`](crate::conductor) takes steps of an
//! update, one after the other; everything else reads its [`Board`].

mod front;
mod identity;
mod last_judge;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contract::node::api::{Depth, DriftItem};
use contract::node::settings::ApiSettings;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use tokio::time::{Instant, interval, interval_at};

use crate::api::{self, Limits, Node, SystemJournal};
use crate::chain;
use crate::conductor::{Board, Conductor, Parts, Places, Who};
use crate::console::Console;
use crate::effects::Effects;
use crate::effects::boot::BootFacts;
use crate::metrics::Metrics;

pub use identity::{Identity, IdentityError};
pub use last_judge::may_go_on;

/// Time between two looks at whether consoles and metrics show what is.
const SHOW_EVERY: Duration = Duration::from_secs(1);
/// When the node is first compared with what was signed: what starts with it comes first.
const FIRST_COMPARISON: Duration = Duration::from_mins(5);
/// Time between two comparisons.
const COMPARE_EVERY: Duration = Duration::from_hours(6);
/// Pause before a port that could not be opened is tried again.
const PORT_PAUSE: Duration = Duration::from_secs(5);
/// Requests of operators that wait.
const WAITING: usize = 16;

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The API's socket.
    #[error("cannot open the API's socket {}", .path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// What the image says of itself.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Runs until the process is ended. `socket` is the API's Unix socket.
///
/// # Errors
/// [`DaemonError`] when it cannot start.
pub async fn run(
    effects: Effects,
    facts: BootFacts,
    socket: &Path,
    places: Places,
) -> Result<(), DaemonError> {
    let identity = Arc::new(Identity::read()?);
    let board = Arc::new(Board::new());
    let metrics = Arc::new(Metrics::new());
    let (requests, waiting) = mpsc::channel(WAITING);
    let (api_settings, api_changes) = watch::channel(None);
    let front = Arc::new(front::Front {
        identity: identity.clone(),
        board: board.clone(),
        effects: effects.clone(),
        facts: facts.clone(),
        metrics: metrics.clone(),
        requests,
    });
    let router = api::router(front.clone(), SystemJournal::default());
    let listener = api::bind_unix(socket)
        .map_err(|source| DaemonError::Socket { path: socket.to_owned(), source })?;
    tokio::spawn(api::serve_unix(listener, router.clone(), Limits::default()));
    tokio::spawn(serve_port(api_changes, router));
    tokio::spawn(show(front.clone()));
    tokio::spawn(compare(front));
    tokio::spawn(keep_alive());
    let conductor = Conductor::new(Parts {
        effects,
        facts,
        places,
        who: Who {
            machine_id: identity.machine_id.clone(),
            updater: identity.updater.clone(),
            image: identity.image,
        },
        board,
        metrics,
        api: api_settings,
    });
    ready();
    // Staging borrows what its futures hold, which is not for other threads.
    LocalSet::new().run_until(conductor.run(waiting)).await;
    Ok(())
}

/// Tells systemd that the API answers.
fn ready() {
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::warn!(%error, "cannot tell systemd that slipwayd is ready");
    }
}

/// Feeds systemd's watchdog for as long as this thread gets on.
async fn keep_alive() {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = interval(limit / 4);
    loop {
        ticks.tick().await;
        if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
            tracing::warn!(%error, "cannot feed systemd's watchdog");
        }
    }
}

/// Shows the status on the consoles whenever it changes.
async fn show(front: Arc<front::Front>) {
    let mut console = Console::of_this_machine();
    let mut ticks = interval(SHOW_EVERY);
    let mut complained = false;
    loop {
        ticks.tick().await;
        let status = front.current();
        if let Err(error) = console.show(&status)
            && !complained
        {
            tracing::warn!(%error, "a console does not show the status");
            complained = true;
        }
    }
}

/// Compares the node with what was signed, now and then, so that status and metrics tell.
async fn compare(front: Arc<front::Front>) {
    let mut ticks = interval_at(Instant::now() + FIRST_COMPARISON, COMPARE_EVERY);
    let mut told: Vec<DriftItem> = Vec::new();
    loop {
        ticks.tick().await;
        match front.drift(Depth::Quick).await {
            Ok(drift) => {
                let differing: Vec<_> = drift.differing().cloned().collect();
                for item in differing.iter().filter(|item| !told.contains(item)) {
                    let DriftItem { name, detail, .. } = item;
                    tracing::warn!("slipway: {name} differs from what was signed: {detail}");
                }
                told = differing;
            }
            Err(error) => tracing::warn!("slipway: drift is not known: {}", error.message),
        }
    }
}

/// Serves the port of the settings in force, and another one as soon as they change.
async fn serve_port(mut changes: watch::Receiver<Option<ApiSettings>>, router: axum::Router) {
    loop {
        let wanted = changes.borrow_and_update().clone();
        let changed = changes.changed();
        let open = match wanted {
            Some(settings) => tokio::select! {
                changed = changed => changed.is_ok(),
                () = serve_settings(settings, router.clone()) => true,
            },
            None => changed.await.is_ok(),
        };
        if !open {
            return;
        }
    }
}

/// Returns only when the port could not be served, after a pause.
async fn serve_settings(settings: ApiSettings, router: axum::Router) {
    let tls = match api::server_config(&settings) {
        Ok(tls) => tls,
        Err(error) => {
            tracing::error!(error = %chain(&error), "the API has no port: correct `api` in the settings");
            return std::future::pending().await;
        }
    };
    // Both families where the kernel has IPv6.
    let any = [
        SocketAddr::from(([0_u16; 8], settings.port)),
        SocketAddr::from(([0_u8; 4], settings.port)),
    ];
    match TcpListener::bind(&any[..]).await {
        Ok(listener) => {
            tracing::info!(port = settings.port, "the API listens");
            match api::serve_tls(listener, tls, router, Limits::default()).await {}
        }
        Err(error) => {
            tracing::warn!(port = settings.port, %error, "cannot open the API's port; trying again");
            tokio::time::sleep(PORT_PAUSE).await;
        }
    }
}
