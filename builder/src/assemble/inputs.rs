//! Gathering: everything that the lock pins, fetched, unpacked and built.

use std::collections::BTreeMap;

use url::Url;

use super::BuildError;
use crate::formats::tree::{Content, TreePath};
use crate::image::compose::{BuiltFile, Inputs};
use crate::image::selinux;
use crate::inputs::cache::Cache;
use crate::inputs::container_image::{ImageSpec, layout};
use crate::inputs::debian::unpack_all;
use crate::inputs::fetch::{self, Fetching, Source, UrlFile};
use crate::inputs::golang::{self, GoBuild, Pins};
use crate::inputs::workspace;
use crate::lock::Lock;
use crate::manifest::{Manifest, Part};
use crate::progress::Progress;

/// Folder of the root from which the node imports container images.
const IMAGES_FOLDER: &str = "usr/share/slipway/images";

/// Largest file by URL, in bytes.
const MAX_DOWNLOAD_BYTES: u64 = 1 << 30;

/// How inputs are gathered.
#[derive(Clone, Copy)]
pub struct Gathering<'a> {
    /// Mirrors, or the cache alone.
    pub source: &'a Source,
    /// Downloads and compilers at a time.
    pub jobs: usize,
    /// Where everything is kept.
    pub cache: &'a Cache,
    /// Who is told.
    pub progress: &'a Progress,
}

impl Gathering<'_> {
    fn fetching(&self) -> Fetching<'_> {
        Fetching {
            source: self.source,
            jobs: self.jobs,
            cache: self.cache,
            progress: self.progress,
        }
    }

    fn offline(&self) -> bool {
        matches!(self.source, Source::Offline)
    }
}

/// Fetches what the lock pins, without using it.
///
/// # Errors
/// [`BuildError::Fetch`].
pub async fn fetch(
    manifest: &Manifest,
    lock: &Lock,
    gathering: &Gathering<'_>,
) -> Result<fetch::Fetched, BuildError> {
    let fetched = fetch::fetch_all(&lock.debian.package, &gathering.fetching()).await?;
    for (name, part) in &manifest.parts {
        download(name, part, gathering).await?;
    }
    Ok(fetched)
}

/// Gathers all inputs of the manifest's parts.
///
/// # Errors
/// [`BuildError`] from the stage that failed.
pub async fn gather(
    manifest: &Manifest,
    lock: &Lock,
    gathering: &Gathering<'_>,
) -> Result<Inputs, BuildError> {
    fetch::fetch_all(&lock.debian.package, &gathering.fetching()).await?;
    let unpacked =
        unpack_all(&lock.debian.package, gathering.jobs, gathering.cache, gathering.progress)?;
    let programs = workspace_programs(manifest, gathering).await?;
    let mut built = BTreeMap::new();
    for (name, part) in &manifest.parts {
        let mut files = download(name, part, gathering).await?;
        files.append(&mut build_go(manifest, part, gathering).await?);
        for (program, path) in &part.workspace {
            files.push(own(path.clone(), programs[program].clone(), true));
        }
        files.append(&mut container_images(manifest, part, &programs)?);
        built.insert(name.clone(), files);
    }
    let packages = unpacked.into_iter().map(|package| package.tree).collect();
    let policy = selinux::compile(manifest, &packages, gathering.cache, gathering.progress).await?;
    Ok(Inputs { packages, built, policy })
}

fn own(path: TreePath, content: Content, executable: bool) -> BuiltFile {
    BuiltFile {
        path,
        content,
        executable,
        package: "slipway".into(),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

async fn download(
    name: &str,
    part: &Part,
    gathering: &Gathering<'_>,
) -> Result<Vec<BuiltFile>, BuildError> {
    let mut files = Vec::new();
    for download in &part.downloads {
        let url = Url::parse(&download.url);
        let url =
            url.map_err(|_| BuildError::Url { part: name.into(), url: download.url.clone() })?;
        let wanted = UrlFile { url, sha256: download.sha256, limit: MAX_DOWNLOAD_BYTES };
        let path = fetch::fetch_url(&wanted, &gathering.fetching()).await?;
        let unreadable = |error| BuildError::Write(path.clone(), error);
        files.push(BuiltFile {
            path: download.path.clone(),
            content: Content::from_file(&path).map_err(unreadable)?,
            executable: download.executable,
            package: download.url.clone(),
            version: String::new(),
        });
    }
    Ok(files)
}

async fn build_go(
    manifest: &Manifest,
    part: &Part,
    gathering: &Gathering<'_>,
) -> Result<Vec<BuiltFile>, BuildError> {
    let Some(go) = &part.go else { return Ok(Vec::new()) };
    let pins = Pins::read(&part.resolve(&go.module))?;
    let request = GoBuild {
        pins: &pins,
        programs: go.install.keys().map(String::as_str).collect(),
        ldflags: &go.ldflags,
        architecture: manifest.image.architecture,
        offline: gathering.offline(),
        jobs: gathering.jobs,
    };
    let programs = golang::build(&request, gathering.cache, gathering.progress).await?;
    let files = go.install.iter().filter_map(|(program, path)| {
        Some(BuiltFile {
            path: path.clone(),
            content: programs.get(program)?.clone(),
            executable: true,
            package: pins.lock.module.clone(),
            version: pins.lock.version.clone(),
        })
    });
    Ok(files.collect())
}

/// All programs of this workspace that any part needs, built in one go.
async fn workspace_programs(
    manifest: &Manifest,
    gathering: &Gathering<'_>,
) -> Result<BTreeMap<String, Content>, BuildError> {
    let parts = manifest.parts.values();
    let direct = parts.clone().flat_map(|part| part.workspace.keys());
    let in_images = parts.flat_map(|part| part.container_images.iter().map(|image| &image.program));
    let mut names: Vec<&str> = direct.chain(in_images).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let request = workspace::WorkspaceBuild {
        near: &manifest.file,
        programs: &names,
        offline: gathering.offline(),
        jobs: gathering.jobs,
    };
    Ok(workspace::build(&request, gathering.cache, gathering.progress).await?)
}

fn container_images(
    manifest: &Manifest,
    part: &Part,
    programs: &BTreeMap<String, Content>,
) -> Result<Vec<BuiltFile>, BuildError> {
    let mut files = Vec::new();
    for image in &part.container_images {
        let archive = layout(&ImageSpec {
            name: &image.name,
            program: &image.program,
            content: &programs[&image.program],
            arguments: &image.arguments,
            architecture: manifest.image.architecture,
        })?;
        let file: String = image
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
            .collect();
        let path = TreePath::parse(&format!("{IMAGES_FOLDER}/{file}.tar"))
            .map_err(crate::image::compose::ComposeError::from)?;
        files.push(own(path, Content::from_bytes(archive), false));
    }
    Ok(files)
}
