//! A kernel module without a signature does not load, while Debian's signed one does.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use vm_tests::machine::Machine;

pub fn shows(machine: &mut Machine, release: &Path) -> Result<()> {
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(release.join("report.json"))?)?;
    let entries = report["root"].as_array().context("the report lists nothing")?;
    let path = entries
        .iter()
        .filter_map(|entry| entry["path"].as_str())
        .find(|path| path.ends_with("/dummy.ko"))
        .context("the image has no module `dummy`")?;
    let outcome = machine.ask(&format!("/load-module-probe?path={path}"))?;
    let unsigned = outcome["unsigned"].as_str().unwrap_or_default();
    let refusals = ["Key was rejected", "not permitted", "Required key not available"];
    ensure!(refusals.iter().any(|refusal| unsigned.contains(refusal)), "unsigned: {outcome}");
    ensure!(outcome["signed"] == "done", "signed: {outcome}");
    Ok(())
}
