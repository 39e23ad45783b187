//! What the scenarios of a run took, one file for each in `target/vm/times/`, and the table of
//! them.
//!
//! In: the phases of a scenario, from the two processes that it has. Out: the table, the slowest
//! first, and how often an emulator that had lost a timer was reset: also when that is never.
//! **Invariant:** a file is of the run that [`begin`] has begun.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testbed::times::{self, Phase};

use crate::{artefacts, boots};

/// A line for each reset.
const RESETS: &str = "resets";
/// Columns of the table beside the phases'.
const BOOTING: &str = "booting";
const REST: &str = "rest";

/// Forgets what earlier runs took.
///
/// # Errors
/// When the folder cannot be made.
pub fn begin() -> Result<()> {
    let folder = folder();
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(())
}

/// Seconds by what was done, with the number of boots.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Taken {
    seconds: BTreeMap<String, f64>,
    boots: u64,
}

impl Taken {
    /// What this process has taken so far. Booting is taken from waiting: who boots is waited for.
    pub fn by_this_process() -> Self {
        let boots = boots::seen();
        let named = Phase::ALL.into_iter().zip(times::taken());
        let mut seconds: BTreeMap<String, f64> =
            named.map(|(phase, taken)| (phase.name().to_owned(), taken.as_secs_f64())).collect();
        let booting = boots.sum.as_secs_f64();
        if let Some(waiting) = seconds.get_mut(Phase::Waiting.name()) {
            *waiting = (*waiting - booting).max(0.0);
        }
        seconds.insert(BOOTING.to_owned(), booting);
        Self { seconds, boots: boots.count.into() }
    }

    /// Without what had been taken `before`.
    pub fn since(mut self, before: &Self) -> Self {
        for (name, less) in &before.seconds {
            *self.seconds.entry(name.clone()).or_default() -= less;
        }
        self.boots -= before.boots;
        self
    }

    fn and(mut self, other: &Self) -> Self {
        for (name, more) in &other.seconds {
            *self.seconds.entry(name.clone()).or_default() += more;
        }
        self.boots += other.boots;
        self
    }

    fn of(&self, name: &str) -> f64 {
        self.seconds.get(name).copied().unwrap_or_default()
    }

    fn to_json(&self) -> Value {
        json!({ "seconds": self.seconds, "boots": self.boots })
    }

    fn from_json(value: &Value) -> Result<Self> {
        let seconds = value["seconds"].as_object().context("no seconds")?;
        let seconds = seconds
            .iter()
            .map(|(name, taken)| Some((name.clone(), taken.as_f64()?)))
            .collect::<Option<_>>();
        let seconds = seconds.context("seconds that are no number")?;
        Ok(Self { seconds, boots: value["boots"].as_u64().context("no boots")? })
    }
}

/// Leaves what the process inside the scenario's network has taken, for the one outside.
///
/// # Errors
/// When it cannot be written.
pub fn leave(test: &str) -> Result<()> {
    write(&format!("{test}.inside"), &Taken::by_this_process().to_json())
}

/// Writes what a scenario has taken, inside and outside, in `total` seconds.
///
/// # Errors
/// When it cannot be written.
pub fn write_scenario(test: &str, total: f64, outside: &Taken, has_passed: bool) -> Result<()> {
    let inside = folder().join(format!("{test}.inside.json"));
    // A scenario that was killed has left none.
    let inside = match read(&inside) {
        Ok(value) => Taken::from_json(&value)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Taken::default(),
        Err(error) => return Err(error).with_context(|| format!("{}", inside.display())),
    };
    let taken = outside.clone().and(&inside);
    let value = json!({ "total": total, "passed": has_passed, "taken": taken.to_json() });
    write(test, &value)
}

/// Notes that a machine was reset because its emulator had lost a timer.
///
/// # Errors
/// When it cannot be written.
pub fn note_reset(machine: &Path) -> io::Result<()> {
    fs::create_dir_all(folder())?;
    let mut file = File::options().append(true).create(true).open(folder().join(RESETS))?;
    io::Write::write_all(&mut file, format!("{}\n", machine.display()).as_bytes())
}

/// The table of all scenarios that have ended since [`begin`].
///
/// # Errors
/// When a file is none of ours.
pub fn table() -> Result<String> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(folder()).context("no scenario has run")? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_none_or(|end| end != "json") || name.ends_with(".inside") {
            continue;
        }
        rows.push(Row::from_json(name, &read(&path)?)?);
    }
    let resets = match fs::read_to_string(folder().join(RESETS)) {
        Ok(text) => text.lines().count(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error.into()),
    };
    Ok(print(&mut rows, resets))
}

/// A scenario in the table.
struct Row {
    name: String,
    total: f64,
    has_passed: bool,
    taken: Taken,
}

impl Row {
    fn from_json(name: String, value: &Value) -> Result<Self> {
        let total = value["total"].as_f64().with_context(|| format!("{name}: no total"))?;
        let has_passed = value["passed"] == true;
        Ok(Self { name, total, has_passed, taken: Taken::from_json(&value["taken"])? })
    }
}

fn print(rows: &mut [Row], resets: usize) -> String {
    rows.sort_by(|one, other| other.total.total_cmp(&one.total));
    let columns: Vec<&str> = Phase::ALL.map(Phase::name).into_iter().chain([BOOTING]).collect();
    let width =
        rows.iter().map(|row| row.name.len()).max().unwrap_or_default().max("scenario".len());
    let mut text = format!("{:width$}  total", "scenario");
    text.extend(columns.iter().map(|name| format!("  {name}")));
    text += &format!("  {REST}  boots\n");
    let mut sum = Row { name: "sum".into(), total: 0.0, has_passed: true, taken: Taken::default() };
    for row in rows.iter() {
        sum.total += row.total;
        sum.taken = sum.taken.and(&row.taken);
    }
    for row in rows.iter().chain([&sum]) {
        let mut rest = row.total;
        text += &format!("{:width$}  {:>5.0}", row.name, row.total);
        for name in &columns {
            let taken = row.taken.of(name);
            rest -= taken;
            text += &format!("  {taken:>w$.0}", w = name.len());
        }
        text += &format!("  {:>4.0}  {:>5}", rest.max(0.0), row.taken.boots);
        text += if row.has_passed { "\n" } else { "  FAILED\n" };
    }
    text + &format!("machines reset because their emulator had lost a timer: {resets}\n")
}

fn folder() -> PathBuf {
    artefacts().join("times")
}

fn read(file: &Path) -> io::Result<Value> {
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

fn write(name: &str, value: &Value) -> Result<()> {
    fs::create_dir_all(folder())?;
    Ok(fs::write(folder().join(format!("{name}.json")), value.to_string())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, total: f64, boots: u64) -> Row {
        let seconds = [(BOOTING.to_owned(), 10.0), (Phase::Waiting.name().to_owned(), 5.0)];
        let taken = Taken { seconds: seconds.into(), boots };
        Row { name: name.to_owned(), total, has_passed: boots > 1, taken }
    }

    #[test]
    fn the_slowest_is_first_and_failures_and_resets_are_told() {
        let mut rows = [row("quick", 16.0, 1), row("slow", 40.0, 2)];
        let text = print(&mut rows, 0);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("slow ") && lines[2].starts_with("quick "), "{text}");
        assert!(lines[2].ends_with("FAILED") && !lines[1].ends_with("FAILED"), "{text}");
        assert!(lines[3].starts_with("sum") && lines[3].contains("56"), "{text}");
        let words: Vec<&str> = lines[3].split_whitespace().collect();
        assert_eq!(words[words.len() - 2..], ["26", "3"], "the rest, and boots");
        assert!(lines[4].ends_with(": 0"), "{text}");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let taken = row("any", 1.0, 3).taken;
        assert_eq!(Taken::from_json(&taken.to_json()).unwrap(), taken);
    }
}
