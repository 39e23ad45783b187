//! Dates of Release files: `Sat, 21 Nov 2026 09:15:44 UTC`. In goes that text, out comes a
//! point in time; other zones than UTC are refused, as Debian's archive writes no other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The time that `text` names; `None` when it is not such a date at or after 1970.
pub fn parse_date(text: &str) -> Option<SystemTime> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "UTC" | "GMT" | "+0000"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let (day, year) = (number(day, 1, 31)?, number(year, 1970, 9999)?);
    let clock: Vec<&str> = time.split(':').collect();
    let [hour, minute, second] = clock[..] else { return None };
    let seconds =
        number(hour, 0, 23)? * 3600 + number(minute, 0, 59)? * 60 + number(second, 0, 60)?;
    let total = days_since_epoch(year, month, day) * 86_400 + seconds;
    UNIX_EPOCH.checked_add(Duration::from_secs(total))
}

fn number(text: &str, least: u64, most: u64) -> Option<u64> {
    let value: u64 = text.parse().ok()?;
    (least..=most).contains(&value).then_some(value)
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar, counting years from March so
/// that the leap day is a year's last.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        Some(parse_date(text)?.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn dates_are_seconds_since_the_epoch() {
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 UTC"), Some(0));
        assert_eq!(seconds("Thu, 29 Feb 2024 12:00:00 UTC"), Some(1_709_208_000));
        assert_eq!(seconds("Sat, 21 Nov 2026 09:15:44 UTC"), Some(1_795_252_544));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "Sat, 21 Nov 2026 09:15:44 CET", "Sat, 32 Nov 2026 09:15:44 UTC", "x"] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }
}
