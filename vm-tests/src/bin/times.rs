//! `times begin` forgets what earlier runs of the scenarios took; `times` prints what they took
//! since.

use anyhow::{Result, bail};
use vm_tests::report;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["begin"] => report::begin(),
        [] => {
            print!("{}", report::table()?);
            Ok(())
        }
        _ => bail!("say `times begin` or `times`"),
    }
}
