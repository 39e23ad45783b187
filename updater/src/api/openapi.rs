//! The OpenAPI document, from the handlers and types themselves.
//!
//! In: their descriptions, when the tests run. Out: `openapi.json`, which the program carries:
//! what makes it would be 300 KB of the program. **Invariant:** a test fails when the file is
//! not what the code says.

#[cfg(test)]
use utoipa::OpenApi;
#[cfg(test)]
use utoipa::openapi::security::SecurityScheme;

#[cfg(test)]
use super::routes;

/// The document, as JSON. `SLIPWAY_RENEW=1 cargo test -p updater openapi` writes it anew.
pub const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Slipway node",
        description = "State and control of one node. Over TCP a client certificate is needed, \
                       whose Organization is the role: `slipway:readers` may use GET, \
                       `slipway:operators` everything. On the node itself the same API is on \
                       /run/slipway/api.sock, for root.",
    ),
    paths(
        routes::status, routes::why, routes::history, routes::logs, routes::drift,
        routes::settings, routes::replace_settings, routes::openapi, routes::metrics,
        routes::check, routes::stage, routes::update, routes::rollback, routes::pin,
        routes::unpin, routes::clear,
    ),
    security(("client-certificate" = [])),
)]
struct Document;

/// The document that the code describes.
#[cfg(test)]
fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let scheme =
        SecurityScheme::MutualTls { description: None, deprecated: None, extensions: None };
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("client-certificate", scheme);
    document
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Method and path of everything that the document describes.
    fn described() -> BTreeSet<(String, String)> {
        let document = serde_json::to_value(document()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let pairs = paths.iter().flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone()))
        });
        pairs.collect()
    }

    #[test]
    fn the_file_is_what_the_code_says() {
        let text = document().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("SLIPWAY_RENEW").is_some() {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/openapi.json");
            // `DOCUMENT` is what the file was when this was compiled.
            std::fs::write(file, &text).unwrap();
            return;
        }
        assert!(text == DOCUMENT, "SLIPWAY_RENEW=1 cargo test -p updater openapi");
    }

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let routed = routes::routes().into_iter();
        let routed: BTreeSet<_> =
            routed.map(|route| (route.method.to_string(), route.path.to_owned())).collect();
        assert_eq!(described(), routed);
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        let document = serde_json::to_value(document()).unwrap();
        let mut references = BTreeSet::new();
        collect(&document, &mut references);
        assert!(references.contains("#/components/schemas/Status"));
        for reference in references {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    fn collect(value: &serde_json::Value, references: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(map) => {
                let own = map.get("$ref").and_then(|reference| reference.as_str());
                references.extend(own.map(str::to_owned));
                map.values().for_each(|value| collect(value, references));
            }
            serde_json::Value::Array(list) => list.iter().for_each(|v| collect(v, references)),
            _ => {}
        }
    }
}
