//! A kernel module without a signature does not load, while Debian's signed one does.

use anyhow::{Context, Result, ensure};
use vm_tests::machine::Machine;
use vm_tests::{image, isolation};

#[test]
fn unsigned_module_does_not_load() {
    isolation::isolated("unsigned_module_does_not_load", scenario);
}

fn scenario() -> Result<()> {
    let release = image::test_image()?;
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(release.join("report.json"))?)?;
    let entries = report["root"].as_array().context("the report lists nothing")?;
    let path = entries
        .iter()
        .filter_map(|entry| entry["path"].as_str())
        .find(|path| path.ends_with("/dummy.ko"))
        .context("the image has no module `dummy`")?;
    let mut machine = Machine::start("unsigned_module_does_not_load", &release.join("disk.raw"))?;
    let outcome = machine.ask(&format!("/load-module-probe?path={path}"))?;
    let unsigned = outcome["unsigned"].as_str().unwrap_or_default();
    let refusals = ["Key was rejected", "not permitted", "Required key not available"];
    ensure!(refusals.iter().any(|refusal| unsigned.contains(refusal)), "unsigned: {outcome}");
    ensure!(outcome["signed"] == "done", "signed: {outcome}");
    Ok(())
}
