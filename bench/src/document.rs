//! Puts a table between its markers in docs/benchmarks.md.
//!
//! **Invariant:** what stands outside the markers is left as it is.

use std::fs;

use anyhow::{Context, Result};
use vm_tests::workspace;

/// Replaces the document's section `name` by `text`, and prints it.
///
/// # Errors
/// When the document or its markers are missing, or it cannot be written.
pub fn put(name: &str, text: &str) -> Result<()> {
    println!("\n{text}");
    let path = workspace().join("docs/benchmarks.md");
    let before = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let after = replaced(&before, name, text)
        .with_context(|| format!("{} has no markers for `{name}`", path.display()))?;
    fs::write(&path, after).with_context(|| path.display().to_string())
}

fn replaced(document: &str, name: &str, text: &str) -> Option<String> {
    let (open, close) = (format!("<!-- bench:{name} -->\n"), format!("<!-- /bench:{name} -->"));
    let (head, rest) = document.split_once(&open)?;
    let (_, tail) = rest.split_once(&close)?;
    Some(format!("{head}{open}\n{}\n\n{close}{tail}", text.trim()))
}

/// One line of a Markdown table.
pub fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// The head of a Markdown table: the first column to the left, figures to the right.
pub fn head(columns: &[&str]) -> String {
    let rule: Vec<&str> =
        columns.iter().enumerate().map(|(i, _)| if i == 0 { "---" } else { "---:" }).collect();
    format!("| {} |\n| {} |\n", columns.join(" | "), rule.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_section_changes() {
        let document = "a\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nb\n<!-- bench:y -->\nkept\n<!-- /bench:y -->\n";
        let once = replaced(document, "x", "new").unwrap_or_default();
        assert_eq!(
            once,
            "a\n<!-- bench:x -->\n\nnew\n\n<!-- /bench:x -->\nb\n<!-- bench:y -->\nkept\n<!-- /bench:y -->\n"
        );
        assert_eq!(replaced(&once, "x", "new").as_ref(), Some(&once));
        assert_eq!(replaced(document, "z", "new"), None);
    }
}
