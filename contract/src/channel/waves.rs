//! Waves: which share of a fleet may start an update when.
//!
//! A node's place is a number in [0, 1) that follows from the node and the release alone, so
//! that static files steer any fleet, and another node goes first with each release.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ReleaseVersion;

/// Most waves of one schedule.
pub const MAX_WAVES: usize = 64;

/// From `after` on, `share` of the nodes may start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wave {
    /// Share of all nodes, over 0 and at most 1, counted from the first wave on.
    pub share: f64,
    /// Time after the release was put into the channel, such as `2h`.
    pub after: SignedDuration,
}

// `share` is checked to be a number: see `Waves::try_from`.
impl Eq for Wave {}

/// A checked schedule: shares and times grow. Empty means that all may start at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Wave>", into = "Vec<Wave>")]
pub struct Waves(Vec<Wave>);

/// Why a list of waves is no schedule.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidWaves {
    /// Too many.
    #[error("{0} waves: at most {MAX_WAVES} are allowed")]
    TooMany(usize),
    /// A share that is none.
    #[error("a wave's share is {0}: give a number over 0 and up to 1")]
    Share(f64),
    /// Shares or times that do not grow.
    #[error("waves must grow: each has a larger share and a later time than the one before")]
    Order,
    /// A wave before its release.
    #[error("a wave starts before its release: give a time of 0s or more")]
    Negative,
    /// Nodes that would never be updated.
    #[error("the last wave's share is {0}: it must be 1, or some nodes would never update")]
    Last(f64),
    /// A text that is no list of waves.
    #[error("`{0}` is not a wave: write a share, `@` and a time, such as 10%@0s or 50%@4h")]
    Text(String),
}

impl Waves {
    /// True when all nodes may start at once.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The waves in order.
    pub fn as_slice(&self) -> &[Wave] {
        &self.0
    }

    /// When the node at `position` may start.
    pub fn opens(&self, position: f64, since: Timestamp) -> Timestamp {
        let wave = self.0.iter().find(|wave| position < wave.share);
        let after = wave.or(self.0.last()).map_or(SignedDuration::ZERO, |wave| wave.after);
        since.checked_add(after).unwrap_or(Timestamp::MAX)
    }

    /// The share of the nodes that may start at `now`, from 0 to 1.
    pub fn open_share(&self, since: Timestamp, now: Timestamp) -> f64 {
        let passed = now.duration_since(since);
        if self.0.is_empty() {
            return if passed.is_negative() { 0.0 } else { 1.0 };
        }
        let open = self.0.iter().take_while(|wave| wave.after <= passed);
        open.last().map_or(0.0, |wave| wave.share)
    }
}

/// A share in percent: 0.07 * 100 is not quite 7.
pub fn percent(share: f64) -> f64 {
    (share * 1e8).round() / 1e6
}

impl TryFrom<Vec<Wave>> for Waves {
    type Error = InvalidWaves;

    fn try_from(waves: Vec<Wave>) -> Result<Self, InvalidWaves> {
        if waves.len() > MAX_WAVES {
            return Err(InvalidWaves::TooMany(waves.len()));
        }
        for wave in &waves {
            if !(wave.share > 0.0 && wave.share <= 1.0) {
                return Err(InvalidWaves::Share(wave.share));
            }
            if wave.after.is_negative() {
                return Err(InvalidWaves::Negative);
            }
        }
        if waves
            .windows(2)
            .any(|pair| pair[0].share >= pair[1].share || pair[0].after >= pair[1].after)
        {
            return Err(InvalidWaves::Order);
        }
        match waves.last() {
            Some(last) if last.share < 1.0 => Err(InvalidWaves::Last(last.share)),
            _ => Ok(Self(waves)),
        }
    }
}

impl From<Waves> for Vec<Wave> {
    fn from(waves: Waves) -> Self {
        waves.0
    }
}

/// Waves as an operator writes them: `10%@0s,50%@4h,100%@24h`.
impl FromStr for Waves {
    type Err = InvalidWaves;

    fn from_str(text: &str) -> Result<Self, InvalidWaves> {
        let wave = |text: &str| {
            let (share, after) = text.trim().split_once("%@")?;
            let percent: f64 = share.trim().parse().ok()?;
            Some(Wave { share: percent / 100.0, after: after.trim().parse().ok()? })
        };
        let waves = text.split(',').map(|text| {
            wave(text).ok_or_else(|| InvalidWaves::Text(text.chars().take(40).collect()))
        });
        waves.collect::<Result<Vec<_>, _>>()?.try_into()
    }
}

impl fmt::Display for Waves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, wave) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}%@{:#}", percent(wave.share), wave.after)?;
        }
        Ok(())
    }
}

/// The place of a node in the waves of a release, in [0, 1). `node` is its machine id.
pub fn position(node: &str, release: &ReleaseVersion) -> f64 {
    let mut hasher = Sha256::new();
    hasher.update(node.as_bytes());
    hasher.update([0]);
    hasher.update(release.to_string().as_bytes());
    let digest: [u8; 32] = hasher.finalize().into();
    // 53 bits: every value is exact in a double, and none is 1.
    let bits = digest.iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(list: &[(f64, i64)]) -> Result<Waves, InvalidWaves> {
        let wave = |&(share, hours)| Wave { share, after: SignedDuration::from_hours(hours) };
        list.iter().map(wave).collect::<Vec<_>>().try_into()
    }

    #[test]
    fn a_node_starts_with_its_wave() {
        let since: Timestamp = "2026-11-25T00:00:00Z".parse().unwrap();
        let waves = waves(&[(0.1, 0), (0.5, 4), (1.0, 24)]).unwrap();
        let hours = |position| waves.opens(position, since).duration_since(since).as_hours();
        assert_eq!([hours(0.05), hours(0.1), hours(0.49), hours(0.99)], [0, 4, 4, 24]);
        assert_eq!(Waves::default().opens(0.99, since), since);
    }

    #[test]
    fn the_share_that_may_start_grows_with_the_waves() {
        let since: Timestamp = "2026-11-25T00:00:00Z".parse().unwrap();
        let waves = waves(&[(0.1, 1), (0.5, 4), (1.0, 24)]).unwrap();
        let share = |waves: &Waves, hours| {
            waves.open_share(since, since + SignedDuration::from_hours(hours))
        };
        let shares = [-1, 0, 1, 3, 4, 23, 24, 99].map(|hours| share(&waves, hours));
        assert_eq!(shares, [0.0, 0.0, 0.1, 0.1, 0.5, 0.5, 1.0, 1.0]);
        assert_eq!([-1, 0].map(|hours| share(&Waves::default(), hours)), [0.0, 1.0]);
    }

    #[test]
    fn schedules_that_strand_nodes_are_refused() {
        for list in [
            &[(0.5, 0)][..],
            &[(0.5, 0), (0.4, 1), (1.0, 2)],
            &[(0.5, 1), (1.0, 1)],
            &[(0.0, 0), (1.0, 1)],
            &[(f64::NAN, 0)],
            &[(1.5, 0)],
            &[(1.0, -1)],
        ] {
            assert!(waves(list).is_err(), "{list:?}");
        }
    }

    #[test]
    fn waves_are_read_as_operators_write_them() {
        let text = "10%@0s,50%@4h,100%@24h";
        let read: Waves = text.parse().unwrap();
        assert_eq!(read, waves(&[(0.1, 0), (0.5, 4), (1.0, 24)]).unwrap());
        assert_eq!(read.to_string(), text);
        assert_eq!("7%@0s,100%@1h".parse::<Waves>().unwrap().to_string(), "7%@0s,100%@1h");
        for text in ["", "10", "10%", "x%@0s", "100%@soon", "100%@0s,"] {
            assert!(matches!(text.parse::<Waves>(), Err(InvalidWaves::Text(_))), "{text}");
        }
        assert_eq!("50%@0s".parse::<Waves>(), Err(InvalidWaves::Last(0.5)));
    }

    #[test]
    fn positions_are_spread_and_differ_by_release() {
        let (one, two) = ("1.0.0".parse().unwrap(), "1.0.1".parse().unwrap());
        let places: Vec<f64> = (0..1000).map(|n| position(&format!("node-{n}"), &one)).collect();
        assert!(places.iter().all(|place| (0.0..1.0).contains(place)));
        let early = places.iter().filter(|place| **place < 0.1).count();
        assert!((60..140).contains(&early), "{early} of 1000 nodes are in the first tenth");
        assert_ne!(position("node-1", &one), position("node-1", &two));
    }
}
