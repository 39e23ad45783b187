//! Which fields differ between two settings, by name and never by value.
//!
//! In: the settings in force, and others. Out: names of fields. **Invariant:** no secret is shown, and
//! one that differs is named.

use std::collections::BTreeSet;

use contract::node::settings::Settings;
use serde_json::Value;

/// Top-level fields and their own fields that differ, by name.
pub fn changed_fields(old: Option<&Settings>, new: &Settings) -> Vec<String> {
    let shown = |settings: &Settings| {
        serde_json::to_value(settings).unwrap_or_else(|error| {
            tracing::error!(%error, "settings cannot be shown");
            Value::Null
        })
    };
    let old_shown = old.map(shown).unwrap_or_default();
    let mut changed = Vec::new();
    let fields = shown(new);
    let names = fields.as_object().into_iter().flatten().map(|(name, _)| name.clone());
    let gone = old_shown.as_object().into_iter().flatten().map(|(name, _)| name.clone());
    let all: BTreeSet<String> = names.chain(gone).collect();
    for name in all {
        let (before, after) = (&old_shown[&name], &fields[&name]);
        match (before.as_object(), after.as_object()) {
            (Some(before), Some(after)) => {
                let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
                let differs = |key: &&&String| before.get(**key) != after.get(**key);
                changed.extend(keys.iter().filter(differs).map(|key| format!("{name}.{key}")));
            }
            _ if before != after => changed.push(name),
            _ => {}
        }
    }
    for name in old.into_iter().flat_map(|old| changed_secrets(old, new)) {
        if !changed.iter().any(|known| known == name) {
            changed.push(name.to_owned());
        }
    }
    changed
}

/// Fields with a secret that both have, and that differ: what is shown of them may be the same.
fn changed_secrets(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let mut changed = Vec::new();
    let mut differ = |name, differs| {
        if differs {
            changed.push(name);
        }
    };
    if let (Some(old), Some(new)) = (&old.api, &new.api) {
        differ("api.key", old.key != new.key);
    }
    if let (Some(old), Some(new)) = (&old.kubernetes, &new.kubernetes) {
        differ("kubernetes.bootstrap", old.bootstrap != new.bootstrap);
    }
    differ("network.proxy", old.network.proxy != new.network.proxy);
    differ("registries", old.registries != new.registries);
    changed
}
