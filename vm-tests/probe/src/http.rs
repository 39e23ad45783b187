//! As much of HTTP/1.0 (RFC 1945) as tests ask for: one request per connection, one
//! connection at a time.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Largest request head, in bytes.
const MAX_HEAD: usize = 8 << 10;
/// How long a client may take to say or hear something.
const PATIENCE: Duration = Duration::from_secs(20);

/// A `GET` request.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Decoded path.
    pub path: String,
    parameters: Vec<(String, String)>,
}

impl Request {
    /// The decoded value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Parses the head of a request; `None` when it is not `GET` or not HTTP.
    pub fn parse(head: &str) -> Option<Self> {
        let mut words = head.lines().next()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if method != "GET" || !version.starts_with("HTTP/1.") || words.next().is_some() {
            return None;
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut parameters = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.push((decode(key)?, decode(value)?));
        }
        Some(Self { path: decode(path)?, parameters })
    }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// What a client gets.
#[derive(Debug)]
pub struct Answer {
    status: u16,
    kind: &'static str,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    /// Plain text.
    pub fn text(text: &str) -> Self {
        Self::bytes(text.as_bytes().to_vec())
    }

    /// Any bytes.
    pub fn bytes(body: Vec<u8>) -> Self {
        Self { status: 200, kind: "application/octet-stream", headers: String::new(), body }
    }

    /// A document.
    pub fn json(value: &serde_json::Value) -> Self {
        let body = value.to_string().into_bytes();
        Self { status: 200, kind: "application/json", headers: String::new(), body }
    }

    /// A refusal with its reason.
    pub fn error(status: u16, reason: &str) -> Self {
        Self { status, ..Self::text(&format!("{reason}\n")) }
    }

    /// The same with one more header.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    fn write(&self, stream: &mut impl Write) -> io::Result<()> {
        let Self { status, kind, headers, body } = self;
        let length = body.len();
        write!(
            stream,
            "HTTP/1.0 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             {headers}\r\n"
        )?;
        stream.write_all(body)?;
        stream.flush()
    }
}

/// Answers connections, one after the other, for ever.
pub fn serve(listener: &TcpListener, answer: impl Fn(&Request) -> Answer) -> ! {
    loop {
        let result = listener.accept().and_then(|(stream, _)| answer_connection(stream, &answer));
        if let Err(error) = result {
            // A client that goes away is its own loss; the next one is served.
            eprintln!("probe: {error}");
        }
    }
}

fn answer_connection(
    mut stream: TcpStream,
    answer: &impl Fn(&Request) -> Answer,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = read_head(&mut stream)?;
    let answer = match Request::parse(&head) {
        Some(request) => answer(&request),
        None => Answer::error(400, "only GET over HTTP/1"),
    };
    answer.write(&mut stream)
}

fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut piece)?;
        if count == 0 || head.len() > MAX_HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no whole request"));
        }
        head.extend_from_slice(&piece[..count]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_parameters_are_decoded() {
        let request = Request::parse("GET /read?path=%2Fetc%2Fa%20b&x HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(request.path, "/read");
        assert_eq!(request.parameter("path"), Some("/etc/a b"));
        assert_eq!(request.parameter("x"), Some(""));
        assert_eq!(request.parameter("y"), None);
    }

    #[test]
    fn other_requests_are_refused() {
        for head in ["", "POST / HTTP/1.1", "GET /", "GET /%zz HTTP/1.0", "GET /%f HTTP/1.0"] {
            assert_eq!(Request::parse(head), None, "{head}");
        }
        let mut endless = io::repeat(b'x');
        assert!(read_head(&mut endless).is_err());
    }

    #[test]
    fn an_answer_says_how_long_it_is() {
        let mut written = Vec::new();
        Answer::text("pod is up\n").with_header("X-Y", "z").write(&mut written).unwrap();
        let text = String::from_utf8(written).unwrap();
        assert!(text.starts_with("HTTP/1.0 200 "), "{text}");
        assert!(text.contains("Content-Length: 10\r\n"), "{text}");
        assert!(text.ends_with("X-Y: z\r\n\r\npod is up\n"), "{text}");
    }
}
