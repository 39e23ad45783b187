//! Each cloud's protocol, against the stand-in that machines meet in VM tests.

use std::net::TcpListener;

use testbed::metadata::{self as stand_in, USER_DATA};

use super::*;
use crate::effects::http::Internet;
use crate::settings::{NodeSettings, SettingsError, USER_DATA_MARK};

const CLOUDS: [(Cloud, stand_in::Cloud); 4] = [
    (Cloud::AmazonEc2, stand_in::Cloud::AmazonEc2),
    (Cloud::GoogleComputeEngine, stand_in::Cloud::GoogleComputeEngine),
    (Cloud::Azure, stand_in::Cloud::Azure),
    (Cloud::OpenStack, stand_in::Cloud::OpenStack),
];
const DOCUMENT: &str = r#"{"schema": 1, "hostname": "given"}"#;

/// A stand-in, and the service of a machine that it is the cloud of.
fn start(cloud: Cloud) -> (stand_in::MetadataService, MetadataService) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (_, kind) = CLOUDS.iter().find(|(known, _)| *known == cloud).unwrap();
    (stand_in::MetadataService::start(listener, *kind), MetadataService::at(cloud, address))
}

fn marked() -> String {
    format!("{USER_DATA_MARK}\n{DOCUMENT}")
}

fn hostname(found: Result<Option<NodeSettings>, SettingsError>) -> String {
    found.unwrap().unwrap().settings().hostname.clone().unwrap()
}

#[test]
fn firmware_tells_the_cloud() {
    let named = |files: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in files {
            fs::write(folder.path().join(name), format!("{value}\n")).unwrap();
        }
        Cloud::named_in(folder.path())
    };
    for (cloud, file, value) in SIGNS {
        assert_eq!(named(&[("sys_vendor", "x"), (file, value)]), Some(cloud), "{value}");
        assert_eq!(named(&[("board_name", value)]), None);
        assert_eq!(named(&[(file, &format!("not {value}"))]), None);
    }
    let qemu = [("sys_vendor", "QEMU"), ("product_name", "Standard PC (Q35 + ICH9, 2009)")];
    assert_eq!(named(&qemu), None);
    assert_eq!(named(&[]), None);
}

#[tokio::test]
async fn each_cloud_gives_settings_to_who_asks_as_it_wants() {
    for (cloud, _) in CLOUDS {
        let (service, asked) = start(cloud);
        service.give(USER_DATA, marked().as_bytes());
        assert_eq!(hostname(asked.settings(&Internet).await), "given", "{cloud}");
        let requests = service.requests();
        let refused =
            requests.iter().any(|request| request.contains(" 4") && !request.ends_with("404"));
        assert!(!refused, "{requests:?}");
        if cloud == Cloud::AmazonEc2 {
            assert_eq!(requests, ["PUT /latest/api/token 200", "GET /latest/user-data 200"]);
        }
    }
}

#[tokio::test]
async fn without_user_data_there_are_no_settings() {
    for (cloud, _) in CLOUDS {
        let (service, asked) = start(cloud);
        assert!(asked.settings(&Internet).await.unwrap().is_none(), "{cloud}");
        service.give(USER_DATA, b"");
        assert!(asked.settings(&Internet).await.unwrap().is_none(), "{cloud}");
    }
}

#[tokio::test]
async fn an_attribute_for_slipway_goes_first_and_needs_no_mark() {
    let (service, asked) = start(Cloud::GoogleComputeEngine);
    service.give(USER_DATA, b"#cloud-config\n{}");
    for own in [DOCUMENT, &marked()] {
        service.give("slipway-settings", own.as_bytes());
        assert_eq!(hostname(asked.settings(&Internet).await), "given");
    }
    assert!(service.requests().iter().all(|request| request.contains("slipway-settings")));
}

#[tokio::test]
async fn user_data_for_others_are_told_apart() {
    for (cloud, _) in CLOUDS {
        let (service, asked) = start(cloud);
        for foreign in ["#cloud-config\nsecret: x", DOCUMENT, USER_DATA_MARK] {
            service.give(USER_DATA, foreign.as_bytes());
            let error = asked.settings(&Internet).await.unwrap_err();
            assert!(matches!(error, SettingsError::UserData { .. }), "{cloud}: {error}");
            let text = error.to_string();
            assert!(text.contains(USER_DATA_MARK) && text.contains(&cloud.to_string()), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
        service.give(USER_DATA, format!("{USER_DATA_MARK}\n{{}}").as_bytes());
        let error = asked.settings(&Internet).await.unwrap_err();
        assert!(matches!(error, SettingsError::Given { .. }), "{cloud}: {error}");
    }
}

/// What a service does that answers each GET with this text.
async fn problem(cloud: Cloud, answer: &str) -> MetadataError {
    let (service, asked) = start(cloud);
    service.answer_instead(answer);
    match asked.settings(&Internet).await {
        Err(SettingsError::Cloud { problem, .. }) => problem,
        other => panic!("{cloud}: {other:?}"),
    }
}

/// An answer with the header that Compute Engine's service has.
fn said(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nMetadata-Flavor: Google\r\n{headers}\r\n{body}")
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let header =
        format!("Location: http://{}/\r\nContent-Length: 0\r\n", elsewhere.local_addr().unwrap());
    for (cloud, _) in CLOUDS {
        match problem(cloud, &said("302 Found", &header, "")).await {
            MetadataError::Refused(status) => assert_eq!(status.as_u16(), 302),
            other => panic!("{cloud}: {other}"),
        }
    }
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.accept().is_err(), "the node went where it was sent");
}

#[tokio::test]
async fn an_answer_is_read_up_to_a_bound() {
    let body = "A".repeat(2 * contract::node::settings::MAX_SETTINGS_BYTES as usize);
    for (cloud, _) in CLOUDS {
        for headers in ["", &format!("Content-Length: {}\r\n", body.len())] {
            let problem = problem(cloud, &said("200 OK", headers, &body)).await;
            assert!(matches!(problem, MetadataError::TooLarge(_)), "{cloud}: {problem}");
        }
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_or_not_yet_is_silent() {
    for (cloud, _) in CLOUDS {
        for status in ["503 Unavailable", "429 Too Many Requests", "410 Gone"] {
            let problem = problem(cloud, &said(status, "Content-Length: 0\r\n", "")).await;
            assert!(matches!(problem, MetadataError::Silent(_)), "{cloud}: {problem}");
        }
        let cut = said("200 OK", "Content-Length: 100\r\n", "#slipway");
        let cut = problem(cloud, &cut).await;
        assert!(matches!(cut, MetadataError::Silent(_)), "{cloud}: {cut}");

        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = MetadataService::at(cloud, nobody).settings(&Internet).await.unwrap_err();
        assert!(error.is_silence(), "{error}");
        let text = error.to_string();
        let start = format!("{cloud}'s metadata service does not answer (Connection refused");
        assert!(text.starts_with(&start), "{text}");
    }
}

#[tokio::test]
async fn what_stands_in_for_a_service_is_found_out() {
    let bare = format!("HTTP/1.1 200 OK\r\n\r\n{}", marked());
    let stranger = problem(Cloud::GoogleComputeEngine, &bare).await;
    assert!(matches!(stranger, MetadataError::Stranger), "{stranger}");
    let garbage = problem(Cloud::Azure, "HTTP/1.1 200 OK\r\n\r\n#slipway-settings").await;
    assert!(matches!(garbage, MetadataError::Base64), "{garbage}");
    for (cloud, _) in CLOUDS {
        let forbidden = problem(cloud, &said("403 Forbidden", "Content-Length: 0\r\n", "")).await;
        assert!(matches!(forbidden, MetadataError::Refused(_)), "{cloud}: {forbidden}");
    }
}

#[tokio::test]
async fn ec2_is_not_asked_without_a_token() {
    // Other clouds have no tokens: 404 is their answer to the question for one.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let other = stand_in::MetadataService::start(listener, stand_in::Cloud::OpenStack);
    let asked = MetadataService::at(Cloud::AmazonEc2, address);
    match asked.settings(&Internet).await {
        Err(SettingsError::Cloud { problem: MetadataError::Token, .. }) => {}
        answer => panic!("{answer:?}"),
    }
    assert_eq!(other.requests(), ["PUT /latest/api/token 404"]);
}
