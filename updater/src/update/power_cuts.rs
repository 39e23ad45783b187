//! Cuts the power after every effect of whole updates, good and bad, and sees where the node
//! ends.
//!
//! In: a fake node with a fresh disk, releases that behave in a given way, and the effect at
//! which the power goes. Out: after each boot, whether the slot that booted is whole; at the
//! end, whether the node converged. A failure names seed and cut, which repeat it.

use std::collections::BTreeMap;

use contract::{Digest, RootHash, Slot, UkiName};
use proptest::prelude::*;

use super::{Cause, Failure, Machine, Other, Plan, ReleaseId, Standing, UpdateError};
use super::{Condemnation, carried, marks};
use crate::effects::boot::{BootFacts, BootId};
use crate::effects::fake::{BLOCK, Boot, Effect, FakeNode, Fault, Sizes};
use crate::effects::{Area, BootedSlot, Disarmed, Effects, TargetSlot};
use crate::policy::VerdictTimes;
use crate::settings::{self, NodeSettings};
use crate::staging::Staged;

/// More boots than any scenario needs.
const MOST_BOOTS: usize = 40;

/// How a release behaves once the loader started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    Good,
    Panics,
    DiesBeforeSlipwayd,
    DiesWhileJudged,
    FailsProbe,
}

/// A release: small, but with several blocks in each part, so that a cut can tear it.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub id: ReleaseId,
    behaviour: Behaviour,
    root: Vec<u8>,
    verity: Vec<u8>,
}

impl Image {
    pub fn new(version: &str, behaviour: Behaviour) -> Self {
        let fill = |salt: &str, blocks: u8| -> Vec<u8> {
            let block = |index| Digest::of(format!("{salt} {version} {index}").as_bytes());
            (0..blocks).flat_map(|index| block(index).as_bytes().repeat(BLOCK / 32)).collect()
        };
        let (root, verity) = (fill("root", 5), fill("verity", 2));
        let root_hash = hash(&root, &verity);
        let id = ReleaseId { version: version.parse().unwrap(), root_hash };
        Self { id, behaviour, root, verity }
    }

    /// The root hash, then some blocks of a kernel.
    pub fn uki(&self, slot: Slot) -> Vec<u8> {
        let mut uki = format!("{} {slot} ", self.id.root_hash).into_bytes();
        uki.resize(2 * BLOCK + 100, b'k');
        uki
    }

    pub fn install(&self, node: &FakeNode, name: UkiName) {
        node.install_slot(name.slot, Area::Root, &self.root);
        node.install_slot(name.slot, Area::Verity, &self.verity);
        node.install_uki(name, &self.uki(name.slot));
    }

    /// What staging does, in its order, with the least that is needed.
    pub fn stage(&self, effects: &Effects, disarmed: Disarmed) -> Result<Staged, UpdateError> {
        let target = disarmed.target();
        let failed = |source| UpdateError::Esp { action: "stage".into(), source };
        for (area, content) in [(Area::Root, &self.root), (Area::Verity, &self.verity)] {
            for (index, bytes) in content.chunks(3 * BLOCK).enumerate() {
                let offset = (index * 3 * BLOCK) as u64;
                effects.slots.write_target(target, area, offset, bytes).map_err(failed)?;
            }
        }
        effects.slots.sync_target(target).map_err(failed)?;
        let uki = self.uki(target.slot());
        effects.esp.create_temporary(uki.len() as u64).map_err(failed)?;
        effects.esp.write_temporary(0, &uki).map_err(failed)?;
        effects.esp.sync().map_err(failed)?;
        assert!(self.is_whole(effects, target)?);
        Ok(Staged::forged_for_a_test(&disarmed, self.id.root_hash, Digest::of(&uki)))
    }

    /// Whether slot and temporary file hold it.
    fn is_whole(&self, effects: &Effects, target: TargetSlot) -> Result<bool, UpdateError> {
        let failed = |source| UpdateError::Esp { action: "read back".into(), source };
        let (mut root, mut verity) = (self.root.clone(), self.verity.clone());
        effects.slots.read_target(target, Area::Root, 0, &mut root).map_err(failed)?;
        effects.slots.read_target(target, Area::Verity, 0, &mut verity).map_err(failed)?;
        let uki = self.uki(target.slot());
        let mut read = vec![0; uki.len()];
        effects.esp.read_temporary(0, &mut read).map_err(failed)?;
        Ok(hash(&root, &verity) == self.id.root_hash && read == uki)
    }
}

fn hash(root: &[u8], verity: &[u8]) -> RootHash {
    RootHash::from(*Digest::of(&[root, verity].concat()).as_bytes())
}

/// A node and what its channel offers.
pub(super) struct World {
    pub node: FakeNode,
    images: BTreeMap<RootHash, Image>,
    wanted: ReleaseId,
    /// Counts of effects at which the power goes, ascending.
    cuts: Vec<usize>,
    roll_back: bool,
    /// Happens once, between staging and arming.
    flip: Option<Flip>,
}

/// A bit that changes, on its device, by itself.
#[derive(Debug, Clone, Copy)]
enum Flip {
    Slot(Area, usize),
    Uki(usize),
}

impl World {
    /// A fresh disk with a good release 1.0.0, and a channel with 2.0.0.
    fn new(seed: u64, behaviour: Behaviour, cuts: Vec<usize>) -> Self {
        let old = Image::new("1.0.0", Behaviour::Good);
        let new = Image::new("2.0.0", behaviour);
        let node = FakeNode::new(seed, Sizes::default());
        let first = UkiName::first();
        old.install(&node, first);
        let settings = NodeSettings::from_bytes(br#"{"schema": 2}"#.to_vec()).unwrap();
        settings::save(&node, BootedSlot::forged_for_a_test(first.slot), &settings).unwrap();
        let wanted = new.id.clone();
        let images = [old, new].map(|image| (image.id.root_hash, image));
        Self { node, images: images.into(), wanted, cuts, roll_back: false, flip: None }
    }

    /// Every UKI that the loader may ever take names a release that its slot holds whole. The
    /// one that booted is given back.
    fn check(&self, boot: &Boot) -> &Image {
        for name in self.node.ukis() {
            self.check_uki(name, &self.node.uki(name).unwrap());
        }
        self.check_uki(boot.name, &boot.uki)
    }

    fn check_uki(&self, name: UkiName, uki: &[u8]) -> &Image {
        let text = String::from_utf8_lossy(uki);
        let named = text.split(' ').next().and_then(|hash| hash.parse::<RootHash>().ok());
        let image = named.and_then(|hash| self.images.get(&hash));
        let image = image.unwrap_or_else(|| panic!("{name} is no UKI of a release"));
        assert_eq!(uki, image.uki(name.slot), "the UKI {name} is torn");
        let root = self.node.durable(name.slot, Area::Root);
        let verity = self.node.durable(name.slot, Area::Verity);
        let found = hash(&root[..image.root.len()], &verity[..image.verity.len()]);
        assert_eq!(found, image.id.root_hash, "slot {} is torn, below {name}", name.slot);
        image
    }

    /// Boots until nothing is left to do, and gives what then runs.
    fn converge(&mut self) -> (ReleaseId, UkiName, Machine) {
        for _ in 0..MOST_BOOTS {
            let boot = self.node.boot().unwrap();
            let image = self.check(&boot).clone();
            self.arm_cut();
            if image.behaviour == Behaviour::Panics {
                self.node.cut_power_after(0);
                continue;
            }
            self.node.append(marks::DOCUMENT, &format!("{}\n", boot.boot_id));
            if image.behaviour == Behaviour::DiesBeforeSlipwayd {
                self.node.cut_power_after(0);
                continue;
            }
            let outcome = self.daemon(&boot, &image);
            if self.node.is_powered() {
                return (image.id, boot.name, outcome.unwrap());
            }
        }
        panic!("no end after {MOST_BOOTS} boots: {:?}", self.node.log());
    }

    fn arm_cut(&mut self) {
        let done = self.node.log().len();
        self.cuts.retain(|cut| *cut > done);
        if let Some(cut) = self.cuts.first() {
            self.node.cut_power_after(cut - done);
        }
    }

    /// What slipwayd does in one boot.
    fn daemon(&mut self, boot: &Boot, image: &Image) -> Result<Machine, UpdateError> {
        let facts = facts(boot.name.slot, &image.id, boot.boot_id);
        let settings = settings::load(&self.node, facts.slot).unwrap();
        assert!(settings.is_some(), "slot {} boots without settings", boot.name.slot);
        let (mut machine, mut standing) = Machine::open(self.node.effects(), facts)?;
        loop {
            standing = match standing {
                Standing::Armed(armed) => {
                    machine.restart(&armed)?;
                    return Ok(machine);
                }
                Standing::Condemned(pending, failure) => {
                    return condemn(machine, pending, failure);
                }
                Standing::Pending(pending) => match image.behaviour {
                    Behaviour::FailsProbe => {
                        let failure = Failure::new("kubelet", "HTTP status 500");
                        return condemn(machine, pending, failure);
                    }
                    Behaviour::DiesWhileJudged => {
                        self.node.cut_power_after(0);
                        return Ok(machine);
                    }
                    _ => {
                        machine.bless(pending)?;
                        machine.standing()?
                    }
                },
                Standing::Unproven(unproven) => {
                    machine.stood(unproven)?;
                    match machine.weigh_other()? {
                        Other::MayGoBack(lapsed) => Standing::Armed(machine.go_back(lapsed)?),
                        Other::GivenUp(_) | Other::Rests => machine.standing()?,
                    }
                }
                Standing::Steady => {
                    let refused = machine.journal().refusal(&self.wanted).is_some();
                    if std::mem::take(&mut self.roll_back) {
                        Standing::Armed(machine.roll_back()?)
                    } else if refused || machine.booted_release() == self.wanted {
                        return Ok(machine);
                    } else {
                        let disarmed =
                            machine.disarm_target(&Plan { release: self.wanted.clone() })?;
                        let wanted = &self.images[&self.wanted.root_hash];
                        let staged = wanted.stage(&self.node.effects(), disarmed)?;
                        machine.record_staged(&staged)?;
                        match self.flip.take() {
                            Some(Flip::Slot(area, at)) => {
                                self.node.flip_bit(staged.target().slot(), area, at);
                            }
                            Some(Flip::Uki(at)) => self.node.flip_temporary(at),
                            None => {}
                        }
                        if !wanted.is_whole(&self.node.effects(), staged.target())? {
                            standing = Standing::Steady;
                            continue;
                        }
                        let times = VerdictTimes::new(None, None);
                        let carry = |booted, _| carried::carry(&self.node, &times, booted);
                        Standing::Armed(machine.arm(staged.confirmed_for_a_test(), &carry)?)
                    }
                }
            };
        }
    }
}

fn condemn(
    mut machine: Machine,
    pending: super::Pending,
    failure: Failure,
) -> Result<Machine, UpdateError> {
    match machine.condemn(pending, failure)? {
        Condemnation::Restarting { unrecorded: None } => Ok(machine),
        Condemnation::Restarting { unrecorded: Some(error) } => Err(error),
        Condemnation::NoFallback(pending) => panic!("{pending:?} has a fallback"),
    }
}

pub(super) fn facts(slot: Slot, release: &ReleaseId, boot_id: BootId) -> BootFacts {
    BootFacts {
        slot: BootedSlot::forged_for_a_test(slot),
        root_hash: release.root_hash,
        version: release.version.clone(),
        boot_id,
        disk: "nvme0n1".into(),
    }
}

fn effects_without_cut(behaviour: Behaviour) -> usize {
    let mut world = World::new(0, behaviour, Vec::new());
    world.converge();
    world.node.log().len()
}

/// Runs `check` on the end of an update with one cut, for every cut and several seeds.
fn with_every_cut(behaviour: Behaviour, check: impl Fn(ReleaseId, UkiName, &Machine)) {
    let effects = effects_without_cut(behaviour);
    assert!(effects > 15, "an update has more than {effects} effects");
    for cut in 1..=effects {
        for seed in 0..24 {
            println!("{behaviour:?}: seed {seed}, cut after effect {cut} of {effects}");
            let mut world = World::new(seed, behaviour, vec![cut]);
            let (release, name, machine) = world.converge();
            check(release, name, &machine);
        }
    }
}

/// The old release runs, blessed, and the new one is refused for a cause that fits.
fn fell_back(release: &ReleaseId, name: UkiName, machine: &Machine, fits: fn(&Cause) -> bool) {
    assert_eq!(release.version.to_string(), "1.0.0");
    assert!(name.slot == Slot::A && !name.is_on_trial(), "{name}");
    let refusals = &machine.journal().refusals;
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert_eq!(refusals[0].release.version.to_string(), "2.0.0");
    assert!(fits(&refusals[0].cause), "{:?}", refusals[0].cause);
}

#[test]
fn a_good_release_runs_in_the_end_wherever_the_power_is_cut() {
    with_every_cut(Behaviour::Good, |release, name, machine| {
        assert_eq!(release.version.to_string(), "2.0.0");
        assert_eq!(name.slot, Slot::B);
        assert_eq!(machine.journal().refusals, []);
        let record = &machine.journal().slots[&Slot::B];
        assert!(record.blessed.is_some() && record.release == release);
        assert_eq!(machine.journal().phase, super::Phase::Steady);
    });
}

#[test]
fn a_bit_that_flips_before_arming_never_boots_wherever_the_power_is_cut() {
    let last = 2 * BLOCK + 99;
    for flip in [
        Flip::Slot(Area::Root, 0),
        Flip::Slot(Area::Root, 5 * BLOCK - 1),
        Flip::Slot(Area::Verity, BLOCK),
        Flip::Uki(last),
    ] {
        let flipped = |seed, cuts| {
            let mut world = World::new(seed, Behaviour::Good, cuts);
            world.flip = Some(flip);
            let (release, ..) = world.converge();
            assert_eq!(release, world.wanted);
            world
        };
        let whole = flipped(0, Vec::new());
        let boots = whole.node.boot_id();
        assert_eq!(boots, BootId::from_u128(2), "it is repaired without a restart");
        let log = whole.node.log();
        let staged = log.iter().filter(|effect| **effect == Effect::SyncTarget).count();
        assert_eq!(staged, 2, "{log:?}");
        let effects = log.len();
        for cut in 1..=effects {
            for seed in 0..8 {
                println!("{flip:?}: seed {seed}, cut after effect {cut} of {effects}");
                flipped(seed, vec![cut]);
            }
        }
    }
}

#[test]
fn a_kernel_that_panics_is_refused_wherever_the_power_is_cut() {
    with_every_cut(Behaviour::Panics, |release, name, machine| {
        fell_back(&release, name, machine, |cause| matches!(cause, Cause::Kernel { tries: 3 }));
    });
}

#[test]
fn a_userspace_that_dies_is_refused_wherever_the_power_is_cut() {
    with_every_cut(Behaviour::DiesBeforeSlipwayd, |release, name, machine| {
        fell_back(&release, name, machine, |cause| {
            *cause == Cause::Userspace { tries: 3, judging: false, blessed: false }
        });
    });
    with_every_cut(Behaviour::DiesWhileJudged, |release, name, machine| {
        fell_back(&release, name, machine, |cause| {
            *cause == Cause::Userspace { tries: 3, judging: true, blessed: false }
        });
    });
}

#[test]
fn a_failed_probe_is_the_recorded_cause_wherever_the_power_is_cut() {
    with_every_cut(Behaviour::FailsProbe, |release, name, machine| {
        fell_back(&release, name, machine, |cause| {
            *cause == Cause::Verdict(Failure::new("kubelet", "HTTP status 500"))
        });
    });
}

#[test]
fn a_good_boot_is_not_refused_for_a_verdict_that_only_took_one_try() {
    let mut world = World::new(0, Behaviour::FailsProbe, Vec::new());
    let (.., machine) = world.converge();
    let armed: Vec<_> = machine.journal().history.iter().map(|event| &event.what).collect();
    assert_eq!(armed.len(), 5, "{armed:?}");
    let names = world.node.ukis();
    assert_eq!(names.len(), 1, "the refused UKI is gone: {names:?}");
}

#[test]
fn rolling_back_by_hand_ends_on_a_whole_slot_wherever_the_power_is_cut() {
    let updated = |cuts| {
        let mut world = World::new(0, Behaviour::Good, Vec::new());
        world.converge();
        world.roll_back = true;
        let before = world.node.log().len();
        world.cuts = cuts;
        (world, before)
    };
    let (mut whole, before) = updated(Vec::new());
    let (release, name, machine) = whole.converge();
    assert_eq!((release.version.to_string().as_str(), name.generation), ("1.0.0", 3));
    let cause = &machine.journal().refusal(&whole.wanted).unwrap().cause;
    assert_eq!(*cause, Cause::RolledBack);
    let effects = whole.node.log().len();
    assert!(effects - before > 4, "{:?}", whole.node.log());
    for cut in before + 1..=effects {
        println!("cut after effect {cut} of {effects}");
        let (mut world, _) = updated(vec![cut]);
        let (release, _, machine) = world.converge();
        let rolled_back = release.version.to_string() == "1.0.0";
        assert_eq!(machine.journal().refusal(&world.wanted).is_some(), rolled_back);
        assert_eq!(machine.journal().refusal(&machine.booted_release()), None);
    }
}

#[test]
fn a_second_update_ends_on_a_whole_slot_wherever_the_power_is_cut() {
    let updated = |seed, behaviour, cuts| {
        let mut world = World::new(seed, Behaviour::Good, Vec::new());
        world.converge();
        let third = Image::new("3.0.0", behaviour);
        world.wanted = third.id.clone();
        world.images.insert(third.id.root_hash, third);
        let before = world.node.log().len();
        world.cuts = cuts;
        (world, before)
    };
    for behaviour in [Behaviour::Good, Behaviour::FailsProbe, Behaviour::Panics] {
        let (mut whole, before) = updated(0, behaviour, Vec::new());
        whole.converge();
        let effects = whole.node.log().len();
        assert!(effects - before > 12, "{:?}", whole.node.log());
        for cut in before + 1..=effects {
            for seed in 0..24 {
                println!("{behaviour:?}: seed {seed}, cut after effect {cut} of {effects}");
                let (mut world, _) = updated(seed, behaviour, vec![cut]);
                let (release, name, machine) = world.converge();
                let good = behaviour == Behaviour::Good;
                assert_eq!(release.version.to_string(), if good { "3.0.0" } else { "2.0.0" });
                assert_eq!(name.slot, if good { Slot::A } else { Slot::B });
                assert_eq!(machine.journal().refusal(&world.wanted).is_some(), !good);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Several cuts may use up the tries of a good release: then the old one runs, and the
    /// refusal says so. Whatever happens, what boots is whole, and it comes to an end.
    #[test]
    fn several_cuts_never_boot_a_torn_slot(
        seed in any::<u64>(),
        behaviour in prop::sample::select(vec![
            Behaviour::Good,
            Behaviour::Panics,
            Behaviour::DiesBeforeSlipwayd,
            Behaviour::DiesWhileJudged,
            Behaviour::FailsProbe,
        ]),
        gaps in prop::collection::vec(1_usize..14, 0..8),
    ) {
        let cuts = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
        let mut world = World::new(seed, behaviour, cuts);
        let (release, name, machine) = world.converge();
        let new = release == world.wanted;
        prop_assert!(!new || behaviour == Behaviour::Good);
        prop_assert_eq!(machine.journal().refusals.len(), usize::from(!new));
        prop_assert!(machine.journal().slots[&name.slot].blessed.is_some());
    }

    /// A partition that fails now and then stops an update, never the node.
    #[test]
    fn failing_partitions_never_boot_a_torn_slot(
        seed in any::<u64>(),
        period in 2_usize..9,
        fault in prop::sample::select(vec![Fault::Device, Fault::Full, Fault::Short(100)]),
    ) {
        let mut world = World::new(seed, Behaviour::Good, Vec::new());
        for _ in 0..10 {
            let boot = world.node.boot().unwrap();
            let image = world.check(&boot).clone();
            let mut count = 0;
            world.node.disturb(move |_| {
                count += 1;
                (count % period == 0).then_some(fault)
            });
            // Whatever fails, the node is then restarted by hand.
            let outcome = world.daemon(&boot, &image);
            prop_assert!(outcome.is_ok() || world.node.is_powered());
            world.node.cut_power_after(0);
        }
        let (release, _, machine) = world.converge();
        let new = release == world.wanted;
        prop_assert_eq!(machine.journal().refusal(&world.wanted).is_none(), new);
    }
}
