//! Reading strictly what nodes read tolerantly: a field that a type does not have is a mistake.
//!
//! In: any deserializer. Out: the value, and the fields that were passed over, each with the names
//! that would have been right. The types themselves pass over what they do not know, because a node
//! must; whoever writes a document must not.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_ignored::Path;

/// Least likeness of a name that is offered instead of a wrong one, from 0 to 1.
const ALIKE: f64 = 0.75;

/// A field that a type does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownField {
    /// The steps from the whole value to it.
    pub path: Vec<Step>,
    /// The names that its place has.
    pub known: &'static [&'static str],
}

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.last().map(Step::to_string).unwrap_or_default();
        let alike = self.known.iter().map(|known| (strsim::jaro_winkler(&name, known), known));
        let nearest = alike
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .max_by(|one, two| one.0.total_cmp(&two.0));
        match nearest {
            None if self.known.is_empty() => write!(f, "there is no field `{name}`"),
            Some((_, known)) => write!(f, "there is no field `{name}`: did you mean `{known}`?"),
            None => write!(f, "there is no field `{name}`: there are {}", self.known.join(", ")),
        }
    }
}

/// A value as far as it could be read, with every field that was passed over.
pub fn read<'de, T, D>(deserializer: D) -> (Result<T, D::Error>, Vec<UnknownField>)
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let mut found = Vec::new();
    let value = serde_ignored::deserialize(deserializer, |path| {
        let mut steps = Vec::new();
        steps_of(&path, &mut steps);
        let known = steps.split_last().map_or(&[][..], |(_, parents)| fields::<T>(parents));
        found.push(UnknownField { path: steps, known });
    });
    (value, found)
}

/// One step from a value into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To a field by its name.
    Field(String),
    /// To an item of a list.
    Item(usize),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Field(name) => f.write_str(name),
            Step::Item(index) => write!(f, "[{index}]"),
        }
    }
}

fn steps_of(path: &Path<'_>, steps: &mut Vec<Step>) {
    match path {
        Path::Root => {}
        Path::Seq { parent, index } => {
            steps_of(parent, steps);
            steps.push(Step::Item(*index));
        }
        Path::Map { parent, key } => {
            steps_of(parent, steps);
            steps.push(Step::Field(key.clone()));
        }
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => {
            steps_of(parent, steps);
        }
    }
}

/// The names of the fields that `T` has at a place; none where it has no struct.
fn fields<'de, T: Deserialize<'de>>(steps: &[Step]) -> &'static [&'static str] {
    let mut found: &[&str] = &[];
    let walker = Walker { steps, found: &mut found };
    // It ends with an error once the names are known: there is no value.
    drop(T::deserialize(walker));
    found
}

/// A deserializer without content, which walks to one place of a type and notes its fields.
struct Walker<'a> {
    steps: &'a [Step],
    found: &'a mut &'static [&'static str],
}

type Nothing = serde::de::value::Error;

impl<'de> Deserializer<'de> for Walker<'_> {
    type Error = Nothing;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Nothing> {
        Err(Nothing::custom("there is nothing here"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Nothing> {
        match self.steps {
            [] => {
                *self.found = fields;
                Err(Nothing::custom("found"))
            }
            [Step::Field(_), ..] => visitor.visit_map(self),
            [Step::Item(_), ..] => Err(Nothing::custom("there is no list here")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Nothing> {
        match self.steps {
            [Step::Field(_), ..] => visitor.visit_map(self),
            _ => Err(Nothing::custom("there is no map here")),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Nothing> {
        match self.steps {
            [Step::Item(_), ..] => visitor.visit_seq(self),
            _ => Err(Nothing::custom("there is no list here")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Nothing> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Nothing> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct enum identifier ignored_any
    }
}

impl<'a> Walker<'a> {
    fn next(&mut self) -> Walker<'_> {
        let steps: &'a [Step] = self.steps.get(1..).unwrap_or_default();
        Walker { steps, found: self.found }
    }
}

impl<'de> MapAccess<'de> for Walker<'_> {
    type Error = Nothing;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Nothing> {
        match self.steps.first() {
            Some(Step::Field(name)) => {
                let key: serde::de::value::StrDeserializer<'_, Nothing> =
                    serde::de::IntoDeserializer::into_deserializer(name.as_str());
                seed.deserialize(key).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Nothing> {
        seed.deserialize(self.next())
    }
}

impl<'de> SeqAccess<'de> for Walker<'_> {
    type Error = Nothing;

    fn next_element_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<Option<V::Value>, Nothing> {
        seed.deserialize(self.next()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use contract::{ChannelDocument, NodeGroup, Offer};

    use super::*;

    fn unknown<T: for<'de> Deserialize<'de>>(text: &str) -> Vec<UnknownField> {
        read::<T, _>(&mut serde_json::Deserializer::from_str(text)).1
    }

    fn path(field: &UnknownField) -> String {
        field.path.iter().map(Step::to_string).collect::<Vec<_>>().join(".")
    }

    #[test]
    fn a_field_that_is_not_there_is_told_with_those_that_are_at_every_depth() {
        for (text, place, words) in [
            (r#"{"aPiVersion": ""}"#, "aPiVersion", "did you mean `apiVersion`?"),
            (r#"{"metadata": {"nme": ""}}"#, "metadata.nme", "did you mean `name`?"),
            (r#"{"spec": {"chanel": ""}}"#, "spec.chanel", "did you mean `channel`?"),
            (r#"{"spec": {"drain": {"deadlin": ""}}}"#, "spec.drain.deadlin", "`deadline`?"),
            (
                r#"{"spec": {"windows": [{"start": "02:00", "length": "4h"}, {"lenght": ""}]}}"#,
                "spec.windows.[1].lenght",
                "did you mean `length`?",
            ),
            (r#"{"spec": {"waves": [{"x": ""}]}}"#, "spec.waves.[0].x", "there are share, after"),
        ] {
            let found = unknown::<NodeGroup>(text);
            assert_eq!(found.iter().map(path).collect::<Vec<_>>(), [place]);
            assert!(found[0].to_string().contains(words), "{}", found[0]);
        }
    }

    #[test]
    fn documents_of_a_channel_are_read_strictly_too() {
        for (text, words) in [
            (r#"{"schema": 1, "flors": []}"#, "did you mean `floors`?"),
            (r#"{"blocked": [{"realease": "1.0.0"}]}"#, "did you mean `release`?"),
        ] {
            let found = unknown::<ChannelDocument>(text);
            assert!(found[0].to_string().contains(words), "{found:?}");
        }
        let found = unknown::<Offer>(r#"{"root": {"frames": [{"bites": 5}]}}"#);
        assert!(found[0].to_string().contains("did you mean `bytes`?"), "{found:?}");
    }
}
