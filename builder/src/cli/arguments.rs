//! The arguments, as clap shows them in `--help`, completions and man pages.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use contract::ReleaseVersion;

use super::access::AccessCommand;
pub use super::channel_arguments::{
    ChannelCommand, GroupCommand, PublishArguments, RotateArguments,
};
use super::node::NodeArguments;

/// Builds signed, read-only images of Kubernetes nodes.
#[derive(Debug, Parser)]
#[command(
    name = "slipway",
    version,
    after_help = "Exit codes: 0 done; 1 failed (disk, network, …); 2 wrong arguments; \
                  3 manifest, lock, keys or image are wrong; 4 a locked input is no longer to \
                  be had (lock afresh, or give another --mirror); 130 interrupted."
)]
pub struct Arguments {
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Format::Text, global = true)]
    pub format: Format,
    /// Print only results and errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print details of each step.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Resolve the manifest's packages and write the lock beside it.
    Lock(LockArguments),
    /// Fetch everything that the lock pins, into the cache or a store.
    Fetch(FetchArguments),
    /// Build and sign a release.
    Build(BuildArguments),
    /// Show which part brought which file into a release, and why.
    Report {
        /// Release folder.
        release: PathBuf,
    },
    /// Show what a release folder, disk image or UKI holds, and who signed it.
    Inspect {
        /// Release folder, raw disk image, or UKI.
        path: PathBuf,
    },
    /// Check signatures, root hash and every digest of a release or disk image.
    Verify(VerifyArguments),
    /// Compare two releases: components, files, bytes.
    Diff {
        /// Release folder.
        old: PathBuf,
        /// Release folder.
        new: PathBuf,
    },
    /// Make and look after a channel: a folder of static files that nodes follow.
    Channel {
        /// What to do with it.
        #[command(subcommand)]
        command: ChannelCommand,
    },
    /// Put releases into a channel.
    Publish(PublishArguments),
    /// Change node groups.
    Group {
        /// What to do with them.
        #[command(subcommand)]
        command: GroupCommand,
    },
    /// Make and rotate keys.
    Keys {
        /// What to do with keys.
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Ask a node, and steer it.
    Node(NodeArguments),
    /// Print shell completions.
    Completions {
        /// Shell on the machine where slipway is used.
        shell: clap_complete::Shell,
    },
    /// Write man pages.
    Man {
        /// Folder to write them to.
        folder: PathBuf,
    },
}

/// `slipway keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make Secure Boot keys (PK, KEK, db), a release key and those of a channel in a new
    /// folder.
    New {
        /// The folder.
        folder: PathBuf,
        /// Add the keys of a channel to a folder that has the others.
        #[arg(long)]
        add_channel_keys: bool,
    },
    /// Replace keys of a channel by those of another folder; without roles, only renew its
    /// root.
    Rotate(RotateArguments),
    /// Make certificates for callers of nodes, and for nodes.
    Access {
        /// What to do with them.
        #[command(subcommand)]
        command: AccessCommand,
    },
}

/// Where inputs come from.
#[derive(Debug, Args)]
pub struct SourceArguments {
    /// Debian mirror: a URL or folder with debian/ and debian-security/ below it; by default
    /// that of SLIPWAY_MIRROR or of this host's apt configuration.
    #[arg(long, value_name = "URL|DIR")]
    pub mirror: Option<String>,
    /// Use only what is in the cache.
    #[arg(long)]
    pub offline: bool,
    /// Downloads and compilers at a time; by default the number of cores.
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
}

/// `slipway lock`.
#[derive(Debug, Args)]
pub struct LockArguments {
    /// The manifest.
    pub manifest: PathBuf,
    /// Only compare the lock with the manifest; fail when they differ.
    #[arg(long)]
    pub check: bool,
    /// Write the lock here instead of beside the manifest.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Take an index whose Valid-Until is past, such as that of a snapshot.
    #[arg(long)]
    pub allow_expired_index: bool,
    #[command(flatten)]
    pub source: SourceArguments,
}

/// `slipway fetch`.
#[derive(Debug, Args)]
pub struct FetchArguments {
    /// The manifest.
    pub manifest: PathBuf,
    /// Lock, when not beside the manifest.
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Also copy the packages to a folder that `--mirror` takes.
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    #[command(flatten)]
    pub source: SourceArguments,
}

/// `slipway build`.
#[derive(Debug, Args)]
pub struct BuildArguments {
    /// The manifest.
    pub manifest: PathBuf,
    /// Release folder to make, or to replace as a whole.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Version of the release; by default the manifest's.
    #[arg(long = "version", value_name = "VERSION")]
    pub release_version: Option<ReleaseVersion>,
    /// Key folder; keys/dev is made at first use, for development builds.
    #[arg(long, value_name = "DIR", default_value = "keys/dev")]
    pub keys: PathBuf,
    /// Lock, when not beside the manifest.
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Disk images to write.
    #[arg(long = "disk", value_enum, default_value_t = DiskImage::Raw)]
    pub disk: DiskImage,
    #[command(flatten)]
    pub source: SourceArguments,
}

/// Disk images to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DiskImage {
    /// disk.raw.
    Raw,
    /// disk.raw and disk.qcow2.
    Qcow2,
}

/// `slipway verify`.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// Release folder.
    pub release: PathBuf,
    /// Key folder, or a folder with only db.pem and release.pub.
    #[arg(long, value_name = "DIR", default_value = "keys/dev")]
    pub keys: PathBuf,
}
