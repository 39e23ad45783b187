//! What a command takes from the machine that it runs on: mirrors, cache, processors.

use std::path::Path;

use super::arguments::SourceArguments;
use super::outcome::Failed;
use crate::inputs::cache::Cache;
use crate::inputs::fetch::mirror::{ENVIRONMENT_VARIABLE, MirrorError};
use crate::inputs::fetch::{Mirrors, Source};

/// Mirrors by flag, environment or the host's apt configuration; or the cache alone.
pub fn source(arguments: &SourceArguments) -> Result<Source, Failed> {
    if arguments.offline {
        return Ok(Source::Offline);
    }
    let environment = std::env::var(ENVIRONMENT_VARIABLE).ok();
    let found = Mirrors::discover(
        arguments.mirror.as_deref(),
        environment.as_deref(),
        Path::new("/etc/apt"),
    );
    found.map(Source::Mirrors).map_err(|error: MirrorError| Failed::input(error))
}

/// The cache folder of this user.
pub fn cache() -> Result<Cache, Failed> {
    Cache::open_default().map_err(Failed::other)
}

/// Downloads and compilers at a time.
pub fn jobs(wanted: Option<usize>) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    wanted.unwrap_or(cores).max(1)
}
