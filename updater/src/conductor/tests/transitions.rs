//! Which step follows on which, and that no proof is lost on the way.

use super::*;
use crate::policy::BootState;
use crate::update::Failure;

/// A step's name.
pub fn name(step: &Step) -> &'static str {
    match step {
        Step::Opening { .. } => "opening",
        Step::Judging { .. } => "judging",
        Step::Idle(Idle { ready: None, .. }) => "idle",
        Step::Idle(Idle { ready: Some(Ready::Staged(_)), .. }) => "idle, staged",
        Step::Idle(Idle { ready: Some(Ready::Lapsed(_)), .. }) => "idle, lapsed",
        Step::Staging { .. } => "staging",
        Step::Draining { .. } => "draining",
        Step::Confirming { .. } => "confirming",
        Step::Leaving { .. } => "leaving",
        Step::Restarting { .. } => "restarting",
    }
}

fn bad() -> Verdict {
    Verdict::Failed(Failure::new("kubelet", "it does not answer"))
}

fn changed() -> StageError {
    StageError::Changed(Part::Root)
}

/// What a step is made of, and what happens to it.
struct World {
    node: FakeNode,
    conductor: Conductor,
}

impl World {
    fn new(node: FakeNode) -> Self {
        let mut conductor = conductor(&node);
        give_settings(
            &mut conductor,
            serde_json::json!({"kubernetes":
                {"server": "https://127.0.0.1:1", "certificateAuthority": ""}}),
        );
        Self { node, conductor }
    }

    async fn boot(&mut self) -> Boot {
        idle(opened(&mut self.conductor).await).boot
    }

    /// The step of a name; a trial, where there is one, is beside it.
    async fn step(&mut self, wanted: &str) -> Step {
        if wanted == "opening" {
            return Step::opening();
        }
        if wanted == "judging" {
            return opened(&mut self.conductor).await;
        }
        let boot = self.boot().await;
        let version = || NEWER.0.parse().unwrap();
        match wanted {
            "idle" => Step::Idle(Idle::new(boot)),
            "idle, staged" => {
                let staged = forge_staged(&self.node, &boot).await;
                Step::Idle(Idle::with(boot, Some(Ready::Staged(staged))))
            }
            "staging" => {
                let task = tokio::spawn(std::future::pending()).into();
                Step::Staging { boot, task, version: version() }
            }
            "draining" => {
                let staged = forge_staged(&self.node, &boot).await;
                Step::Draining { boot, ready: Ready::Staged(staged), drain: self.drain() }
            }
            "confirming" => {
                let task = tokio::spawn(std::future::pending()).into();
                Step::Confirming { boot, task, version: version() }
            }
            "leaving" => {
                let staged = forge_staged(&self.node, &boot).await.confirmed_for_a_test();
                let armed = boot.machine.step(move |it| it.arm(staged, &|_, _| Ok(()))).await;
                self.conductor.leave(boot.machine, armed.unwrap())
            }
            "restarting" => Step::Restarting { machine: boot.machine },
            other => panic!("{other} is no step"),
        }
    }

    fn drain(&mut self) -> crate::cluster::Drain {
        let terms = contract::channel::group::Drain {
            deadline: jiff::SignedDuration::from_hours(1),
            then: contract::channel::group::DrainPolicy::Wait,
        };
        let release = (NEWER.0.parse().unwrap(), RootHash::from(NEWER.1));
        let cluster = self.conductor.cluster().unwrap();
        self.conductor.drainer.begin(cluster, release, terms, Timestamp::UNIX_EPOCH)
    }

    /// What comes of an event; it is made once the step stands.
    async fn after(&mut self, step: &str, event: &str) -> Step {
        let step = self.step(step).await;
        let event = match event {
            "good" => Event::Judged(Verdict::Healthy),
            "bad" => Event::Judged(bad()),
            "judge lost" => Event::JudgeLost,
            "staged" => {
                let Step::Staging { boot, .. } = &step else { panic!("nothing is staged") };
                Event::Staged(Ok(delivery(forge_staged(&self.node, boot).await)))
            }
            "not staged" => Event::Staged(Err(changed())),
            "drained" => Event::Drained(Ok(())),
            "not drained" => Event::Drained(Err("default/web".into())),
            "confirmed" => {
                let Step::Confirming { boot, .. } = &step else { panic!("nothing is read") };
                let staged = forge_staged(&self.node, boot).await;
                Event::Confirmed(Ok(staged.confirmed_for_a_test()))
            }
            "not confirmed" => Event::Confirmed(Err(changed())),
            "left" => Event::Left,
            "stood" => Event::Stood,
            other => panic!("{other} is no event"),
        };
        self.conductor.advance(step, event).await
    }
}

const GOOD: fn() -> FakeNode = node;
const FIRST: fn() -> FakeNode = first_boot;
const UPDATED: fn() -> FakeNode = updated;
const UNPROVEN: fn() -> FakeNode = footing::unproven;
const FALLBACK: fn() -> FakeNode = footing::beside_a_lapsed_one;

/// Node, step, event, next step.
type Row = (&'static str, fn() -> FakeNode, &'static str, &'static str, &'static str);

const TABLE: &[Row] = &[
    ("updated", UPDATED, "judging", "good", "idle"),
    ("updated", UPDATED, "judging", "bad", "restarting"),
    ("updated", UPDATED, "judging", "judge lost", "judging"),
    ("first", FIRST, "idle", "good", "idle"),
    ("first", FIRST, "idle", "bad", "idle"),
    ("first", FIRST, "idle", "judge lost", "idle"),
    ("first", FIRST, "idle, staged", "good", "idle, staged"),
    ("first", FIRST, "idle, staged", "bad", "idle, staged"),
    ("first", FIRST, "staging", "good", "staging"),
    ("first", FIRST, "staging", "bad", "staging"),
    ("first", FIRST, "staging", "judge lost", "staging"),
    ("first", FIRST, "staging", "staged", "idle, staged"),
    ("first", FIRST, "staging", "not staged", "idle"),
    ("first", FIRST, "confirming", "good", "confirming"),
    ("first", FIRST, "confirming", "bad", "confirming"),
    ("first", FIRST, "confirming", "not confirmed", "idle"),
    ("first", FIRST, "confirming", "confirmed", "idle, staged"),
    ("first", FIRST, "leaving", "left", "restarting"),
    ("good", GOOD, "staging", "staged", "idle, staged"),
    ("good", GOOD, "staging", "not staged", "idle"),
    ("good", GOOD, "draining", "drained", "idle, staged"),
    ("good", GOOD, "draining", "not drained", "idle, staged"),
    ("good", GOOD, "confirming", "confirmed", "idle, staged"),
    ("good", GOOD, "confirming", "not confirmed", "idle"),
    ("good", GOOD, "leaving", "left", "restarting"),
    // Only the other slot's content decides what follows, and only where nothing is under way.
    ("unproven", UNPROVEN, "idle", "stood", "idle"),
    ("unproven", UNPROVEN, "idle, staged", "stood", "idle, staged"),
    ("unproven", UNPROVEN, "staging", "stood", "staging"),
    ("unproven", UNPROVEN, "draining", "stood", "draining"),
    ("unproven", UNPROVEN, "confirming", "stood", "confirming"),
    ("fallback", FALLBACK, "idle", "stood", "idle, lapsed"),
    ("fallback", FALLBACK, "staging", "stood", "staging"),
    ("fallback", FALLBACK, "idle, staged", "stood", "idle, staged"),
    // What a step did not begin does not move it.
    ("good", GOOD, "idle", "stood", "idle"),
    ("good", GOOD, "leaving", "stood", "leaving"),
    ("updated", UPDATED, "judging", "stood", "judging"),
    ("good", GOOD, "opening", "left", "opening"),
    ("good", GOOD, "idle, staged", "left", "idle, staged"),
    ("good", GOOD, "restarting", "drained", "restarting"),
];

#[tokio::test]
async fn each_event_leads_from_its_step_to_the_next() {
    for (who, node, step, event, next) in TABLE {
        let mut world = World::new(node());
        let after = world.after(step, event).await;
        assert_eq!(name(&after), *next, "{who}: {step}, {event}");
        let mut after = after;
        // A boot stays on trial until it is blessed, condemned or left.
        let is_on_trial = after.trial_mut().is_some();
        let was_on_trial = matches!(*who, "first" | "updated");
        let expected = was_on_trial && *event != "good" && !after.is_leaving();
        assert_eq!(is_on_trial, expected, "{who}: {step}, {event}");
        if *event == "stood" && !was_on_trial {
            assert_eq!(after.boot_state(), BootState::Blessed, "{who}: {step}");
        }
    }
}

#[tokio::test]
async fn an_effect_that_fails_has_everything_read_anew() {
    let all = |_: &Effect| Some(crate::effects::fake::Fault::Device);
    for (node, step, event) in [
        (UPDATED, "judging", "good"),
        (UPDATED, "judging", "bad"),
        (FIRST, "staging", "good"),
        (GOOD, "leaving", "left"),
    ] {
        let mut world = World::new(node());
        let made = world.step(step).await;
        world.node.disturb(all);
        let event = match event {
            "good" => Event::Judged(Verdict::Healthy),
            "bad" => Event::Judged(bad()),
            _ => Event::Left,
        };
        let after = world.conductor.advance(made, event).await;
        assert_eq!(name(&after), "opening", "{step}");
        assert_eq!(after.boot_state(), BootState::Unknown);
        // Once the partitions are well, the trial goes on where it was.
        world.node.disturb(|_| None);
        let again = opened(&mut world.conductor).await;
        let before = if step == "staging" { "idle" } else { step };
        assert_eq!(name(&again), before);
    }
}
