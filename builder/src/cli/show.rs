//! `slipway channel show`.

use std::path::Path;

use contract::{ChannelDocument, NodeGroup, Offer};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tough::ExpirationEnforcement;
use tough::schema::RoleType;

use super::describe::{channel_terms, group_terms, mark_lines, size};
use super::outcome::{Answer, Failed};
use crate::channel::State;
use crate::channel::roles::TargetsRole;

/// Time before an expiry in which it is pointed out.
const SOON: SignedDuration = SignedDuration::from_hours(3 * 24);

/// One signed role.
struct RoleLine {
    name: &'static str,
    version: u64,
    expires: Timestamp,
}

/// Describes a channel; what has expired is told, not refused.
pub async fn show(path: &Path, now: Timestamp) -> Result<Answer, Failed> {
    let state = State::load(path, ExpirationEnforcement::Unsafe).await?;
    let (offers, channels, groups) = (state.offers()?, state.channels()?, state.groups()?);
    let roles = roles(&state);
    let mark = if state.is_development() { "  (development: throw-away keys)" } else { "" };
    let mut text = format!("channel folder {}{mark}\nroles\n", path.display());
    text += &roles.iter().map(|role| role_text(role, now)).collect::<String>();
    text += &section("channels", channels.values().map(|channel| channel_text(channel, now)));
    text += &section("groups", groups.values().map(group_text));
    text += &section("releases", offers.values().map(offer_text));
    let roles: Vec<_> = roles
        .iter()
        .map(|role| {
            json!({
                "name": role.name,
                "version": role.version,
                "expires": role.expires,
                "expired": role.expires < now,
            })
        })
        .collect();
    let json = json!({
        "development": state.is_development(),
        "roles": roles,
        "rootKeys": key_ids(&state),
        "channels": channels.values().collect::<Vec<_>>(),
        "groups": groups.values().collect::<Vec<_>>(),
        "releases": offers.values().map(|offer| &offer.release).collect::<Vec<_>>(),
    });
    Ok(Answer { text, json })
}

fn roles(state: &State) -> Vec<RoleLine> {
    let root = &state.root.signed;
    let (snapshot, timestamp) = (&state.snapshot.signed, &state.timestamp.signed);
    let mut roles = vec![
        RoleLine { name: "root", version: root.version.get(), expires: root.expires },
        RoleLine {
            name: "timestamp",
            version: timestamp.version.get(),
            expires: timestamp.expires,
        },
        RoleLine { name: "snapshot", version: snapshot.version.get(), expires: snapshot.expires },
    ];
    roles.extend(TargetsRole::ALL.map(|role| {
        let content = state.role(role);
        RoleLine { name: role.name(), version: content.version.get(), expires: content.expires }
    }));
    roles
}

fn key_ids(state: &State) -> Vec<String> {
    let root = state.root.signed.roles.get(&RoleType::Root);
    let ids = root.iter().flat_map(|role| &role.keyids);
    ids.map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()).collect()
}

fn role_text(role: &RoleLine, now: Timestamp) -> String {
    let left = role.expires.duration_since(now);
    let note = match left {
        left if left < SignedDuration::ZERO && role.name == "root" => {
            "  EXPIRED: nodes refuse the channel; run `slipway keys rotate`"
        }
        left if left < SignedDuration::ZERO => {
            "  EXPIRED: nodes refuse the channel; run `slipway channel refresh`"
        }
        left if left < SOON => "  expires soon",
        _ => "",
    };
    format!("  {:<10} version {:<5} until {}{note}\n", role.name, role.version, role.expires)
}

fn section(title: &str, lines: impl Iterator<Item = String>) -> String {
    let lines: String = lines.collect();
    if lines.is_empty() {
        return format!("{title}\n  none\n");
    }
    format!("{title}\n{lines}")
}

fn channel_text(channel: &ChannelDocument, now: Timestamp) -> String {
    let (name, terms) = (channel.channel.as_str(), channel_terms(channel, now));
    let marks = mark_lines(channel);
    format!("  {name:<10} {} since {}, {terms}\n{marks}", channel.release, channel.since)
}

fn group_text(group: &NodeGroup) -> String {
    format!("  {:<10} {}\n", group.metadata.name.as_str(), group_terms(group))
}

fn offer_text(offer: &Offer) -> String {
    let uki = offer.ukis.values().next().map_or(0, |uki| uki.container.bytes);
    format!(
        "  {:<10} {} for {}, {} to move, root hash {}\n",
        offer.release.version.to_string(),
        offer.release.image,
        offer.release.architecture,
        size(offer.root.container.bytes + uki),
        offer.release.root.root_hash
    )
}
