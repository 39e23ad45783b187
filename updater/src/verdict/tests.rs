//! Verdicts over time that passes only when the tests say so: one second a round.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;

use super::*;

/// Seconds since power-on.
#[derive(Clone, Default)]
struct Seconds(Arc<AtomicU64>);

impl Seconds {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clock for Seconds {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn uptime(&self) -> Duration {
        Duration::from_secs(self.now())
    }

    fn is_synchronized(&self) -> bool {
        true
    }

    fn rtc(&self) -> Option<Timestamp> {
        None
    }
}

/// A probe whose state is a function of the time since power-on, in seconds.
struct Scripted {
    name: &'static str,
    seconds: Seconds,
    missing: fn(u64) -> Option<&'static str>,
}

#[async_trait]
impl Probe for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    async fn ask(&self) -> Result<(), String> {
        match (self.missing)(self.seconds.now()) {
            None => Ok(()),
            Some("hangs") => std::future::pending().await,
            Some(missing) => Err(missing.to_owned()),
        }
    }
}

type Script = (&'static str, fn(u64) -> Option<&'static str>);

const TERMS: VerdictTerms = VerdictTerms {
    settle: Duration::from_secs(30),
    deadline: Some(Duration::from_secs(300)),
    api_server_grace: Duration::from_secs(600),
    pace: Pace { pause: Duration::ZERO, answer: Duration::from_millis(1) },
};

/// The verdict, and how many seconds after power-on it came.
async fn verdict(scripts: &[Script], terms: VerdictTerms) -> (Verdict, u64) {
    let (verdict, at, _) = rounds(scripts, terms).await;
    (verdict, at)
}

async fn rounds(scripts: &[Script], terms: VerdictTerms) -> (Verdict, u64, Vec<Round>) {
    rounds_from(0, &Silence::default(), scripts, terms).await
}

/// With time and silence before.
async fn rounds_from(
    begin: u64,
    silence: &Silence,
    scripts: &[Script],
    terms: VerdictTerms,
) -> (Verdict, u64, Vec<Round>) {
    let seconds = Seconds(Arc::new(begin.into()));
    let probe = |(name, missing): &Script| -> Box<dyn Probe> {
        Box::new(Scripted { name, seconds: seconds.clone(), missing: *missing })
    };
    let probes: Vec<_> = scripts.iter().map(probe).collect();
    let shown = Mutex::new(Vec::new());
    let observe = |round: &Round| {
        seconds.0.fetch_add(1, Ordering::Relaxed);
        shown.lock().unwrap().push(round.clone());
    };
    let verdict = judge(&probes, terms, silence, &seconds, observe).await;
    (verdict, seconds.now(), shown.into_inner().unwrap())
}

fn failed(verdict: Verdict) -> Failure {
    match verdict {
        Verdict::Failed(failure) => failure,
        Verdict::Healthy => panic!("it was found healthy"),
    }
}

#[tokio::test]
async fn a_boot_is_good_after_the_settling_time() {
    let scripts: [Script; 2] =
        [("containerd", |_| None), ("kubelet", |at| (at < 20).then_some("starting"))];
    let (verdict, at) = verdict(&scripts, TERMS).await;
    assert_eq!(verdict, Verdict::Healthy);
    assert!((50..55).contains(&at), "{at}");
}

#[tokio::test]
async fn a_break_within_the_settling_time_starts_it_anew() {
    let scripts: [Script; 1] = [("kubelet", |at| (at == 29).then_some("restarting"))];
    let (verdict, at) = verdict(&scripts, TERMS).await;
    assert_eq!(verdict, Verdict::Healthy);
    assert!((60..65).contains(&at), "{at}");
}

#[tokio::test]
async fn a_probe_that_stays_bad_is_named_with_its_message() {
    let scripts: [Script; 3] = [
        ("containerd", |_| None),
        ("kubelet", |_| Some("HTTP status 500")),
        ("ingress", |_| Some("connection refused")),
    ];
    let (verdict, at) = verdict(&scripts, TERMS).await;
    let failure = failed(verdict);
    assert_eq!(failure.probe, "kubelet");
    assert_eq!(failure.message, "HTTP status 500 (also: ingress)");
    assert_eq!(failure.also, Some(vec!["ingress".to_owned()]));
    assert!((300..305).contains(&at), "{at}");
}

#[tokio::test]
async fn healthy_for_a_moment_is_not_good() {
    let scripts: [Script; 1] = [("kubelet", |at| (at > 15).then_some("connection refused"))];
    let (verdict, _) = verdict(&scripts, TERMS).await;
    assert_eq!(failed(verdict), Failure::new("kubelet", "connection refused"));
}

#[tokio::test]
async fn a_flapping_probe_is_the_cause_although_it_is_well_at_the_deadline() {
    let scripts: [Script; 1] = [("kubelet", |at| (at % 20 == 10).then_some("restarting"))];
    let (verdict, _) = verdict(&scripts, TERMS).await;
    let failure = failed(verdict);
    assert_eq!(failure.probe, "kubelet");
    assert!(failure.message.contains("of 30 s") && failure.message.contains("restarting"));
}

#[tokio::test]
async fn a_probe_that_hangs_is_not_well() {
    let scripts: [Script; 2] = [("containerd", |_| Some("hangs")), ("kubelet", |_| None)];
    let (verdict, at) = verdict(&scripts, TERMS).await;
    let failure = failed(verdict);
    assert_eq!(failure.probe, "containerd");
    assert!(failure.message.contains("no answer"), "{failure}");
    assert!(at < 310, "{at}");
}

#[tokio::test]
async fn without_a_deadline_a_boot_is_judged_until_it_is_good() {
    let scripts: [Script; 1] = [("kubelet", |at| (at < 5000).then_some("starting"))];
    let (verdict, at) = verdict(&scripts, VerdictTerms { deadline: None, ..TERMS }).await;
    assert_eq!(verdict, Verdict::Healthy);
    assert!((5030..5040).contains(&at), "{at}");
}

#[tokio::test]
async fn settling_that_ends_after_the_deadline_is_too_late() {
    let scripts: [Script; 1] = [("kubelet", |at| (at < 280).then_some("starting"))];
    let (verdict, _) = verdict(&scripts, TERMS).await;
    assert!(failed(verdict).message.contains("starting"));
    let start: [Script; 1] = [("kubelet", |_| None)];
    let late = VerdictTerms { deadline: Some(Duration::from_secs(5)), ..TERMS };
    assert_eq!(failed(self::verdict(&start, late).await.0).probe, "settling");
}

#[tokio::test]
async fn time_in_which_only_the_api_server_is_silent_does_not_count() {
    let node_ready = |at| (at < 820).then_some("no answer");
    let scripts: [Script; 3] = [
        ("kubelet", |at| (at < 20).then_some("starting")),
        (API_SERVER, |at| (at < 800).then_some("no answer")),
        (NODE_READY, node_ready),
    ];
    let (verdict, at) = verdict(&scripts, TERMS).await;
    assert_eq!(verdict, Verdict::Healthy);
    assert!((850..855).contains(&at), "{at}");
}

#[tokio::test]
async fn silence_is_forgiven_up_to_a_bound_and_nothing_else_is() {
    let silent: [Script; 2] = [("kubelet", |_| None), (API_SERVER, |_| Some("no answer"))];
    let (ended, at) = verdict(&silent, TERMS).await;
    assert_eq!(failed(ended).probe, API_SERVER);
    assert!((900..905).contains(&at), "{at}");

    let worse: [Script; 2] =
        [("kubelet", |at| (at > 400).then_some("refused")), (API_SERVER, |_| Some("no answer"))];
    let (ended, at) = verdict(&worse, TERMS).await;
    assert_eq!(failed(ended).probe, "kubelet");
    assert!((700..705).contains(&at), "the 400 s of silence alone are forgiven: {at}");
}

#[tokio::test]
async fn who_judges_on_after_the_deadline_knows_of_the_silence_before() {
    let answers: [Script; 2] = [("kubelet", |_| None), (API_SERVER, |_| None)];
    let silence = Silence::default();
    silence.add(Duration::from_secs(400));
    let (ended, at, _) = rounds_from(500, &silence, &answers, TERMS).await;
    assert_eq!((ended, at / 5), (Verdict::Healthy, 530 / 5));

    // Another process does not know, but there was one before it.
    let (ended, at, _) = rounds_from(500, &Silence::default(), &answers, TERMS).await;
    assert_eq!((ended, at / 5), (Verdict::Healthy, 530 / 5));

    let bad: [Script; 1] = [("kubelet", |_| Some("refused"))];
    let (ended, at, _) = rounds_from(500, &Silence::default(), &bad, TERMS).await;
    assert_eq!((failed(ended).probe.as_str(), at / 5), ("kubelet", 560 / 5));
    let (ended, at, _) = rounds_from(2000, &Silence::default(), &answers, TERMS).await;
    assert_eq!((failed(ended).probe.as_str(), at / 5), ("settling", 2000 / 5), "no grace is left");
}

#[tokio::test]
async fn every_round_is_shown() {
    let scripts: [Script; 1] = [("kubelet", |at| (at < 3).then_some("starting"))];
    let (verdict, _, rounds) = rounds(&scripts, TERMS).await;
    assert_eq!(verdict, Verdict::Healthy);
    let starting = ProbeAnswer { probe: "kubelet".into(), missing: Some("starting".into()) };
    assert_eq!(rounds[0], Round { answers: vec![starting], well_for: None });
    assert!(rounds.last().unwrap().well_for.unwrap() >= TERMS.settle);
}

#[test]
fn silence_of_the_api_server_is_told_from_everything_else() {
    let answer = |probe: &str, missing: Option<&str>| ProbeAnswer {
        probe: probe.to_owned(),
        missing: missing.map(str::to_owned),
    };
    let found = |answers: &[ProbeAnswer]| is_silence_alone(&failure(answers).unwrap());
    let silent = answer(API_SERVER, Some("the API server does not answer (refused)"));
    let lost = answer(NODE_READY, Some("the API server does not answer (refused)"));
    let well = answer("kubelet", None);
    assert!(found(&[well.clone(), silent.clone(), lost.clone()]));
    assert!(found(&[silent.clone(), well]));
    assert!(!found(&[answer("kubelet", Some("refused")), silent.clone(), lost.clone()]));
    let no_network = answer(CONTAINERD, Some("NetworkReady: cni plugin not initialized"));
    let pods = answer(WORKLOADS, Some("DaemonSet network has no pod"));
    let all = [no_network.clone(), silent.clone(), lost.clone(), pods];
    assert!(found(&all));
    assert_eq!(failure(&all).unwrap().probe, API_SERVER, "what all else follows from");
    assert!(!found(&[no_network, lost.clone()]), "the API server answers");
    assert!(!found(&[silent, lost.clone(), answer("ingress", Some("HTTP status 500"))]));
    assert!(!found(std::slice::from_ref(&lost)));
    let long = answer(API_SERVER, Some(&"x".repeat(500)));
    assert!(found(&[long.clone(), lost.clone()]), "the length of a message says nothing");
    assert!(!found(&[long, lost, answer("ingress", Some("HTTP status 500"))]));
}
