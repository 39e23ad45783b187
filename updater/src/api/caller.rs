//! Who asks: a role and a name, from a verified client certificate.
//!
//! In: a certificate that the TLS handshake has verified. Out: [`Caller`]. **Invariant:** a
//! certificate without one of the two Organizations gives no role, and so no answer.

use contract::node::api::{OPERATORS, READERS};
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Tag, Tagged};

/// Organization (X.520).
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
/// Common name (X.520).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// Longest name of a caller that is kept, in characters.
const MAX_NAME: usize = 64;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Reader,
    /// Look, and change things.
    Operator,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    name: String,
    role: Role,
}

impl Caller {
    /// A process on this node that may open the Unix socket: only root's may.
    pub fn local() -> Self {
        Self { name: "root on the node".to_owned(), role: Role::Operator }
    }

    /// The holder of a client certificate in DER, which must be verified already; `None` when
    /// the certificate names no role.
    pub fn from_certificate(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let mut organizations = attributes(&certificate, ORGANIZATION);
        let role = match () {
            () if organizations.any(|name| name == OPERATORS) => Role::Operator,
            () if attributes(&certificate, ORGANIZATION).any(|name| name == READERS) => {
                Role::Reader
            }
            () => return None,
        };
        let name = attributes(&certificate, COMMON_NAME).next().unwrap_or_default();
        let name = contract::node::api::printable(name).chars().take(MAX_NAME).collect();
        Some(Self { name, role })
    }

    /// The name for the journal.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// True when the caller may do what `needed` may.
    pub fn may(&self, needed: Role) -> bool {
        self.role >= needed
    }
}

/// The subject's attributes of one kind, as text.
fn attributes(certificate: &Certificate, kind: ObjectIdentifier) -> impl Iterator<Item = &str> {
    let names = certificate.tbs_certificate.subject.0.iter().flat_map(|name| name.0.iter());
    names.filter(move |attribute| attribute.oid == kind).filter_map(|attribute| {
        let text = matches!(attribute.value.tag(), Tag::Utf8String | Tag::PrintableString);
        text.then(|| std::str::from_utf8(attribute.value.value()).ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::Authority;

    fn caller(organizations: &[&str]) -> Option<Caller> {
        let certificate = Authority::new().client("ann", organizations);
        Caller::from_certificate(&certificate.der)
    }

    #[test]
    fn the_organization_gives_the_role() {
        assert_eq!(caller(&[READERS]).unwrap().role(), Role::Reader);
        assert_eq!(caller(&[OPERATORS]).unwrap().role(), Role::Operator);
        assert_eq!(caller(&[READERS, OPERATORS]).unwrap().role(), Role::Operator);
        assert_eq!(caller(&[OPERATORS]).unwrap().name(), "ann");
    }

    #[test]
    fn a_certificate_of_another_purpose_gives_none() {
        for organizations in [&[][..], &["system:masters"], &["slipway:operators "]] {
            assert_eq!(caller(organizations), None, "{organizations:?}");
        }
        assert_eq!(Caller::from_certificate(b"not a certificate"), None);
    }
}
