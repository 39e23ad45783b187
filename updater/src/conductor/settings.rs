//! Settings: put into force, and replaced by operators.
//!
//! In: documents. Out: the client of the channel, the API's port, files for services, another judge.
//! **Invariant:** settings that were refused are not in force, and those before are.

use std::time::Duration;

use bytes::Bytes;
use contract::node::api::{
    ApiError, Code, Problem, ProblemKind, SettingsMode, SettingsOutcome, SettingsState,
};
use contract::node::settings::{PodNetwork, Settings};
use tokio::task::JoinSet;

use super::step::{Idle, Step};
use super::{Conductor, conflict, kubelet, units};
use crate::chain;
use crate::channel::{ChannelClient, Surroundings, Watch};
use crate::cluster::{self, Cluster, Contact};
use crate::pod_network;
use crate::settings::{LackKind, NodeSettings, Taken, Unit, changed_fields};

impl Conductor {
    /// Reads the settings, or takes them from a source.
    pub(super) async fn take_settings(&mut self, step: Step) -> Step {
        match self.keeper.take().await {
            Taken::Settings(settings, origin) => {
                self.put_into_force(step, &settings, &origin.to_string()).await.0
            }
            Taken::Lack(lack) => {
                self.parts.board.solve(ProblemKind::Settings);
                // A network that is not up yet is no problem for an operator to solve.
                if lack.kind == LackKind::Unusable {
                    let problem = Problem {
                        kind: ProblemKind::Settings,
                        at: self.parts.effects.clock.now(),
                        message: format!("the settings cannot be used: {}", lack.sentence),
                        next: "see `slipway node logs --unit slipwayd.service`".to_owned(),
                    };
                    self.parts.board.set_problem(problem);
                }
                step
            }
            Taken::Quiet => {
                self.parts.board.solve(ProblemKind::Settings);
                step
            }
            Taken::Nothing => step,
        }
    }

    /// Gives the services that were restarted.
    async fn put_into_force(
        &mut self,
        step: Step,
        given: &NodeSettings,
        origin: &str,
    ) -> (Step, Vec<Unit>) {
        let settings = given.settings();
        // It must not write what the new settings take away.
        self.pod_network.shutdown().await;
        self.parts.board.solve(ProblemKind::Settings);
        let (effects, folders) = (&self.parts.effects, &self.parts.places.folders);
        let restarted = match units::adjust(effects, folders, settings).await {
            Ok(units) => units,
            Err(error) => {
                let what = "what the settings say cannot be written below /run";
                self.complain(ProblemKind::Services, what, &error);
                Vec::new()
            }
        };
        self.follow_channel(settings);
        // The port stays open when nothing changes for it: an operator waits for an answer there.
        self.parts.api.send_if_modified(|current| {
            let is_other = *current != settings.api;
            current.clone_from(&settings.api);
            is_other
        });
        self.show_settings(given, origin);
        self.follow_pod_network(settings);
        let before = self.keeper.put(settings.clone());
        let step = match before.is_none_or(|before| before.kubernetes != settings.kubernetes) {
            true => self.leave_cluster(step),
            false => step,
        };
        (self.judge_anew(step, Duration::ZERO), restarted)
    }

    /// Asks the channel of these settings from now on.
    pub(super) fn follow_channel(&mut self, settings: &Settings) {
        self.http = match self.parts.effects.network.mirrors(&settings.network) {
            Ok(client) => Some(client),
            Err(error) => {
                self.complain(ProblemKind::Network, "the network settings cannot be used", &error);
                None
            }
        };
        let client = self.http.clone().and_then(|http| {
            let surroundings = Surroundings {
                http,
                state: self.parts.effects.state.clone(),
                scratch: self.parts.places.scratch.clone(),
                image: self.parts.who.image,
            };
            ChannelClient::new(settings, surroundings)
        });
        self.watch = Watch::new(client, settings.channel.as_ref());
    }

    fn show_settings(&self, given: &NodeSettings, origin: &str) {
        let settings = given.settings();
        let redacted = serde_json::to_value(settings)
            .inspect_err(|error| tracing::error!(%error, "the settings cannot be shown"))
            .ok();
        self.parts.board.change(|board| {
            board.group = settings.channel.as_ref().and_then(|channel| channel.group.clone());
            let (schema, source) = (given.schema(), origin.to_owned());
            board.settings = Some(SettingsState { schema, source });
            board.settings_redacted = redacted;
        });
    }

    /// Writes the configuration of the network of pods as soon as the cluster allows it.
    fn follow_pod_network(&mut self, settings: &Settings) {
        self.pod_network = JoinSet::new();
        if let Some(cluster) = &settings.kubernetes
            && cluster.pod_network == PodNetwork::Bridge
        {
            let cluster = Cluster::new(cluster.clone(), &self.parts.effects);
            let folder = self.parts.places.folders.cni.clone();
            self.pod_network.spawn(pod_network::follow(cluster, folder));
        }
    }

    /// What another API server said counts no more, nor is the node drained for it.
    fn leave_cluster(&mut self, step: Step) -> Step {
        self.contact = Contact::default();
        self.drainer.forget_node();
        match step {
            Step::Draining { boot, ready, drain } => {
                tracing::info!("slipway: the drain is called off");
                drop(drain);
                Step::Idle(Idle::with(boot, Some(ready)))
            }
            Step::Idle(idle) => Step::Idle(Idle::with(idle.boot, idle.ready)),
            step => step,
        }
    }

    /// Checks a document, and with [`SettingsMode::Apply`] keeps it and puts it into force.
    pub(super) async fn replace_settings(
        &mut self,
        step: Step,
        document: &Bytes,
        mode: SettingsMode,
    ) -> (Step, Result<SettingsOutcome, ApiError>) {
        let (step, outcome) = self.try_settings(step, document, mode).await;
        if let Err(error) = &outcome {
            tracing::warn!("slipway: the settings from the API are refused: {}", error.message);
        }
        (step, outcome)
    }

    async fn try_settings(
        &mut self,
        step: Step,
        document: &Bytes,
        mode: SettingsMode,
    ) -> (Step, Result<SettingsOutcome, ApiError>) {
        let checked = match self.check_settings(document) {
            Ok(checked) => checked,
            Err(error) => return (step, Err(error)),
        };
        let changed = changed_fields(self.keeper.settings(), checked.settings());
        let message = match (mode, changed.is_empty()) {
            (_, true) => "nothing differs from the settings in force",
            (SettingsMode::DryRun, false) => "the document is good; nothing was changed",
            (SettingsMode::Apply, false) => "the settings are kept and in force",
        };
        let (step, restarts) = match mode {
            SettingsMode::Apply if step.is_leaving() => {
                (step, Err(conflict("the node restarts", "send them again when it is back")))
            }
            SettingsMode::Apply => self.apply_settings(step, &checked).await,
            SettingsMode::DryRun => (step, self.affected(checked.settings())),
        };
        let outcome = restarts.map(|restarts| {
            let restarts = restarts.into_iter().map(|unit| unit.name().to_owned()).collect();
            SettingsOutcome { changed, restarts, message: message.to_owned() }
        });
        (step, outcome)
    }

    /// Tries everything that can be tried of a document without putting it into force.
    fn check_settings(&self, document: &Bytes) -> Result<NodeSettings, ApiError> {
        let effects = &self.parts.effects;
        let invalid = |message: String| {
            ApiError::new(Code::Invalid, message, "correct the document; nothing was changed")
        };
        let checked =
            NodeSettings::from_bytes(document.to_vec()).map_err(|error| invalid(chain(&error)))?;
        let settings = checked.settings();
        if let Some(cluster) = &settings.kubernetes {
            cluster::check(cluster, effects).map_err(invalid)?;
        }
        // Otherwise the port would close, or no channel be asked, until others come in another way.
        if let Some(api) = &settings.api {
            crate::api::server_config(api)
                .map_err(|error| invalid(format!("api: {}", chain(&error))))?;
        }
        let client = effects.network.mirrors(&settings.network);
        client.map_err(|error| invalid(format!("network: {}", chain(&error))))?;
        let name = effects.membership.host_name();
        let renamed = settings.hostname.as_deref() != Some(&name);
        if settings.kubernetes.is_some() && renamed && self.has_joined() {
            let message = format!(
                "hostname: the node has joined its cluster as {name}, and its certificates are for \
                 that name"
            );
            let next = "keep the name, or install the node anew under another";
            return Err(ApiError::new(Code::Invalid, message, next));
        }
        Ok(checked)
    }

    fn affected(&self, settings: &Settings) -> Result<Vec<Unit>, ApiError> {
        let affected = units::affected(&self.parts.effects, &self.parts.places.folders, settings);
        affected.map_err(|error| {
            let message = format!("cannot read what services read below /run: {error}");
            ApiError::new(Code::Internal, message, "nothing was changed")
        })
    }

    /// Keeps settings and puts them into force, unless kubelet, which was well, ends with them: then
    /// those before come back.
    async fn apply_settings(
        &mut self,
        step: Step,
        checked: &NodeSettings,
    ) -> (Step, Result<Vec<Unit>, ApiError>) {
        let before = self.keeper.kept().await.unwrap_or_else(|error| {
            let text = chain(&error);
            tracing::warn!("slipway: there are no settings to go back to: {text}");
            None
        });
        let source = self.parts.board.read().settings.map(|settings| settings.source);
        let kubelet = kubelet::standing(&self.parts.effects, &self.parts.places.node).await;
        if let Err(error) = self.keeper.keep(checked).await {
            let failed = ApiError::new(Code::Internal, chain(&error), "nothing was changed");
            return (step, Err(failed));
        }
        let (step, restarted) = self.put_into_force(step, checked, "the API").await;
        let (Some((before, source)), Some(kubelet), true) =
            (before.zip(source), kubelet, restarted.contains(&Unit::Kubelet))
        else {
            return (step, Ok(restarted));
        };
        let (effects, node) = (&self.parts.effects, &self.parts.places.node);
        let Some(failure) = kubelet::failure_after(kubelet, effects, node).await else {
            return (step, Ok(restarted));
        };
        let message = format!("kubelet ends with these settings: {failure}");
        let kept = self.keeper.keep(&before).await;
        let (step, _) = self.put_into_force(step, &before, &source).await;
        let refusal = match kept {
            Ok(()) => {
                let next = "correct the document; the settings before are in force again";
                ApiError::new(Code::Invalid, message, next)
            }
            Err(error) => {
                let message = format!("{message}; those before cannot be kept: {}", chain(&error));
                ApiError::new(Code::Internal, message, "set them again")
            }
        };
        (step, Err(refusal))
    }
}
