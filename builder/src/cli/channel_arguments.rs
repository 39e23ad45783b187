//! The arguments of the commands on channels, groups and the keys of channels.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use contract::channel::route::MAX_REASON;
use contract::channel::waves::Waves;
use contract::{ChannelName, GroupName, ReleaseVersion};
use jiff::{SignedDuration, Span, SpanRelativeTo};
use semver::Version;

use crate::channel::{DEFAULT_LEVEL, Lifetimes, MINIMUM_UPDATER, Since};
use crate::signing::keys::ChannelKey;

/// `slipway channel`.
#[derive(Debug, Subcommand)]
pub enum ChannelCommand {
    /// Make an empty channel in a new folder.
    Init(InitArguments),
    /// Show what a channel holds, who signs it, and what expires when.
    Show {
        /// The channel's folder.
        channel: PathBuf,
    },
    /// Check a channel as a node would, with all blobs and frames.
    Verify {
        /// The channel's folder.
        channel: PathBuf,
        /// Initial root to start from; by default the channel's own root.json.
        #[arg(long, value_name = "FILE")]
        root: Option<PathBuf>,
    },
    /// Sign anew what would expire: timestamp and snapshot, and roles whose keys are there.
    Refresh {
        /// The channel's folder.
        channel: PathBuf,
        #[command(flatten)]
        signing: SigningArguments,
    },
    /// Point a channel at a release.
    Set(SetArguments),
    /// Releases that nodes may not skip on their way up.
    #[command(subcommand)]
    Floor(FloorCommand),
    /// Let no node take a release, whoever wants it.
    Block {
        #[command(flatten)]
        marked: MarkArguments,
        /// Why; nodes show it.
        #[arg(long, value_name = "REASON", value_parser = parse_reason)]
        reason: String,
        /// The release that the channel points at from now on, if it points at this one.
        #[arg(long, value_name = "RELEASE")]
        instead: Option<ReleaseVersion>,
    },
    /// Let nodes take a blocked release again.
    Unblock {
        #[command(flatten)]
        marked: MarkArguments,
    },
    /// Remove a channel that no group follows.
    Remove {
        /// The channel's folder.
        channel: PathBuf,
        /// Name of the channel.
        name: ChannelName,
        #[command(flatten)]
        signing: SigningArguments,
    },
    /// Remove releases that nothing points at, and files that belong to nothing.
    Prune {
        /// The channel's folder.
        channel: PathBuf,
        /// How many of the newest releases stay; those that channels and groups point at stay too.
        #[arg(long, value_name = "N")]
        keep: usize,
        #[command(flatten)]
        signing: SigningArguments,
    },
}

/// `slipway channel floor`.
#[derive(Debug, Subcommand)]
pub enum FloorCommand {
    /// Let no node skip a release.
    Add {
        #[command(flatten)]
        marked: MarkArguments,
        /// Why; nodes show it.
        #[arg(long, value_name = "REASON", value_parser = parse_reason)]
        reason: String,
    },
    /// Let nodes skip it again.
    Remove {
        #[command(flatten)]
        marked: MarkArguments,
    },
}

/// A release of a channel.
#[derive(Debug, Args)]
pub struct MarkArguments {
    /// The channel's folder.
    pub channel: PathBuf,
    /// Name of the channel.
    pub name: ChannelName,
    /// The release.
    pub release: ReleaseVersion,
    #[command(flatten)]
    pub signing: SigningArguments,
}

/// `slipway channel init`.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// The folder.
    pub channel: PathBuf,
    /// Lifetime of the root.
    #[arg(long, value_name = "TIME", default_value = "730d", value_parser = parse_lifetime)]
    pub root_lifetime: SignedDuration,
    #[command(flatten)]
    pub signing: SigningArguments,
}

/// `slipway channel set`.
#[derive(Debug, Args)]
pub struct SetArguments {
    /// The channel's folder.
    pub channel: PathBuf,
    /// Name of the channel, such as stable; made when it is not there.
    pub name: ChannelName,
    /// The release that its nodes run; by default the present one.
    #[arg(required_unless_present_any = ["pause", "resume", "waves", "since"])]
    pub release: Option<ReleaseVersion>,
    /// Which share of the nodes may start how long after --since, such as
    /// 10%@0s,50%@4h,100%@24h; by default all at once.
    #[arg(long, value_name = "WAVES")]
    pub waves: Option<Waves>,
    /// When the waves start, such as 2026-12-01T08:00:00Z, or now; by default now for another
    /// release, and as before for the same.
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub since: Option<Since>,
    /// No node may start an update, for this reason.
    #[arg(long, value_name = "REASON", conflicts_with = "resume", value_parser = parse_reason)]
    pub pause: Option<String>,
    /// Nodes may start again.
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub signing: SigningArguments,
}

/// `slipway publish`.
#[derive(Debug, Args)]
pub struct PublishArguments {
    /// The channel's folder.
    pub channel: PathBuf,
    /// Release folders.
    #[arg(required = true)]
    pub releases: Vec<PathBuf>,
    /// Compression level of zstd. Frames that the channel has are taken as they are.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LEVEL,
          value_parser = clap::value_parser!(i32).range(1..=22))]
    pub level: i32,
    /// The oldest slipwayd that can install these releases.
    #[arg(long, value_name = "VERSION", default_value_t = MINIMUM_UPDATER)]
    pub minimum_updater: Version,
    #[command(flatten)]
    pub signing: SigningArguments,
}

/// `slipway group`.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Put the file of a node group into a channel.
    Set {
        /// The channel's folder.
        channel: PathBuf,
        /// Name of the group, as in the file.
        name: GroupName,
        /// The file: YAML.
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        signing: SigningArguments,
    },
    /// Remove a node group: its nodes follow the channel of their settings, or stay where they are.
    Remove {
        /// The channel's folder.
        channel: PathBuf,
        /// Name of the group.
        name: GroupName,
        #[command(flatten)]
        signing: SigningArguments,
    },
}

/// `slipway keys rotate`.
#[derive(Debug, Args)]
pub struct RotateArguments {
    /// The channel's folder.
    pub channel: PathBuf,
    /// Folder of the present keys; two of the three root keys must be there.
    #[arg(long, value_name = "DIR", default_value = "keys/dev")]
    pub keys: PathBuf,
    /// What to replace; may be given several times.
    #[arg(long = "role", value_enum, value_name = "ROLE", requires = "new")]
    pub roles: Vec<Role>,
    /// Folder of the new keys, made with `slipway keys new`.
    #[arg(long, value_name = "DIR", requires = "roles")]
    pub new: Option<PathBuf>,
    /// Lifetimes of what is signed.
    #[command(flatten)]
    pub lifetimes: RotateLifetimes,
}

/// Lifetimes that a rotation needs.
#[derive(Debug, Args)]
pub struct RotateLifetimes {
    /// Lifetime of the root.
    #[arg(long, value_name = "TIME", default_value = "730d", value_parser = parse_lifetime)]
    pub root_lifetime: SignedDuration,
    #[command(flatten)]
    rest: LifetimeArguments,
}

impl RotateLifetimes {
    /// All of them.
    pub fn lifetimes(&self) -> Lifetimes {
        Lifetimes { root: self.root_lifetime, ..self.rest.lifetimes() }
    }
}

/// Keys that are replaced together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// All three root keys.
    Root,
    /// root-1.key.
    #[value(name = "root-1")]
    Root1,
    /// root-2.key.
    #[value(name = "root-2")]
    Root2,
    /// root-3.key.
    #[value(name = "root-3")]
    Root3,
    /// targets.key, of the release managers.
    Targets,
    /// release.key, of CI; targets.key signs the change.
    Releases,
    /// groups.key, of the operators; targets.key signs the change.
    Groups,
    /// snapshot.key.
    Snapshot,
    /// timestamp.key.
    Timestamp,
}

impl Role {
    /// The keys.
    pub fn keys(self) -> &'static [ChannelKey] {
        match self {
            Role::Root => &ChannelKey::ROOTS,
            Role::Root1 => &[ChannelKey::Root1],
            Role::Root2 => &[ChannelKey::Root2],
            Role::Root3 => &[ChannelKey::Root3],
            Role::Targets => &[ChannelKey::Targets],
            Role::Releases => &[ChannelKey::Releases],
            Role::Groups => &[ChannelKey::Groups],
            Role::Snapshot => &[ChannelKey::Snapshot],
            Role::Timestamp => &[ChannelKey::Timestamp],
        }
    }
}

/// Who signs, and for how long.
#[derive(Debug, Args)]
pub struct SigningArguments {
    /// Key folder; only the keys that sign must be there.
    #[arg(long, value_name = "DIR", default_value = "keys/dev")]
    pub keys: PathBuf,
    #[command(flatten)]
    lifetimes: LifetimeArguments,
}

impl SigningArguments {
    /// The lifetimes; that of the root is the default.
    pub fn lifetimes(&self) -> Lifetimes {
        self.lifetimes.lifetimes()
    }
}

#[derive(Debug, Args)]
struct LifetimeArguments {
    /// Lifetime of the timestamp: how long a node can be kept from news without noticing.
    #[arg(long, value_name = "TIME", default_value = "14d", value_parser = parse_lifetime)]
    timestamp_lifetime: SignedDuration,
    /// Lifetime of all other roles but the root.
    #[arg(long, value_name = "TIME", default_value = "180d", value_parser = parse_lifetime)]
    lifetime: SignedDuration,
}

impl LifetimeArguments {
    fn lifetimes(&self) -> Lifetimes {
        Lifetimes {
            timestamp: self.timestamp_lifetime,
            documents: self.lifetime,
            ..Lifetimes::default()
        }
    }
}

/// A time such as `14d` or `12h`, over 0; a day has 24 hours.
fn parse_lifetime(text: &str) -> Result<SignedDuration, String> {
    let span: Span = text.parse().map_err(|_| "give a time such as 14d or 12h".to_owned())?;
    let time = span.to_duration(SpanRelativeTo::days_are_24_hours());
    match time {
        Ok(time) if time > SignedDuration::ZERO => Ok(time),
        Ok(_) => Err("give a time over 0s".to_owned()),
        Err(_) => Err("give days, hours, minutes and seconds: months differ in length".to_owned()),
    }
}

/// A time with its offset from UTC, or `now`.
fn parse_since(text: &str) -> Result<Since, String> {
    if text == "now" {
        return Ok(Since::Now);
    }
    let time = text.parse().map_err(|_| "give a time such as 2026-12-01T08:00:00Z, or now")?;
    Ok(Since::At(time))
}

/// A reason that says something.
fn parse_reason(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.len() > MAX_REASON {
        return Err("say why, in up to 200 bytes: nodes show it".to_owned());
    }
    Ok(text.trim().to_owned())
}
