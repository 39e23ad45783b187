//! A value that must outlive reboots and updates, on the state partition.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::errno;
use crate::http::Answer;

const FOLDER: &str = "/var/lib/slipway-probe";

/// The value of a key, after writing it when one is given.
pub fn answer(key: Option<&str>, write: Option<&str>) -> Answer {
    answer_in(Path::new(FOLDER), key, write)
}

fn answer_in(folder: &Path, key: Option<&str>, write: Option<&str>) -> Answer {
    let good = |key: &&str| {
        !key.is_empty()
            && key.len() <= 64
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let Some(key) = key.filter(good) else {
        return Answer::error(400, "key: letters, digits and dashes");
    };
    let written = write.map_or(Ok(()), |value| store(folder, key, value));
    match written.and_then(|()| fs::read(folder.join(key))) {
        Ok(value) => Answer::bytes(value),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Answer::error(404, "no value"),
        Err(error) => Answer::error(500, &errno::name(&error)),
    }
}

/// Writes and syncs: tests cut the power right after the answer.
fn store(folder: &Path, key: &str, value: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = File::create(folder.join(key))?;
    file.write_all(value.as_bytes())?;
    file.sync_all()?;
    File::open(folder)?.sync_all()?;
    folder.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(answer: &Answer) -> String {
        format!("{answer:?}")
    }

    #[test]
    fn a_value_is_kept_and_keys_stay_in_their_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("state");
        let ask = |key, write| shown(&answer_in(&folder, Some(key), write));
        assert!(ask("boots", None).contains("404"));
        let written = ask("boots", Some("7"));
        assert!(written.contains("200"), "{written}");
        assert_eq!(ask("boots", None), written);
        for key in ["../x", "", "a/b", "."] {
            assert!(ask(key, Some("x")).contains("400"), "{key}");
        }
    }
}
