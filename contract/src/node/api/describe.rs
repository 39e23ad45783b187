//! A status in words, for the node's console and for `slipway node status` alike.
//!
//! In: a [`Status`]. Out: lines of a label and a text. **Invariant:** nothing that is printed
//! holds a control character, whoever wrote it: a message must not steer a terminal.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{
    Boot, Fallback, Hold, Outcome, PinnedBy, Probe, ProbeState, Problem, ProblemKind, Progress,
    Status,
};
use crate::ReleaseVersion;
use crate::release::uki_name::FIRST_TRIES;

/// The text without control characters, and without those that reverse the order of others.
pub fn printable(text: &str) -> String {
    let harmless = |c: char| {
        let reverses = matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || reverses { ' ' } else { c }
    };
    text.chars().map(harmless).collect()
}

/// The first `width` characters, with an ellipsis when some are left out.
pub fn clipped(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

/// Bytes in the unit that reads best.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=9_999_999 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

/// How long before `now` something was, in the unit that reads best.
pub fn ago(now: Timestamp, then: Timestamp) -> String {
    match now.duration_since(then).as_secs() {
        // Clocks are set in between: a negative number would only confuse.
        ..=0 => "just now".to_owned(),
        seconds => format!("{} ago", length(seconds.unsigned_abs())),
    }
}

fn length(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn version(version: Option<&ReleaseVersion>) -> String {
    version.map_or_else(|| "of unknown version".to_owned(), ToString::to_string)
}

/// What a rule says, and when it ends.
pub fn hold_line(hold: &Hold) -> String {
    let until = hold.ends.map(|end| format!(" (until {end:.0})")).unwrap_or_default();
    printable(&hold.sentence) + &until
}

/// Everything in a status, a label and a text each; one label may come several times.
pub fn status_lines(status: &Status) -> Vec<(&'static str, String)> {
    let mut lines = vec![("release", running(status))];
    if let Some(hash) = status.running.root_hash {
        lines.push(("root hash", hash.to_string()));
    }
    if let Some(other) = &status.other {
        let version = version(other.version.as_ref());
        let (slot, generation) = (other.slot, other.generation);
        lines.push(("other", format!("{version} in slot {slot}, generation {generation}")));
    }
    lines.push(("phase", phase(status)));
    lines.push(("follows", follows(status)));
    lines.extend(status.holds.iter().map(|hold| ("why", hold_line(hold))));
    let addresses: Vec<String> = status.addresses.iter().map(ToString::to_string).collect();
    let addresses = if addresses.is_empty() { "none".to_owned() } else { addresses.join(", ") };
    lines.push(("address", addresses));
    lines.extend(status.health.iter().map(|probe| ("health", health(probe))));
    let now = status.clock.now;
    if let Some(check) = &status.last_check {
        lines.push(("checked", format!("{}: {}", ago(now, check.at), printable(&check.message))));
    }
    if let Some(problem) = &status.problem {
        lines.push(("problem", failed(now, problem)));
        lines.push(("next", printable(&problem.next)));
    }
    if let Some(fallback) = &status.fallback {
        lines.push(("fallback", gave_up(now, fallback)));
    }
    for refused in &status.refused {
        let version = version(refused.version.as_ref());
        let cause = printable(&refused.cause);
        lines.push(("refused", format!("{version} (it reached {}): {cause}", refused.reached)));
    }
    lines.push(("drift", drift(status)));
    lines.push(("settings", settings(status)));
    lines.push(("clock", clock(status)));
    let (id, host) = (printable(&status.machine_id), printable(&status.hostname));
    lines.push(("node", format!("{host} ({id}), slipwayd {}", printable(&status.updater))));
    lines
}

fn running(status: &Status) -> String {
    let running = &status.running;
    let image = printable(running.image.as_deref().unwrap_or("image"));
    let boot = match (running.boot, running.tries_left) {
        (Boot::Blessed, Some(left)) if left < FIRST_TRIES => {
            format!("blessed, {left} more tries until it has stood")
        }
        (Boot::Blessed, _) => "blessed".to_owned(),
        (Boot::Pending, Some(left)) => format!("being judged, {left} more tries"),
        (Boot::Pending, None) => "being judged".to_owned(),
        (Boot::Condemned, _) => "judged bad".to_owned(),
        (Boot::Unknown, _) => "unknown".to_owned(),
    };
    let version = version(running.version.as_ref());
    format!("{image} {version} in slot {}, generation {}, {boot}", running.slot, running.generation)
}

fn phase(status: &Status) -> String {
    let mut text = status.phase.to_string();
    if let Some(target) = &status.target {
        let _ = write!(text, " {target}");
    }
    if let Some(Progress { way, bytes_done, bytes_total, .. }) = &status.progress {
        let share = bytes_done.saturating_mul(100).checked_div(*bytes_total).unwrap_or_default();
        let _ = write!(text, ": {share}% ({} of {}", size(*bytes_done), size(*bytes_total));
        if let Some(way) = way {
            let _ = write!(text, ", {}", way.name());
        }
        text.push(')');
    }
    text
}

fn follows(status: &Status) -> String {
    let follows = &status.follows;
    let mut parts = Vec::new();
    parts.extend(follows.group.as_ref().map(|group| format!("group {group}")));
    parts.extend(follows.channel.as_ref().map(|channel| format!("channel {channel}")));
    parts.extend(follows.pin.as_ref().map(|pin| {
        let by = match pin.by {
            PinnedBy::Group => "by its group",
            PinnedBy::Operator => "by an operator",
            PinnedBy::Unknown => "",
        };
        format!("pinned to {} {by}", pin.version).trim_end().to_owned()
    }));
    parts.extend(follows.maximum_version.as_ref().map(|version| format!("at most {version}")));
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

fn health(probe: &Probe) -> String {
    let state = match probe.state {
        ProbeState::Passing => "passing",
        ProbeState::Failing => "failing",
        ProbeState::Unknown => "not asked yet",
    };
    let message = probe.message.as_deref().map(|text| format!(": {}", printable(text)));
    format!("{} {state}{}", printable(&probe.name), message.unwrap_or_default())
}

fn failed(now: Timestamp, problem: &Problem) -> String {
    let (message, when) = (printable(&problem.message), ago(now, problem.at));
    match problem.kind {
        ProblemKind::Unknown => format!("{message} ({when})"),
        kind => format!("{message} ({}, {when})", kind.name()),
    }
}

fn gave_up(now: Timestamp, fallback: &Fallback) -> String {
    format!(
        "{} (generation {}), given up {}, reached {}: {}",
        version(fallback.version.as_ref()),
        fallback.generation,
        ago(now, fallback.at),
        fallback.reached,
        printable(&fallback.cause)
    )
}

fn drift(status: &Status) -> String {
    let Some(drift) = &status.drift else {
        return "not compared yet".to_owned();
    };
    let when = ago(status.clock.now, drift.at);
    let count = |outcome| drift.items.iter().filter(|item| item.outcome == outcome).count();
    let unknown = match count(Outcome::Unknown) {
        0 => String::new(),
        unknown => format!(", {unknown} could not be compared"),
    };
    match count(Outcome::Differs) {
        0 => format!("none{unknown} ({when})"),
        1 => format!("one thing differs from what was signed{unknown} ({when})"),
        differs => format!("{differs} things differ from what was signed{unknown} ({when})"),
    }
}

fn settings(status: &Status) -> String {
    match &status.settings {
        Some(settings) => {
            format!("schema {}, from {}", settings.schema, printable(&settings.source))
        }
        None => "none".to_owned(),
    }
}

fn clock(status: &Status) -> String {
    let clock = &status.clock;
    let set = if clock.synchronized { "set by a time server" } else { "not set by a time server" };
    format!("{:.0}, {set}, up {}", clock.now, length(clock.uptime_seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\u{202e}c"), "a [2Jb   c");
    }

    #[test]
    fn times_and_sizes_read_well() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let at = |seconds: i64| ago(now, Timestamp::from_second(1_000_000 - seconds).unwrap());
        assert_eq!([at(-5), at(0)], ["just now", "just now"]);
        assert_eq!([at(90), at(600), at(10_000)], ["90 s ago", "10 min ago", "2 h ago"]);
        assert_eq!(clipped("abcdef", 4), "abc…");
        assert_eq!(clipped("abcd", 4), "abcd");
    }
}
