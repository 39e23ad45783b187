//! Test only: looks at a node from the inside and answers over HTTP, because a node has no
//! shell to ask. Never part of an image that a release is made from.
//!
//! `probe serve` listens on port 9100; `probe hello` is the one program of the test pod's
//! image and says on port 8080 that the pod is up; `print`, `write`, `variable`, `fill` and `threads` are for
//! tests inside a container; `install-network` is a network add-on; the others are what bad
//! releases do.

mod actions;
mod attempts;
mod facts;
mod files;
mod misbehave;
mod network;
mod pod;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

const PROBE_PORT: u16 = 9100;
const HELLO_PORT: u16 = 8080;
const MAX_REQUEST_LINE: u64 = 8192;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let served = match words[..] {
        // CNI starts its plugins without arguments.
        [] if std::env::var_os("CNI_COMMAND").is_some() => network::plugin(),
        ["install-network", folder] => network::install(folder),
        ["serve"] => serve(PROBE_PORT, answer),
        ["hello"] => {
            tell_kernel();
            serve(HELLO_PORT, |_, _| Ok(b"pod is up\n".to_vec()))
        }
        ["hang"] => misbehave::hang(),
        ["stop-kubelet-when-healthy"] => misbehave::stop_kubelet_when_healthy(),
        ["panic-once-blessed"] => misbehave::panic_once_blessed(),
        ["print", path] => pod::print(path),
        ["write", path, text] => pod::write(path, text),
        ["variable", name] => pod::variable(name),
        ["fill", mebibytes] => pod::fill(mebibytes),
        ["threads", most] => pod::threads(most),
        _ => Err(std::io::Error::other("say `probe serve`, `probe hello` or what to do")),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("probe: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a container sees of the kernel that it runs on.
fn tell_kernel() {
    match std::fs::read_to_string("/proc/version") {
        Ok(version) => println!("probe: on {}", version.trim()),
        Err(error) => println!("probe: on a kernel that does not say which: {error}"),
    }
}

type Answer = Result<Vec<u8>, String>;

/// Answers one connection after another, for ever.
fn serve(port: u16, answer: fn(&str, &BTreeMap<String, String>) -> Answer) -> std::io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("probe: listening on {port}");
    for stream in listener.incoming() {
        // A client that goes away is its own business; the next one is waiting.
        if let Err(error) = stream.and_then(|stream| answer_one(stream, answer)) {
            eprintln!("probe: a client went away: {error}");
        }
    }
    Ok(())
}

fn answer_one(
    mut stream: TcpStream,
    answer: fn(&str, &BTreeMap<String, String>) -> Answer,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?.take(MAX_REQUEST_LINE)).read_line(&mut line)?;
    let target = line.split_whitespace().nth(1).unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query: BTreeMap<String, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let (status, body) = match answer(path, &query) {
        Ok(body) => ("200 OK", body),
        Err(problem) => ("500 Failed", problem.into_bytes()),
    };
    let head = format!("HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)
}

fn answer(path: &str, query: &BTreeMap<String, String>) -> Answer {
    let wanted = |key: &str| query.get(key).ok_or(format!("say {path}?{key}=…"));
    let number = |key: &str| {
        wanted(key)?.parse::<u64>().map_err(|error| format!("{key} is not a number: {error}"))
    };
    let json = |value: Value| Ok(value.to_string().into_bytes());
    match path {
        "/facts" => json(facts::facts()),
        "/files" => json(files::files()),
        "/read" => {
            let path = wanted("path")?;
            std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))
        }
        "/link" => {
            let path = wanted("path")?;
            let target = std::fs::read_link(path);
            target
                .map(|target| target.display().to_string().into_bytes())
                .map_err(|error| format!("{path} is no link: {error}"))
        }
        "/list" => actions::list(wanted("path")?),
        "/well" => well(),
        "/unit" => actions::unit(wanted("name")?),
        "/systemctl" => actions::systemctl(wanted("verb")?, query.get("unit").map(String::as_str)),
        "/watchdogs" => json(actions::watchdogs()),
        "/fetch" => actions::fetch(wanted("address")?, wanted("path")?),
        "/flip" => actions::flip(wanted("path")?, number("offset")?),
        "/fill" => actions::fill(wanted("path")?, number("leave")?),
        "/unfill" => actions::unfill(wanted("path")?),
        "/hang" => misbehave::hang().map(|()| Vec::new()).map_err(|error| error.to_string()),
        "/write-probe" => json(attempts::writes()),
        "/load-module-probe" => json(attempts::load_module(wanted("path")?)),
        "/state" => facts::state(wanted("key")?, query.get("write").map(String::as_str)),
        _ => Err(format!("{path} is unknown")),
    }
}

/// What the scenarios' settings name as a probe of their own.
fn well() -> Answer {
    if std::env::var_os("PROBE_IS_SICK").is_some() {
        return Err("the test probe is told to be sick".into());
    }
    Ok(b"well\n".to_vec())
}
