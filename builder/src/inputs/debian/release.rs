//! The signed index of a suite. In go the bytes of an InRelease file, the keyring and a
//! point in time; out comes a [`Release`], which exists only once a signature verified.
//!
//! **Invariant:** [`Release`] has one constructor, [`verify`]; its text is the signed text,
//! never what surrounds it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::time::{Duration, SystemTime};

use contract::Digest;
use deb822_fast::borrowed::BorrowedParser;
use openpgp::Cert;
use openpgp::cert::CertParser;
use openpgp::parse::Parse;
use openpgp::parse::stream::{
    MessageLayer, MessageStructure, VerificationError, VerificationHelper, VerifierBuilder,
};
use openpgp::policy::StandardPolicy;
use sequoia_openpgp as openpgp;

use super::date::parse_date;

/// Largest InRelease file that is read, in bytes (Debian's have 40 to 150 kB).
pub const MAX_RELEASE_BYTES: u64 = 4 << 20;
/// Largest keyring that is read, in bytes.
pub const MAX_KEYRING_BYTES: u64 = 8 << 20;
/// Most certificates that a keyring may hold.
const MAX_CERTIFICATES: usize = 1000;

/// Whether an index past its `Valid-Until` is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpirationEnforcement {
    /// Refuse it: an old index hides security updates.
    Enforce,
    /// Take it, for snapshots and clocks that are off.
    Ignore,
}

/// Why an index is not believed.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Over [`MAX_RELEASE_BYTES`].
    #[error("InRelease of {suite} is larger than {MAX_RELEASE_BYTES} bytes: check the mirror")]
    TooLarge {
        /// The suite.
        suite: String,
    },
    /// The keyring cannot be parsed.
    #[error(
        "the keyring cannot be read: {reason}; install the package debian-archive-keyring, or \
         give another keyring"
    )]
    Keyring {
        /// What the parser says.
        reason: String,
    },
    /// No signature at all.
    #[error(
        "InRelease of {suite} is not signed: the mirror, or something before it, is at fault; try another `--mirror`"
    )]
    Unsigned {
        /// The suite.
        suite: String,
    },
    /// A signature by a known key does not fit the text.
    #[error(
        "InRelease of {suite} has a bad signature ({reason}): it was changed on the way; try another `--mirror`"
    )]
    BadSignature {
        /// The suite.
        suite: String,
        /// What the verifier says.
        reason: String,
    },
    /// No signature is by a key of the keyring that is valid at this time.
    #[error(
        "InRelease of {suite} is signed by no valid key of the keyring ({reason}): update the package debian-archive-keyring, or give the keyring of that archive"
    )]
    UnknownSigner {
        /// The suite.
        suite: String,
        /// The signatures, and why each does not count.
        reason: String,
    },
    /// Past its `Valid-Until`.
    #[error(
        "InRelease of {suite} was valid until {until}: the mirror is behind, or this clock is ahead; try another `--mirror`, or `--allow-expired-index`"
    )]
    Expired {
        /// The suite.
        suite: String,
        /// As written there.
        until: String,
    },
    /// Verified, but of another suite.
    #[error(
        "the mirror gives InRelease of `{found}` for the suite {suite}: try another `--mirror`"
    )]
    OtherSuite {
        /// The suite that was asked for.
        suite: String,
        /// The one that came.
        found: String,
    },
    /// Verified, but not a Release file.
    #[error("InRelease of {suite} cannot be understood: {reason}; try another `--mirror`")]
    Malformed {
        /// The suite.
        suite: String,
        /// What is wrong.
        reason: String,
    },
}

/// One file that a Release file lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedFile {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: Digest,
}

/// A verified Release file.
#[derive(Debug, Clone)]
pub struct Release {
    /// `Date`, as written.
    pub date: String,
    /// Fingerprints of the certificates whose signatures verified, sorted.
    pub signed_by: Vec<String>,
    /// Whether files are also to be had by their hash, which survives a mirror's update.
    pub by_hash: bool,
    /// Listed files by path below the suite.
    pub files: BTreeMap<String, ListedFile>,
}

/// How to judge an InRelease file.
#[derive(Debug, Clone, Copy)]
pub struct Judgement<'a> {
    /// The suite that was asked for.
    pub suite: &'a str,
    /// Bytes of a binary OpenPGP keyring.
    pub keyring: &'a [u8],
    /// The time at which keys and index must be valid.
    pub now: SystemTime,
    /// What an index past its time means.
    pub expiration: ExpirationEnforcement,
}

/// Verifies an InRelease file and parses what was signed.
///
/// # Errors
/// [`ReleaseError`]; nothing unsigned is ever parsed.
pub fn verify(inrelease: &[u8], judgement: &Judgement) -> Result<Release, ReleaseError> {
    let suite = || judgement.suite.to_owned();
    if inrelease.len() as u64 > MAX_RELEASE_BYTES {
        return Err(ReleaseError::TooLarge { suite: suite() });
    }
    let helper = Signers {
        certificates: parse_keyring(judgement.keyring)?,
        now: judgement.now,
        verdict: None,
    };
    // At the judgement's time, so that the same inputs always give the same verdict.
    let policy = StandardPolicy::at(judgement.now);
    let verifier = VerifierBuilder::from_bytes(inrelease)
        .and_then(|builder| builder.with_policy(&policy, Some(judgement.now), helper));
    let mut verifier = match verifier {
        Ok(verifier) => verifier,
        Err(error) => return Err(refusal(judgement, &error)),
    };
    let mut text = String::new();
    let read = (&mut verifier).take(MAX_RELEASE_BYTES).read_to_string(&mut text);
    let signers = match verifier.into_helper().verdict {
        Some(Verdict::Good(signers)) => signers,
        Some(verdict) => return Err(verdict.into_error(judgement.suite)),
        None => return Err(ReleaseError::Unsigned { suite: suite() }),
    };
    read.map_err(|error| ReleaseError::Malformed { suite: suite(), reason: error.to_string() })?;
    parse(&text, signers, judgement)
}

/// The verdict reaches us as an error of the parser, too: `check` ran inside it.
fn refusal(judgement: &Judgement, error: &anyhow::Error) -> ReleaseError {
    match error.downcast_ref::<Verdict>() {
        Some(verdict) => verdict.clone().into_error(judgement.suite),
        None => ReleaseError::Unsigned { suite: judgement.suite.to_owned() },
    }
}

fn parse_keyring(bytes: &[u8]) -> Result<Vec<Cert>, ReleaseError> {
    let failed = |reason: String| ReleaseError::Keyring { reason };
    if bytes.len() as u64 > MAX_KEYRING_BYTES {
        return Err(failed(format!("it is larger than {MAX_KEYRING_BYTES} bytes")));
    }
    let parser = CertParser::from_bytes(bytes).map_err(|error| failed(error.to_string()))?;
    // A keyring may hold keys of kinds that are not known here: they just sign nothing.
    let found: Vec<Cert> = parser.take(MAX_CERTIFICATES).filter_map(Result::ok).collect();
    if found.is_empty() {
        return Err(failed("it holds no certificate".into()));
    }
    Ok(found)
}

#[derive(Debug, Clone, thiserror::Error)]
enum Verdict {
    #[error("good")]
    Good(Vec<String>),
    #[error("{0}")]
    Bad(String),
    #[error("{0}")]
    Unknown(String),
    #[error("unsigned")]
    Unsigned,
}

impl Verdict {
    fn into_error(self, suite: &str) -> ReleaseError {
        let suite = suite.to_owned();
        match self {
            Verdict::Bad(reason) => ReleaseError::BadSignature { suite, reason },
            Verdict::Unknown(reason) => ReleaseError::UnknownSigner { suite, reason },
            Verdict::Good(_) | Verdict::Unsigned => ReleaseError::Unsigned { suite },
        }
    }
}

struct Signers {
    certificates: Vec<Cert>,
    now: SystemTime,
    verdict: Option<Verdict>,
}

impl Signers {
    /// The parser asks whether a key was valid when it signed, by the signature's own word:
    /// whoever finds an old key can date back. So it must be valid now, too.
    fn still_signs(&self, cert: &Cert, key: &openpgp::Fingerprint) -> bool {
        let policy = StandardPolicy::at(self.now);
        let valid = cert.with_policy(&policy, self.now).is_ok_and(|cert| cert.alive().is_ok());
        let mut keys = cert.keys().with_policy(&policy, self.now).alive().revoked(false);
        valid && keys.any(|found| found.for_signing() && found.key().fingerprint() == *key)
    }
}

impl VerificationHelper for Signers {
    fn get_certs(&mut self, _: &[openpgp::KeyHandle]) -> openpgp::Result<Vec<Cert>> {
        Ok(self.certificates.clone())
    }

    /// One good signature is enough, as the archive signs with old and new keys; a bad one
    /// by a known key spoils the file, as it does for apt.
    fn check(&mut self, structure: MessageStructure) -> openpgp::Result<()> {
        let mut good = BTreeSet::new();
        let mut others = Vec::new();
        let mut verdict = Verdict::Unsigned;
        for layer in structure {
            let MessageLayer::SignatureGroup { results } = layer else { continue };
            for result in results {
                match result {
                    Ok(signature) => {
                        let cert = signature.ka.cert();
                        if self.still_signs(cert, &signature.ka.key().fingerprint()) {
                            good.insert(cert.fingerprint().to_hex());
                        } else {
                            others.push(format!("the key of {cert} has expired"));
                        }
                    }
                    Err(error @ VerificationError::BadSignature { .. }) => {
                        verdict = Verdict::Bad(error.to_string());
                    }
                    Err(error) => others.push(error.to_string()),
                }
            }
        }
        if !matches!(verdict, Verdict::Bad(_)) {
            if !good.is_empty() {
                verdict = Verdict::Good(good.into_iter().collect());
            } else if !others.is_empty() {
                verdict = Verdict::Unknown(others.join("; "));
            }
        }
        self.verdict = Some(verdict.clone());
        if matches!(verdict, Verdict::Good(_)) { Ok(()) } else { Err(verdict.into()) }
    }
}

fn parse(text: &str, signed_by: Vec<String>, judged: &Judgement) -> Result<Release, ReleaseError> {
    let suite = judged.suite.to_owned();
    let malformed =
        |reason: &str| ReleaseError::Malformed { suite: suite.clone(), reason: reason.to_owned() };
    let paragraphs =
        BorrowedParser::new(text).parse_all().map_err(|error| malformed(&format!("{error:?}")))?;
    let [paragraph] = &paragraphs[..] else { return Err(malformed("it has no single paragraph")) };
    let field = |name: &str| paragraph.get_single(name).unwrap_or_default().trim();

    // A signature alone does not tell that this is the suite that was asked for.
    if field("Codename") != judged.suite && field("Suite") != judged.suite {
        let found = field("Codename").to_owned();
        return Err(ReleaseError::OtherSuite { suite, found });
    }
    let until = field("Valid-Until");
    if judged.expiration == ExpirationEnforcement::Enforce && !until.is_empty() {
        let end = parse_date(until).ok_or_else(|| malformed("Valid-Until is not a date"))?;
        if end < judged.now {
            return Err(ReleaseError::Expired { suite, until: until.to_owned() });
        }
    }
    let date = field("Date").to_owned();
    let made = parse_date(&date).ok_or_else(|| malformed("Date is not a date"))?;
    // A day of grace for clocks, as a lock from the future is nobody's aim.
    if made > judged.now + Duration::from_secs(86_400)
        && judged.expiration == ExpirationEnforcement::Enforce
    {
        return Err(malformed("its Date lies in the future: check this machine's clock"));
    }
    let lines = paragraph.get("SHA256").ok_or_else(|| malformed("it lists no SHA256"))?;
    let files = parse_files(lines).ok_or_else(|| malformed("its SHA256 list is damaged"))?;
    Ok(Release { date, signed_by, by_hash: field("Acquire-By-Hash") == "yes", files })
}

fn parse_files(lines: &[&str]) -> Option<BTreeMap<String, ListedFile>> {
    let mut files = BTreeMap::new();
    for line in lines.iter().filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [digest, size, path] = words[..] else { return None };
        let listed = ListedFile { size: size.parse().ok()?, sha256: digest.parse().ok()? };
        files.insert(path.to_owned(), listed);
    }
    Some(files)
}
