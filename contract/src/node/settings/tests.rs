//! Settings are read strictly, and never give a secret away.

use super::*;

fn full() -> serde_json::Value {
    let certificate = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    serde_json::json!({
        "schema": 1,
        "hostname": "node-1.example",
        "channel": {
            "mirrors": ["https://updates.example.com/slipway/", "http://[::1]:8080/"],
            "root": {"signed": {"_type": "root"}, "signatures": []},
            "group": "workers", "follow": "stable", "pollInterval": "5m", "jitter": "0s"
        },
        "mode": "staged-only",
        "health": {
            "probes": [
                {"kind": "http", "name": "ingress", "url": "http://127.0.0.1:8080/ready"},
                {"kind": "file", "name": "disk", "path": "/run/disk-ready"}
            ],
            "settle": "30s", "deadline": "5m", "apiServerGrace": "1m"
        },
        "network": {
            "interfaces": [{"match": "en*", "addresses": ["10.0.0.5/24", "fd00::5/64"],
                "gateway": "10.0.0.1", "dns": ["10.0.0.2"]}],
            "timeServers": ["time.example.com", "10.0.0.3"],
            "proxy": {"url": "http://proxy.example.com:3128", "user": "node",
                "password": "hunter2", "except": [".example.org", "10.0.0.0/8"]},
            "certificates": [certificate]
        },
        "registries": [{"host": "docker.io", "mirrors": ["https://mirror.example.com"],
            "username": "node", "password": "hunter2"}],
        "api": {"certificate": certificate, "clientAuthority": certificate,
            "key": "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"}
    })
}

fn parse(value: &serde_json::Value) -> Result<Settings, InvalidSettings> {
    Settings::from_json(value.to_string().as_bytes())
}

#[test]
fn a_full_document_is_read() {
    let settings = parse(&full()).unwrap();
    assert_eq!(settings.mode, UpdateMode::StagedOnly);
    assert_eq!(settings.api.as_ref().unwrap().port, DEFAULT_API_PORT);
    assert_eq!(settings.health.probes[0].name(), "ingress");
    let addresses = &settings.network.interfaces[0].addresses;
    assert_eq!(addresses[1].to_string(), "fd00::5/64");
}

#[test]
fn the_shortest_document_is_read() {
    let settings = Settings::from_json(br#"{"schema": 1}"#).unwrap();
    assert_eq!(settings.mode, UpdateMode::Automatic);
    assert_eq!(settings.channel, None);
}

#[test]
fn no_secret_is_printed_or_serialised() {
    let settings = parse(&full()).unwrap();
    assert_eq!(
        settings.network.proxy.as_ref().unwrap().password.as_ref().unwrap().expose(),
        "hunter2"
    );
    let shown = [
        format!("{settings:?}"),
        serde_json::to_string(&settings).unwrap(),
        serde_json::to_string(&settings.redacted()).unwrap(),
        format!("{:?}", settings.redacted()),
    ];
    for text in shown {
        assert!(!text.contains("hunter2") && !text.contains("c2VjcmV0"), "{text}");
        assert!(text.contains(REDACTED));
    }
    let redacted = serde_json::to_value(settings.redacted()).unwrap();
    assert_eq!(redacted["registries"][0]["password"], REDACTED);
}

#[test]
fn a_wrong_address_is_not_repeated_in_the_error() {
    let mut hostile = full();
    hostile["network"]["proxy"]["url"] = "http://node:hunter2@proxy/".into();
    let error = parse(&hostile).unwrap_err();
    let text = format!("{error} {:?}", std::error::Error::source(&error));
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated_in_the_error() {
    for place in ["/api/port", "/network/proxy", "/health/probes", "/schema", "/health/settle"] {
        let mut hostile = full();
        hostile["api"]["port"] = 1.into();
        *hostile.pointer_mut(place).unwrap() = "hunter2, expected".into();
        let error = parse(&hostile).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{place}: {error}");
        assert!(error.to_string().contains("expected"), "{place}: {error}");
    }
}

#[test]
fn what_was_shown_cannot_be_set_again_without_its_secrets() {
    let shown = serde_json::to_value(parse(&full()).unwrap().redacted()).unwrap();
    let error = parse(&shown).unwrap_err();
    assert!(error.to_string().contains("placeholder"), "{error}");
}

#[test]
fn wrong_fields_are_named() {
    let cases: [(&str, &str, serde_json::Value); 18] = [
        ("hostname", "/hostname", "Node\n1".into()),
        ("channel.mirrors", "/channel/mirrors", serde_json::json!([])),
        ("channel.root", "/channel/root", serde_json::json!({"signed": {"_type": "targets"}})),
        ("channel.pollInterval", "/channel/pollInterval", "1s".into()),
        ("channel.jitter", "/channel/jitter", "-1s".into()),
        ("health.probes[0].name", "/health/probes/0/name", "a b".into()),
        ("health.probes[1].name", "/health/probes/1/name", "ingress".into()),
        ("health.probes[0].url", "/health/probes/0/url", "https://127.0.0.1:1/".into()),
        ("health.probes[0].url", "/health/probes/0/url", "http://127.0.0.1/".into()),
        ("health.probes[1].path", "/health/probes/1/path", "run/x".into()),
        ("health.settle", "/health/settle", "10m".into()),
        ("health.deadline", "/health/deadline", "25h".into()),
        ("health.apiServerGrace", "/health/apiServerGrace", "25h".into()),
        ("network.interfaces[0].match", "/network/interfaces/0/match", "en*\n[Route]".into()),
        (
            "network.interfaces[0].addresses",
            "/network/interfaces/0/addresses",
            serde_json::json!([]),
        ),
        ("network.timeServers[0]", "/network/timeServers/0", "a b".into()),
        ("network.certificates[0]", "/network/certificates/0", "no".into()),
        ("api.key", "/api/key", "no".into()),
    ];
    for (field, pointer, value) in cases {
        let mut hostile = full();
        *hostile.pointer_mut(pointer).unwrap() = value;
        match parse(&hostile) {
            Err(InvalidSettings::Field { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
    }
}

#[test]
fn unknown_fields_later_schemas_and_large_documents_are_refused() {
    for place in
        ["", "/channel", "/health", "/health/probes/1", "/network", "/registries/0", "/api"]
    {
        let mut hostile = full();
        hostile.pointer_mut(place).unwrap()["colour"] = "blue".into();
        assert!(matches!(parse(&hostile), Err(InvalidSettings::Json(_))), "{place}");
    }
    let later = Settings::from_json(br#"{"schema": 3, "novel": true}"#);
    assert!(matches!(later, Err(InvalidSettings::Schema(3))));
    assert!(Settings::from_json(br#"{"schema": 0}"#).is_err());
    let large = vec![b' '; MAX_SETTINGS_BYTES as usize + 1];
    assert!(matches!(Settings::from_json(&large), Err(InvalidSettings::TooLarge(_))));
}

const CLUSTER: &str = r#""server": "https://a:6443",
    "certificateAuthority": "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----""#;

fn joining(schema: u32, more: &str) -> Result<Settings, InvalidSettings> {
    let kubernetes = format!("{{{CLUSTER}, {more}}}");
    let text =
        format!(r#"{{"schema": {schema}, "hostname": "node-a", "kubernetes": {kubernetes}}}"#);
    Settings::from_json(text.as_bytes())
}

#[test]
fn a_document_of_the_first_schema_says_the_same_in_the_second() {
    let first = joining(1, r#""bootstrapToken": "abcdef.0123456789abcdef""#).unwrap();
    let second = joining(2, r#""bootstrap": {"token": "abcdef.0123456789abcdef"}"#).unwrap();
    assert_eq!(first, second);
    let error = joining(1, r#""bootstrapToken": "short""#).unwrap_err().to_string();
    assert!(error.contains("kubernetes.bootstrapToken"), "{error}");
    for (schema, more) in [
        (1, r#""bootstrap": {"token": "abcdef.0123456789abcdef"}"#),
        (2, r#""bootstrapToken": "abcdef.0123456789abcdef""#),
    ] {
        let error = joining(schema, more).unwrap_err().to_string();
        assert!(error.contains("schema"), "{error}");
        assert!(!error.contains("0123456789abcdef"), "{error}");
    }
}

#[test]
fn a_node_bootstraps_with_a_token_or_a_certificate() {
    let certificate = "-----BEGIN CERTIFICATE-----\\nAA==\\n-----END CERTIFICATE-----";
    let key = "-----BEGIN PRIVATE KEY-----\\nc2VjcmV0\\n-----END PRIVATE KEY-----";
    let client = |certificate: &str, key: &str| {
        let pair = format!(r#"{{"certificate": "{certificate}", "key": "{key}"}}"#);
        joining(2, &format!(r#""bootstrap": {{"clientCertificate": {pair}}}"#))
    };
    let settings = client(certificate, key).unwrap();
    let shown = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
    assert!(!shown.contains("c2VjcmV0"), "{shown}");
    let redacted = serde_json::to_value(settings.redacted()).unwrap();
    let pointer = "/kubernetes/bootstrap/clientCertificate/key";
    assert_eq!(redacted.pointer(pointer).unwrap(), REDACTED);
    let both = format!("{key}\\n{certificate}");
    for (certificate, key) in
        [("x", key), (certificate, "x"), (certificate, REDACTED), (both.as_str(), key)]
    {
        let error = client(certificate, key).unwrap_err().to_string();
        assert!(error.contains("kubernetes.bootstrap.clientCertificate."), "{error}");
    }
    let token = "abcdef.0123456789abcdef";
    for wrong in [format!(r#""{token}""#), r#"{"token": 12345678}"#.to_owned()] {
        let error = joining(2, &format!(r#""bootstrap": {wrong}"#)).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(token) && !shown.contains("12345678"), "{error}");
    }
    let pair = format!(r#"{{"certificate": "{certificate}", "key": "{key}"}}"#);
    for wrong in
        ["{}".to_owned(), format!(r#"{{"token": "{token}", "clientCertificate": {pair}}}"#)]
    {
        let error = joining(2, &format!(r#""bootstrap": {wrong}"#)).unwrap_err().to_string();
        assert!(error.contains("give one of"), "{error}");
    }
}

#[test]
fn addresses_that_could_hide_something_are_refused() {
    for text in [
        "ftp://example.com/",
        "https://",
        "https:///path",
        "https://user@example.com/",
        "https://example.com/?token=1",
        "https://example.com:0/",
        "https://example.com:port/",
        "https://exa mple.com/",
        "https://[::1/",
        "https://-example.com/",
    ] {
        assert!(text.parse::<HttpUrl>().is_err(), "{text}");
    }
    for text in ["10.0.0.1", "10.0.0.1/33", "10.0.0.1/0", "fd00::1/129", "a/8", "10.0.0.1/ 8"] {
        assert!(text.parse::<AddressPrefix>().is_err(), "{text}");
    }
}
