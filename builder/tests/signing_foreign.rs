//! What the signers make, judged by tools that this project did not write.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use builder::formats::uki::{self, Sections};
use builder::signing::keys::{KeyFolder, KeyPurpose};
use builder::signing::secure_boot::{SecureBootError, sign_pe, signers, verify_pe};
use builder::signing::signer::Signer;
use tempfile::TempDir;

/// Debian's loader and stub, real programs of the kind that is signed.
const LOADER: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

fn run(package: &str, program: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("cannot run {program} ({error}): apt install {package}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

fn debian(file: &str) -> Vec<u8> {
    fs::read(file).unwrap_or_else(|error| {
        panic!("cannot read {file} ({error}): apt install systemd-boot-efi")
    })
}

fn keys(folder: &Path) -> KeyFolder {
    KeyFolder::create(&folder.join("keys"), KeyPurpose::Development).unwrap()
}

fn real_uki() -> Vec<u8> {
    let sections = Sections {
        linux: &[0x5a; 2_000_000],
        initrd: &[1; 300_000],
        cmdline: "console=ttyS0 probe=ok",
        os_release: "ID=slipway\n",
        uname: "6.12.0-test",
    };
    uki::assemble(&debian(STUB), &sections).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn sbverify_accepts_what_was_signed_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let keys = keys(folder.path());
    let stranger = TempDir::new().unwrap();
    let other = self::keys(stranger.path());
    let (db, pk) = (folder.path().join("keys/db.pem"), folder.path().join("keys/PK.pem"));
    for program in [real_uki(), debian(LOADER)] {
        let signed = sign_pe(&program, keys.signer()).unwrap();
        assert_eq!(signed, sign_pe(&program, keys.signer()).unwrap());
        let file = folder.path().join("signed.efi");
        fs::write(&file, &signed).unwrap();
        let (good, said) = run("sbsigntool", "sbverify", &["--cert", text(&db), text(&file)]);
        assert!(good, "{said}");
        let (good, said) = run("sbsigntool", "sbverify", &["--cert", text(&pk), text(&file)]);
        assert!(!good, "{said}");
        verify_pe(&signed, keys.signer().certificate_der()).unwrap();
        assert!(verify_pe(&signed, other.signer().certificate_der()).is_err());
        assert_eq!(signers(&signed).unwrap()[0].subject, "CN=Slipway db (development)");
    }
}

#[test]
fn one_flipped_byte_in_any_section_is_noticed() {
    let folder = TempDir::new().unwrap();
    let keys = keys(folder.path());
    let certificate = folder.path().join("keys/db.pem");
    let signed = sign_pe(&real_uki(), keys.signer()).unwrap();
    let read = uki::inspect(&signed).unwrap();
    assert!(read.sections.len() > 5);
    for section in read.sections.iter().filter(|section| !section.range.is_empty()) {
        let mut bad = signed.clone();
        bad[section.range.start + section.range.len() / 2] ^= 1;
        let file = folder.path().join("bad.efi");
        fs::write(&file, &bad).unwrap();
        let arguments = ["--cert", text(&certificate), text(&file)];
        let (good, said) = run("sbsigntool", "sbverify", &arguments);
        assert!(!good, "{}: {said}", section.name);
        let own = verify_pe(&bad, keys.signer().certificate_der());
        assert!(matches!(own, Err(SecureBootError::NotSignedBy)), "{}", section.name);
    }
}

#[test]
fn unsigned_and_twice_signed_programs_are_told_apart() {
    let folder = TempDir::new().unwrap();
    let keys = keys(folder.path());
    let db = keys.signer();
    let unsigned = real_uki();
    assert!(signers(&unsigned).unwrap().is_empty());
    let judged = verify_pe(&unsigned, db.certificate_der());
    assert!(matches!(judged, Err(SecureBootError::Unsigned)));
    let signed = sign_pe(&unsigned, db).unwrap();
    assert!(matches!(sign_pe(&signed, db), Err(SecureBootError::AlreadySigned)));
}

#[test]
fn objcopy_finds_the_sections_of_the_uki() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("uki.efi");
    fs::write(&file, real_uki()).unwrap();
    for (section, expected) in [(".cmdline", "console=ttyS0 probe=ok\0"), (".uname", "6.12.0-test")]
    {
        let out = folder.path().join("section");
        let only = format!("--only-section={section}");
        let (good, said) =
            run("binutils", "objcopy", &["-O", "binary", &only, text(&file), text(&out)]);
        assert!(good, "{said}");
        assert!(fs::read(&out).unwrap().starts_with(expected.as_bytes()), "{section}");
    }
}

#[test]
fn openssl_reads_keys_and_certificates() {
    let folder = TempDir::new().unwrap();
    keys(folder.path());
    for name in ["PK", "KEK", "db"] {
        let key = folder.path().join(format!("keys/{name}.key"));
        let certificate = folder.path().join(format!("keys/{name}.pem"));
        let (good, from_key) = run("openssl", "openssl", &["pkey", "-in", text(&key), "-pubout"]);
        assert!(good, "{from_key}");
        let arguments = ["x509", "-in", text(&certificate), "-pubkey", "-noout"];
        let (good, from_certificate) = run("openssl", "openssl", &arguments);
        assert!(good, "{from_certificate}");
        assert_eq!(from_key, from_certificate, "{name}");
    }
}

#[test]
fn signature_lists_are_those_of_efitools() {
    const OWNER: &str = "6ba8ae4f-5b3a-4a53-8d0e-51c9a4d0f3a1";
    let folder = TempDir::new().unwrap();
    let keys = keys(folder.path());
    let variables = keys.enrolment().clone();
    for (name, variable) in [("PK", variables.pk), ("KEK", variables.kek), ("db", variables.db)] {
        let certificate = folder.path().join(format!("keys/{name}.pem"));
        let list = folder.path().join(format!("{name}.esl"));
        let arguments = ["-g", OWNER, text(&certificate), text(&list)];
        let (good, said) = run("efitools", "cert-to-efi-sig-list", &arguments);
        assert!(good, "{said}");
        assert!(variable.ends_with(&fs::read(&list).unwrap()), "{name}");
    }
}
