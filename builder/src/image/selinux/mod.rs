//! SELinux in an image: the policy as the kernel reads it, and a label on every entry of the root.
//!
//! In: `[selinux]` of a manifest and the locked packages. Out: a [`Policy`], then a labelled tree.
//! **Invariant:** the compiler comes from the lock and gets nothing of the building host, so the
//! same manifest and lock give the same bytes.

mod compile;
mod label;

use std::io;
use std::path::PathBuf;

use contract::Architecture;

use crate::formats::tree::TreePath;

pub use compile::compile;
pub use label::{ATTRIBUTE, add, label_all, label_type};

/// A policy that was compiled, and what the node reads beside it.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What the kernel reads.
    pub binary: Vec<u8>,
    /// Labels by path, for what programs make at run time.
    pub file_contexts: Vec<u8>,
}

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum SelinuxError {
    /// The policy's folder or a file in it cannot be read.
    #[error("cannot read the SELinux policy {}: correct `policy` in [selinux]", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A folder without a policy.
    #[error("{} holds no file `*.cil`: correct `policy` in [selinux]", .0.display())]
    Empty(PathBuf),
    /// The compiler is not among the locked packages.
    #[error(
        "no locked package has {0}, which compiles the SELinux policy: add `secilc` to `packages` of a part and run `slipway lock`"
    )]
    NoCompiler(TreePath),
    /// The compiler is a program of the image's architecture, and this machine's is another.
    #[error(
        "the SELinux policy is compiled by a program of the lock for {image}, which this machine ({host}) does not run: build on {image}, or remove [selinux]"
    )]
    Foreign {
        /// What the image is for.
        image: Architecture,
        /// What this machine is.
        host: &'static str,
    },
    /// The compiler could not be put in place, started or read.
    #[error("cannot run the SELinux policy's compiler: free some room, and build again")]
    Run(#[source] io::Error),
    /// The compiler refused the policy.
    #[error("the SELinux policy in {} does not compile; correct what it names:\n{output}", .folder.display())]
    Refused {
        /// The policy's folder.
        folder: PathBuf,
        /// Last lines of what the compiler says.
        output: String,
    },
    /// A permissive policy under keys that nodes trust.
    #[error(
        "`state = \"permissive\"` in [selinux] is for development builds: use development keys, or another state"
    )]
    Permissive,
}
