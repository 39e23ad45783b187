//! Firmware that takes a UKI, refuses it, or shows what nobody can read.

use contract::Slot;
use proptest::prelude::*;

use super::testing::{SIGNED, SIGNER, certificate, db, list, program};
use super::*;
use crate::effects::BootedSlot;
use crate::effects::fake::{FakeNode, Sizes};

/// A node that runs `booted` from slot A, whose firmware enforces this `db`, and that has staged
/// `staged` for slot B.
fn node(db: &[u8], booted: &[u8], staged: &[u8]) -> FakeNode {
    let node = FakeNode::new(0, Sizes::default());
    node.install_uki(UkiName::first(), booted);
    node.create_temporary(staged.len() as u64).unwrap();
    node.write_temporary(0, staged).unwrap();
    Esp::sync(&node).unwrap();
    node.set_variable(Variable::SecureBoot, &[1]);
    node.set_variable(Variable::Db, db);
    node
}

fn checked(node: &FakeNode) -> Result<(), SecureBootError> {
    check(&node.effects(), Uki::Temporary, BootedSlot::forged_for_a_test(Slot::A).target())
}

#[test]
fn a_uki_that_a_certificate_of_db_signed_is_taken() {
    let (ours, other) = (certificate("ours"), certificate("other"));
    let lists = db(&[&other, &ours]);
    checked(&node(&lists, b"unreadable", &program(b"new", &[&ours]))).unwrap();
    // One of a chain is enough, as for the firmware.
    checked(&node(&lists, b"unreadable", &program(b"new", &[&certificate("leaf"), &ours])))
        .unwrap();
}

#[test]
fn a_real_signature_and_a_real_list_belong_together() {
    checked(&node(SIGNER, b"unreadable", SIGNED)).unwrap();
    let error = checked(&node(&db(&[&certificate("ours")]), b"", SIGNED)).unwrap_err().to_string();
    assert!(error.contains("signed by CN=foreign signer (SHA-256 "), "{error}");
    assert!(error.contains("db holds CN=ours (SHA-256 "), "{error}");
}

#[test]
fn a_strangers_uki_is_refused_and_both_are_named() {
    // After a rotation the names are the same.
    let (old, new) = (certificate("Slipway db"), certificate("Slipway db"));
    let node = node(&db(&[&old]), &program(b"old", &[&old]), &program(b"new", &[&new]));
    let before = node.log();
    let error = checked(&node).unwrap_err();
    assert!(matches!(error, SecureBootError::Stranger { .. }), "{error}");
    let error = error.to_string();
    for one in [&old, &new] {
        let words = format!("CN=Slipway db (SHA-256 {}…)", &Digest::of(one).to_string()[..16]);
        assert!(error.contains(&words), "{error}");
    }
    assert!(error.contains("enrol the new certificate"), "{error}");
    assert_eq!(node.log(), before, "it only reads");
}

#[test]
fn without_secure_boot_every_uki_is_taken() {
    let node = node(&db(&[&certificate("ours")]), b"", b"no program at all");
    checked(&node).unwrap_err();
    node.set_variable(Variable::SecureBoot, &[0]);
    checked(&node).unwrap();
    let bare = FakeNode::new(0, Sizes::default());
    checked(&bare).unwrap();
    bare.set_variable(Variable::SecureBoot, &[1]);
    checked(&bare).unwrap();
}

#[test]
fn the_certificates_of_the_uki_that_runs_are_good_as_well() {
    // What `db` has is the authority, which nobody carries.
    let (authority, signer) = (certificate("authority"), certificate("signer"));
    let (lists, booted) = (db(&[&authority]), program(b"old", &[&signer]));
    checked(&node(&lists, &booted, &program(b"new", &[&signer]))).unwrap();
    // Neither one more, nor one less.
    let more = program(b"new", &[&signer, &certificate("one more")]);
    checked(&node(&lists, &booted, &more)).unwrap_err();
    checked(&node(&lists, &more, &program(b"new", &[&signer]))).unwrap_err();
    // What the target slot had says nothing of what runs.
    let node = node(&lists, b"", &program(b"new", &[&signer]));
    node.install_uki("slipway-000002-b.efi".parse().unwrap(), &booted);
    checked(&node).unwrap_err();
}

#[test]
fn what_is_not_signed_is_refused() {
    let ours = certificate("ours");
    let mut bare = program(b"new", &[&ours]);
    bare[88 + 144..][..8].fill(0);
    for staged in [bare, program(b"new", &[])] {
        let error = checked(&node(&db(&[&ours]), &staged, &staged)).unwrap_err();
        assert!(matches!(error, SecureBootError::Unsigned), "{error}");
    }
}

#[test]
fn dbx_has_the_last_word() {
    let ours = certificate("ours");
    let staged = program(b"new", &[&ours]);
    let node = node(&db(&[&ours]), &staged, &staged);
    node.set_variable(Variable::Dbx, &db(&[&certificate("other")]));
    checked(&node).unwrap();
    node.set_variable(Variable::Dbx, &db(&[&certificate("other"), &ours]));
    let error = checked(&node).unwrap_err().to_string();
    assert!(error.contains("dbx forbids CN=ours"), "{error}");
}

#[test]
fn a_digest_counts_in_both_lists() {
    let unknown = list(lists::SHA256, &[&[7; 32], &[8; 32]]);
    let node = node(&unknown, b"", SIGNED);
    let digest = Program::open(&node, Uki::Temporary).unwrap().digest().unwrap();
    let digest = digest.as_bytes();
    // sbsign has put the same into what it signed.
    assert!(SIGNED.windows(32).any(|window| window == digest));
    checked(&node).unwrap_err();
    let known = list(lists::SHA256, &[&[7; 32], digest]);
    node.set_variable(Variable::Db, &known);
    checked(&node).unwrap();
    node.set_variable(Variable::Db, SIGNER);
    node.set_variable(Variable::Dbx, &unknown);
    checked(&node).unwrap();
    node.set_variable(Variable::Dbx, &known);
    let error = checked(&node).unwrap_err();
    assert!(matches!(error, SecureBootError::Forbidden(_)), "{error}");
}

#[test]
fn other_kinds_of_entries_are_passed_over() {
    let lists = [list([9; 16], &[b"something"]), list([9; 16], &[]), SIGNER.to_vec()].concat();
    checked(&node(&lists, b"", SIGNED)).unwrap();
}

#[test]
fn a_program_that_is_cut_short_is_refused_at_every_length() {
    for length in 0..SIGNED.len() {
        let error = checked(&node(SIGNER, SIGNED, &SIGNED[..length])).unwrap_err();
        assert!(matches!(error, SecureBootError::Damaged(_)), "{length}: {error}");
    }
}

#[test]
fn lists_that_are_cut_short_are_refused_at_every_length() {
    for length in 1..SIGNER.len() {
        for variable in [Variable::Db, Variable::Dbx] {
            let node = node(SIGNER, SIGNED, SIGNED);
            node.set_variable(variable, &SIGNER[..length]);
            let error = checked(&node).unwrap_err();
            assert!(matches!(error, SecureBootError::Lists(_)), "{length}: {error}");
        }
    }
}

#[test]
fn a_table_that_is_too_large_is_not_read() {
    let mut large = program(b"new", &[&certificate("ours")]);
    let bytes = signature::MAX_TABLE_BYTES as u32 + 8;
    large[88 + 148..][..4].copy_from_slice(&bytes.to_le_bytes());
    let layout = Layout::parse(&large, 1 << 30).unwrap_err();
    assert!(layout.to_string().contains("not inside"), "{layout}");
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut changed = [SIGNED.to_vec(), SIGNER.to_vec()];
        for bytes in &mut changed {
            for (index, value) in &changes {
                let at = index.index(bytes.len());
                bytes[at] = *value;
            }
        }
        let [program, list] = &changed;
        let outcomes = [
            checked(&node(SIGNER, b"", program)),
            checked(&node(list, SIGNED, program)),
            checked(&node(list, &noise, &noise)),
            checked(&node(&noise, program, SIGNED)),
        ];
        for error in outcomes.into_iter().filter_map(Result::err) {
            prop_assert!(!error.to_string().is_empty());
        }
        drop(signature::certificates(&noise));
        drop(signature::common_name(&noise));
        let at = SIGNED.len() - noise.len();
        drop(signature::certificates(&SIGNED[at..]));
    }
}
