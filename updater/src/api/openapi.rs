//! The OpenAPI document, from the handlers and types themselves.

use utoipa::OpenApi;
use utoipa::openapi::security::SecurityScheme;

use super::routes;

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

/// The document.
pub fn document() -> utoipa::openapi::OpenApi {
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
