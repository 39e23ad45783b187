//! The settings in force, and why there are none.
//!
//! In: the state partition, a credential, a seed disk, a cloud. Out: settings to put into force, or
//! a [`Lack`]. **Invariant:** sources are asked only as long as there are no settings; the journal
//! hears of each reason once.

use std::path::PathBuf;
use std::time::Duration;

use contract::node::settings::{KubernetesSettings, Settings};

use super::{
    MetadataService, NodeSettings, Origin, SettingsError, Sources, USER_DATA_MARK, load,
    load_or_take, save,
};
use crate::chain;
use crate::effects::{BootedSlot, Effects, off_thread};

/// Time between two looks for settings.
const ROUND: Duration = Duration::from_secs(15);
/// Pause before a metadata service that did not answer is asked again: at a first boot the
/// network is about to come up.
const SILENCE_PAUSE: Duration = Duration::from_secs(5);

/// Why there are no settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// In one sentence, without a full stop.
    pub sentence: String,
    /// Whether an operator has to solve it by more than giving settings.
    pub kind: LackKind,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LackKind {
    /// Nobody gave any.
    None,
    /// A metadata service does not answer, which is expected to end by itself.
    Silence,
    /// Those that were given cannot be used.
    Unusable,
}

/// What a look for settings came to.
#[derive(Debug)]
pub enum Taken {
    /// There are some, and they are kept.
    Settings(Box<NodeSettings>, Origin),
    /// There are none, for the reason that was known.
    Nothing,
    /// There are none, and that is news.
    Lack(Lack),
    /// There are none, and the reason that was known has gone.
    Quiet,
}

/// Keeps the settings in force.
pub struct Keeper {
    effects: Effects,
    slot: BootedSlot,
    credentials: Option<PathBuf>,
    metadata: Option<MetadataService>,
    in_force: Option<Settings>,
    lack: Option<Lack>,
}

impl Keeper {
    /// Reads nothing yet.
    pub fn new(
        effects: Effects,
        slot: BootedSlot,
        credentials: Option<PathBuf>,
        metadata: Option<MetadataService>,
    ) -> Self {
        Self { effects, slot, credentials, metadata, in_force: None, lack: None }
    }

    /// The settings in force.
    pub fn settings(&self) -> Option<&Settings> {
        self.in_force.as_ref()
    }

    /// The cluster that they name.
    pub fn kubernetes(&self) -> Option<&KubernetesSettings> {
        self.in_force.as_ref()?.kubernetes.as_ref()
    }

    /// Why there are none.
    pub fn lack(&self) -> Option<&Lack> {
        self.lack.as_ref()
    }

    /// Time until the sources are asked again; none while there are settings.
    pub fn pause(&self) -> Option<Duration> {
        match (&self.in_force, &self.lack) {
            (Some(_), _) => None,
            (None, Some(Lack { kind: LackKind::Silence, .. })) => Some(SILENCE_PAUSE),
            (None, _) => Some(ROUND),
        }
    }

    /// Takes note of settings that are in force from now on; gives those before.
    pub fn put(&mut self, settings: Settings) -> Option<Settings> {
        self.lack = None;
        self.in_force.replace(settings)
    }

    /// Reads the settings, or takes them from a source and keeps them.
    pub async fn take(&mut self) -> Taken {
        match self.read().await {
            Ok(Some((settings, origin))) => {
                tracing::info!("slipway: settings from {origin}");
                Taken::Settings(Box::new(settings), origin)
            }
            Ok(None) => self.note(None),
            Err(lack) => self.note(Some(lack)),
        }
    }

    async fn read(&self) -> Result<Option<(NodeSettings, Origin)>, Lack> {
        let (effects, slot, credentials) =
            (self.effects.clone(), self.slot, self.credentials.clone());
        let taken = off_thread(move || {
            let sources = Sources { credentials, seed: effects.seed.as_ref() };
            load_or_take(effects.state.as_ref(), slot, &sources)
        });
        let taken = taken.await.map_err(|error| Lack {
            sentence: format!("reading the settings ended early ({error})"),
            kind: LackKind::Unusable,
        })?;
        match taken.map_err(|error| Lack::of(&error))? {
            Some(taken) => Ok(Some(taken)),
            None => self.ask_cloud().await,
        }
    }

    /// Takes the settings from the user data of the cloud that the machine is in, and keeps them.
    async fn ask_cloud(&self) -> Result<Option<(NodeSettings, Origin)>, Lack> {
        let Some(service) = &self.metadata else { return Ok(None) };
        let cloud = service.cloud();
        let given = service
            .settings(self.effects.network.as_ref())
            .await
            .map_err(|error| Lack::of(&error))?;
        let Some(settings) = given else {
            let sentence = format!(
                "{cloud} has no user data for this machine: give it some that start with the line \
                 {USER_DATA_MARK}"
            );
            return Err(Lack { sentence, kind: LackKind::None });
        };
        self.keep(&settings).await.map_err(|error| Lack::of(&error))?;
        Ok(Some((settings, Origin::Cloud(cloud))))
    }

    /// Keeps settings as this slot's own.
    ///
    /// # Errors
    /// [`SettingsError::State`]; the old ones are then still there.
    pub async fn keep(&self, settings: &NodeSettings) -> Result<(), SettingsError> {
        let (state, slot, settings) = (self.effects.state.clone(), self.slot, settings.clone());
        let kept = off_thread(move || save(state.as_ref(), slot, &settings)).await;
        kept.unwrap_or_else(|error| Err(SettingsError::ended_early("save", slot, error)))
    }

    /// The settings that this slot keeps.
    ///
    /// # Errors
    /// [`SettingsError`], when they are there and cannot be read or used.
    pub async fn kept(&self) -> Result<Option<NodeSettings>, SettingsError> {
        let (state, slot) = (self.effects.state.clone(), self.slot);
        let kept = off_thread(move || load(state.as_ref(), slot)).await;
        kept.unwrap_or_else(|error| Err(SettingsError::ended_early("read", slot, error)))
    }

    fn note(&mut self, lack: Option<Lack>) -> Taken {
        if self.lack == lack {
            return Taken::Nothing;
        }
        self.lack.clone_from(&lack);
        let Some(lack) = lack else { return Taken::Quiet };
        match lack.kind {
            LackKind::None => tracing::info!("slipway: waiting for settings: {}", lack.sentence),
            LackKind::Silence => {
                tracing::warn!("slipway: waiting for settings: {}", lack.sentence);
            }
            LackKind::Unusable => {
                tracing::error!("slipway: the settings cannot be used: {}", lack.sentence);
            }
        }
        Taken::Lack(lack)
    }
}

impl Lack {
    fn of(error: &SettingsError) -> Self {
        let kind = match error.is_silence() {
            true => LackKind::Silence,
            false => LackKind::Unusable,
        };
        Self { sentence: chain(error), kind }
    }
}
