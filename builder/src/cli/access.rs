//! `slipway keys access`: who may speak to nodes.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::outcome::{Answer, Failed};
use crate::signing::keys::access::{self, DEFAULT_DAYS, Holder};

/// `slipway keys access`.
#[derive(Debug, Subcommand)]
pub enum AccessCommand {
    /// Make an authority, which nodes and callers trust, in a new folder.
    New {
        /// The folder.
        folder: PathBuf,
    },
    /// Issue a certificate to a caller or a node.
    Issue(IssueArguments),
}

/// `slipway keys access issue`.
#[derive(Debug, Args)]
pub struct IssueArguments {
    /// Folder of the authority.
    pub authority: PathBuf,
    #[command(flatten)]
    pub holder: HolderArguments,
    /// IP address or DNS name under which callers reach the node; may be given several times.
    #[arg(long, value_name = "IP|DNS", conflicts_with_all = ["reader", "operator"])]
    pub address: Vec<String>,
    /// Days that the certificate is valid.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_DAYS,
          value_parser = clap::value_parser!(u16).range(1..=7300))]
    pub days: u16,
    /// New folder for key, certificate and ca.pem.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Whom a certificate is for.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct HolderArguments {
    /// Somebody who may look.
    #[arg(long, value_name = "NAME")]
    pub reader: Option<String>,
    /// Somebody who may look, and change things.
    #[arg(long, value_name = "NAME")]
    pub operator: Option<String>,
    /// A node.
    #[arg(long, value_name = "NAME", requires = "address")]
    pub node: Option<String>,
}

/// Makes an authority, or issues a certificate.
pub fn access(command: &AccessCommand) -> Result<Answer, Failed> {
    match command {
        AccessCommand::New { folder } => new(folder),
        AccessCommand::Issue(arguments) => issue(arguments),
    }
}

fn new(folder: &Path) -> Result<Answer, Failed> {
    access::create_authority(folder, Timestamp::now()).map_err(Failed::input)?;
    Ok(Answer {
        text: format!(
            "The authority is in {0}.\n\
             Whoever has ca.key can make themselves operator of every node that trusts it.\n\
             Issue certificates with `slipway keys access issue {0} --operator NAME --out DIR`.\n",
            folder.display()
        ),
        json: json!({ "folder": folder }),
    })
}

fn issue(arguments: &IssueArguments) -> Result<Answer, Failed> {
    let HolderArguments { reader, operator, node } = &arguments.holder;
    let out = arguments.out.display();
    let (holder, next) = match (reader, operator, node) {
        (Some(name), ..) => (Holder::Reader(name.clone()), caller_next(&arguments.out)),
        (_, Some(name), _) => (Holder::Operator(name.clone()), caller_next(&arguments.out)),
        (.., node) => {
            let (name, addresses) = (node.clone().unwrap_or_default(), arguments.address.clone());
            let next = format!(
                "Put {out}/api.json into the node's settings as `api`. It holds the private key.\n"
            );
            (Holder::Node { name, addresses }, next)
        }
    };
    access::issue(&arguments.authority, &holder, arguments.days, Timestamp::now(), &arguments.out)
        .map_err(Failed::input)?;
    let text = format!("Key and certificate are in {out}, for {} days.\n{next}", arguments.days);
    Ok(Answer { text, json: json!({ "folder": arguments.out, "days": arguments.days }) })
}

fn caller_next(out: &Path) -> String {
    format!(
        "Use it with `slipway node --address https://NODE --access {} status`.\n",
        out.display()
    )
}
