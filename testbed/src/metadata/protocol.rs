//! What each cloud asks of a request, and answers.
//!
//! In: a request, and what the machine was given. Out: an answer. Sources: "Use the Instance
//! Metadata Service" (Amazon EC2), "About VM metadata" (Compute Engine), "Azure Instance Metadata
//! Service", "Metadata service" (OpenStack Nova).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Cloud, State, USER_DATA};

/// Longest life of EC2's token, in seconds.
const MAX_TOKEN_SECONDS: u64 = 21_600;

/// One of EC2's tokens.
#[derive(Debug)]
pub(super) struct Token {
    text: String,
    ends: Instant,
}

/// A request without its body: no metadata service wants one.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// With the query.
    pub(super) path: String,
    /// By their names in lower case.
    headers: BTreeMap<String, String>,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
}

impl Request {
    pub(super) fn parse(head: &str) -> Option<Self> {
        let mut lines = head.lines();
        let mut words = lines.next()?.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
            .collect();
        Some(Self { method, path, headers })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

impl Answer {
    fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// 404 without content.
    fn content(content: Option<&[u8]>) -> Self {
        match content {
            Some(body) => Self { body: body.to_vec(), ..Self::status(200) },
            None => Self::status(404),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", self.body.len());
        [head.as_bytes(), &self.body].concat()
    }
}

pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    match state.cloud {
        Cloud::AmazonEc2 => amazon_ec2(state, request),
        Cloud::GoogleComputeEngine => Answer {
            headers: vec![("Metadata-Flavor", "Google"), ("Server", "Metadata Server for VM")],
            ..google_compute_engine(state, request)
        },
        Cloud::Azure => azure(state, request),
        Cloud::OpenStack => match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/openstack/latest/user_data") => user_data(state),
            _ => Answer::status(404),
        },
    }
}

fn user_data(state: &State) -> Answer {
    Answer::content(state.attributes.get(USER_DATA).map(Vec::as_slice))
}

/// Version 2 alone: a token, asked for with PUT and its life; not through a proxy.
fn amazon_ec2(state: &mut State, request: &Request) -> Answer {
    if request.header("x-forwarded-for").is_some() {
        return Answer::status(403);
    }
    match (request.method.as_str(), request.path.as_str()) {
        ("PUT", "/latest/api/token") => {
            let life = request.header("x-aws-ec2-metadata-token-ttl-seconds");
            let life = life.and_then(|text| text.parse::<u64>().ok());
            let Some(life) = life.filter(|life| (1..=MAX_TOKEN_SECONDS).contains(life)) else {
                return Answer::status(400);
            };
            // EC2's are Base64 too.
            let text = STANDARD
                .encode(format!("a token that was given as number {:06}", state.tokens.len()));
            let ends = Instant::now() + Duration::from_secs(life);
            state.tokens.push(Token { text: text.clone(), ends });
            Answer::content(Some(text.as_bytes()))
        }
        ("GET", path) => {
            let given = request.header("x-aws-ec2-metadata-token");
            let known = |token: &Token| Some(token.text.as_str()) == given;
            let is_good = state.tokens.iter().find(|token| known(token));
            match is_good.is_some_and(|token| token.ends > Instant::now()) {
                false => Answer::status(401),
                true if path == "/latest/user-data" => user_data(state),
                true => Answer::status(404),
            }
        }
        _ => Answer::status(405),
    }
}

fn google_compute_engine(state: &State, request: &Request) -> Answer {
    let asked_well = request.header("metadata-flavor") == Some("Google")
        && request.header("x-forwarded-for").is_none();
    if !asked_well {
        return Answer::status(403);
    }
    let name = request.path.strip_prefix("/computeMetadata/v1/instance/attributes/");
    match (request.method.as_str(), name) {
        ("GET", Some(name)) => Answer::content(state.attributes.get(name).map(Vec::as_slice)),
        _ => Answer::status(404),
    }
}

/// A machine without user data gets an empty answer.
fn azure(state: &State, request: &Request) -> Answer {
    let asked_well =
        request.header("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            && request.header("x-forwarded-for").is_none();
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let query: BTreeMap<&str, &str> =
        query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    // User data are there since this version; dates compare as texts.
    let knows = query.get("api-version").is_some_and(|version| *version >= "2021-01-01");
    if request.method != "GET" {
        return Answer::status(405);
    }
    // For one value the format must be said.
    if !asked_well || !knows || query.get("format") != Some(&"text") {
        return Answer::status(400);
    }
    match path {
        "/metadata/instance/compute/userData" => {
            let content = state.attributes.get(USER_DATA).map(Vec::as_slice).unwrap_or_default();
            Answer::content(Some(STANDARD.encode(content).as_bytes()))
        }
        _ => Answer::status(404),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(cloud: Cloud) -> State {
        State {
            cloud,
            attributes: BTreeMap::from([(USER_DATA.to_owned(), b"given".to_vec())]),
            tokens: Vec::new(),
            instead: None,
            requests: Vec::new(),
        }
    }

    fn ask(state: &mut State, head: &str) -> Answer {
        answer(state, &Request::parse(head).unwrap())
    }

    #[test]
    fn ec2_answers_to_a_token_of_its_own_only() {
        let mut state = state(Cloud::AmazonEc2);
        let asked = |state: &mut State, head: &str| ask(state, head).status;
        assert_eq!(asked(&mut state, "GET /latest/user-data HTTP/1.1\r\n"), 401);
        let forged = "GET /latest/user-data HTTP/1.1\r\nX-aws-ec2-metadata-token: x\r\n";
        assert_eq!(asked(&mut state, forged), 401);
        let put = "PUT /latest/api/token HTTP/1.1\r\n";
        assert_eq!(asked(&mut state, put), 400);
        for life in ["0", "21601", "soon"] {
            let head = format!("{put}X-aws-ec2-metadata-token-ttl-seconds: {life}\r\n");
            assert_eq!(asked(&mut state, &head), 400, "{life}");
        }
        let good = format!("{put}X-aws-ec2-metadata-token-ttl-seconds: 60\r\n");
        assert_eq!(asked(&mut state, &format!("{good}X-Forwarded-For: 10.0.0.1\r\n")), 403);
        let token = String::from_utf8(ask(&mut state, &good).body).unwrap();
        let head =
            format!("GET /latest/user-data HTTP/1.1\r\nX-aws-ec2-metadata-token: {token}\r\n");
        assert_eq!(ask(&mut state, &head).body, b"given");
        state.tokens[0].ends = Instant::now();
        assert_eq!(asked(&mut state, &head), 401);
    }

    #[test]
    fn google_and_azure_answer_to_their_headers_only() {
        let mut google = state(Cloud::GoogleComputeEngine);
        let path = "GET /computeMetadata/v1/instance/attributes/user-data HTTP/1.1\r\n";
        assert_eq!(ask(&mut google, path).status, 403);
        assert_eq!(ask(&mut google, &format!("{path}Metadata-Flavor: Amazon\r\n")).status, 403);
        let good = ask(&mut google, &format!("{path}Metadata-Flavor: Google\r\n"));
        assert_eq!((good.status, good.body), (200, b"given".to_vec()));
        assert!(good.headers.contains(&("Metadata-Flavor", "Google")));

        let mut azure = state(Cloud::Azure);
        let path = "GET /metadata/instance/compute/userData";
        let mut asked = |query: &str, header: &str| {
            ask(&mut azure, &format!("{path}{query} HTTP/1.1\r\n{header}\r\n"))
        };
        let query = "?api-version=2021-01-01&format=text";
        assert_eq!(asked(query, "").status, 400);
        assert_eq!(asked(query, "Metadata: false").status, 400);
        assert_eq!(asked("?format=text", "Metadata: true").status, 400);
        assert_eq!(asked("?api-version=2020-09-01&format=text", "Metadata: true").status, 400);
        assert_eq!(asked(query, "Metadata: true").body, STANDARD.encode("given").as_bytes());
    }
}
