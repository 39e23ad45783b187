//! The arguments of `slipway node`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use contract::ReleaseVersion;

use crate::node::NodeAddress;

/// `slipway node`.
#[derive(Debug, Args)]
pub struct NodeArguments {
    /// The node: https://HOST[:PORT], or unix:PATH on the node itself.
    #[arg(long, value_name = "ADDRESS", env = "SLIPWAY_NODE")]
    pub address: NodeAddress,
    /// Folder with client.pem, client.key and ca.pem.
    #[arg(long, value_name = "DIR", env = "SLIPWAY_ACCESS")]
    pub access: Option<PathBuf>,
    #[command(subcommand)]
    pub command: NodeCommand,
}

/// What to ask of a node.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Show release, slot, health, and what the node is about to do.
    Status,
    /// Show each rule that holds the node where it is.
    Why,
    /// Show what happened.
    History,
    /// Compare the node with what was signed.
    Drift {
        /// Read every byte of both slots.
        #[arg(long)]
        full: bool,
    },
    /// Show the journal.
    Logs(LogsArguments),
    /// Show the metrics.
    Metrics,
    /// Write all of these into one archive, for whoever is asked for help: without secrets.
    Bundle {
        /// New file, a tar archive with gzip: FILE.tar.gz.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Ask the channel now, and follow what it says as policy allows.
    Check,
    /// Write the wanted release to the other slot now, without waiting for its wave.
    Stage(WaitArguments),
    /// Install the wanted release now, without waiting for wave or maintenance window.
    Update(WaitArguments),
    /// Restart into the release of the other slot.
    Rollback(WaitArguments),
    /// Run one release, whatever channel and group say.
    Pin {
        /// The release.
        version: ReleaseVersion,
    },
    /// Follow channel and group again.
    Unpin,
    /// Forget that releases were bad on this node.
    Clear {
        /// Only this release; all when left out.
        version: Option<ReleaseVersion>,
    },
    /// Show or replace the node's settings.
    Settings {
        #[command(subcommand)]
        command: SettingsCommand,
    },
}

/// `slipway node settings`.
#[derive(Debug, Subcommand)]
pub enum SettingsCommand {
    /// Show them, without secrets.
    Show,
    /// Replace them as a whole.
    Set {
        /// Document in JSON, with its secrets.
        file: PathBuf,
        /// Only check it.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Waiting for the end.
#[derive(Debug, Args)]
pub struct WaitArguments {
    /// Wait for the end, over restarts, and fail when the node could not do it.
    #[arg(long)]
    pub wait: bool,
    /// Longest wait, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, requires = "wait")]
    pub timeout: u64,
}

/// Which journal entries.
#[derive(Debug, Args)]
pub struct LogsArguments {
    /// Only this systemd unit, such as kubelet.
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<String>,
    /// Only the last so many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub since: Option<u64>,
    /// The newest so many entries; 100 when left out.
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<u32>,
    /// Go on with new entries as they come.
    #[arg(short, long)]
    pub follow: bool,
    /// Boot: 0 is this one, -1 the one before.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub boot: Option<i32>,
}
