//! Reads apt's lists of sources: in goes the text of a deb822 `.sources` file or of a
//! one-line `.list` file, out come its enabled binary sources. Lines that are not understood
//! are left out, as the host's configuration is not ours to judge.
//!
//! Format: sources.list(5).

use deb822_fast::borrowed::BorrowedParser;

/// One place that apt takes binary packages from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AptSource {
    /// Base address, as written.
    pub uri: String,
    /// Suites, such as `trixie-updates`.
    pub suites: Vec<String>,
    /// Components, such as `main`.
    pub components: Vec<String>,
}

/// The sources of a deb822 file; empty when it cannot be parsed.
pub fn parse_deb822(text: &str) -> Vec<AptSource> {
    let Ok(paragraphs) = BorrowedParser::new(text).parse_all() else { return Vec::new() };
    let mut found = Vec::new();
    for paragraph in paragraphs {
        let words = |name: &str| -> Vec<String> {
            let lines = paragraph.get_field(name).map(|field| field.lines()).unwrap_or_default();
            let uncommented = lines.iter().filter(|line| !line.trim_start().starts_with('#'));
            uncommented.flat_map(|line| line.split_whitespace()).map(str::to_owned).collect()
        };
        let disabled = matches!(
            words("Enabled").first().map(String::as_str),
            Some("no" | "false" | "off" | "without" | "disable")
        );
        if disabled || !words("Types").iter().any(|kind| kind == "deb") {
            continue;
        }
        found.extend(words("URIs").into_iter().map(|uri| AptSource {
            uri,
            suites: words("Suites"),
            components: words("Components"),
        }));
    }
    found
}

/// The sources of a one-line-style file.
pub fn parse_one_line(text: &str) -> Vec<AptSource> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<AptSource> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let rest = line.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t', '[']) {
        return None;
    }
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    Some(AptSource { uri, suites: vec![suite], components: words.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deb822_lists_every_address_and_skips_what_is_off() {
        let text = "Types: deb deb-src\n# a remark\nURIs: http://one.test/debian\n \
                    http://two.test/debian\nSuites: trixie trixie-updates\nComponents: main\n\n\
                    Types: deb\nURIs: http://off.test/debian\nSuites: trixie\nEnabled: no\n\n\
                    Types: deb-src\nURIs: http://src.test/debian\nSuites: trixie\n";
        let found = parse_deb822(text);
        let uris: Vec<_> = found.iter().map(|source| source.uri.as_str()).collect();
        assert_eq!(uris, ["http://one.test/debian", "http://two.test/debian"]);
        assert_eq!(found[0].suites, ["trixie", "trixie-updates"]);
    }

    #[test]
    fn one_line_style_knows_options_and_remarks() {
        let text = "# deb http://off.test/debian trixie main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://one.test/debian trixie main # why\n\
                    deb-src http://src.test/debian trixie main\ndebris\ndeb\n";
        let found = parse_one_line(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].uri, "http://one.test/debian");
        assert_eq!(found[0].components, ["main"]);
    }
}
