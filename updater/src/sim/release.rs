//! Releases of the simulator: tiny, with real hash trees, and with UKIs that the firmware takes.
//!
//! In: a number and a kind. Out: what a channel holds for it, and how it behaves once it boots.
//! **Invariant:** a release is the same in every run.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use contract::release::layout::Architecture;
use contract::release::uki_name::UkiName;
use contract::{Digest, ReleaseVersion, RootHash, Slot};
use rcgen::{CertificateParams, DnType};

use crate::channel::tests::repository::key;
use crate::effects::Area;
use crate::effects::fake::{FakeNode, Wellness};
use crate::secure_boot::testing::program;
use crate::staging::tests::release::{Published, noise, publish_with};

/// Bytes of a root: two frames and a half.
const ROOT: usize = 160 << 10;
/// Bytes of a kernel.
const KERNEL: usize = 12 << 10;

/// How a release behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behaviour {
    /// It becomes well, and stays so.
    Good,
    /// Its kernel panics, or its initrd hangs until the watchdog bites.
    Panics,
    /// It dies after its initrd, before slipwayd runs.
    DiesBeforeSlipwayd,
    /// It dies while it is judged.
    DiesWhileJudged,
    /// Container runtime and kubelet never become well.
    NeverHealthy,
    /// They are well for a moment.
    HealthyForAMoment,
    /// What the settings ask for beside them is not well.
    ProbeFails,
    /// Its slot's content is not that of the root hash that its offer names.
    WrongRootHash,
    /// Its UKI is signed by somebody whom the firmware does not know.
    SignedByStranger,
    /// Its kernel panics at each start after it was found good.
    PanicsOnceBlessed,
    /// It dies while it settles, at each start after it was found good.
    DiesOnceBlessed,
    /// Its offer names a slipwayd that this one is older than.
    NeedsUpdater,
    /// Its offer requires a feature that this slipwayd does not know.
    NeedsFeature,
}

impl Behaviour {
    /// All kinds that are bad once they boot, or cannot be staged.
    pub const BAD: [Behaviour; 12] = [
        Behaviour::Panics,
        Behaviour::DiesBeforeSlipwayd,
        Behaviour::DiesWhileJudged,
        Behaviour::NeverHealthy,
        Behaviour::HealthyForAMoment,
        Behaviour::ProbeFails,
        Behaviour::WrongRootHash,
        Behaviour::SignedByStranger,
        Behaviour::PanicsOnceBlessed,
        Behaviour::DiesOnceBlessed,
        Behaviour::NeedsUpdater,
        Behaviour::NeedsFeature,
    ];

    /// True of one that can never be armed.
    pub fn is_never_staged(self) -> bool {
        matches!(self, Behaviour::WrongRootHash | Behaviour::SignedByStranger)
    }

    /// True of one that is meant for a later slipwayd.
    pub fn needs_later(self) -> bool {
        matches!(self, Behaviour::NeedsUpdater | Behaviour::NeedsFeature)
    }

    /// True of one that is well until it was found good.
    pub fn dies_once_blessed(self) -> bool {
        matches!(self, Behaviour::PanicsOnceBlessed | Behaviour::DiesOnceBlessed)
    }

    /// True of one whose slipwayd never starts under this name.
    pub fn dies_before_slipwayd(self, name: UkiName) -> bool {
        match self {
            Behaviour::Panics | Behaviour::DiesBeforeSlipwayd => true,
            Behaviour::PanicsOnceBlessed => !name.is_on_trial(),
            _ => false,
        }
    }

    /// True of one that is well in its first boot.
    pub fn may_be_found_good(self) -> bool {
        self == Behaviour::Good || self.dies_once_blessed()
    }

    /// How well its boots are.
    pub fn wellness(self) -> Wellness {
        let start = Duration::from_secs(25);
        let (from, until) = match self {
            Behaviour::NeverHealthy => (Duration::MAX, Duration::MAX),
            Behaviour::HealthyForAMoment => (start, start + Duration::from_secs(10)),
            _ => (start, Duration::MAX),
        };
        Wellness { from, until, status: if self == Behaviour::ProbeFails { 500 } else { 200 } }
    }
}

/// A release, as its channel holds it.
pub struct Release {
    /// Its version.
    pub version: ReleaseVersion,
    /// What is published.
    pub published: Published,
    /// Its offer, as the channel has it.
    pub offer: String,
    /// What the hash partition must hold.
    tree: Vec<u8>,
}

/// What differs between releases of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Make {
    Plain,
    WrongRootHash,
    SignedByStranger,
    NeedsUpdater,
    NeedsFeature,
}

/// Numbers of releases: 1 runs at first.
pub const NUMBERS: usize = 5;

/// The release of a number that can behave so.
pub fn release(number: usize, behaviour: Behaviour) -> &'static Release {
    static RELEASES: OnceLock<Vec<[Release; 5]>> = OnceLock::new();
    let releases = RELEASES.get_or_init(|| {
        let makes = [
            Make::Plain,
            Make::WrongRootHash,
            Make::SignedByStranger,
            Make::NeedsUpdater,
            Make::NeedsFeature,
        ];
        (1..=NUMBERS).map(|number| makes.map(|make| Release::make(number, make))).collect()
    });
    let make = match behaviour {
        Behaviour::WrongRootHash => 1,
        Behaviour::SignedByStranger => 2,
        Behaviour::NeedsUpdater => 3,
        Behaviour::NeedsFeature => 4,
        _ => 0,
    };
    &releases[number - 1][make]
}

/// A certificate that the firmware knows, and one that it does not.
fn certificates() -> &'static [Vec<u8>; 2] {
    static CERTIFICATES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    CERTIFICATES.get_or_init(|| [("ours", 101), ("stranger", 102)].map(certificate))
}

fn certificate((name, number): (&str, u8)) -> Vec<u8> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.self_signed(&*key(number)).unwrap().der().to_vec()
}

/// What the firmware starts.
pub fn db() -> Vec<u8> {
    crate::secure_boot::testing::db(&[&certificates()[0]])
}

impl Release {
    fn make(number: usize, make: Make) -> Self {
        let mut root = noise(1, ROOT);
        // Most blocks are those of the release before.
        for block in [0, 7 * number % 40, 11 * number % 40] {
            let bytes = noise((number * 100 + block) as u64, 4096);
            root[block * 4096..][..4096].copy_from_slice(&bytes);
        }
        let signer = usize::from(make == Make::SignedByStranger);
        let ukis = |root: &[u8]| -> BTreeMap<Slot, Vec<u8>> {
            let uki = |slot: Slot| {
                let mut content = noise(number as u64 + 1000, KERNEL);
                content.extend(format!("slot {slot} root {}", Digest::of(root)).as_bytes());
                (slot, program(&content, &[&certificates()[signer]]))
            };
            Slot::ALL.map(uki).into()
        };
        let mut published = publish_with(root.clone(), ukis(&root), b"salt");
        if make == Make::WrongRootHash {
            root[4096 * 3] ^= 1;
            let other = publish_with(root.clone(), ukis(&root), b"salt");
            // Every frame is as the offer says, and the whole is not.
            published.offer.root = other.offer.root.clone();
            published.blobs.extend(other.blobs);
        }
        let version: ReleaseVersion = format!("{number}.0.0").parse().unwrap();
        published.offer.release.version = version.clone();
        published.offer.release.development = false;
        published.offer.release.architecture = Architecture::X86_64;
        if make == Make::NeedsUpdater {
            published.offer.minimum_updater = semver::Version::new(9, 0, 0);
        }
        let mut offer = published.offer.to_json().unwrap();
        if make == Make::NeedsFeature {
            let mut document: serde_json::Value = serde_json::from_str(&offer).unwrap();
            document["requires"] = serde_json::json!(["cohorts"]);
            offer = document.to_string();
        }
        let tree = published.tree();
        Self { version, published, offer, tree }
    }

    /// Its root hash.
    pub fn root_hash(&self) -> RootHash {
        self.published.offer.release.root.root_hash
    }

    /// Puts it into a slot, whole.
    pub fn install(&self, node: &FakeNode, name: UkiName) {
        node.install_slot(name.slot, Area::Root, &self.published.root);
        node.install_slot(name.slot, Area::Verity, &self.tree);
        node.install_uki(name, &self.published.ukis[&name.slot]);
    }

    /// True when its slot holds it on the device, as dm-verity would find at the first read.
    pub fn is_whole(&self, node: &FakeNode, slot: Slot) -> bool {
        node.holds(slot, Area::Root, &self.published.root)
            && node.holds(slot, Area::Verity, &self.tree)
    }
}
