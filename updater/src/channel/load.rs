//! One look at a channel's metadata: the clock, the mirrors in order, the memory.
//!
//! In: a clock reading. Out: a [`View`]. **Invariant:** whatever `tough` verified is kept, also
//! when the look fails later on, and before anything is done with it: a newer root, or a newer
//! version, that was seen once cannot be taken back by cutting the line.

use std::io;
use std::path::Path;

use contract::channel::targets::{
    MAX_METADATA_BYTES, MAX_ROOT_UPDATES, MAX_SMALL_METADATA_BYTES, METADATA_DIR, TARGETS_DIR,
};
use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use serde_json::Value;
use tokio::fs;
use tough::schema::{Role, Targets};
use tough::{ExpirationEnforcement, Limits, Repository, RepositoryLoader};

use super::clock::{ClockReading, trusted_now};
use super::memory::{Loaded, Memory};
use super::transport::HttpTransport;
use super::{ChannelClient, ChannelError, View};

/// Known times are only saved when they are this much newer: flash wears out.
const TIME_GRAIN: SignedDuration = SignedDuration::from_mins(30);

impl ChannelClient {
    /// Loads the metadata from the first mirror whose metadata can be believed.
    ///
    /// # Errors
    /// [`ChannelError`]; of several mirrors, that of the first which answered something wrong,
    /// or else of the first.
    pub async fn open(&self, reading: &ClockReading) -> Result<View, ChannelError> {
        // The scratch folder and the memory are for one look at a time.
        let _lane = self.lane.lock().await;
        let state = self.surroundings.state.as_ref();
        let Loaded { mut memory, is_damaged } = Memory::load(state).map_err(ChannelError::State)?;
        let built = self.surroundings.image.built;
        let now = trusted_now(reading, built, &memory.times)
            .map_err(|reason| ChannelError::Clock { reason, servers: self.time_servers.clone() })?;
        let mut failure: Option<ChannelError> = None;
        for mirror in &self.mirrors {
            let error = match self.open_mirror(mirror, now, &mut memory).await {
                Ok((repository, expires)) => {
                    let before = memory.times;
                    memory.times.accept(reading);
                    if is_newer(memory.times.synchronized, before.synchronized)
                        || is_newer(memory.times.plain, before.plain)
                    {
                        memory.save(state).map_err(ChannelError::State)?;
                    }
                    let image = self.surroundings.image;
                    let mirror = mirror.clone();
                    let is_memory_damaged = is_damaged;
                    return Ok(View { repository, image, mirror, expires, is_memory_damaged });
                }
                Err(error) => error,
            };
            // One mirror that is down says less than one that is wrong.
            if failure.as_ref().is_none_or(|first| first.is_outage() && !error.is_outage()) {
                failure = Some(error);
            }
        }
        // Settings have a mirror: see `Settings::check`.
        Err(failure.unwrap_or_else(|| {
            ChannelError::State(io::Error::new(io::ErrorKind::InvalidInput, "no mirror is given"))
        }))
    }

    async fn open_mirror(
        &self,
        mirror: &Url,
        now: Timestamp,
        memory: &mut Memory,
    ) -> Result<(Repository, Timestamp), ChannelError> {
        let scratch = &self.surroundings.scratch;
        fill(scratch, memory).await.map_err(ChannelError::State)?;
        let root = match memory.root(&self.initial) {
            Some(root) => {
                serde_json::to_vec(root).map_err(|error| ChannelError::State(error.into()))?
            }
            None => self.initial_root.clone(),
        };
        let loaded = self.load(mirror, &root).await;
        let before = memory.clone();
        // Also after a failure: each file there was verified before it was written. Only when
        // writing itself failed, half of one may be there.
        if !matches!(loaded, Err(ChannelError::State(_))) {
            self.take_back(memory).await.map_err(ChannelError::State)?;
        }
        fs::remove_dir_all(&self.surroundings.scratch).await.map_err(ChannelError::State)?;
        if *memory != before {
            memory.save(self.surroundings.state.as_ref()).map_err(ChannelError::State)?;
        }
        let repository = loaded?;
        let expires = check_expiry(&repository, mirror, now)?;
        Ok((repository, expires))
    }

    async fn load(&self, mirror: &Url, root: &Vec<u8>) -> Result<Repository, ChannelError> {
        let metadata = folder(mirror, METADATA_DIR);
        let targets = folder(mirror, TARGETS_DIR);
        let others = self.mirrors.iter().filter(|other| *other != mirror);
        let others = others.map(|other| folder(other, TARGETS_DIR)).collect();
        let client = self.surroundings.http.clone();
        RepositoryLoader::new(root, metadata, targets.clone())
            .transport(HttpTransport { client, targets, others })
            .datastore(&self.surroundings.scratch)
            // `check_expiry` does it, with a time that can be trusted.
            .expiration_enforcement(ExpirationEnforcement::Unsafe)
            .limits(Limits {
                max_root_size: MAX_SMALL_METADATA_BYTES,
                max_timestamp_size: MAX_SMALL_METADATA_BYTES,
                max_snapshot_size: MAX_SMALL_METADATA_BYTES,
                max_targets_size: MAX_METADATA_BYTES,
                max_root_updates: MAX_ROOT_UPDATES,
            })
            .load()
            .await
            .map_err(|error| ChannelError::from_tuf(mirror, error))
    }

    /// Takes over what was verified.
    async fn take_back(&self, memory: &mut Memory) -> io::Result<()> {
        let scratch = &self.surroundings.scratch;
        if let Some(root) = read(&scratch.join("root.json")).await? {
            memory.keep_root(self.initial, root);
            // Gone when a rotation of keys asks for it: see 5.3.11 of the TUF specification.
            memory.timestamp = read(&scratch.join("timestamp.json")).await?;
            memory.snapshot = read(&scratch.join("snapshot.json")).await?;
        }
        Ok(())
    }
}

/// A folder below a mirror, whose address ends with `/`.
fn folder(mirror: &Url, name: &str) -> Url {
    let mut url = mirror.clone();
    url.set_path(&format!("{}{name}/", mirror.path()));
    url
}

/// Makes the folder anew, with what is remembered.
async fn fill(scratch: &Path, memory: &Memory) -> io::Result<()> {
    match fs::remove_dir_all(scratch).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir_all(scratch).await?,
    }
    for (name, value) in
        [("timestamp.json", &memory.timestamp), ("snapshot.json", &memory.snapshot)]
    {
        if let Some(value) = value {
            fs::write(scratch.join(name), serde_json::to_vec(value)?).await?;
        }
    }
    Ok(())
}

async fn read(path: &Path) -> io::Result<Option<Value>> {
    match fs::read(path).await {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_newer(new: Option<Timestamp>, old: Option<Timestamp>) -> bool {
    match (new, old) {
        (Some(new), Some(old)) => new.duration_since(old) >= TIME_GRAIN,
        (new, old) => new != old,
    }
}

/// The first expiry of all documents that count.
fn check_expiry(
    repository: &Repository,
    mirror: &Url,
    now: Timestamp,
) -> Result<Timestamp, ChannelError> {
    let mut roles = vec![
        ("root".to_owned(), repository.root().signed.expires()),
        ("timestamp".to_owned(), repository.timestamp().signed.expires()),
        ("snapshot".to_owned(), repository.snapshot().signed.expires()),
        ("targets".to_owned(), repository.targets().signed.expires()),
    ];
    delegated(&repository.targets().signed, &mut roles);
    let mut first = Timestamp::MAX;
    for (role, since) in roles {
        if since < now {
            return Err(ChannelError::Expired { mirror: mirror.to_string(), role, since, now });
        }
        first = first.min(since);
    }
    Ok(first)
}

fn delegated(targets: &Targets, roles: &mut Vec<(String, Timestamp)>) {
    let delegations = targets.delegations.iter().flat_map(|delegations| &delegations.roles);
    for role in delegations {
        if let Some(targets) = &role.targets {
            roles.push((role.name.clone(), targets.signed.expires()));
            delegated(&targets.signed, roles);
        }
    }
}
