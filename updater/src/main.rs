//! `slipwayd`: what runs on the node. This file parses, wires and prints.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use updater::grpc::Client;
use updater::import::{self, Outcome};
use updater::verdict::{self, HttpAddress, Node};

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
    /// Wait until the node can run pods; fails with what is missing.
    WaitHealthy(WaitHealthy),
    /// Print the OpenAPI document of the node's API.
    Openapi,
}

#[derive(Debug, Args)]
struct WaitHealthy {
    /// How long to wait, in seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: u64,
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
            println!("{}", updater::api::document().to_pretty_json()?);
            Ok(())
        }
        Command::ImportImages(arguments) => import_images(&arguments).await,
        Command::WaitHealthy(WaitHealthy { timeout, containerd, kubelet }) => {
            let limit = Duration::from_secs(timeout);
            let node = Node { containerd, kubelet };
            Ok(verdict::wait(&node, limit, |line| println!("{line}")).await?)
        }
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
