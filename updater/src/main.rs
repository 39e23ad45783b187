//! `slipwayd`: what runs on the node. This file parses, wires and prints.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use updater::api;
use updater::conductor::Places;
use updater::daemon;
use updater::effects::Effects;
use updater::effects::boot::BootFacts;
use updater::effects::hostname::Kernel;
use updater::effects::seed::{self, MountedSeed};
use updater::effects::state::StateFolder;
use updater::grpc::Client;
use updater::import::{self, Outcome};
use updater::settings::{self, MetadataService, RuntimeFolders, Sources};
use updater::verdict::{HttpAddress, NodePrograms};

/// What runs on a Slipway node.
#[derive(Debug, Parser)]
#[command(name = "slipwayd", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hand the images that the root carries to containerd.
    ImportImages(ImportImages),
    /// Judge this boot, follow the channel, and answer operators.
    Run(RunDaemon),
    /// Put the settings that the machine's firmware gives into memory.
    TakeCredential,
    /// Give the kernel the host name of the settings.
    SetHostname(OnDisk),
    /// Write what the settings say for kubelet, before it starts.
    ConfigureKubelet(OnDisk),
    /// Succeed if this boot has time left, was found good, or has nothing to fall back to.
    IsJudged(OnDisk),
    /// Print the API's description.
    Openapi,
}

#[derive(Debug, Args)]
struct RunDaemon {
    #[command(flatten)]
    disk: OnDisk,
    /// The API's Unix socket.
    #[arg(long, default_value = contract::node::api::SOCKET)]
    api: PathBuf,
    /// Folder in memory for metadata that is being read.
    #[arg(long, default_value = "/run/slipway/tuf")]
    scratch: PathBuf,
    #[command(flatten)]
    health: HealthAddresses,
}

#[derive(Debug, Args)]
struct OnDisk {
    /// Where the EFI system partition is mounted.
    #[arg(long, default_value = "/efi")]
    esp: PathBuf,
    /// Folder of the documents that outlast restarts.
    #[arg(long, default_value = "/var/lib/slipway")]
    state: PathBuf,
}

#[derive(Debug, Args)]
struct HealthAddresses {
    /// containerd's socket.
    #[arg(long, value_name = "SOCKET", default_value = "/run/containerd/containerd.sock")]
    containerd: PathBuf,
    /// kubelet's health address.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:10248/healthz")]
    kubelet: HttpAddress,
}

#[derive(Debug, Args)]
struct ImportImages {
    /// Folder with one OCI layout per .tar file.
    #[arg(long, default_value = "/usr/share/slipway/images")]
    folder: PathBuf,
    /// containerd's socket.
    #[arg(long, default_value = "/run/containerd/containerd.sock")]
    socket: PathBuf,
    /// containerd's namespace; kubelet looks into this one.
    #[arg(long, default_value = "k8s.io")]
    namespace: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("slipwayd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::Openapi => {
            print!("{}", api::DOCUMENT);
            Ok(())
        }
        Command::ImportImages(arguments) => import_images(&arguments).await,
        Command::Run(arguments) => run_daemon(arguments).await,
        Command::TakeCredential => take_credential(),
        Command::SetHostname(disk) => set_hostname(&disk),
        Command::ConfigureKubelet(disk) => configure_kubelet(&disk),
        Command::IsJudged(disk) => is_judged(&disk),
    }
}

impl From<HealthAddresses> for NodePrograms {
    fn from(HealthAddresses { containerd, kubelet }: HealthAddresses) -> Self {
        Self { containerd, kubelet }
    }
}

fn effects(facts: &BootFacts, disk: &OnDisk) -> Effects {
    Effects::of_this_machine(facts, &disk.esp, &disk.state)
}

async fn run_daemon(arguments: RunDaemon) -> anyhow::Result<()> {
    log_to_journal();
    let facts = BootFacts::read(Path::new("/"))?;
    let effects = effects(&facts, &arguments.disk);
    let places = Places {
        scratch: arguments.scratch,
        credentials: Some(settings::CREDENTIALS.into()),
        metadata: MetadataService::of_this_machine(),
        node: arguments.health.into(),
        folders: RuntimeFolders::default(),
    };
    Ok(daemon::run(effects, facts, &arguments.api, places).await?)
}

fn is_judged(disk: &OnDisk) -> anyhow::Result<()> {
    log_to_journal();
    let facts = BootFacts::read(Path::new("/"))?;
    let effects = effects(&facts, disk);
    anyhow::ensure!(
        daemon::may_go_on(&effects, facts.slot)?,
        "this boot was not found good in time: the node restarts"
    );
    Ok(())
}

fn set_hostname(disk: &OnDisk) -> anyhow::Result<()> {
    let facts = BootFacts::read(Path::new("/"))?;
    let seed = MountedSeed { folder: seed::FOLDER.into() };
    let sources = Sources { credentials: Some(settings::CREDENTIALS.into()), seed: &seed };
    let state = StateFolder::new(&disk.state);
    if let Some(name) = settings::apply_hostname(&state, facts.slot, &sources, &Kernel)? {
        println!("slipway: this node is {name}");
    }
    Ok(())
}

fn configure_kubelet(disk: &OnDisk) -> anyhow::Result<()> {
    let facts = BootFacts::read(Path::new("/"))?;
    let seed = MountedSeed { folder: seed::FOLDER.into() };
    let sources = Sources { credentials: Some(settings::CREDENTIALS.into()), seed: &seed };
    let state = StateFolder::new(&disk.state);
    let folders = RuntimeFolders::default();
    Ok(settings::configure_kubelet(&state, facts.slot, &sources, &folders)?)
}

fn take_credential() -> anyhow::Result<()> {
    let folder = Path::new(settings::CREDENTIALS);
    let taken = settings::take_credential(Path::new("/"), folder)
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    if taken {
        println!("slipway: the machine gives settings");
    }
    Ok(())
}

/// Events go to the journal with their fields.
fn log_to_journal() {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    match tracing_journald::layer() {
        Ok(journal) => {
            let journal = journal.with_field_prefix(Some("SLIPWAY".to_owned()));
            let own = tracing_subscriber::filter::Targets::new()
                .with_target("updater", tracing::Level::INFO);
            tracing_subscriber::registry().with(own).with(journal).init();
        }
        Err(error) => eprintln!("slipwayd: there is no journal, so events are lost: {error}"),
    }
}

async fn import_images(arguments: &ImportImages) -> anyhow::Result<()> {
    let archives = import::archives(&arguments.folder)?;
    if archives.is_empty() {
        println!("slipway: no images in {}", arguments.folder.display());
        return Ok(());
    }
    let client = Client::connect(&arguments.socket).await?;
    let client = client.within(&arguments.namespace, import::LEASE)?;
    for archive in archives {
        let outcomes = import::import(&client, &archive)
            .await
            .with_context(|| format!("cannot import {}", archive.display()))?;
        for (name, outcome) in outcomes {
            let done = match outcome {
                Outcome::Imported => "imported",
                Outcome::Present => "present",
            };
            println!("slipway: image {name} {done}");
        }
    }
    Ok(())
}
