//! The way from one release to another: over floors, past what is blocked.
//!
//! In: the release that runs, the wanted one, and what channels mark. Out: the releases to take, one
//! after the other, or the mark that stands in the way. Pure.
//!
//! A *floor* may not be skipped on the way up. On the way down there is none: an older release is set
//! to leave a bad one, and that at once. A *blocked* release is never taken, in either direction,
//! whoever wants it.
//!
//! **Invariant:** each release of a route is nearer to the wanted one than the one before, which is
//! its end; so no route loops, and a node that asks again after each step arrives.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ReleaseVersion;

/// Most floors, and most blocked releases, that `slipway` lets a channel have.
pub const MAX_MARKS: usize = 128;
/// Longest reason that `slipway` takes, in bytes.
pub const MAX_REASON: usize = 200;

/// A release that a channel says something of, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// The release.
    pub release: ReleaseVersion,
    /// Why, in words for operators.
    pub reason: String,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.release, self.reason)
    }
}

/// What one or more channels mark.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Releases that may not be skipped.
    pub floors: Vec<Mark>,
    /// Releases that must not be taken.
    pub blocked: Vec<Mark>,
}

/// Why there is no way to a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRoute {
    /// It is blocked.
    Blocked(Mark),
    /// A floor on the way to it is blocked.
    FloorBlocked {
        /// The floor.
        floor: Mark,
        /// Why it is blocked.
        blocked: Mark,
    },
}

impl Marks {
    /// Takes over what another channel marks.
    pub fn add(&mut self, other: Marks) {
        self.floors.extend(other.floors);
        self.blocked.extend(other.blocked);
    }

    /// The mark of a blocked release.
    pub fn block_of(&self, release: &ReleaseVersion) -> Option<&Mark> {
        self.blocked.iter().find(|mark| mark.release == *release)
    }

    /// The floors between two releases, both left out, oldest first.
    pub fn floors_between(&self, from: &ReleaseVersion, to: &ReleaseVersion) -> Vec<&Mark> {
        let between = |mark: &&Mark| *from < mark.release && mark.release < *to;
        let mut floors: Vec<_> = self.floors.iter().filter(between).collect();
        floors.sort_by(|one, other| one.release.cmp(&other.release));
        floors.dedup_by(|one, other| one.release == other.release);
        floors
    }

    /// The releases to take from `from` to `to`, in order; the last is `to`.
    ///
    /// # Errors
    /// [`NoRoute`].
    pub fn route(
        &self,
        from: &ReleaseVersion,
        to: &ReleaseVersion,
    ) -> Result<Vec<ReleaseVersion>, NoRoute> {
        if let Some(mark) = self.block_of(to) {
            return Err(NoRoute::Blocked(mark.clone()));
        }
        let floors = self.floors_between(from, to);
        let blocked = |floor: &&Mark| {
            let blocked = self.block_of(&floor.release)?.clone();
            Some(NoRoute::FloorBlocked { floor: (*floor).clone(), blocked })
        };
        match floors.iter().find_map(blocked) {
            Some(no_route) => Err(no_route),
            None => Ok(floors.iter().map(|floor| &floor.release).chain([to]).cloned().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> ReleaseVersion {
        text.parse().unwrap()
    }

    fn marks(releases: &[&str]) -> Vec<Mark> {
        let mark = |text: &&str| Mark { release: version(text), reason: format!("because {text}") };
        releases.iter().map(mark).collect()
    }

    fn route(known: &Marks, from: &str, to: &str) -> Result<Vec<String>, NoRoute> {
        let hops = known.route(&version(from), &version(to))?;
        Ok(hops.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_way_up_goes_over_every_floor_and_a_way_down_over_none() {
        let known = Marks { floors: marks(&["1.5.0", "1.2.0", "3.0.0"]), blocked: Vec::new() };
        assert_eq!(route(&known, "1.0.0", "2.0.0").unwrap(), ["1.2.0", "1.5.0", "2.0.0"]);
        assert_eq!(route(&known, "1.2.0", "2.0.0").unwrap(), ["1.5.0", "2.0.0"]);
        assert_eq!(route(&known, "1.2.0-rc.1", "1.2.0").unwrap(), ["1.2.0"]);
        assert_eq!(route(&known, "4.0.0", "1.0.0").unwrap(), ["1.0.0"]);
        assert_eq!(route(&known, "1.0.0", "1.0.0").unwrap(), ["1.0.0"]);
    }

    #[test]
    fn what_is_blocked_ends_the_way() {
        let known = Marks { floors: marks(&["1.5.0"]), blocked: marks(&["1.5.0", "1.1.0"]) };
        let Err(NoRoute::FloorBlocked { floor, blocked }) = route(&known, "1.0.0", "2.0.0") else {
            panic!("a blocked floor is passed");
        };
        assert_eq!((floor, blocked), (marks(&["1.5.0"])[0].clone(), marks(&["1.5.0"])[0].clone()));
        for from in ["1.0.0", "2.0.0", "1.1.0"] {
            assert_eq!(
                route(&known, from, "1.1.0"),
                Err(NoRoute::Blocked(marks(&["1.1.0"])[0].clone()))
            );
        }
        assert_eq!(route(&known, "1.0.0", "1.4.0").unwrap(), ["1.4.0"]);
    }

    fn any_version() -> impl Strategy<Value = ReleaseVersion> {
        (0_u8..3, 0_u8..4, proptest::option::of(0_u8..2)).prop_map(|(major, minor, rc)| {
            let rc = rc.map(|rc| format!("-rc.{rc}")).unwrap_or_default();
            version(&format!("{major}.{minor}.0{rc}"))
        })
    }

    fn any_marks() -> impl Strategy<Value = Vec<Mark>> {
        let mark = any_version().prop_map(|release| Mark { release, reason: String::new() });
        proptest::collection::vec(mark, 0..5)
    }

    proptest! {
        /// A node that takes the first release of the route, and asks again, as often as it takes.
        #[test]
        fn a_node_arrives_over_every_floor_or_is_told_what_is_blocked(
            from in any_version(), to in any_version(),
            floors in any_marks(), blocked in any_marks(),
        ) {
            let known = Marks { floors, blocked };
            let is_blocked = |release: &ReleaseVersion| known.block_of(release).is_some();
            let mut taken = Vec::new();
            let mut here = from.clone();
            let arrived = loop {
                match known.route(&here, &to) {
                    Ok(hops) => {
                        prop_assert_eq!(hops.last(), Some(&to));
                        let next = hops[0].clone();
                        prop_assert!(!is_blocked(&next));
                        here = next;
                        taken.push(here.clone());
                        if here == to {
                            break true;
                        }
                        prop_assert!(taken.len() <= known.floors.len(), "it loops: {taken:?}");
                    }
                    Err(_) => break false,
                }
            };
            let must: Vec<_> = known.floors.iter().map(|mark| &mark.release)
                .filter(|floor| from < **floor && **floor < to).collect();
            if arrived {
                prop_assert!(must.iter().all(|floor| taken.contains(floor)));
                prop_assert!(from > to || taken.is_sorted());
            } else {
                prop_assert!(taken.is_empty(), "it set out on a way that has no end");
                prop_assert!(is_blocked(&to) || must.iter().any(|floor| is_blocked(floor)));
            }
        }
    }
}
