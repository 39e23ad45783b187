//! Settings: taken from their sources, put into force, replaced by operators.
//!
//! In: documents. Out: the client of the channel, the API's port, the host name, files for
//! systemd's network and time services and for kubelet. **Invariant:** settings that were refused are
//! not in force, and those before are.

use std::time::Duration;

use bytes::Bytes;
use contract::node::api::{ApiError, Code, SettingsMode, SettingsOutcome, SettingsState};
use contract::node::settings::{PodNetwork, Settings};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::cluster::Heard;
use super::kubelet;
use super::{Conductor, Look, ROUND, Surroundings, Work, conflict};
use crate::chain;
use crate::channel::ChannelClient;
use crate::cluster::{self, Cluster};
use crate::daemon::{Identity, api_of};
use crate::effects::SYSTEMCTL;
use crate::pod_network::{self, CNI_FOLDER};
use crate::settings::{
    self, MountedSeed, NodeSettings, Origin, RuntimeFolders, SettingsError, Sources,
    USER_DATA_MARK, Unit,
};

/// Gives the kernel the host name of the settings: this program may not.
const HOSTNAME_UNIT: &str = "slipway-hostname.service";
/// Pause before a metadata service that did not answer is asked again: at a first boot the
/// network is about to come up.
const SILENCE_PAUSE: Duration = Duration::from_secs(5);

/// Why there are no settings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lack {
    sentence: String,
    /// A metadata service does not answer, which is expected to end by itself.
    is_silence: bool,
}

impl Lack {
    pub(super) fn sentence(&self) -> &str {
        &self.sentence
    }
}

impl Conductor {
    /// Reads the settings, or takes them from a source.
    pub(super) async fn load_settings(&mut self) {
        let state = self.parts.effects.state.clone();
        let slot = self.parts.facts.slot;
        let credentials = self.parts.places.credentials.clone();
        let taken = tokio::task::spawn_blocking(move || {
            let seed = MountedSeed { folder: settings::SEED.into() };
            let sources = Sources { credentials, seed: &seed };
            settings::load_or_take(state.as_ref(), slot, &sources)
        });
        match taken.await {
            Ok(Ok(Some((settings, origin)))) => self.begin_with(&settings, origin).await,
            Ok(Ok(None)) => self.ask_cloud().await,
            Ok(Err(error)) => self.note_lack(&error),
            Err(error) => tracing::error!(%error, "reading the settings ended early"),
        }
    }

    /// Takes the settings from the user data of the cloud that the machine is in, and keeps them.
    async fn ask_cloud(&mut self) {
        let Some(service) = &self.parts.places.metadata else {
            self.end_lack();
            return;
        };
        let cloud = service.cloud();
        let state = self.parts.effects.state.as_ref();
        let taken = match service.settings().await {
            Ok(Some(settings)) => {
                settings::save(state, self.parts.facts.slot, &settings).map(|()| Some(settings))
            }
            other => other,
        };
        match taken {
            Ok(Some(settings)) => self.begin_with(&settings, Origin::Cloud(cloud)).await,
            Ok(None) => {
                let sentence = format!(
                    "{cloud} has no user data for this machine: give it some that start with the \
                     line {USER_DATA_MARK}"
                );
                if self.change_lack(Lack { sentence, is_silence: false }) {
                    tracing::info!("slipway: waiting for settings: {cloud} has no user data");
                }
            }
            Err(error) => self.note_lack(&error),
        }
    }

    async fn begin_with(&mut self, settings: &NodeSettings, origin: Origin) {
        tracing::info!("slipway: settings from {origin}");
        self.put_into_force(settings, &origin.to_string()).await;
    }

    fn note_lack(&mut self, error: &SettingsError) {
        let (sentence, is_silence) = (chain(error), error.is_silence());
        // A network that is not up yet is no problem for an operator to solve.
        if self.change_lack(Lack { sentence, is_silence }) {
            match is_silence {
                true => tracing::warn!("slipway: waiting for settings: {}", chain(error)),
                false => self.complain("the settings cannot be used", error),
            }
        }
    }

    /// True when it is another one. Every round asks again; the journal is told once.
    fn change_lack(&mut self, lack: Lack) -> bool {
        if self.lack.as_ref() == Some(&lack) {
            return false;
        }
        self.end_lack();
        self.lack = Some(lack);
        true
    }

    /// Forgets why there were no settings, and the problem that said so.
    fn end_lack(&mut self) {
        if let Some(lack) = self.lack.take() {
            self.parts.board.change(|board| {
                board.problem.take_if(|problem| problem.message.contains(&lack.sentence));
            });
        }
    }

    /// Time until the sources are asked again.
    pub(super) fn pause_for_settings(&self) -> Duration {
        match &self.lack {
            Some(Lack { is_silence: true, .. }) => SILENCE_PAUSE,
            Some(_) | None => ROUND,
        }
    }

    /// Gives the services that were restarted.
    async fn put_into_force(&mut self, given: &NodeSettings, origin: &str) -> Vec<Unit> {
        let settings = given.settings();
        // It must not write what the new settings take away.
        self.pod_network.shutdown().await;
        self.end_lack();
        let restarted = self.adjust_units(settings).await;
        self.http = match crate::http::client(&settings.network) {
            Ok(client) => Some(client),
            Err(error) => {
                self.complain("the network settings cannot be used", &error);
                None
            }
        };
        self.client = self.http.clone().and_then(|http| {
            let surroundings = Surroundings {
                http,
                state: self.parts.effects.state.clone(),
                scratch: self.parts.places.scratch.clone(),
                image: self.parts.identity.image,
            };
            ChannelClient::new(settings, surroundings)
        });
        let api = api_of(Some(settings));
        // The port stays open when nothing changes for it: an operator waits for an answer there.
        self.parts.api.send_if_modified(|current| {
            let is_other = *current != api;
            *current = api;
            is_other
        });
        let redacted = serde_json::to_value(settings).ok();
        self.parts.board.change(|board| {
            board.group = settings.channel.as_ref().and_then(|channel| channel.group.clone());
            let (schema, source) = (given.schema(), origin.to_owned());
            board.settings = Some(SettingsState { schema, source });
            board.settings_redacted = redacted;
        });
        self.follow_pod_network(settings);
        let before = self.settings.replace(settings.clone());
        self.look = Look::default();
        // What another API server said counts no more.
        if before.is_none_or(|before| before.kubernetes != settings.kubernetes) {
            self.heard = Heard::default();
            self.stop_draining();
            self.drain.forget_node();
        }
        self.next_look = Instant::now();
        self.judge_anew();
        restarted
    }

    /// Writes the configuration of the network of pods as soon as the cluster allows it.
    fn follow_pod_network(&mut self, settings: &Settings) {
        self.pod_network = JoinSet::new();
        if let Some(cluster) = &settings.kubernetes
            && cluster.pod_network == PodNetwork::Bridge
        {
            let cluster = Cluster::of_this_machine(cluster.clone());
            self.pod_network.spawn(pod_network::follow(cluster, CNI_FOLDER.into()));
        }
    }

    /// A boot that is being judged is judged by the settings in force.
    fn judge_anew(&mut self) {
        if let Work::Judging(task, pending) = &mut self.work
            && let Some(pending) = pending.take()
        {
            task.abort();
            self.judge(pending);
        }
    }

    /// Writes what network and time services and kubelet read, and restarts those that must read
    /// it again, which it gives.
    async fn adjust_units(&self, settings: &Settings) -> Vec<Unit> {
        let units = match settings::render(&RuntimeFolders::default(), settings) {
            Ok(units) => units,
            Err(error) => {
                self.complain("what the settings say cannot be written below /run", &error);
                return Vec::new();
            }
        };
        let restarts = with_kubelet(units.clone(), settings);
        let renamed = renames(settings);
        let mut orders = Vec::new();
        if renamed {
            orders.push((["--quiet", "restart"], HOSTNAME_UNIT));
        }
        let (kubelet, others): (Vec<_>, Vec<_>) =
            units.into_iter().partition(|unit| *unit == Unit::Kubelet);
        orders.extend(others.into_iter().map(|unit| (["--quiet", "try-restart"], unit.name())));
        // kubelet did not start when the settings before these could not be used. It waits for much
        // itself, so it is not waited for.
        let verb = if kubelet.is_empty() && !renamed { "start" } else { "restart" };
        orders.push((["--no-block", verb], Unit::Kubelet.name()));
        for (order, name) in orders {
            let restarted = Command::new(SYSTEMCTL).args(order).arg(name).output().await;
            match restarted {
                Ok(output) if output.status.success() => {
                    tracing::info!(unit = name, "slipway: {} for the settings", order[1]);
                }
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr);
                    tracing::error!(unit = name, status = %output.status, "cannot {}: {said}", order[1]);
                }
                Err(error) => tracing::error!(unit = name, %error, "cannot run systemctl"),
            }
        }
        restarts
    }

    /// Checks a document, and with [`SettingsMode::Apply`] keeps it and puts it into force.
    pub(super) async fn replace_settings(
        &mut self,
        document: &Bytes,
        mode: SettingsMode,
    ) -> Result<SettingsOutcome, ApiError> {
        let outcome = self.try_settings(document, mode).await;
        if let Err(error) = &outcome {
            tracing::warn!("slipway: the settings from the API are refused: {}", error.message);
        }
        outcome
    }

    async fn try_settings(
        &mut self,
        document: &Bytes,
        mode: SettingsMode,
    ) -> Result<SettingsOutcome, ApiError> {
        let invalid = |message: String| {
            ApiError::new(Code::Invalid, message, "correct the document; nothing was changed")
        };
        let checked =
            NodeSettings::from_bytes(document.to_vec()).map_err(|error| invalid(chain(&error)))?;
        if let Some(cluster) = &checked.settings().kubernetes {
            cluster::check(cluster).map_err(invalid)?;
        }
        // Otherwise the port would close, or no channel be asked, until others come in another way.
        if let Some(api) = &checked.settings().api {
            crate::api::server_config(api)
                .map_err(|error| invalid(format!("api: {}", chain(&error))))?;
        }
        crate::http::client(&checked.settings().network)
            .map_err(|error| invalid(format!("network: {}", chain(&error))))?;
        let renamed = checked.settings().hostname.as_deref() != Some(&Identity::hostname());
        if checked.settings().kubernetes.is_some() && renamed && cluster::has_joined() {
            let message = format!(
                "hostname: the node has joined its cluster as {}, and its certificates are for that \
                 name",
                Identity::hostname()
            );
            let next = "keep the name, or install the node anew under another";
            return Err(ApiError::new(Code::Invalid, message, next));
        }
        let changed = changed_fields(self.settings.as_ref(), checked.settings());
        let message = match (mode, changed.is_empty()) {
            (_, true) => "nothing differs from the settings in force",
            (SettingsMode::DryRun, false) => "the document is good; nothing was changed",
            (SettingsMode::Apply, false) => "the settings are kept and in force",
        };
        let restarts = if let SettingsMode::Apply = mode {
            if self.is_leaving() {
                return Err(conflict("the node restarts", "send them again when it is back"));
            }
            self.apply_settings(&checked).await?
        } else {
            let units = settings::affected(&RuntimeFolders::default(), checked.settings());
            let units = units.map_err(|error| {
                let message = format!("cannot read what services read below /run: {error}");
                ApiError::new(Code::Internal, message, "nothing was changed")
            })?;
            with_kubelet(units, checked.settings())
        };
        let restarts = restarts.into_iter().map(|unit| unit.name().to_owned()).collect();
        Ok(SettingsOutcome { changed, restarts, message: message.to_owned() })
    }
}

impl Conductor {
    /// Keeps settings and puts them into force, unless kubelet, which was well, ends with them: then
    /// those before come back.
    async fn apply_settings(&mut self, checked: &NodeSettings) -> Result<Vec<Unit>, ApiError> {
        let (state, slot) = (self.parts.effects.state.clone(), self.parts.facts.slot);
        let source = self.parts.board.read().settings.map(|settings| settings.source);
        let before = settings::load(state.as_ref(), slot).ok().flatten().zip(source);
        let kubelet = kubelet::standing(&self.parts.places.node).await;
        settings::save(state.as_ref(), slot, checked)
            .map_err(|error| ApiError::new(Code::Internal, chain(&error), "nothing was changed"))?;
        let restarted = self.put_into_force(checked, "the API").await;
        let (Some((before, source)), Some(kubelet), true) =
            (before, kubelet, restarted.contains(&Unit::Kubelet))
        else {
            return Ok(restarted);
        };
        let node = &self.parts.places.node;
        let Some(failure) = kubelet::failure_after(kubelet, node).await else {
            return Ok(restarted);
        };
        let message = format!("kubelet ends with these settings: {failure}");
        let kept = settings::save(state.as_ref(), slot, &before);
        self.put_into_force(&before, &source).await;
        Err(match kept {
            Ok(()) => {
                let next = "correct the document; the settings before are in force again";
                ApiError::new(Code::Invalid, message, next)
            }
            Err(error) => {
                let message = format!("{message}; those before cannot be kept: {}", chain(&error));
                ApiError::new(Code::Internal, message, "set them again")
            }
        })
    }
}

/// True when the settings give the node another name than it has.
fn renames(settings: &Settings) -> bool {
    settings.hostname.as_ref().is_some_and(|name| *name != Identity::hostname())
}

/// Another name for the node restarts kubelet too.
fn with_kubelet(mut units: Vec<Unit>, settings: &Settings) -> Vec<Unit> {
    if renames(settings) && !units.contains(&Unit::Kubelet) {
        units.push(Unit::Kubelet);
    }
    units
}

/// Top-level fields and their own fields that differ, by name.
fn changed_fields(old: Option<&Settings>, new: &Settings) -> Vec<String> {
    let shown = |settings: &Settings| serde_json::to_value(settings).unwrap_or_default();
    let old_shown = old.map(shown).unwrap_or_default();
    let mut changed = Vec::new();
    let fields = shown(new);
    let names = fields.as_object().into_iter().flatten().map(|(name, _)| name.clone());
    let gone = old_shown.as_object().into_iter().flatten().map(|(name, _)| name.clone());
    let all: std::collections::BTreeSet<String> = names.chain(gone).collect();
    for name in all {
        let (before, after) = (&old_shown[&name], &fields[&name]);
        match (before.as_object(), after.as_object()) {
            (Some(before), Some(after)) => {
                let keys: std::collections::BTreeSet<&String> =
                    before.keys().chain(after.keys()).collect();
                let differs = |key: &&&String| before.get(**key) != after.get(**key);
                changed.extend(keys.iter().filter(differs).map(|key| format!("{name}.{key}")));
            }
            _ if before != after => changed.push(name),
            _ => {}
        }
    }
    for name in old.into_iter().flat_map(|old| changed_secrets(old, new)) {
        if !changed.iter().any(|known| known == name) {
            changed.push(name.to_owned());
        }
    }
    changed
}

/// Fields with a secret that both have, and that differ: what is shown of them may be the same.
fn changed_secrets(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let mut changed = Vec::new();
    let mut differ = |name, differs| {
        if differs {
            changed.push(name);
        }
    };
    if let (Some(old), Some(new)) = (&old.api, &new.api) {
        differ("api.key", old.key != new.key);
    }
    if let (Some(old), Some(new)) = (&old.kubernetes, &new.kubernetes) {
        differ("kubernetes.bootstrap", old.bootstrap != new.bootstrap);
    }
    differ("network.proxy", old.network.proxy != new.network.proxy);
    differ("registries", old.registries != new.registries);
    changed
}
