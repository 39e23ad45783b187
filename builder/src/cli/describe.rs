//! Documents in words: releases, channels and groups.

use contract::channel::group::DrainPolicy;
use contract::channel::route::Mark;
use contract::channel::waves::percent;
use contract::{ChannelDocument, NodeGroup, ReleaseDocument};
use jiff::Timestamp;

pub use contract::node::api::size;

/// Largest number of components that are listed.
const SHOWN_COMPONENTS: usize = 200;

/// Name, root hash, components and files, a line each.
pub fn document_text(document: &ReleaseDocument) -> String {
    let mark = if document.development { "  (development build, throw-away keys)" } else { "" };
    let mut text = format!(
        "{} {} for {}{mark}\nroot hash  {}\nroot       {}\n",
        document.image,
        document.version,
        document.architecture,
        document.root.root_hash,
        size(document.root.bytes),
    );
    text += "components\n";
    for component in document.components.iter().take(SHOWN_COMPONENTS) {
        text += &format!("  {} {}\n", component.name, component.version);
    }
    text += "files\n";
    for file in &document.files {
        text += &format!("  {:<20} {:>10}  {}\n", file.name, size(file.bytes), file.sha256);
    }
    text
}

/// Who may start, as of `now`, and whether nobody may.
pub fn channel_terms(channel: &ChannelDocument, now: Timestamp) -> String {
    let waves = match channel.waves.is_empty() {
        true => "all nodes at once".to_owned(),
        false => format!("waves {}", channel.waves),
    };
    let share = channel.waves.open_share(channel.since, now);
    let open = match (channel.waves.is_empty(), share) {
        (_, 0.0) => format!(" (none before {})", channel.waves.opens(0.0, channel.since)),
        (true, _) => String::new(),
        (false, share) => format!(" (open now: {}%)", percent(share)),
    };
    let paused = channel.paused.as_ref().map(|why| format!(", paused: {why}")).unwrap_or_default();
    format!("{waves}{open}{paused}")
}

/// What a channel marks, a line each; nothing when it marks nothing.
pub fn mark_lines(channel: &ChannelDocument) -> String {
    let line = |word: &str, mark: &Mark| format!("  {:<10} {word} {mark}\n", "");
    let floors = channel.floors.iter().map(|mark| line("not without", mark));
    let blocked = channel.blocked.iter().map(|mark| line("never", mark));
    floors.chain(blocked).collect()
}

/// What a group follows, and within which limits.
pub fn group_terms(group: &NodeGroup) -> String {
    let spec = &group.spec;
    let wanted = match (&spec.release, &spec.channel) {
        (Some(release), _) => format!("release {release}"),
        (None, Some(channel)) => format!("channel {channel}"),
        (None, None) => "nothing".to_owned(),
    };
    let waves = spec.waves.as_ref().map(|waves| format!(", waves {waves}")).unwrap_or_default();
    let maximum = spec.maximum_version.as_ref().map(|version| format!(", at most {version}"));
    let maximum = maximum.unwrap_or_default();
    let windows: Vec<_> = spec.windows.iter().map(ToString::to_string).collect();
    let windows = match windows.as_slice() {
        [] => String::new(),
        windows => format!(", restarts {}", windows.join(" or ")),
    };
    let drain = spec.drain.map(|drain| {
        let then = match drain.then {
            DrainPolicy::Wait => "waits",
            DrainPolicy::Restart => "restarts",
        };
        format!(", drains for up to {:#} and then {then}", drain.deadline)
    });
    let drain = drain.unwrap_or_default();
    let paused = spec.paused.as_ref().map(|why| format!(", paused: {why}")).unwrap_or_default();
    format!("{wanted}{maximum}{waves}{windows}{drain}{paused}")
}
