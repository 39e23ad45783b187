//! For tests: programs with certificates in them, and lists of such certificates.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use super::der::{CONTEXT_0, IDENTIFIER, INTEGER, SEQUENCE, SET};
use super::lists::X509;
use super::signature::SIGNED_DATA;

/// A program of sbsign's, and the certificate of its signer as efitools put it into a list.
pub const SIGNED: &[u8] = include_bytes!("fixtures/signed.efi");
pub const SIGNER: &[u8] = include_bytes!("fixtures/db.esl");

/// A certificate in DER, of a key that is thrown away.
pub fn certificate(name: &str) -> Vec<u8> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

/// A signature list with entries of one size.
pub fn list(kind: [u8; 16], entries: &[&[u8]]) -> Vec<u8> {
    let entry = 16 + entries.first().map_or(0, |entry| entry.len());
    let mut list = kind.to_vec();
    for size in [28 + entry * entries.len(), 0, entry] {
        list.extend((size as u32).to_le_bytes());
    }
    for entry in entries {
        list.extend([0x11; 16]);
        list.extend(*entry);
    }
    list
}

/// A `db`: one list for each certificate, as firmware keeps them.
pub fn db(certificates: &[&[u8]]) -> Vec<u8> {
    certificates.iter().flat_map(|one| list(X509, &[one])).collect()
}

/// A program with `content` whose signature carries these certificates. There is no signer in it,
/// and nothing that was signed.
pub fn program(content: &[u8], certificates: &[&[u8]]) -> Vec<u8> {
    let mut file = vec![0; 1024];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &64_u32.to_le_bytes());
    put(64, b"PE\0\0");
    put(88, &0x20b_u16.to_le_bytes());
    put(88 + 108, &16_u32.to_le_bytes());
    file.extend(content);
    file.resize(file.len().next_multiple_of(8), 0);
    let pkcs7 = signed_data(certificates);
    let (start, length) = (file.len() as u32, 8 + pkcs7.len() as u32);
    file.extend(length.to_le_bytes());
    file.extend([0, 2, 2, 0]);
    file.extend(pkcs7);
    file.resize(file.len().next_multiple_of(8), 0);
    file[88 + 144..][..4].copy_from_slice(&start.to_le_bytes());
    let size = file.len() as u32 - start;
    file[88 + 148..][..4].copy_from_slice(&size.to_le_bytes());
    file
}

fn signed_data(certificates: &[&[u8]]) -> Vec<u8> {
    let parts = [
        element(INTEGER, &[1]),
        element(SET, &[]),
        element(SEQUENCE, &[]),
        element(CONTEXT_0, &certificates.concat()),
        element(SET, &[]),
    ];
    let signed = element(CONTEXT_0, &element(SEQUENCE, &parts.concat()));
    element(SEQUENCE, &[element(IDENTIFIER, &SIGNED_DATA), signed].concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82][..], &length, content].concat()
}
