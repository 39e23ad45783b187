//! `slipway build` and `slipway report`.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::arguments::{BuildArguments, DiskImage};
use super::describe::document_text;
use super::environment::{cache, jobs, source};
use super::outcome::{Answer, ExitStatus, Failed};
use crate::assemble::{self, BuildError, BuildRequest, REPORT_FILE};
use crate::image::report::{MAX_REPORT_BYTES, Report};
use crate::progress::Progress;
use crate::signing::keys::KeyFolder;

/// Where throw-away keys are made at first use; any other folder must be there.
const DEVELOPMENT_KEYS: &str = "keys/dev";

/// Builds and signs a release.
pub async fn build(arguments: BuildArguments, progress: &Progress) -> Result<Answer, Failed> {
    let started = Instant::now();
    let keys = open_keys(&arguments.keys).map_err(BuildError::from)?;
    if keys.is_development() {
        progress.note(&format!(
            "development build: {} holds throw-away keys, and no real channel takes what they sign",
            arguments.keys.display()
        ));
    }
    let request = BuildRequest {
        source: source(&arguments.source)?,
        jobs: jobs(arguments.source.jobs),
        manifest: arguments.manifest,
        lock: arguments.lock,
        out: arguments.out,
        version: arguments.release_version,
        qcow2: arguments.disk == DiskImage::Qcow2,
    };
    let built = assemble::build(&request, &keys, &cache()?, progress).await?;
    let seconds = started.elapsed().as_secs_f64();
    let text = format!(
        "{}\nbuilt in {seconds:.1} s: {}\n",
        document_text(&built.document),
        request.out.display()
    );
    let json = json!({
        "out": request.out,
        "seconds": seconds,
        "release": built.document,
    });
    Ok(Answer { text, json })
}

fn open_keys(folder: &Path) -> Result<KeyFolder, crate::signing::keys::KeyError> {
    if folder.ends_with(DEVELOPMENT_KEYS) {
        return KeyFolder::open_or_create_development(folder);
    }
    KeyFolder::open(folder)
}

/// Prints the readable form of a release's report.
pub fn report(release: &Path) -> Result<Answer, Failed> {
    let report = read_report(release)?;
    let json = serde_json::to_value(&report).map_err(Failed::other)?;
    Ok(Answer { text: report.to_text(), json })
}

/// Reads `report.json` of a release folder.
pub fn read_report(release: &Path) -> Result<Report, Failed> {
    let path = release.join(REPORT_FILE);
    let refuse = |problem: String| Failed {
        message: format!(
            "{}: {problem}: give a release folder, which `slipway build` makes",
            path.display()
        ),
        status: ExitStatus::Input,
    };
    let bytes = fs::metadata(&path).map_err(|error| refuse(error.to_string()))?.len();
    if bytes > MAX_REPORT_BYTES {
        return Err(refuse("too large for a report".into()));
    }
    let text = fs::read(&path).map_err(|error| refuse(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))
}
