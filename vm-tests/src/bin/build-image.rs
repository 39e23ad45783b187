//! Builds the image of the VM tests once, and prints its release folder.

fn main() -> anyhow::Result<()> {
    println!("{}", vm_tests::image::build("test")?.canonicalize()?.display());
    Ok(())
}
