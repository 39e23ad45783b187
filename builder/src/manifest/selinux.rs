//! `[selinux]`: the table of one file into the manifest, and words that would undo it.

use std::path::PathBuf;

use super::document::SelinuxTable;
use super::{Selinux, SelinuxState};
use crate::formats::tree::TreePath;

/// Words of the command line that the builder alone writes.
const RESERVED: [&str; 4] = ["security=", "selinux=", "enforcing=", "lsm="];

/// Adds a table to what the extended manifests say; an error is a sentence.
pub fn extend(
    selinux: &mut Option<Selinux>,
    table: SelinuxTable,
    folder: PathBuf,
) -> Result<(), String> {
    let mut merged = match (selinux.take(), table.policy) {
        (None, None) => {
            return Err("[selinux] has no `policy`: name the folder of its `*.cil`".into());
        }
        (None, Some(policy)) => Selinux {
            folder,
            policy,
            state: SelinuxState::Enforcing,
            labels: std::collections::BTreeMap::new(),
        },
        (Some(before), None) => before,
        (Some(before), Some(policy)) => Selinux { folder, policy, ..before },
    };
    if let Some(state) = table.state {
        merged.state = state;
    }
    for (path, label) in table.labels {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if label.is_empty() || !label.chars().all(plain) {
            return Err(format!(
                "[selinux] labels {path} with `{label}`, which is no type: use a name such as `root_t`"
            ));
        }
        let path = TreePath::parse(&path).map_err(|error| format!("[selinux]: {error}"))?;
        merged.labels.insert(path, label);
    }
    *selinux = Some(merged);
    Ok(())
}

/// Refuses words that choose or weaken the access control.
pub fn check_command_line(words: &[String]) -> Result<(), String> {
    let reserved = |word: &&String| RESERVED.iter().any(|start| word.starts_with(start));
    match words.iter().find(reserved) {
        None => Ok(()),
        Some(word) => Err(format!(
            "the command line has `{word}`: remove it, and say what is wanted with `state` in [selinux]"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(policy: Option<&str>, state: Option<SelinuxState>) -> SelinuxTable {
        SelinuxTable { policy: policy.map(Into::into), state, ..SelinuxTable::default() }
    }

    #[test]
    fn a_policy_is_enforced_unless_the_manifest_says_otherwise() {
        let mut selinux = None;
        extend(&mut selinux, table(Some("policy"), None), "base".into()).unwrap();
        let enforced = selinux.clone().unwrap();
        assert_eq!(enforced.state.command_line(), ["security=selinux"]);
        assert_eq!(enforced.resolve(), PathBuf::from("base/policy"));
        // A manifest that gives another state keeps the folder of the one that it extends.
        extend(&mut selinux, table(None, Some(SelinuxState::Permissive)), "other".into()).unwrap();
        let permissive = selinux.unwrap();
        assert_eq!(permissive.state.command_line(), ["security=selinux", "enforcing=0"]);
        assert_eq!(permissive.resolve(), PathBuf::from("base/policy"));
    }

    #[test]
    fn a_table_without_a_policy_is_refused() {
        let error = extend(&mut None, table(None, None), PathBuf::new()).unwrap_err();
        assert!(error.contains("no `policy`"), "{error}");
    }

    #[test]
    fn a_label_cannot_leave_its_statement() {
        let mut bad = table(Some("policy"), None);
        bad.labels.insert("/".into(), "root_t)) (allow a b".into());
        let error = extend(&mut None, bad, PathBuf::new()).unwrap_err();
        assert!(error.contains("no type"), "{error}");
    }

    #[test]
    fn the_command_line_cannot_weaken_the_policy() {
        for word in ["enforcing=0", "security=apparmor", "selinux=0", "lsm=landlock"] {
            assert!(check_command_line(&[word.to_owned()]).unwrap_err().contains(word));
        }
        assert_eq!(check_command_line(&["quiet".to_owned()]), Ok(()));
    }
}
