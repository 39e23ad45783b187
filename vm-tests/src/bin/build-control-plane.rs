//! Builds the control plane of the VM tests, beside scenarios that need none.

fn main() -> anyhow::Result<()> {
    testbed::cluster::build()
}
