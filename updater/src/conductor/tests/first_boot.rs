//! The first boot of a disk is judged until it is blessed, whatever becomes of the other slot.

use super::*;
use crate::policy::Action as Next;

const OPEN: &str = r#"{"channel": "stable"}"#;
/// A window of one minute, a year of which has none at the fake node's time.
pub const CLOSED: &str = r#"{"channel": "stable",
    "windows": [{"days": ["monday"], "start": "03:00", "length": "1m", "timeZone": "UTC"}]}"#;

/// Stages the newer release as policy decides, and gives what comes of it.
async fn stage(
    conductor: &mut Conductor,
    step: Step,
    result: impl AsyncFnOnce(&Boot) -> Result<Delivery, StageError>,
) -> Step {
    let Step::Staging { boot, .. } = step else {
        panic!("nothing is staged: {}", transitions::name(&step))
    };
    let result = result(&boot).await;
    // The real staging has nobody to fetch from: it is stopped with its task.
    let task = tokio::spawn(std::future::pending()).into();
    let step = Step::Staging { boot, task, version: NEWER.0.parse().unwrap() };
    conductor.advance(step, Event::Staged(result)).await
}

async fn is_blessed_after(node: &FakeNode, conductor: &mut Conductor, step: Step) -> bool {
    assert!(node.ukis().contains(&"slipway-000001-a+2-1.efi".parse().unwrap()));
    let boot = idle(conductor.advance(step, Event::Judged(Verdict::Healthy)).await).boot;
    let record = boot.machine.read(|it| it.journal().slots[&Slot::A].clone());
    assert_eq!(record.blessed.is_some(), boot.trial.is_none());
    node.ukis().contains(&"slipway-000001-a+3-100.efi".parse().unwrap()) && record.blessed.is_some()
}

async fn in_local_set<T>(work: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(work).await
}

#[tokio::test]
async fn a_staging_that_fails_does_not_end_the_trial() {
    in_local_set(async {
        let node = first_boot();
        let mut conductor = conductor(&node);
        give_settings(&mut conductor, serde_json::json!({}));
        offer_newer(&mut conductor, OPEN);
        let step = opened(&mut conductor).await;
        let (step, decision) = conductor.follow(step).await;
        assert_eq!(decision.action, Next::Stage);
        let failed = async |_: &Boot| Err(StageError::Changed(Part::Root));
        let step = stage(&mut conductor, step, failed).await;
        assert!(is_blessed_after(&node, &mut conductor, step).await);
    })
    .await;
}

#[tokio::test]
async fn a_closed_window_and_a_mode_that_waits_do_not_end_the_trial() {
    for (mode, group) in [("automatic", CLOSED), ("staged-only", OPEN)] {
        in_local_set(async {
            let node = first_boot();
            let mut conductor = conductor(&node);
            give_settings(&mut conductor, serde_json::json!({"mode": mode}));
            offer_newer(&mut conductor, group);
            let step = opened(&mut conductor).await;
            let (step, decision) = conductor.follow(step).await;
            assert_eq!(decision.action, Next::Stage, "{mode}: {:?}", decision.holds);
            let whole = async |boot: &Boot| Ok(delivery(forge_staged(&node, boot).await));
            let step = stage(&mut conductor, step, whole).await;
            let (step, decision) = conductor.follow(step).await;
            assert_eq!(decision.action, Next::Nothing, "{mode}");
            assert!(is_blessed_after(&node, &mut conductor, step).await, "{mode}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_verdict_that_comes_while_a_release_is_written_ends_only_the_trial() {
    in_local_set(async {
        let node = first_boot();
        let mut conductor = conductor(&node);
        give_settings(&mut conductor, serde_json::json!({}));
        offer_newer(&mut conductor, OPEN);
        let step = opened(&mut conductor).await;
        let (step, _) = conductor.follow(step).await;
        let step = conductor.advance(step, Event::Judged(Verdict::Healthy)).await;
        let Step::Staging { boot, .. } = step else { panic!("the staging has ended") };
        assert!(boot.trial.is_none());
        assert!(node.ukis().contains(&"slipway-000001-a+3-100.efi".parse().unwrap()));
    })
    .await;
}

#[tokio::test]
async fn a_release_that_cannot_be_disarmed_for_does_not_end_the_trial() {
    in_local_set(async {
        let node = first_boot();
        let mut conductor = conductor(&node);
        give_settings(&mut conductor, serde_json::json!({}));
        offer_newer(&mut conductor, OPEN);
        let step = opened(&mut conductor).await;
        node.disturb(|effect| {
            matches!(effect, Effect::Save(name) if name == crate::update::journal::DOCUMENT)
                .then_some(crate::effects::fake::Fault::Device)
        });
        let (step, _) = conductor.follow(step).await;
        node.disturb(|_| None);
        assert!(is_blessed_after(&node, &mut conductor, step).await);
    })
    .await;
}
