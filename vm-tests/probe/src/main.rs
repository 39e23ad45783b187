//! Test only, never in a released image: looks at a running node from the inside and
//! answers over HTTP on port 9100. `probe hello` is the only program of a test container
//! and says on port 8080 that its pod is up.

mod attempts;
mod errno;
mod facts;
mod files;
mod http;
mod state;

use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;

use crate::http::{Answer, Request};

const PROBE_PORT: u16 = 9100;
const HELLO_PORT: u16 = 8080;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (port, answer): (u16, fn(&Request) -> Answer) = match words.as_slice() {
        [] => (PROBE_PORT, answer),
        ["hello"] => (HELLO_PORT, |_| Answer::text("pod is up\n")),
        _ => {
            eprintln!("probe: call it without arguments, or as `probe hello`");
            return ExitCode::FAILURE;
        }
    };
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Ok(listener) => http::serve(&listener, answer),
        Err(error) => {
            eprintln!("probe: cannot listen on port {port}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn answer(request: &Request) -> Answer {
    match request.path.as_str() {
        "/facts" => Answer::json(&facts::all()),
        "/files" => files::all(),
        "/read" => files::read(request.parameter("path")),
        "/write-probe" => Answer::json(&attempts::writes()),
        "/load-module-probe" => attempts::load_module(request.parameter("path")),
        "/state" => state::answer(request.parameter("key"), request.parameter("write")),
        _ => Answer::error(404, "no such page"),
    }
}
