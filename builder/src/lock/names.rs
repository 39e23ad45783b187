//! What a lock takes as a package's name and path: both reach file names and addresses, and
//! neither may lead elsewhere.

/// Debian Policy 5.6.1, with one character allowed, as virtual names are free.
pub fn is_package_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
    text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && text.len() <= 200
        && text.bytes().all(known)
}

/// Refuses a path that could leave the archive, be it in an address or in a folder.
///
/// # Errors
/// The reason, as text.
pub fn check_path(path: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._~/:%".contains(&byte);
    let names_fit = path.split('/').all(|name| !matches!(name, "" | "." | ".."));
    let fits = path.starts_with("pool/") && path.len() <= 1024 && path.bytes().all(plain);
    if fits && names_fit { Ok(()) } else { Err(format!("`{path}` is not a path below pool/")) }
}
