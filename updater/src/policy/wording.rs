//! The rules that hold a node, each in one sentence with its next step.
//!
//! In: a rule. Out: text for people. **Invariant:** nothing reads these sentences back.

use std::fmt;

use contract::channel::route::Mark;
use contract::{GroupName, ReleaseVersion};
use jiff::Timestamp;
use semver::Version;

use super::hold::Hold;
use super::unmet::Lacking;

const JUDGING: &str = "This boot is still being judged, and the other slot is the way back until \
                       it is blessed.";
const UNPROVEN: &str = "This boot has not stood yet, and the other slot stays as it is until it has: \
                        `slipway node update` does not wait for that.";
const NO_JOURNAL: &str = "What runs is not known to be good, because the journal of updates or the EFI \
                          system partition cannot be used; that is tried again every half minute: \
                          `slipway node status` names the problem.";
const NO_SETTINGS: &str = "The node has no settings: give them as the credential \
                           `slipway.settings`, on a disk with the label `cidata`, as user data of \
                           its cloud, or with `slipway node settings set`.";
const NO_CHANNEL: &str =
    "The settings name no channel: add `channel` with `slipway node settings set`.";

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hold::Judging => f.write_str(JUDGING),
            Hold::Unproven => f.write_str(UNPROVEN),
            Hold::NoJournal => f.write_str(NO_JOURNAL),
            Hold::Lapsed { version } => lapsed(f, version.as_ref()),
            Hold::PinUnreadable { cause } => write!(
                f,
                "Whether an operator pinned this node cannot be read ({cause}): pin it again with \
                 `slipway node pin`, or let it follow with `slipway node unpin`."
            ),
            Hold::NoSettings { cause: None } => f.write_str(NO_SETTINGS),
            Hold::NoSettings { cause: Some(cause) } => {
                write!(f, "The node has no settings: {cause}.")
            }
            Hold::NoChannel => f.write_str(NO_CHANNEL),
            Hold::NotChecked => f.write_str("The channel is about to be read."),
            Hold::CheckFailed { sentence, .. }
            | Hold::Clock { sentence, .. }
            | Hold::Drain { sentence, .. } => f.write_str(sentence),
            Hold::StageFailed { sentence, .. } => {
                write!(f, "The release cannot be staged: {sentence}")
            }
            Hold::Expired { since } => expired(f, *since),
            Hold::NoGroup { group } => no_group(f, group.as_ref()),
            Hold::NoOffer { version } => write!(
                f,
                "Release {version} is not in the channel for this architecture: publish it with \
                 `slipway publish`."
            ),
            Hold::UpToDate { version } => {
                write!(f, "The node runs release {version}, which is the wanted one.")
            }
            Hold::Pinned { version } => write!(
                f,
                "An operator pinned this node to release {version}, whatever its group says, \
                 until `slipway node unpin`."
            ),
            Hold::Refused { version, cause } => write!(
                f,
                "Release {version} failed on this node ({cause}) and is not tried again before \
                 `slipway node clear {version}`."
            ),
            Hold::MaximumVersion { version, maximum, group } => write!(
                f,
                "Release {version} is newer than {maximum}, the highest that the group {group} \
                 allows: raise `maximumVersion` with `slipway group set`."
            ),
            Hold::GroupPaused { name, reason } => {
                let end = ": take `paused` out with `slipway group set`";
                write!(f, "The group {name} is paused ({reason}){end}.")
            }
            Hold::ChannelPaused { name, reason } => {
                let end = " until `slipway channel set --resume`";
                write!(f, "The channel {name} is paused ({reason}){end}.")
            }
            Hold::MinimumUpdater { version, needed, have } => write!(
                f,
                "Release {version} needs slipwayd {needed} or newer and this is {have}: update to a \
                 release between them first."
            ),
            Hold::Needs { document, needed, have, cause, floor } => {
                needs(f, document, needed.as_ref(), have, cause)?;
                way_out(f, document, floor.as_ref())
            }
            Hold::RunsBlocked { mark } => write!(
                f,
                "This node runs release {}, which its channel blocks ({}): it must go on to another.",
                mark.release, mark.reason
            ),
            Hold::Blocked { mark } => write!(
                f,
                "Release {} is blocked in the channel ({}), and no node takes it: point the channel, \
                 or the pin, at another.",
                mark.release, mark.reason
            ),
            Hold::FloorBlocked { version, floor, reason } => write!(
                f,
                "Release {version} is reached over {floor} only, which is blocked in the channel \
                 ({reason}): add another floor in its place with `slipway channel floor`."
            ),
            Hold::OverFloor { version, floor, steps } => {
                write!(f, "Release {version} is reached in {steps} steps, the next is {floor}.")
            }
            Hold::EspRoom { needed, room } => esp_room(f, *needed, *room),
            Hold::VersionSkew { version, kubelet, server } => {
                version_skew(f, version, kubelet, server)
            }
            Hold::ApiServerSilent { sentence } => write!(
                f,
                "Whether the release's kubelet goes with the API server is not known: {sentence}."
            ),
            Hold::Wave { version, position, opens } => wave(f, version, *position, *opens),
            Hold::Window { opens } => window(f, *opens),
            Hold::RestartsByHand { version } => write!(
                f,
                "The node restarts into release {version} when told to: `slipway node update`."
            ),
            Hold::Manual { version } => write!(
                f,
                "There is release {version}, and the node updates when told to: `slipway node \
                 update`."
            ),
            Hold::Staged { version } => {
                write!(f, "Release {version} is staged and verified, and waits for its start.")
            }
        }
    }
}

fn lapsed(f: &mut fmt::Formatter<'_>, version: Option<&ReleaseVersion>) -> fmt::Result {
    f.write_str("The release in the other slot")?;
    if let Some(version) = version {
        write!(f, ", {version},")?;
    }
    f.write_str(
        " was blessed and then did not stand in any of its starts, so this one runs: the node goes \
         back once this boot has stood, as soon as no other rule holds the restart.",
    )
}

fn needs(
    f: &mut fmt::Formatter<'_>,
    document: &Lacking,
    needed: Option<&Version>,
    have: &Version,
    cause: &str,
) -> fmt::Result {
    match document {
        Lacking::Group(name) => write!(f, "The document of the group {name}")?,
        Lacking::Channel(name) => write!(f, "The document of the channel {name}")?,
        Lacking::Release(version) => write!(f, "The offer of release {version}")?,
    }
    match needed {
        Some(needed) => write!(f, " needs slipwayd {needed} or newer and this is {have}")?,
        None => write!(f, " needs a newer slipwayd than {have}, or is wrong")?,
    }
    write!(f, " ({cause})")
}

/// How a node gets a later slipwayd.
fn way_out(f: &mut fmt::Formatter<'_>, document: &Lacking, floor: Option<&Mark>) -> fmt::Result {
    match (document, floor) {
        (Lacking::Release(_), _) => f.write_str(
            ": publish a release between them that has it, and make that one a floor with \
             `slipway channel floor add`.",
        ),
        (_, Some(Mark { release, reason })) => write!(
            f,
            ": the way there is the floor {release} ({reason}): run `slipway node pin {release}`, \
             and `slipway node unpin` once it runs."
        ),
        (_, None) => f.write_str(
            ": run `slipway node pin` with a release that has it, and `slipway node unpin` once it \
             runs.",
        ),
    }
}

fn expired(f: &mut fmt::Formatter<'_>, since: Timestamp) -> fmt::Result {
    write!(
        f,
        "What the channel said expired at {}: refresh it with `slipway channel refresh`, and \
         check that the node can reach it.",
        Minute(since)
    )
}

fn no_group(f: &mut fmt::Formatter<'_>, group: Option<&GroupName>) -> fmt::Result {
    match group {
        Some(group) => write!(
            f,
            "The channel has no document for the group {group}: publish one with `slipway group \
             set`, or name a channel as `channel.follow` in the settings."
        ),
        None => f.write_str(
            "The settings name neither a group nor a channel to follow: set `channel.group`.",
        ),
    }
}

fn esp_room(f: &mut fmt::Formatter<'_>, needed: u64, room: Option<u64>) -> fmt::Result {
    match room {
        Some(room) => write!(
            f,
            "The EFI system partition has room for {room} bytes and the release needs {needed}: \
             remove foreign files from it."
        ),
        None => write!(
            f,
            "The EFI system partition cannot be read, and the release needs {needed} bytes on \
             it: see `slipway node logs`."
        ),
    }
}

fn version_skew(
    f: &mut fmt::Formatter<'_>,
    version: &ReleaseVersion,
    kubelet: &Version,
    server: &Version,
) -> fmt::Result {
    let next = if kubelet > server {
        "update the control plane first"
    } else {
        "take a release with a newer kubelet"
    };
    write!(
        f,
        "Release {version} has kubelet {kubelet} and the API server is {server}; a kubelet may be \
         three minor versions older and not newer: {next}."
    )
}

fn wave(
    f: &mut fmt::Formatter<'_>,
    version: &ReleaseVersion,
    position: f64,
    opens: Timestamp,
) -> fmt::Result {
    write!(
        f,
        "This node is at {:.1}% of the fleet, and may start with release {version} at {}.",
        position * 100.0,
        Minute(opens)
    )
}

fn window(f: &mut fmt::Formatter<'_>, opens: Option<Timestamp>) -> fmt::Result {
    f.write_str("The node may restart in a maintenance window only, and ")?;
    match opens {
        Some(opens) => write!(f, "the next one opens at {}.", Minute(opens)),
        None => f.write_str("none opens within a week."),
    }
}

/// A time to the minute, in UTC; rounded up, so that a rule has ended at the time shown.
struct Minute(Timestamp);

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let up = self.0.as_second().saturating_add(59).div_euclid(60).saturating_mul(60);
        let shown = Timestamp::from_second(up).unwrap_or(self.0);
        write!(f, "{}", shown.strftime("%Y-%m-%d %H:%M UTC"))
    }
}
