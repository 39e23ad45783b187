//! A node group as an operator writes it: YAML, with errors that point at the line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use contract::NodeGroup;
use contract::channel::group::{InvalidGroup, MAX_GROUP_BYTES, NO_REASON};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::strict::{self, Step};

/// Why a file is no node group.
#[derive(Debug, thiserror::Error)]
pub enum GroupFileError {
    /// Not readable.
    #[error("cannot read {}: give the file of a node group", .0.display())]
    Io(PathBuf, #[source] std::io::Error),
    /// Too large or not text.
    #[error("{} is no text of at most {MAX_GROUP_BYTES} bytes: give the file of a node group", .0.display())]
    NotText(PathBuf),
    /// Something in it is wrong.
    #[error("{}:{line}:{column}: {problem}", .file.display())]
    At {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// It is the file of another group.
    #[error("{} is the group `{found}`: give that name, or correct `metadata.name`", .file.display())]
    Name {
        /// The file.
        file: PathBuf,
        /// Its name.
        found: contract::GroupName,
    },
}

/// Parses and checks the text of a group file; `file` is its name for errors.
///
/// # Errors
/// [`GroupFileError::At`] with the place of the first mistake.
pub fn parse(file: &std::path::Path, text: &str) -> Result<NodeGroup, GroupFileError> {
    let at = |location: Option<serde_saphyr::Location>, problem: String| {
        let (line, column) = location.map_or((1, 1), |place| (place.line(), place.column()));
        GroupFileError::At { file: file.into(), line, column, problem }
    };
    let mut unknown = Vec::new();
    let group = serde_saphyr::with_deserializer_from_str(text, |yaml| {
        let (group, passed_over) = strict::read::<NodeGroup, _>(yaml);
        unknown = passed_over;
        group
    });
    // Only a text that is no YAML has no places.
    let root = serde_saphyr::from_str::<Spanned<Place>>(text).ok();
    // What is missing may be there under another name.
    if let Some(field) = unknown.first() {
        let place = root.as_ref().and_then(|root| key(root, &field.path));
        return Err(at(place, field.to_string()));
    }
    let group: NodeGroup = group.map_err(|error| {
        let error = error.without_snippet();
        let place = error.location();
        let example = place.and_then(|place| example(text, place.line()));
        at(place, explain(error, example))
    })?;
    let wrong = |field: &str, problem: &str| {
        let place = root.as_ref().map(|root| find(root, field).referenced);
        Err(at(place, format!("{field}: {problem}")))
    };
    // The parser takes `false` for the text "false", which would pause the group.
    let paused = root.as_ref().map(|root| &find(root, "spec.paused").value);
    if matches!(paused, Some(Place::Bool)) {
        return wrong("spec.paused", NO_REASON);
    }
    match group.check() {
        // Nodes take such a document, from a channel of before, and leave its waves out.
        Ok(()) if group.spec.release.is_some() && group.spec.waves.is_some() => wrong(
            "spec.waves",
            "a pinned release has no waves, all nodes of the group take it: follow a channel, or \
             pin the nodes of one wave as a group of their own",
        ),
        Ok(()) => Ok(group),
        Err(InvalidGroup { field, problem }) => wrong(&field, &problem),
    }
}

/// What a right value of the field on a line looks like, where a library's own words for a
/// wrong one would not help.
fn example(text: &str, line: u64) -> Option<String> {
    let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    let (field, value) = line.trim_start_matches(['-', ' ']).split_once(':')?;
    let example = match field.trim() {
        "length" | "settle" | "deadline" | "after" => "give a length such as 4h",
        "start" => "give a time such as 02:00",
        _ => return None,
    };
    let value = value.split(" #").next().unwrap_or_default().trim();
    Some(format!("{}: `{value}` is not understood: {example}", field.trim()))
}

/// The parser's message without its place, and with the nearest right name or an example.
fn explain(error: &serde_saphyr::Error, example: Option<String>) -> String {
    let text = match error {
        serde_saphyr::Error::DuplicateMappingKey { .. } => error.to_string(),
        other => example.unwrap_or_else(|| other.to_string()),
    };
    // The place is told apart.
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

/// The value at a path such as `spec.windows[0].length`, or its nearest known parent.
fn find<'a>(root: &'a Spanned<Place>, field: &str) -> &'a Spanned<Place> {
    let mut here = root;
    for step in field.split(['.', '[']) {
        let next = match &here.value {
            Place::Map(entries) => entries.get(step).map(|entry| &entry.value),
            Place::Sequence(items) => {
                step.trim_end_matches(']').parse().ok().and_then(|index: usize| items.get(index))
            }
            Place::Bool | Place::Other => None,
        };
        match next {
            Some(next) => here = next,
            None => break,
        }
    }
    here
}

/// Where the name of a field stands.
fn key(root: &Spanned<Place>, path: &[Step]) -> Option<serde_saphyr::Location> {
    let (Step::Field(name), parents) = path.split_last()? else { return None };
    let mut here = root;
    for step in parents {
        here = match (&here.value, step) {
            (Place::Map(entries), Step::Field(name)) => &entries.get(name)?.value,
            (Place::Sequence(items), Step::Item(index)) => items.get(*index)?,
            _ => return None,
        };
    }
    let Place::Map(entries) = &here.value else { return None };
    entries.get(name).map(|entry| entry.key)
}

/// Where a field and its value are.
#[derive(Debug)]
struct Entry {
    key: serde_saphyr::Location,
    value: Spanned<Place>,
}

/// Where the values of a YAML text are.
#[derive(Debug)]
enum Place {
    Map(BTreeMap<String, Entry>),
    Sequence(Vec<Spanned<Place>>),
    Bool,
    Other,
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlaceVisitor)
    }
}

struct PlaceVisitor;

impl<'de> Visitor<'de> for PlaceVisitor {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Place, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, _>()? {
            entries.insert(key.value, Entry { key: key.referenced, value });
        }
        Ok(Place::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Place, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Place::Sequence(items))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Place, E> {
        Ok(Place::Bool)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Place, E> {
        Ok(Place::Other)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Place, E> {
        Ok(Place::Other)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Place, E> {
        Ok(Place::Other)
    }
    fn visit_str<E>(self, _: &str) -> Result<Place, E> {
        Ok(Place::Other)
    }
    fn visit_unit<E>(self) -> Result<Place, E> {
        Ok(Place::Other)
    }
    fn visit_none<E>(self) -> Result<Place, E> {
        Ok(Place::Other)
    }
    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Place, D::Error> {
        IgnoredAny::deserialize(inner).map(|_| Place::Other)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const GROUP: &str = "\
apiVersion: slipway.dev/v1alpha1
kind: NodeGroup
metadata:
  name: workers
spec:
  channel: stable
  maximumVersion: 1.9.0
  windows:
    - days: [friday, saturday]
      start: '22:00'
      length: 4h
      timeZone: Europe/Berlin
  waves:
    - share: 0.1
      after: 0s
    - share: 1
      after: 4h
  rebootBudget: 2
  settle: 30s
  deadline: 5m
";

    fn mistake(from: &str, to: &str) -> String {
        assert!(GROUP.contains(from), "{from}");
        let text = GROUP.replacen(from, to, 1);
        parse(Path::new("group.yaml"), &text).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_group_is_read() {
        let group = parse(Path::new("group.yaml"), GROUP).unwrap();
        assert_eq!(group.spec.waves.as_ref().unwrap().as_slice().len(), 2);
        assert_eq!(group.spec.windows[0].time_zone, "Europe/Berlin");
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        for (from, to, words) in [
            ("channel:", "chanel:", &["group.yaml:6:3:", "`chanel`", "did you mean `channel`"][..]),
            ("length:", "lenght:", &["group.yaml:11:7:", "`lenght`", "did you mean `length`"]),
            ("- share", "- shar", &["group.yaml:14:7:", "`shar`", "did you mean `share`"]),
            ("kind:", "colour:", &["group.yaml:2:1:", "there are apiVersion, kind, metadata"]),
            ("settle: 30s", "requires: [cohorts]", &["group.yaml:19:", "`cohorts`", "floors"]),
            ("maximumVersion: 1.9.0", "maximumVersion: latest", &["group.yaml:7:", "latest"]),
            ("length: 4h", "length: 25h", &["group.yaml:9:", "spec.windows[0]", "24h"]),
            ("Europe/Berlin", "Mars/Base", &["group.yaml:9:", "Mars/Base", "IANA"]),
            ("share: 0.1", "share: 2", &["group.yaml:1", "over 0"]),
            ("settle: 30s", "settle: 1h", &["group.yaml:19:", "spec.settle", "deadline"]),
            ("deadline: 5m", "deadline: soon", &["group.yaml:20:", "a length such as 4h"]),
            ("length: 4h", "length: 4", &["group.yaml:11:", "`4`", "a length such as 4h"]),
            ("after: 4h", "after: later", &["group.yaml:17:", "a length such as 4h"]),
            ("'22:00'", "'25:00'", &["group.yaml:10:", "'25:00'", "a time such as 02:00"]),
            ("settle: 30s", "paused: false", &["group.yaml:19:", "spec.paused", "as text"]),
            ("settle: 30s", "paused: true", &["group.yaml:19:", "spec.paused", "as text"]),
            ("settle: 30s", "paused: ''", &["group.yaml:19:", "spec.paused", "leave `paused`"]),
            ("NodeGroup", "Node", &["group.yaml:2:", "NodeGroup"]),
            ("  channel: stable\n", "", &["group.yaml:6:", "`channel` or `release`"]),
            ("friday", "fryday", &["group.yaml:9:", "fryday"]),
            ("name: workers", "name: Workers", &["group.yaml:4:", "Workers"]),
        ] {
            let message = mistake(from, to);
            for word in words {
                assert!(message.contains(word), "{to}: {message}");
            }
        }
    }

    #[test]
    fn a_pinned_release_has_no_waves() {
        let text = GROUP.replace("channel: stable", "release: 1.0.0");
        let error = parse(Path::new("group.yaml"), &text).unwrap_err().to_string();
        assert!(error.contains("spec.waves: a pinned release has no waves"), "{error}");
    }

    #[test]
    fn a_pause_has_a_reason() {
        let paused = |value: &str| {
            let text = GROUP.replace("settle: 30s", &format!("paused: {value}"));
            parse(Path::new("group.yaml"), &text).unwrap().spec.paused
        };
        assert_eq!(paused("a bad disk").as_deref(), Some("a bad disk"));
        assert_eq!(paused(""), None);
    }

    #[test]
    fn hostile_texts_are_refused_without_a_panic() {
        let deep = "[".repeat(100_000);
        let bombs = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
                     c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n";
        for text in ["", "\0", "a: b: c", deep.as_str(), bombs, "- 1", "---\n---\n"] {
            assert!(parse(Path::new("group.yaml"), text).is_err());
        }
    }
}
