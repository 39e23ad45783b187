//! What a test asks for inside a container, by `kubectl exec` or as a container's command.

use std::env;
use std::fs;
use std::io::{Error, Result, Write, stdout};

/// Longest text that is printed; what is read is a test's own.
const MAX_BYTES: u64 = 1 << 20;

/// Prints a file.
pub fn print(path: &str) -> Result<()> {
    let size = fs::metadata(path)?.len();
    if size > MAX_BYTES {
        return Err(Error::other(format!("{path} has {size} bytes")));
    }
    stdout().write_all(&fs::read(path)?)
}

/// Writes a text into a file.
pub fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text)
}

/// Prints a variable of the environment.
pub fn variable(name: &str) -> Result<()> {
    let value = env::var(name).map_err(|error| Error::other(format!("{name}: {error}")))?;
    println!("{value}");
    Ok(())
}

/// Takes so many MiB of memory, each page of it.
pub fn fill(mebibytes: &str) -> Result<()> {
    let mebibytes: usize = mebibytes.parse().map_err(Error::other)?;
    let taken = vec![1_u8; mebibytes << 20];
    println!("probe: took {} MiB", taken.len() >> 20);
    Ok(())
}
