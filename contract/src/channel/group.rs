//! A node group: which releases its nodes run, when they may restart, and what a good boot
//! is. Operators write it as YAML; the channel carries it as JSON, a TUF target of the role
//! `groups`; a cluster takes the same document as a custom resource.

use jiff::SignedDuration;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::channel::waves::Waves;
use crate::channel::window::Window;
use crate::head::{self, Document, Feature, Head, Unmet, Unreadable};
use crate::{ChannelName, GroupName, ReleaseVersion};

/// What every `apiVersion` begins with.
const API_GROUP: &str = "slipway.dev/";
/// The `apiVersion` that is written.
pub const API_VERSION: &str = "slipway.dev/v1alpha1";
/// The only `kind` that is read.
pub const KIND: &str = "NodeGroup";
/// Largest document that is read, in bytes.
pub const MAX_GROUP_BYTES: u64 = 64 << 10;
/// What is told about a pause without a reason.
pub const NO_REASON: &str = "write the reason as text, or leave `paused` out";
/// Settling time of a group that names none.
pub const DEFAULT_SETTLE: SignedDuration = SignedDuration::from_secs(60);
/// Deadline of a group that names none.
pub const DEFAULT_DEADLINE: SignedDuration = SignedDuration::from_mins(10);
/// How long a group that names nothing else forgives the API server's silence.
pub const DEFAULT_API_SERVER_GRACE: SignedDuration = SignedDuration::from_mins(10);
/// Longest deadline, of a boot and of a drain, and longest grace.
pub const LONGEST_DEADLINE: SignedDuration = SignedDuration::from_hours(24);

/// A node group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeGroup {
    /// [`API_VERSION`].
    pub api_version: String,
    /// [`KIND`].
    pub kind: String,
    /// Its name.
    pub metadata: Metadata,
    /// What is wanted of its nodes.
    pub spec: Spec,
}

/// The part of Kubernetes' object metadata that a group needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Name of the group.
    pub name: GroupName,
}

/// What is wanted of a group's nodes. Exactly one of `channel` and `release` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The oldest `slipwayd` that may act on the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_updater: Option<Version>,
    /// Features that its reader must know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Feature>,
    /// Follow this channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelName>,
    /// Run exactly this release, also when it is an older one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseVersion>,
    /// Never run a newer one, whatever the channel says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_version: Option<ReleaseVersion>,
    /// When nodes may restart; always, when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// Waves of this group, instead of the channel's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waves: Option<Waves>,
    /// Nodes that may be down for updates at a time; a fleet controller keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_budget: Option<u32>,
    /// How long all must be well without a break before a boot is blessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle: Option<SignedDuration>,
    /// How long after power-on a boot must be blessed; else the node falls back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<SignedDuration>,
    /// How much later than the deadline that may be, while nothing but the API server's silence is
    /// wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server_grace: Option<SignedDuration>,
    /// How a node drains itself before it restarts into another release; not at all, without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// Whether the node's own workloads count for a boot; required, when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workloads: Option<Workloads>,
    /// Why no node of the group may start an update at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
}

/// How a node drains itself, by the eviction API of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// How long its pods have to leave.
    pub deadline: SignedDuration,
    /// What then, when some have not left.
    pub then: DrainPolicy,
}

/// What becomes of an update when pods have not left the node in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainPolicy {
    /// The node takes pods again, and tries later.
    Wait,
    /// The node restarts with what is left on it.
    Restart,
}

/// Whether static pods and pods of DaemonSets that were Ready before an update must be Ready
/// again for the new boot to be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workloads {
    /// They must.
    Required,
    /// They are not looked at.
    Ignored,
}

/// Why a document is no node group. `field` is a path such as `spec.windows[0].length`.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidGroup {
    /// Where.
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// Why the JSON of a channel's group was refused.
#[derive(Debug, thiserror::Error)]
pub enum InvalidGroupJson {
    /// It cannot be read.
    #[error("the node group cannot be read")]
    Read(#[from] Unreadable),
    /// A field is wrong.
    #[error("the node group is wrong")]
    Group(#[from] InvalidGroup),
    /// It belongs to another group.
    #[error("this is the document of group `{found}`, not of `{expected}`")]
    Name {
        /// Whose document was asked for.
        expected: GroupName,
        /// Whose it is.
        found: GroupName,
    },
}

impl InvalidGroupJson {
    /// What the reader lacks, when that is all that is wrong.
    pub fn unmet(&self) -> Option<Unmet> {
        match self {
            InvalidGroupJson::Read(error) => error.unmet().cloned(),
            // A value beyond our bounds is as little understood as one of another type.
            InvalidGroupJson::Group(wrong) => {
                Some(Unmet { not_understood: Some(wrong.to_string()), ..Unmet::default() })
            }
            InvalidGroupJson::Name { .. } => None,
        }
    }
}

impl Document for NodeGroup {
    const MAX_BYTES: u64 = MAX_GROUP_BYTES;

    /// A resource of Kubernetes has these below `spec`.
    fn head(bytes: &[u8]) -> Result<Head, serde_json::Error> {
        #[derive(Deserialize)]
        struct Outer {
            #[serde(default)]
            spec: Head,
        }
        Ok(serde_json::from_slice::<Outer>(bytes)?.spec)
    }
}

impl NodeGroup {
    /// Parses and checks the document of group `name`.
    ///
    /// # Errors
    /// [`InvalidGroupJson`].
    pub fn from_json(name: &GroupName, bytes: &[u8]) -> Result<Self, InvalidGroupJson> {
        let group: Self = head::read(bytes)?;
        // A later version of the resource, which requires nothing unknown.
        let is_later = group.api_version.strip_prefix(API_GROUP).is_some();
        group.check_as(if is_later { &group.api_version } else { API_VERSION })?;
        if group.metadata.name != *name {
            let (expected, found) = (name.clone(), group.metadata.name);
            return Err(InvalidGroupJson::Name { expected, found });
        }
        Ok(group)
    }

    /// The text that is published.
    ///
    /// # Errors
    /// Only when serialisation fails, which no value of this type causes.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Checks what the types alone do not.
    ///
    /// # Errors
    /// [`InvalidGroup`] with the first wrong field.
    pub fn check(&self) -> Result<(), InvalidGroup> {
        if let Some(feature) = self.spec.requires.iter().find(|feature| !feature.is_known()) {
            return Err(InvalidGroup {
                field: "spec.requires".to_owned(),
                problem: format!(
                    "this slipway does not know the feature `{feature}`: there are {}",
                    head::FEATURES.join(", ")
                ),
            });
        }
        self.check_as(API_VERSION)
    }

    fn check_as(&self, api_version: &str) -> Result<(), InvalidGroup> {
        let wrong =
            |field: &str, problem: String| Err(InvalidGroup { field: field.to_owned(), problem });
        if self.api_version != api_version {
            return wrong(
                "apiVersion",
                format!("`{}` is unknown: write {API_VERSION}", self.api_version),
            );
        }
        if self.kind != KIND {
            return wrong("kind", format!("`{}` is unknown: write {KIND}", self.kind));
        }
        let spec = &self.spec;
        match (&spec.channel, &spec.release) {
            (None, None) => return wrong("spec", "give `channel` or `release`".to_owned()),
            (Some(_), Some(_)) => {
                return wrong("spec.release", "give `channel` or `release`, not both".to_owned());
            }
            _ => {}
        }
        if let (Some(release), Some(maximum)) = (&spec.release, &spec.maximum_version)
            && release > maximum
        {
            return wrong(
                "spec.maximumVersion",
                format!("{maximum} is older than release {release}"),
            );
        }
        if spec.paused.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
            return wrong("spec.paused", NO_REASON.to_owned());
        }
        for (index, window) in spec.windows.iter().enumerate() {
            if let Err(error) = window.check() {
                return wrong(&format!("spec.windows[{index}]"), error.to_string());
            }
        }
        let (settle, deadline) = (self.settle(), self.deadline());
        if settle.is_negative() || settle >= deadline {
            return wrong(
                "spec.settle",
                "must be at least 0s and shorter than `deadline`".to_owned(),
            );
        }
        if deadline > LONGEST_DEADLINE {
            return wrong("spec.deadline", "must be at most 24h".to_owned());
        }
        if spec.api_server_grace.is_some_and(|grace| !is_grace(grace)) {
            return wrong("spec.apiServerGrace", "must be at least 0s and at most 24h".to_owned());
        }
        if let Some(drain) = &spec.drain
            && !(drain.deadline.is_positive() && drain.deadline <= LONGEST_DEADLINE)
        {
            return wrong("spec.drain.deadline", "must be over 0s and at most 24h".to_owned());
        }
        Ok(())
    }

    /// Settling time, given or default.
    pub fn settle(&self) -> SignedDuration {
        self.spec.settle.unwrap_or(DEFAULT_SETTLE)
    }

    /// Deadline, given or default.
    pub fn deadline(&self) -> SignedDuration {
        self.spec.deadline.unwrap_or(DEFAULT_DEADLINE)
    }
}

/// Whether the API server's silence may be forgiven for so long.
pub fn is_grace(grace: SignedDuration) -> bool {
    !grace.is_negative() && grace <= LONGEST_DEADLINE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> NodeGroup {
        serde_json::from_str(
            r#"{"apiVersion": "slipway.dev/v1alpha1", "kind": "NodeGroup",
                "metadata": {"name": "workers"},
                "spec": {"channel": "stable", "settle": "30s", "deadline": "5m"}}"#,
        )
        .unwrap()
    }

    fn drain(deadline: SignedDuration) -> Option<Drain> {
        Some(Drain { deadline, then: DrainPolicy::Wait })
    }

    #[test]
    fn a_group_survives_a_round_trip() {
        let mut group = group();
        let name = "workers".parse().unwrap();
        for (drain, workloads) in
            [(None, None), (drain(SignedDuration::from_mins(5)), Some(Workloads::Ignored))]
        {
            (group.spec.drain, group.spec.workloads) = (drain, workloads);
            let text = group.to_json().unwrap();
            assert_eq!(NodeGroup::from_json(&name, text.as_bytes()).unwrap(), group);
        }
    }

    #[test]
    fn a_drain_says_what_comes_after_its_deadline() {
        let read = serde_json::from_str::<Drain>;
        assert_eq!(
            read(r#"{"deadline": "5m", "then": "restart"}"#).unwrap().then,
            DrainPolicy::Restart
        );
        assert!(read(r#"{"deadline": "5m"}"#).unwrap_err().to_string().contains("`then`"));
        assert!(read(r#"{"deadline": "5m", "then": "kill"}"#).is_err());
    }

    #[test]
    fn another_groups_document_is_refused() {
        let (name, text) = ("control".parse().unwrap(), group().to_json().unwrap());
        let result = NodeGroup::from_json(&name, text.as_bytes());
        assert!(matches!(result, Err(InvalidGroupJson::Name { .. })));
    }

    #[test]
    fn wrong_fields_are_named() {
        type Change = fn(&mut NodeGroup);
        let changes: [(&str, Change); 11] = [
            ("apiVersion", |group| group.api_version = "v2".into()),
            ("kind", |group| group.kind = "Node".into()),
            ("spec", |group| group.spec.channel = None),
            ("spec.release", |group| group.spec.release = "1.0.0".parse().ok()),
            ("spec.paused", |group| group.spec.paused = Some(" ".into())),
            ("spec.settle", |group| group.spec.settle = Some(SignedDuration::from_hours(1))),
            ("spec.deadline", |group| group.spec.deadline = Some(SignedDuration::from_hours(25))),
            ("spec.apiServerGrace", |group| {
                group.spec.api_server_grace = Some(SignedDuration::from_secs(-1));
            }),
            ("spec.apiServerGrace", |group| {
                group.spec.api_server_grace = Some(SignedDuration::from_hours(25));
            }),
            ("spec.drain.deadline", |group| group.spec.drain = drain(SignedDuration::ZERO)),
            ("spec.drain.deadline", |group| {
                group.spec.drain = drain(SignedDuration::from_hours(25));
            }),
        ];
        for (field, change) in changes {
            let mut wrong = group();
            change(&mut wrong);
            assert_eq!(wrong.check().unwrap_err().field, field);
        }
    }
}
