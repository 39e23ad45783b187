//! The settings of a scenario's node.
//!
//! **Invariant:** they are what the node would take, or the scenario fails before it boots.

use anyhow::Result;
use contract::node::settings::Settings;
use serde_json::{Value, json};

use crate::machine::{HOST, PROBE_PORT};
use testbed::channel::Channel;
use testbed::node::NodeAccess;

/// Name of the node's group, and of the channel that it follows without a group's document.
pub const GROUP: &str = "test";
/// Name of the channel.
pub const CHANNEL: &str = "stable";

/// Settings of a node that follows `channel` through the port `mirror` of the host's loopback,
/// with the API on, and checks so often that no scenario waits for it. Its own probe asks the
/// test probe.
///
/// # Errors
/// When the channel has no root of trust.
pub fn following(channel: &Channel, mirror: u16, access: &NodeAccess) -> Result<Value> {
    Ok(json!({
        "schema": contract::node::settings::SCHEMA,
        "channel": {
            "mirrors": [format!("http://{HOST}:{mirror}/")],
            "root": channel.root()?,
            "group": GROUP,
            "follow": CHANNEL,
            "pollInterval": "1h",
            "jitter": "0s",
        },
        "mode": "manual",
        "health": {
            "probes": [{
                "kind": "http",
                "name": "test-probe",
                "url": format!("http://127.0.0.1:{PROBE_PORT}/well"),
            }],
            "settle": "5s",
            "deadline": "5m",
        },
        "api": access.api_settings()?,
    }))
}

/// The text that the node gets.
///
/// # Errors
/// When the node would refuse it.
pub fn text(settings: &Value) -> Result<String> {
    let text = settings.to_string();
    Settings::from_json(text.as_bytes())?;
    Ok(text)
}
