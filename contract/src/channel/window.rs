//! Maintenance windows: when the nodes of a group may restart.

use std::fmt;

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// A stretch of time that comes back on the given days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// Days on which it starts; every day, when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// Local time at which it starts, such as `22:00`.
    pub start: Time,
    /// How long it lasts, such as `4h`; at most 24 h.
    pub length: SignedDuration,
    /// IANA name of the time zone, such as `Europe/Berlin`.
    #[serde(default = "utc")]
    pub time_zone: String,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// Why a window is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWindow {
    /// Not in the IANA database.
    #[error("the time zone `{0}` is unknown: give an IANA name such as Europe/Berlin, or UTC")]
    TimeZone(String),
    /// Never open, or over a day.
    #[error("the length must be over 0s and at most 24h")]
    Length,
}

fn utc() -> String {
    "UTC".to_owned()
}

impl Day {
    fn short(self) -> &'static str {
        match self {
            Day::Monday => "mon",
            Day::Tuesday => "tue",
            Day::Wednesday => "wed",
            Day::Thursday => "thu",
            Day::Friday => "fri",
            Day::Saturday => "sat",
            Day::Sunday => "sun",
        }
    }

    fn of(weekday: Weekday) -> Self {
        match weekday {
            Weekday::Monday => Day::Monday,
            Weekday::Tuesday => Day::Tuesday,
            Weekday::Wednesday => Day::Wednesday,
            Weekday::Thursday => Day::Thursday,
            Weekday::Friday => Day::Friday,
            Weekday::Saturday => Day::Saturday,
            Weekday::Sunday => Day::Sunday,
        }
    }
}

/// Such as `sat, sun at 02:00 for 4h (Europe/Berlin)`.
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.days.as_slice() {
            [] => f.write_str("every day")?,
            days => {
                f.write_str(&days.iter().map(|day| day.short()).collect::<Vec<_>>().join(", "))?
            }
        }
        write!(f, " at {} for {:#} ({})", self.start.strftime("%H:%M"), self.length, self.time_zone)
    }
}

impl Window {
    /// Checks what the types alone do not.
    ///
    /// # Errors
    /// [`InvalidWindow`].
    pub fn check(&self) -> Result<(), InvalidWindow> {
        if self.length <= SignedDuration::ZERO || self.length > SignedDuration::from_hours(24) {
            return Err(InvalidWindow::Length);
        }
        self.zone().map(drop)
    }

    fn zone(&self) -> Result<TimeZone, InvalidWindow> {
        TimeZone::get(&self.time_zone).map_err(|_| InvalidWindow::TimeZone(self.time_zone.clone()))
    }

    /// True when `now` is inside.
    ///
    /// # Errors
    /// [`InvalidWindow::TimeZone`].
    pub fn is_open(&self, now: Timestamp) -> Result<bool, InvalidWindow> {
        let mut starts = self.starts(now)?;
        Ok(starts.any(|start| start <= now && now < start + self.length))
    }

    /// The next time at which the window opens after `now`.
    ///
    /// # Errors
    /// [`InvalidWindow::TimeZone`].
    pub fn next_start(&self, now: Timestamp) -> Result<Option<Timestamp>, InvalidWindow> {
        Ok(self.starts(now)?.find(|start| *start > now))
    }

    /// Starts from yesterday to a week ahead, in order. A local time that daylight saving
    /// skips is taken an hour later.
    fn starts(&self, now: Timestamp) -> Result<impl Iterator<Item = Timestamp>, InvalidWindow> {
        let zone = self.zone()?;
        let today = now.to_zoned(zone.clone()).date();
        Ok((-1..=8).filter_map(move |offset| {
            let date = today.checked_add(offset.days()).ok()?;
            let wanted = self.days.is_empty() || self.days.contains(&Day::of(date.weekday()));
            let start = date.to_datetime(self.start).to_zoned(zone.clone()).ok()?;
            wanted.then(|| start.timestamp())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(text: &str) -> Window {
        serde_json::from_str(text).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_starts() {
        // Friday 27 November 2026, 22:00 in Berlin is 21:00 UTC.
        let window = window(
            r#"{"days": ["friday"], "start": "22:00", "length": "4h", "timeZone": "Europe/Berlin"}"#,
        );
        window.check().unwrap();
        let open = |text: &str| window.is_open(at(text)).unwrap();
        assert!(!open("2026-11-27T20:59:59Z"));
        assert!(open("2026-11-27T21:00:00Z"));
        assert!(open("2026-11-28T00:59:59Z"));
        assert!(!open("2026-11-28T01:00:00Z"));
        assert!(!open("2026-11-28T21:30:00Z"));
    }

    #[test]
    fn a_window_is_told_with_its_days() {
        let some = window(
            r#"{"days": ["saturday", "sunday"], "start": "02:00", "length": "4h",
                "timeZone": "Europe/Berlin"}"#,
        );
        assert_eq!(some.to_string(), "sat, sun at 02:00 for 4h (Europe/Berlin)");
        let all = window(r#"{"start": "22:30", "length": "90m"}"#);
        assert_eq!(all.to_string(), "every day at 22:30 for 1h 30m (UTC)");
    }

    #[test]
    fn the_next_start_is_found_a_week_ahead() {
        let window = window(r#"{"days": ["friday"], "start": "22:00", "length": "1h"}"#);
        let next = window.next_start(at("2026-11-27T22:30:00Z")).unwrap();
        assert_eq!(next, Some(at("2026-12-04T22:00:00Z")));
    }

    #[test]
    fn impossible_windows_are_refused() {
        let zone = window(r#"{"start": "22:00", "length": "1h", "timeZone": "Mars/Base"}"#);
        assert!(matches!(zone.check(), Err(InvalidWindow::TimeZone(_))));
        for length in ["0s", "25h", "-1h"] {
            let text = format!(r#"{{"start": "22:00", "length": "{length}"}}"#);
            assert_eq!(window(&text).check(), Err(InvalidWindow::Length), "{length}");
        }
    }
}
