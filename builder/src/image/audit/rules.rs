//! The rules, each over the finished tree.

use std::io::Read;

use super::names::forbidden;
use super::{AuditError, Finding, Rule};
use crate::formats::tree::{Content, Entry, Node, TreePath};
use crate::image::compose::{Composed, candidates, credentials, elf};
use crate::image::selinux::label_type;

/// Folders that the node fills at run time; links into them cannot be resolved here.
const RUNTIME_FOLDERS: [&str; 5] = ["dev", "proc", "run", "sys", "var"];

/// Every finding in path order.
pub fn findings(composed: &Composed) -> Result<Vec<Finding>, AuditError> {
    let mut findings = Vec::new();
    for (path, entry) in composed.tree.iter() {
        let mut report = |rule, detail: String| {
            findings.push(Finding { rule, path: path.clone(), detail });
        };
        check_mode(entry, &mut report);
        if let Some(rule) = forbidden(path.name()).filter(|_| runs(entry)) {
            report(rule, "must not be on a node".into());
        }
        if entry.origin.part.is_empty() || entry.origin.reason.is_empty() {
            report(Rule::Unexplained, "comes from no part".into());
        }
        check_label(composed, path, entry, &mut report);
        match &entry.node {
            Node::Symlink(target) => {
                if let Some(detail) = check_link(composed, path, target) {
                    report(Rule::UnresolvedLink, detail);
                }
            }
            Node::File(content) => {
                let read = |source| AuditError::Read { path: path.clone(), source };
                check_file(composed, path, entry, content, &mut report).map_err(read)?;
                if credentials::is_unit(path) {
                    check_unit(content, &mut report).map_err(read)?;
                }
            }
            _ => {}
        }
    }
    findings.sort();
    Ok(findings)
}

/// True for what can be started by this name: an executable, or a link (to whatever).
fn runs(entry: &Entry) -> bool {
    match entry.node {
        Node::File(_) | Node::HardLink(_) => entry.mode & 0o111 != 0,
        Node::Symlink(_) => true,
        _ => false,
    }
}

fn check_mode(entry: &Entry, report: &mut impl FnMut(Rule, String)) {
    if entry.mode & 0o6000 != 0 {
        report(Rule::Setuid, format!("has mode {:04o}", entry.mode));
    }
    if entry.mode & 0o002 != 0 && !matches!(entry.node, Node::Symlink(_)) {
        report(Rule::WorldWritable, format!("has mode {:04o}", entry.mode));
    }
    if entry.xattrs.contains_key("security.capability") {
        report(Rule::FileCapability, "carries capabilities".into());
    }
}

/// Every entry of a labelled tree has a label; one that changes who acts stands where it was given.
fn check_label(
    composed: &Composed,
    path: &TreePath,
    entry: &Entry,
    report: &mut impl FnMut(Rule, String),
) {
    let Some(labels) = &composed.labels else { return };
    match label_type(entry) {
        None => report(Rule::Unlabelled, "has no label".into()),
        Some(label) if !labels.values().any(|known| known == label) => {
            report(
                Rule::Unlabelled,
                format!("has the type {label}, which [selinux] does not give"),
            );
        }
        Some(label)
            if label.ends_with("_exec_t")
                && labels.get(path).map(String::as_str) != Some(label) =>
        {
            report(
                Rule::Entrypoint,
                format!("has the type {label}, and [selinux] does not name it"),
            );
        }
        Some(_) => {}
    }
}

fn check_link(composed: &Composed, path: &TreePath, target: &str) -> Option<String> {
    let leads_to = path.resolve_link(target);
    let first = leads_to.as_str().split('/').next().unwrap_or_default();
    if RUNTIME_FOLDERS.contains(&first) || composed.tree.resolve(path).is_some() {
        return None;
    }
    Some(format!("leads to {leads_to}, which is not in the image"))
}

fn check_file(
    composed: &Composed,
    path: &TreePath,
    entry: &Entry,
    content: &Content,
    report: &mut impl FnMut(Rule, String),
) -> std::io::Result<()> {
    let executable = entry.mode & 0o111 != 0;
    let mut head = Vec::new();
    content.reader()?.take(2).read_to_end(&mut head)?;
    if head == b"#!" && executable {
        report(Rule::Interpreter, "is a script".into());
    }
    let is_module = path.as_str().ends_with(".ko");
    let linking = if is_module { None } else { elf::linking(content)? };
    let is_program = linking.as_ref().is_some_and(|linking| linking.program);
    let is_library = linking.is_some() && path.name().contains(".so");
    let admitted = composed.admitted.contains(path);
    if (executable || (is_program && !is_library)) && !admitted {
        report(
            Rule::UnlistedExecutable,
            format!("is not listed by its full name in part `{}`", entry.origin.part),
        );
    }
    for library in linking.iter().flat_map(|linking| &linking.needed) {
        let found = linking.as_ref().is_some_and(|linking| {
            candidates(path, linking, library)
                .iter()
                .any(|candidate| composed.tree.resolve(candidate).is_some())
        });
        if !found {
            report(Rule::UnresolvedLibrary, format!("needs {library}"));
        }
    }
    Ok(())
}

/// What a unit takes from outside the image.
fn check_unit(content: &Content, report: &mut impl FnMut(Rule, String)) -> std::io::Result<()> {
    match credentials::text_of(content)? {
        Some(text) => {
            for line in credentials::imports(&text) {
                report(Rule::CredentialImport, format!("says `{}`", line.trim()));
            }
        }
        None => report(Rule::CredentialImport, "cannot be read as a unit".into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::audit;
    use super::*;
    use crate::formats::tree::{Origin, Tree};
    use crate::manifest::Exception;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text).unwrap()
    }

    fn file(bytes: &[u8], mode: u16) -> Entry {
        let origin = Origin { part: "p".into(), reason: "listed".into(), ..Origin::default() };
        Entry::new(Node::File(Content::from_bytes(bytes.to_vec())), mode, origin)
    }

    fn composed(entries: Vec<(&str, Entry)>) -> Composed {
        let tree: Tree = entries.into_iter().map(|(name, entry)| (path(name), entry)).collect();
        Composed { tree, ..Composed::default() }
    }

    fn found(entry: Entry) -> Vec<Rule> {
        let composed = composed(vec![("usr/bin/x", entry)]);
        findings(&composed).unwrap().iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn setuid_world_writable_and_capabilities_are_found() {
        assert_eq!(found(file(b"x", 0o4644)), [Rule::Setuid]);
        assert_eq!(found(file(b"x", 0o666)), [Rule::WorldWritable]);
        let mut capable = file(b"x", 0o644);
        capable.xattrs.insert("security.capability".into(), vec![1]);
        assert_eq!(found(capable), [Rule::FileCapability]);
    }

    #[test]
    fn a_renamed_shell_is_an_unlisted_executable() {
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(found(file(&this, 0o755)).contains(&Rule::UnlistedExecutable));
        // Not even without the executable bit: the dynamic linker could still start it.
        assert!(found(file(&this, 0o644)).contains(&Rule::UnlistedExecutable));
    }

    #[test]
    fn a_script_is_found() {
        assert!(found(file(b"#!/bin/sh\n", 0o755)).contains(&Rule::Interpreter));
    }

    #[test]
    fn a_missing_library_is_found() {
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(found(file(&this, 0o755)).contains(&Rule::UnresolvedLibrary));
    }

    #[test]
    fn names_of_shells_are_found_even_as_links() {
        let mut link = file(b"", 0o777);
        link.node = Node::Symlink("missing".into());
        let rules: Vec<Rule> = findings(&composed(vec![("usr/bin/sh", link)]))
            .unwrap()
            .iter()
            .map(|finding| finding.rule)
            .collect();
        assert_eq!(rules, [Rule::Shell, Rule::UnresolvedLink]);
    }

    #[test]
    fn an_unexplained_file_is_found() {
        let mut entry = file(b"x", 0o644);
        entry.origin = Origin::default();
        assert_eq!(found(entry), [Rule::Unexplained]);
    }

    #[test]
    fn an_import_of_a_credential_is_found_in_units_alone() {
        let found = |name, text: &[u8]| {
            let composed = composed(vec![(name, file(text, 0o644))]);
            findings(&composed).unwrap().into_iter().map(|finding| finding.rule).collect::<Vec<_>>()
        };
        let drop_in = "etc/systemd/system/x.service.d/10-x.conf";
        let text = b"[Service]\nImportCredential=sysctl.*\n";
        assert_eq!(found(drop_in, text), [Rule::CredentialImport]);
        assert_eq!(found("usr/share/doc/x.service", text), []);
        assert_eq!(found(drop_in, b"[Service]\n#ImportCredential=x\n"), []);
        assert_eq!(found(drop_in, b"\xff"), [Rule::CredentialImport]);
    }

    #[test]
    fn labels_are_asked_for_on_every_entry_of_a_labelled_tree() {
        let found = |label: Option<&str>| {
            let mut entry = file(b"x", 0o644);
            if let Some(label) = label {
                let value = format!("system_u:object_r:{label}:s0\0").into_bytes();
                entry.xattrs.insert(crate::image::selinux::ATTRIBUTE.into(), value);
            }
            let mut composed = composed(vec![("usr/bin/x", entry)]);
            let given = [("usr", "root_t"), ("usr/bin/y", "y_exec_t")];
            composed.labels =
                Some(given.into_iter().map(|(at, label)| (path(at), label.into())).collect());
            findings(&composed).unwrap().iter().map(|finding| finding.rule).collect::<Vec<_>>()
        };
        assert_eq!(found(Some("root_t")), []);
        assert_eq!(found(None), [Rule::Unlabelled]);
        assert_eq!(found(Some("other_t")), [Rule::Unlabelled]);
        assert_eq!(found(Some("y_exec_t")), [Rule::Entrypoint]);
    }

    #[test]
    fn an_exception_passes_only_its_own_finding() {
        let exception = |name: &str| Exception {
            rule: "setuid".into(),
            path: path(name),
            reason: "test".into(),
        };
        let image = || composed(vec![("usr/bin/x", file(b"x", 0o4644))]);
        let (root, _) = audit(image(), Composed::default(), &[exception("usr/bin/x")]).unwrap();
        assert_eq!(root.excused().len(), 1);
        let other = audit(image(), Composed::default(), &[exception("usr/bin/y")]);
        assert!(other.unwrap_err().to_string().contains("setuid: /usr/bin/x"));
    }

    #[test]
    fn an_exception_for_nothing_is_refused() {
        let idle = Exception { rule: "setuids".into(), path: path("x"), reason: "r".into() };
        let error = audit(Composed::default(), Composed::default(), &[idle]).unwrap_err();
        assert!(error.to_string().contains("no such rule"), "{error}");
    }
}
