//! A stand-in for the metadata services of clouds, which speaks the protocol of the one that it is
//! told to be.
//!
//! In: requests of a machine. Out: the user data that it was given, to who asks as the cloud wants
//! it, and the refusals that the cloud has for others. **Invariant:** it listens where its maker
//! says, which for the true address is a scenario's own loopback, and ends with its process.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::http::read_head;
use crate::loopback;

mod protocol;

/// The address of all metadata services.
pub const ADDRESS: &str = "169.254.169.254";
/// The name under which a machine's user data are given.
pub const USER_DATA: &str = "user-data";
const PORT: u16 = 80;
/// How long a client may take for its request.
const SILENCE: Duration = Duration::from_secs(10);

/// A cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    /// Amazon EC2 with IMDSv2 alone.
    AmazonEc2,
    /// Google Compute Engine.
    GoogleComputeEngine,
    /// Microsoft Azure.
    Azure,
    /// OpenStack.
    OpenStack,
}

impl Cloud {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Cloud::AmazonEc2, Cloud::GoogleComputeEngine, Cloud::Azure, Cloud::OpenStack];

    /// Its name, as nodes write it.
    pub fn name(self) -> &'static str {
        match self {
            Cloud::AmazonEc2 => "Amazon EC2",
            Cloud::GoogleComputeEngine => "Google Compute Engine",
            Cloud::Azure => "Azure",
            Cloud::OpenStack => "OpenStack",
        }
    }

    /// QEMU's argument behind `-smbios` that makes the firmware say what this cloud's says.
    pub fn smbios(self) -> &'static str {
        match self {
            Cloud::AmazonEc2 => "type=1,manufacturer=Amazon EC2,product=m5.large",
            Cloud::GoogleComputeEngine => {
                "type=1,manufacturer=Google,product=Google Compute Engine"
            }
            Cloud::Azure => "type=3,asset=7783-7084-3265-9085-8269-3286-77",
            Cloud::OpenStack => "type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova",
        }
    }
}

/// A running stand-in.
#[derive(Debug, Clone)]
pub struct MetadataService {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    cloud: Cloud,
    /// User data, and for Compute Engine other attributes.
    attributes: BTreeMap<String, Vec<u8>>,
    /// Tokens that were given out.
    tokens: Vec<protocol::Token>,
    /// Sent as it is instead of an answer to a GET.
    instead: Option<String>,
    requests: Vec<String>,
}

impl MetadataService {
    /// Answers on `listener` for as long as the process lives. There are no user data yet.
    pub fn start(listener: TcpListener, cloud: Cloud) -> Self {
        let state = State {
            cloud,
            attributes: BTreeMap::new(),
            tokens: Vec::new(),
            instead: None,
            requests: Vec::new(),
        };
        let service = Self { state: Arc::new(Mutex::new(state)) };
        let own = service.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client that hangs up on a bad answer does the right thing.
                if let Err(error) = own.answer(client) {
                    eprintln!("metadata service: {error}");
                }
            }
        });
        service
    }

    /// As [`MetadataService::start`], at the true address, on the scenario's own loopback.
    ///
    /// # Errors
    /// When the scenario is not alone in its network, or the address is taken.
    pub fn start_for_guests(cloud: Cloud) -> Result<Self> {
        loopback::own_address(ADDRESS)?;
        let address: SocketAddr = format!("{ADDRESS}:{PORT}").parse()?;
        let listener = TcpListener::bind(address).with_context(|| format!("{address}"))?;
        Ok(Self::start(listener, cloud))
    }

    /// Forgets all, and is another cloud's from now on.
    pub fn become_one_of(&self, cloud: Cloud) {
        let mut state = self.state();
        state.cloud = cloud;
        state.attributes.clear();
        state.tokens.clear();
        state.requests.clear();
        state.instead = None;
    }

    /// Gives the machine [`USER_DATA`], or on Compute Engine another attribute.
    pub fn give(&self, name: &str, content: &[u8]) {
        self.state().attributes.insert(name.to_owned(), content.to_vec());
    }

    /// Sends this text instead of each answer to a GET from now on.
    pub fn answer_instead(&self, text: &str) {
        self.state().instead = Some(text.to_owned());
    }

    /// Method, path and status of each request so far.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_read_timeout(Some(SILENCE))?;
        let (head, _) = read_head(&mut client)?;
        let Some(request) = protocol::Request::parse(&head) else {
            return client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        };
        let mut state = self.state();
        let (method, path) = (&request.method, &request.path);
        if let Some(text) = state.instead.clone().filter(|_| method == "GET") {
            state.requests.push(format!("{method} {path}"));
            drop(state);
            return client.write_all(text.as_bytes());
        }
        let answer = protocol::answer(&mut state, &request);
        state.requests.push(format!("{method} {path} {}", answer.status));
        drop(state);
        client.write_all(&answer.bytes())
    }
}
