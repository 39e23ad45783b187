//! A release document in words.

use release::ReleaseDocument;

pub use release::api::size;

/// Largest number of components that are listed.
const SHOWN_COMPONENTS: usize = 200;

/// Name, root hash, components and files, a line each.
pub fn document_text(document: &ReleaseDocument) -> String {
    let mark = if document.development { "  (development build, throw-away keys)" } else { "" };
    let mut text = format!(
        "{} {} for {}{mark}\nroot hash  {}\nroot       {}\n",
        document.image,
        document.version,
        document.architecture,
        document.root.root_hash,
        size(document.root.bytes),
    );
    text += "components\n";
    for component in document.components.iter().take(SHOWN_COMPONENTS) {
        text += &format!("  {} {}\n", component.name, component.version);
    }
    text += "files\n";
    for file in &document.files {
        text += &format!("  {:<20} {:>10}  {}\n", file.name, size(file.bytes), file.sha256);
    }
    text
}
