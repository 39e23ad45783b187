//! What a test asks for inside a container, by `kubectl exec` or as a container's command.

use std::env;
use std::fs;
use std::io::{Error, Result, Write, stdout};
use std::thread;

/// Longest text that is printed; what is read is a test's own.
const MAX_BYTES: u64 = 1 << 20;
/// Enough for a thread that sleeps.
const STACK_BYTES: usize = 16 << 10;

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

/// Starts so many threads, none of which ends; says how many there are when no more start, and waits.
pub fn threads(most: &str) -> Result<()> {
    let most: u32 = most.parse().map_err(Error::other)?;
    for started in 0..most {
        let thread = thread::Builder::new().stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(|| {
            loop {
                thread::park();
            }
        }) {
            println!("probe: no more than {started} threads: {error}");
            loop {
                thread::park();
            }
        }
    }
    Err(Error::other(format!("{most} threads started")))
}
