//! Runs: every cut of whole updates, a number of seeds, and the test of the test.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::release::Behaviour;
use super::script::{Script, Start};
use super::world::{Outcome, run};
use crate::planted::{Planted, with};

/// Names a seed that is to be replayed.
const SEED: &str = "SLIPWAY_SIM_SEED";
/// Names the one fault that is to be planted.
const FAULT: &str = "SLIPWAY_SIM_FAULT";
/// How many seeds are run instead of [`SEEDS`] or [`SOAK_SEEDS`].
const COUNT: &str = "SLIPWAY_SIM_SEEDS";
/// Seeds of `make test`.
const SEEDS: u64 = 2000;
/// Seeds that are run twice.
const SEEDS_TWICE: u64 = 100;
/// Seeds of `make soak`.
const SOAK_SEEDS: u64 = 200_000;
/// How each cut of an update is tried: what chance leaves of what was not synced.
const CHANCES: u64 = 2;

/// Faults that are planted, one at a time.
const FAULTS: [Planted; 22] = [
    Planted::DisarmNotSynced,
    Planted::TargetNotSynced,
    Planted::RenameNotSynced,
    Planted::RootHashNotCompared,
    Planted::TreeNotWritten,
    Planted::NotConfirmed,
    Planted::VerdictDropped,
    Planted::BlessedAtOnce,
    Planted::DeadlineIgnored,
    Planted::RefusalForgotten,
    Planted::RollbackNotRefused,
    Planted::GenerationReused,
    Planted::TriesNotRenewed,
    Planted::SettingsNotCarried,
    Planted::RefusalsNotWeighed,
    Planted::TriesNotGivenBack,
    Planted::GoneBackAgain,
    Planted::LapseNotSaid,
    Planted::FloorsSkipped,
    Planted::BlocksPassed,
    Planted::PinPassesBlocks,
    Planted::UpdaterNotCompared,
];

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs a script; a panic is something broken, too.
fn tried(script: Script) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| run(script))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let broken = vec![format!("panic: {}", text.unwrap_or_default())];
        Outcome { broken, ..Outcome::default() }
    })
}

/// Does the work of every number on all processors.
fn on_all_processors(numbers: Range<u64>, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(numbers.start);
    let run = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= numbers.end {
                return;
            }
            work(number);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(run);
        }
    });
}

/// Runs seeds, and fails with the command that replays each in which something was broken.
fn run_seeds(seeds: Range<u64>) {
    let failed = AtomicUsize::new(0);
    on_all_processors(seeds, |seed| {
        let outcome = tried(Script::of_seed(seed));
        if !outcome.broken.is_empty() {
            failed.fetch_add(1, Ordering::Relaxed);
            println!("seed {seed}: {}", outcome.broken.join("; "));
            let test = "cargo test -p updater --lib sim::tests::replay -- --nocapture";
            println!("    replay it: {SEED}={seed} {test}");
        }
    });
    let failed = failed.into_inner();
    assert!(failed == 0, "{failed} seeds broke something, see above");
}

/// One update on a node that starts so, to a release that behaves so, for each cut that it has.
fn cuts(start: Start, behaviour: Behaviour) -> impl Iterator<Item = (String, Script)> {
    let whole = tried(Script::update(0, start, behaviour));
    (0..=whole.log.len()).flat_map(move |cut| {
        (0..CHANCES).map(move |chance| {
            let mut script = Script::update(chance, start, behaviour);
            script.cuts.extend((cut > 0).then_some(cut));
            (format!("{start:?}, {behaviour:?}, cut after effect {cut}, chance {chance}"), script)
        })
    })
}

/// An update of a first boot that was cut short twice.
fn early_updates() -> impl Iterator<Item = (String, Script)> {
    [Behaviour::Good, Behaviour::Panics].into_iter().flat_map(|behaviour| {
        (2..12).map(move |cut| {
            let script = Script::early_update(cut as u64, behaviour, [1, cut]);
            (format!("Fresh, {behaviour:?}, at once, cuts after effects 1 and {cut}"), script)
        })
    })
}

/// The updates whose every cut is tried.
fn updates() -> impl Iterator<Item = (Start, Behaviour)> {
    let behaviours = [
        Behaviour::Good,
        Behaviour::Panics,
        Behaviour::DiesBeforeSlipwayd,
        Behaviour::DiesWhileJudged,
        Behaviour::NeverHealthy,
    ];
    let starts = [Start::Fresh, Start::Blessed];
    starts.into_iter().flat_map(move |start| behaviours.map(|behaviour| (start, behaviour)))
}

#[test]
fn seeds() {
    run_seeds(0..variable(COUNT).unwrap_or(SEEDS));
}

#[test]
#[ignore = "takes hours: `make soak` runs it"]
fn soak() {
    run_seeds(SEEDS..SEEDS + variable(COUNT).unwrap_or(SOAK_SEEDS));
}

#[test]
fn replay() {
    let Some(seed) = variable(SEED) else { return };
    let script = Script::of_seed(seed);
    println!("{script:#?}");
    let outcome = run(script);
    assert!(outcome.broken.is_empty(), "{outcome:#?}");
}

#[test]
fn a_seed_gives_the_same_run_again() {
    on_all_processors(0..SEEDS_TWICE, |seed| {
        let [first, second] = [(); 2].map(|()| tried(Script::of_seed(seed)));
        let same = first.log.iter().zip(&second.log).take_while(|(one, other)| one == other);
        let same = same.count();
        let [one, other] = [&first, &second].map(|outcome| outcome.log.get(same));
        assert_eq!(one, other, "seed {seed}, effect {}", same + 1);
        assert_eq!(first, second, "seed {seed}");
    });
}

#[test]
fn every_cut_of_an_update_leaves_a_node_that_gets_there() {
    let found = Mutex::new(Vec::new());
    let updates: Vec<_> = updates().collect();
    on_all_processors(0..updates.len() as u64, |number| {
        let (start, behaviour) = updates[number as usize];
        let mut runs = 0;
        for (name, script) in cuts(start, behaviour) {
            runs += 1;
            let broken = tried(script).broken;
            found.lock().unwrap().extend(broken.into_iter().map(|it| format!("{name}: {it}")));
        }
        assert!(runs > 20 * CHANCES, "an update has more effects than {runs}");
    });
    let mut found = found.into_inner().unwrap();
    for (name, script) in early_updates() {
        found.extend(tried(script).broken.into_iter().map(|it| format!("{name}: {it}")));
    }
    assert!(found.is_empty(), "{} runs broke something: {found:#?}", found.len());
}

/// Where a planted fault was found.
fn find(fault: Planted) -> Option<(String, String)> {
    let broken = |script: Script| with(Some(fault), || tried(script)).broken.into_iter().next();
    let by_seed = (0..variable(COUNT).unwrap_or(SEEDS))
        .find_map(|seed| Some((format!("seed {seed}"), broken(Script::of_seed(seed))?)));
    by_seed.or_else(|| {
        let cuts = updates().flat_map(|(start, behaviour)| cuts(start, behaviour));
        early_updates().chain(cuts).find_map(|(name, script)| Some((name, broken(script)?)))
    })
}

#[test]
fn every_planted_fault_is_found() {
    let one = std::env::var(FAULT).ok();
    let is_planted = |fault: &Planted| one.as_ref().is_none_or(|one| *one == format!("{fault:?}"));
    let faults: Vec<_> = FAULTS.into_iter().filter(is_planted).collect();
    assert!(!faults.is_empty(), "{FAULT} names no fault");
    let rows = Mutex::new(Vec::new());
    on_all_processors(0..faults.len() as u64, |number| {
        let fault = faults[number as usize];
        rows.lock().unwrap().push((fault, find(fault)));
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|(fault, _)| *fault);
    println!("| fault | found by | what was broken |\n|---|---|---|");
    for (fault, found) in &rows {
        match found {
            Some((place, broken)) => println!("| {fault:?} | {place} | {broken} |"),
            None => println!("| {fault:?} | not found | |"),
        }
    }
    let missed: Vec<_> = rows.iter().filter(|(_, found)| found.is_none()).collect();
    assert!(missed.is_empty(), "{} planted faults are not found: {missed:?}", missed.len());
}
