//! Runs a program and says what it cost; sums runs up.
//!
//! **Invariant:** a figure is never compared with one of another run of the benchmark.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// What one run of a program cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Seconds from start to end.
    pub seconds: f64,
    /// Seconds of processor time, of the program and what it started.
    pub processor: f64,
    /// Resident memory of the largest single process at its peak, in MiB.
    pub peak: f64,
}

/// Runs `program` (with its arguments) to its end. Its output goes to `log`.
///
/// # Errors
/// When it cannot start or fails; then the log's place is named.
pub fn run(program: &Command, log: &Path) -> Result<Cost> {
    let figures = log.with_extension("time");
    let output = fs::File::create(log)?;
    let mut timed = Command::new("/usr/bin/time");
    timed.args(["-q", "-f", "%e %U %S %M", "-o"]).arg(&figures).arg(program.get_program());
    timed.args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => timed.env(name, value),
            None => timed.env_remove(name),
        };
    }
    if let Some(folder) = program.get_current_dir() {
        timed.current_dir(folder);
    }
    let status = timed
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .context("cannot run /usr/bin/time: apt install time")?;
    ensure!(status.success(), "{} failed: see {}", program.get_program().display(), log.display());
    cost(&fs::read_to_string(&figures)?)
}

/// Reads what `time` wrote: elapsed, user, system, kilobytes.
fn cost(text: &str) -> Result<Cost> {
    let figures: Vec<f64> = text
        .split_whitespace()
        .map(|word| word.parse().with_context(|| format!("`time` wrote {text:?}")))
        .collect::<Result<_>>()?;
    let [seconds, user, system, kilobytes] = figures[..] else {
        anyhow::bail!("`time` wrote {text:?}");
    };
    Ok(Cost { seconds, processor: user + system, peak: kilobytes / 1024.0 })
}

/// The smallest, the middle and the largest of some figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// Middle; of an even count the mean of the two in the middle.
    pub median: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// Sums up one or more figures.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Result<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else {
            anyhow::bail!("nothing was measured");
        };
        let (below, above) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Ok(Self { min, median: f64::midpoint(below, above), max })
    }
}

/// One digit behind the point, or as many as are asked for.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(1);
        let Self { min, median, max } = self;
        write!(f, "{min:.digits$} / **{median:.digits$}** / {max:.digits$}")
    }
}

/// What is compared, in the order of this round: each second round goes backwards. So nobody always
/// comes after the one that leaves the host's memory full, or empty. The number of rounds is even.
pub fn in_turns<T>(round: usize, compared: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut compared: Vec<T> = compared.into_iter().collect();
    if round % 2 == 1 {
        compared.reverse();
    }
    compared
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_two_rounds_everybody_comes_before_everybody() {
        let order: Vec<u8> = (0..2).flat_map(|round| in_turns(round, [1, 2, 3])).collect();
        assert_eq!(order, [1, 2, 3, 3, 2, 1]);
    }

    #[test]
    fn the_middle_of_an_even_count_is_a_mean() -> Result<()> {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0])?;
        assert_eq!(spread.to_string(), "1.0 / **2.5** / 4.0");
        assert_eq!(format!("{spread:.2}"), "1.00 / **2.50** / 4.00");
        assert!(Spread::of([]).is_err());
        Ok(())
    }

    #[test]
    fn cost_is_read_from_time() -> Result<()> {
        let cost = cost("2.50 1.25 0.25 524288\n")?;
        assert_eq!(cost, Cost { seconds: 2.5, processor: 1.5, peak: 512.0 });
        assert!(super::cost("Command terminated").is_err());
        Ok(())
    }

    #[test]
    fn a_failing_program_has_no_cost() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        assert!(run(&Command::new("false"), &log).is_err());
        assert!(run(&Command::new("true"), &log).is_ok());
        Ok(())
    }
}
