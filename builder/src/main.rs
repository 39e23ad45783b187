//! `slipway`, the command: everything is in the library's `cli`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    ExitCode::from(builder::cli::run().await as u8)
}
