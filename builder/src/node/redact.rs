//! Takes out of texts what looks like a secret.
//!
//! A node's answers hold no secrets of its settings; what programs write into the journal is
//! their own. **Invariant:** more is taken out rather than less, and only a fixed text is put in.

use contract::node::settings::REDACTED;
use regex::{Captures, Regex};
use serde_json::Value;

/// Bootstrap tokens (the bounds of Kubernetes' own pattern; without one on the left, where an
/// escape such as `\n` may stand), JSON web tokens, and passwords in addresses.
const PATTERNS: [&str; 3] = [
    r"[a-z0-9]{6}\.[a-z0-9]{16}\b",
    r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    r#"(?P<keep>://)[^/\s:@"']*:[^/\s@"']+@"#,
];
/// What follows the name of a scheme of HTTP (RFC 9110, section 11).
const CREDENTIALS: &str = r"(?i)(?P<keep>\b(?:bearer|basic)\s+)(?P<token>[a-z0-9._~+/=-]+)";
/// A word in prose, such as "bearer authentication", is shorter, and has no digit.
const MIN_TOKEN: usize = 16;
/// Keys of documents whose text is a secret, whatever it looks like.
const SECRET_KEYS: [&str; 3] = ["password", "token", "secret"];
/// Longest private key that is looked for, with the beginnings of the journal's lines.
const MAX_KEY_BYTES: usize = 64 << 10;

/// Finds secrets.
#[derive(Debug)]
pub struct Redactor {
    patterns: Vec<Regex>,
    credentials: Regex,
    begin: Regex,
    end: Regex,
}

impl Redactor {
    /// Compiles what it looks for.
    ///
    /// # Errors
    /// When a pattern is wrong.
    pub fn new() -> Result<Self, regex::Error> {
        Ok(Self {
            patterns: PATTERNS.into_iter().map(Regex::new).collect::<Result<_, _>>()?,
            credentials: Regex::new(CREDENTIALS)?,
            begin: Regex::new("-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")?,
            end: Regex::new("-----END [A-Z0-9 ]*PRIVATE KEY-----")?,
        })
    }

    /// The text without what looks like a secret; adds to `found`, how many there were.
    pub fn text(&self, text: &str, found: &mut usize) -> String {
        let mut text = self.keys(text, found);
        for pattern in &self.patterns {
            let replaced = pattern.replace_all(&text, |captures: &Captures<'_>| {
                *found += 1;
                kept(captures) + REDACTED
            });
            text = replaced.into_owned();
        }
        let replaced = self.credentials.replace_all(&text, |captures: &Captures<'_>| {
            let token = captures.name("token").map_or("", |token| token.as_str());
            if token.len() < MIN_TOKEN && !token.bytes().any(|byte| byte.is_ascii_digit()) {
                return captures[0].to_owned();
            }
            *found += 1;
            kept(captures) + REDACTED
        });
        replaced.into_owned()
    }

    /// As [`Redactor::text`], for each text in a document: one that is written as JSON hides
    /// where a text begins.
    pub fn document(&self, document: &mut Value, found: &mut usize) {
        match document {
            Value::String(text) => *text = self.text(text, found),
            Value::Array(items) => items.iter_mut().for_each(|item| self.document(item, found)),
            Value::Object(fields) => {
                for (key, value) in fields {
                    match value {
                        Value::String(text) if is_secret(key) && text != REDACTED => {
                            *text = REDACTED.to_owned();
                            *found += 1;
                        }
                        other => self.document(other, found),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Without private keys, whose lines may be entries of the journal of their own. One without
    /// an end goes as far as keys reach; of one without a beginning, what stands before its end.
    fn keys(&self, text: &str, found: &mut usize) -> String {
        let mut kept = String::with_capacity(text.len());
        // Each mark is looked at once, however many there are.
        let mut begins = self.begin.find_iter(text).peekable();
        let mut ends = self.end.find_iter(text).peekable();
        let mut done = 0;
        loop {
            while begins.next_if(|begin| begin.start() < done).is_some() {}
            while ends.next_if(|end| end.start() < done).is_some() {}
            let (start, stop) = match (begins.peek(), ends.peek()) {
                (Some(begin), end) if end.is_none_or(|end| begin.start() < end.start()) => {
                    let reach = begin.end() + MAX_KEY_BYTES;
                    let stop = end.map(|end| end.end()).filter(|stop| *stop <= reach);
                    (begin.start(), stop.unwrap_or(reach))
                }
                (_, Some(end)) => (end.start().saturating_sub(MAX_KEY_BYTES), end.end()),
                _ => break,
            };
            kept += &text[done..text.floor_char_boundary(start).max(done)];
            kept += REDACTED;
            *found += 1;
            done = text.ceil_char_boundary(stop);
        }
        kept + &text[done..]
    }
}

/// What of a match says that there was a secret.
fn kept(captures: &Captures<'_>) -> String {
    captures.name("keep").map_or_else(String::new, |keep| keep.as_str().to_owned())
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_KEYS.iter().any(|end| key.ends_with(end))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n-----END EC PRIVATE KEY-----";

    fn redacted(text: &str) -> (String, usize) {
        let mut found = 0;
        let text = Redactor::new().unwrap().text(text, &mut found);
        (text, found)
    }

    #[test]
    fn what_looks_like_a_secret_is_taken_out() {
        for (text, expected) in [
            ("token abcdef.0123456789abcdef refused", "token (redacted) refused"),
            (r#"{"t":"a\nabcdef.0123456789abcdef"}"#, r#"{"t":"a\n(redacted)"}"#),
            (KEY, "(redacted)"),
            ("Authorization: Bearer abc123", "Authorization: Bearer (redacted)"),
            ("authorization: basic dXNlcjpwYXNzd29yZA==", "authorization: basic (redacted)"),
            ("jwt eyJhbGciOiJS.eyJpc3MiOiJr.c2ln end", "jwt (redacted) end"),
            ("via http://node:hunter2@proxy:3128/", "via http://(redacted)proxy:3128/"),
        ] {
            assert_eq!(redacted(text), (expected.to_owned(), 1), "{text}");
        }
    }

    #[test]
    fn what_does_not_stays_as_it_is() {
        for text in [
            "",
            "kubelet.service: bearer authentication failed, basic auth too",
            "Www-Authenticate: Bearer realm=\"https://auth.example.com/token\"",
            "abcdef.0123456789abcdefg",
            "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----",
            "https://10.0.2.2:6443/api?x=a:b",
            "größer als -----BEGIN",
        ] {
            assert_eq!(redacted(text), (text.to_owned(), 0));
        }
    }

    #[test]
    fn a_key_over_several_journal_entries_is_taken_out() {
        let line = |text: &str| format!("2026-11-25T12:00:00.000Z x.service[7]: {text}\n");
        let log: String = KEY.lines().map(line).collect();
        let (text, found) = redacted(&(line("before") + &log + &line("after")));
        assert_eq!(found, 1);
        assert!(!text.contains("c2VjcmV0"), "{text}");
        assert!(text.contains("before") && text.contains("after"), "{text}");
    }

    #[test]
    fn half_a_key_is_taken_out_and_not_everything_with_it() {
        let (half, _) = KEY.split_once("\n-----END").unwrap();
        let (text, _) = redacted(&format!("{half}{}after", "é".repeat(MAX_KEY_BYTES)));
        assert!(text.ends_with("after") && !text.contains("c2VjcmV0"));
        let (_, half) = KEY.split_once("-----\n").unwrap();
        let (text, _) = redacted(&format!("before{}{half}", "é".repeat(MAX_KEY_BYTES)));
        assert!(text.starts_with("before") && !text.contains("c2VjcmV0"));
    }

    #[test]
    fn what_stands_between_two_keys_stays() {
        let (text, found) = redacted(&format!("a {KEY} b {KEY} c"));
        assert_eq!((text.as_str(), found), ("a (redacted) b (redacted) c", 2));
        let ends = "-----END PRIVATE KEY-----".repeat(3);
        assert_eq!(redacted(&ends), (REDACTED.repeat(3), 3));
    }

    #[test]
    fn documents_keep_their_form() {
        let mut document = json!({
            "proxy": {"url": "http://proxy", "password": "hunter2"},
            "api": {"key": KEY, "port": 7443},
            "shown": {"password": "(redacted)"},
            "list": ["x", "abcdef.0123456789abcdef"],
        });
        let mut found = 0;
        Redactor::new().unwrap().document(&mut document, &mut found);
        let expected = json!({
            "proxy": {"url": "http://proxy", "password": "(redacted)"},
            "api": {"key": "(redacted)", "port": 7443},
            "shown": {"password": "(redacted)"},
            "list": ["x", "(redacted)"],
        });
        assert_eq!((document, found), (expected, 3));
    }
}
