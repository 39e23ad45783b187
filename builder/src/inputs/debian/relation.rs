//! Relations between packages: `libc6 (>= 2.38), awk | gawk:any (<< 6)`. In goes such a
//! field, out come groups of alternatives.
//!
//! Format: deb-control(5) and Debian Policy 7.1, as far as binary packages use it.

use std::fmt;

use debversion::Version;

use crate::lock::names::is_package_name;

/// How versions are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `<<`
    Less,
    /// `<=`
    LessEqual,
    /// `=`
    Equal,
    /// `>=`
    GreaterEqual,
    /// `>>`
    Greater,
}

impl Comparison {
    /// True when `found` stands in this relation to `wanted`.
    pub fn holds(self, found: &Version, wanted: &Version) -> bool {
        match self {
            Comparison::Less => found < wanted,
            Comparison::LessEqual => found <= wanted,
            Comparison::Equal => found == wanted,
            Comparison::GreaterEqual => found >= wanted,
            Comparison::Greater => found > wanted,
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Comparison::Less => "<<",
            Comparison::LessEqual => "<=",
            Comparison::Equal => "=",
            Comparison::GreaterEqual => ">=",
            Comparison::Greater => ">>",
        })
    }
}

/// One package that is named, with what its version must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Real or virtual package.
    pub name: String,
    /// `any`, or an architecture; `None` for the own one.
    pub architecture: Option<String>,
    /// Bound on the version.
    pub version: Option<(Comparison, Version)>,
}

/// A field that is not a list of relations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a package relation")]
pub struct InvalidRelation(String);

/// Splits a field into groups of alternatives, both in the order written.
///
/// # Errors
/// [`InvalidRelation`] names the first item that does not parse.
pub fn parse_relations(field: &str) -> Result<Vec<Vec<Relation>>, InvalidRelation> {
    field
        .split(',')
        .map(str::trim)
        .filter(|group| !group.is_empty())
        .map(|group| group.split('|').map(|item| parse_relation(item.trim())).collect())
        .collect()
}

fn parse_relation(text: &str) -> Result<Relation, InvalidRelation> {
    let invalid = || InvalidRelation(text.chars().take(120).collect());
    let (target, bound) = match text.split_once('(') {
        None => (text, None),
        Some((target, rest)) => {
            let bound = rest.trim_end().strip_suffix(')').ok_or_else(invalid)?;
            (target.trim_end(), Some(parse_bound(bound.trim()).ok_or_else(invalid)?))
        }
    };
    let (name, architecture) = match target.split_once(':') {
        None => (target, None),
        Some((name, architecture)) => (name, Some(architecture.to_owned())),
    };
    if !is_package_name(name) {
        return Err(invalid());
    }
    Ok(Relation { name: name.to_owned(), architecture, version: bound })
}

fn parse_bound(text: &str) -> Option<(Comparison, Version)> {
    // The single signs are the old way to write "or equal".
    const SIGNS: [(&str, Comparison); 7] = [
        ("<<", Comparison::Less),
        ("<=", Comparison::LessEqual),
        (">=", Comparison::GreaterEqual),
        (">>", Comparison::Greater),
        ("=", Comparison::Equal),
        ("<", Comparison::LessEqual),
        (">", Comparison::GreaterEqual),
    ];
    let (sign, comparison) = SIGNS.iter().find(|(sign, _)| text.starts_with(sign))?;
    Some((*comparison, text[sign.len()..].trim().parse().ok()?))
}

impl Relation {
    /// True when a package of that version, real or provided, is meant. An unversioned
    /// `Provides` satisfies no versioned relation (Policy 7.5).
    pub fn admits(&self, version: Option<&Version>) -> bool {
        match (&self.version, version) {
            (None, _) => true,
            (Some((comparison, wanted)), Some(found)) => comparison.holds(found, wanted),
            (Some(_), None) => false,
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some((comparison, version)) = &self.version {
            write!(f, " ({comparison} {version})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_alternatives_and_bounds_are_read() {
        let groups = parse_relations("libc6 (>= 2.38), awk:any | gawk (<< 6), x(=1:2-3),").unwrap();
        assert_eq!(groups.len(), 3);
        assert_eq!(groups[0][0].to_string(), "libc6 (>= 2.38)");
        assert_eq!(groups[1][0].architecture.as_deref(), Some("any"));
        assert_eq!(groups[2][0].to_string(), "x (= 1:2-3)");
    }

    #[test]
    fn an_unversioned_provides_satisfies_no_version() {
        let relation = &parse_relations("x (>= 1)").unwrap()[0][0];
        assert!(!relation.admits(None));
        assert!(relation.admits(Some(&"1".parse().unwrap())));
    }

    #[test]
    fn foreign_texts_are_refused() {
        for text in ["a b", "a (>= 1", "a (~ 1)", "../x", "a (>= )", "é"] {
            assert!(parse_relations(text).is_err(), "{text}");
        }
    }
}
