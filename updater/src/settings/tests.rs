//! Settings come from one place, stay with their slot, and reach systemd.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::effects::fake::{Effect, FakeNode, Fault, Sizes};
use crate::effects::{HostName, SeedDisk};

/// A state partition that always works.
fn state() -> FakeNode {
    FakeNode::new(0, Sizes::default())
}

struct Seed(Option<Vec<u8>>);

impl SeedDisk for Seed {
    fn user_data(&self) -> Result<Option<Vec<u8>>, SeedError> {
        Ok(self.0.clone())
    }
}

fn document_of(hostname: &str) -> Vec<u8> {
    format!(r#"{{"schema": 1, "hostname": "{hostname}"}}"#).into_bytes()
}

fn name(settings: &NodeSettings) -> &str {
    settings.settings().hostname.as_deref().unwrap()
}

fn a() -> BootedSlot {
    BootedSlot::forged_for_a_test(Slot::A)
}

fn b() -> BootedSlot {
    BootedSlot::forged_for_a_test(Slot::B)
}

#[test]
fn the_credential_goes_before_the_seed_disk_and_both_only_once() {
    let folder = tempfile::tempdir().unwrap();
    let state = state();
    let seed = Seed(Some([b"#slipway-settings\r\n", &document_of("seed")[..]].concat()));
    let take = |credentials: bool| {
        let credentials = credentials.then(|| folder.path().to_owned());
        load_or_take(&state, a(), &Sources { credentials, seed: &seed })
    };
    let (settings, origin) = take(true).unwrap().unwrap();
    assert_eq!((name(&settings), origin), ("seed", Origin::SeedDisk));
    state.remove("settings-a.json").unwrap();
    fs::write(folder.path().join(CREDENTIAL), document_of("credential")).unwrap();
    let (settings, origin) = take(true).unwrap().unwrap();
    assert_eq!((name(&settings), origin), ("credential", Origin::Credential));
    let (settings, origin) = take(false).unwrap().unwrap();
    assert_eq!((name(&settings), origin), ("credential", Origin::Kept));
}

#[test]
fn a_node_that_nobody_gave_settings_has_none() {
    let state = state();
    let sources = Sources { credentials: Some("/nonexistent".into()), seed: &Seed(None) };
    assert!(load_or_take(&state, a(), &sources).unwrap().is_none());
    assert_eq!(state.log(), []);
}

#[test]
fn wrong_settings_are_refused_and_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let state = state();
    let first = |seed: &[u8]| {
        let sources = Sources { credentials: None, seed: &Seed(Some(seed.to_vec())) };
        load_or_take(&state, a(), &sources).unwrap_err()
    };
    for foreign in [&b"#cloud-config\n{}"[..], b"", b"#slipway-settings", b"{\"schema\": 1}\n"] {
        assert!(matches!(first(foreign), SettingsError::UserData { .. }));
    }
    assert!(matches!(first(b"#slipway-settings\n{}"), SettingsError::Given { .. }));
    let large = vec![b' '; MAX_SETTINGS_BYTES as usize + 100];
    fs::write(folder.path().join(CREDENTIAL), large).unwrap();
    let sources = Sources { credentials: Some(folder.path().to_owned()), seed: &Seed(None) };
    match load_or_take(&state, a(), &sources) {
        Err(SettingsError::Given { source: InvalidSettings::TooLarge(_), .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(state.log(), []);
}

#[test]
fn a_fallback_reads_what_its_slot_knew() {
    let state = state();
    let settings = |name| NodeSettings::from_bytes(document_of(name)).unwrap();
    save(&state, a(), &settings("old")).unwrap();
    copy_for_target(&state, a()).unwrap();
    // The new release runs in slot B, and an operator changes its settings.
    assert_eq!(name(&load(&state, b()).unwrap().unwrap()), "old");
    save(&state, b(), &settings("new")).unwrap();
    assert_eq!(name(&load(&state, a()).unwrap().unwrap()), "old");
    // The next update goes the other way.
    copy_for_target(&state, b()).unwrap();
    assert_eq!(name(&load(&state, a()).unwrap().unwrap()), "new");
}

#[test]
fn a_slot_does_not_inherit_settings_of_long_ago() {
    let state = state();
    save(&state, b(), &NodeSettings::from_bytes(document_of("ancient")).unwrap()).unwrap();
    copy_for_target(&state, a()).unwrap();
    assert!(load(&state, b()).unwrap().is_none());
}

#[test]
fn kept_settings_that_cannot_be_read_are_not_replaced_by_a_source() {
    let state = state();
    state.save("settings-a.json", br#"{"schema": 3}"#).unwrap();
    let seed = Seed(Some([b"#slipway-settings\n", &document_of("seed")[..]].concat()));
    let result = load_or_take(&state, a(), &Sources { credentials: None, seed: &seed });
    assert!(matches!(result, Err(SettingsError::Kept { slot: Slot::A, .. })));
    assert_eq!(state.load("settings-a.json").unwrap().unwrap(), br#"{"schema": 3}"#);
}

#[test]
fn what_an_older_release_has_written_is_understood_and_stays_readable_for_it() {
    let older = br#"{"schema": 1, "hostname": "node-a", "kubernetes": {"server": "https://a:6443",
        "certificateAuthority": "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        "bootstrapToken": "abcdef.0123456789abcdef"}}"#;
    let state = state();
    state.save("settings-a.json", older).unwrap();
    let settings = load(&state, a()).unwrap().unwrap();
    assert_eq!(settings.settings().schema, contract::node::settings::SCHEMA);
    let cluster = settings.settings().kubernetes.as_ref().unwrap();
    assert!(matches!(cluster.bootstrap, Some(contract::node::settings::Bootstrap::Token(_))));
    copy_for_target(&state, a()).unwrap();
    for copy in ["settings-a.json", "settings-b.json"] {
        assert_eq!(state.load(copy).unwrap().unwrap(), older, "{copy}");
    }
}

#[test]
fn a_node_has_its_name_from_its_first_boot_on() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(CREDENTIAL), document_of("given")).unwrap();
    let given = Sources { credentials: Some(folder.path().to_owned()), seed: &Seed(None) };
    let node = state();
    let named = || apply_hostname(&node, a(), &given, &node).unwrap();
    assert_eq!(named().as_deref(), Some("given"));
    assert_eq!(named(), None, "it has that name");
    // Nothing is kept by this; what was kept goes before what is given.
    assert_eq!(node.log(), [Effect::SetHostName("given".into())]);
    save(&node, a(), &NodeSettings::from_bytes(document_of("kept")).unwrap()).unwrap();
    assert_eq!(named().as_deref(), Some("kept"));
    assert_eq!(HostName::name(&node), "kept");
}

#[test]
fn a_node_without_a_name_in_its_settings_keeps_the_one_that_it_has() {
    let node = state();
    let none = Sources { credentials: None, seed: &Seed(None) };
    assert_eq!(apply_hostname(&node, a(), &none, &node).unwrap(), None);
    node.save("settings-a.json", br#"{"schema": 1}"#).unwrap();
    assert_eq!(apply_hostname(&node, a(), &none, &node).unwrap(), None);
    assert_eq!(HostName::name(&node), "localhost");
    node.save("settings-a.json", &document_of("other")).unwrap();
    node.disturb(|effect| matches!(effect, Effect::SetHostName(_)).then_some(Fault::Device));
    let error = apply_hostname(&node, a(), &none, &node).unwrap_err();
    assert!(matches!(error, HostNameError::Kernel { .. }), "{error}");
}

#[test]
fn the_bytes_are_never_printed() {
    let settings = NodeSettings::from_bytes(document_of("quiet")).unwrap();
    assert!(!format!("{settings:?}").contains("quiet"));
}

fn folders(root: &Path) -> RuntimeFolders {
    let cni = root.join("cni");
    std::fs::create_dir_all(&cni).unwrap();
    RuntimeFolders {
        cni,
        network: root.join("network"),
        dhcp: root.join("dhcp"),
        time: root.join("time"),
        kubelet: root.join("kubelet"),
        registries: root.join("registries"),
    }
}

fn parsed(network: &str) -> Settings {
    let text = format!(r#"{{"schema": 1, "network": {network}}}"#);
    Settings::from_json(text.as_bytes()).unwrap()
}

#[test]
fn files_are_written_when_they_differ_and_removed_when_they_are_not_wanted() {
    let root = tempfile::tempdir().unwrap();
    let folders = folders(root.path());
    let fixed = parsed(
        r#"{"interfaces": [{"match": "en*", "addresses": ["10.0.0.5/24", "fd00::5/64"],
                "gateway": "10.0.0.1", "dns": ["10.0.0.2", "10.0.0.3"]}],
            "timeServers": ["time.example.com", "10.0.0.4"]}"#,
    );
    assert_eq!(render(&folders, &fixed).unwrap(), [Unit::Network, Unit::Time]);
    let network = fs::read_to_string(folders.network.join("10-slipway-00.network")).unwrap();
    assert_eq!(
        network,
        "[Match]\nName=en*\nType=ether\nKind=!*\n\n[Network]\nDHCP=no\nIPv6AcceptRA=no\nLLMNR=no\n\
         MulticastDNS=no\nAddress=10.0.0.5/24\n\
         Address=fd00::5/64\nGateway=10.0.0.1\nDNS=10.0.0.2\nDNS=10.0.0.3\n"
    );
    let time = fs::read_to_string(folders.time.join("10-slipway.conf")).unwrap();
    assert_eq!(time, "[Time]\nNTP=time.example.com 10.0.0.4\n");
    assert_eq!(render(&folders, &fixed).unwrap(), []);

    fs::write(folders.network.join("20-foreign.network"), "x").unwrap();
    let other_time = parsed(r#"{"timeServers": ["10.0.0.4"]}"#);
    assert_eq!(render(&folders, &other_time).unwrap(), [Unit::Network, Unit::Time]);
    let left: Vec<_> = fs::read_dir(&folders.network).unwrap().collect();
    assert_eq!(left.len(), 1, "only the foreign file is left: {left:?}");
    let dhcp = folders.dhcp.join("10-slipway.conf");
    let text = fs::read_to_string(&dhcp).unwrap();
    assert_eq!(text, "[DHCPv4]\nUseNTP=no\n[DHCPv6]\nUseNTP=no\n");
    assert_eq!(render(&folders, &parsed("{}")).unwrap(), [Unit::Network, Unit::Time]);
    assert!(!dhcp.exists());
    assert_eq!(render(&folders, &parsed("{}")).unwrap(), []);

    let wary = parsed(r#"{"routerAdvertisements": false, "searchDomains": true}"#);
    assert_eq!(render(&folders, &wary).unwrap(), [Unit::Network]);
    let text = fs::read_to_string(&dhcp).unwrap();
    let domains = |section: &str| text.contains(&format!("[{section}]\nUseDomains=yes\n"));
    assert!(["DHCPv4", "DHCPv6", "IPv6AcceptRA"].into_iter().all(domains), "{text}");
    assert!(text.starts_with("[Network]\nIPv6AcceptRA=no\n"), "{text}");
}

#[test]
fn a_node_with_nothing_to_set_touches_nothing() {
    let root = tempfile::tempdir().unwrap();
    let folders = folders(root.path());
    assert_eq!(render(&folders, &parsed("{}")).unwrap(), []);
    let made: Vec<_> =
        fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(made, [folders.cni], "the network of pods only");
}

#[test]
fn another_mirror_restarts_nothing_and_another_password_kubelet() {
    let root = tempfile::tempdir().unwrap();
    let folders = folders(root.path());
    let settings = |registries: &str| {
        let text = format!(r#"{{"schema": 1, "registries": {registries}}}"#);
        Settings::from_json(text.as_bytes()).unwrap()
    };
    let hosts = || {
        let entries = fs::read_dir(&folders.registries).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let two = settings(
        r#"[{"host": "a.example.com:5000", "mirrors": ["https://m"],
             "certificateAuthority": "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"},
            {"host": "docker.io", "mirrors": ["https://m"]}]"#,
    );
    assert_eq!(render(&folders, &two).unwrap(), []);
    assert_eq!(hosts(), ["a.example.com:5000", "docker.io"]);
    let one = settings(r#"[{"host": "a.example.com:5000", "mirrors": ["https://n"]}]"#);
    assert_eq!(render(&folders, &one).unwrap(), []);
    assert_eq!(hosts(), ["a.example.com:5000"]);
    let left = fs::read_dir(folders.registries.join("a.example.com:5000")).unwrap();
    assert_eq!(left.count(), 1, "the authority is gone");
    let login = |password: &str| {
        settings(&format!(
            r#"[{{"host": "docker.io", "username": "u", "password": "{password}"}}]"#
        ))
    };
    assert_eq!(render(&folders, &login("hunter2")).unwrap(), [Unit::Kubelet]);
    assert_eq!(render(&folders, &login("hunter2")).unwrap(), []);
    assert_eq!(render(&folders, &login("hunter3")).unwrap(), [Unit::Kubelet]);
    assert!(hosts().is_empty());
    let file = folders.kubelet.join("10-slipway-registries.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(render(&folders, &parsed("{}")).unwrap(), [Unit::Kubelet]);
    assert!(!file.exists(), "the password is gone");
}

#[test]
fn kubelet_knows_its_cluster_before_it_starts_and_restarts_when_that_changes() {
    let root = tempfile::tempdir().unwrap();
    let folders = folders(root.path());
    let document = |server: &str| {
        format!(
            r#"{{"schema": 2, "hostname": "node-a", "kubernetes": {{"server": "{server}",
                "certificateAuthority": "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
                "bootstrap": {{"token": "abcdef.0123456789abcdef"}}}}}}"#
        )
        .into_bytes()
    };
    fs::write(root.path().join(CREDENTIAL), document("https://a:6443")).unwrap();
    let given = Sources { credentials: Some(root.path().to_owned()), seed: &Seed(None) };
    let node = state();
    configure_kubelet(&node, a(), &given, &folders).unwrap();
    assert_eq!(node.log(), [], "nothing is kept");
    for entry in fs::read_dir(&folders.kubelet).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let settings = |server| Settings::from_json(&document(server)).unwrap();
    assert_eq!(render(&folders, &settings("https://a:6443")).unwrap(), []);
    assert_eq!(affected(&folders, &settings("https://a:6443")).unwrap(), []);
    for _ in 0..2 {
        let affected = affected(&folders, &settings("https://b:6443")).unwrap();
        assert_eq!(affected, [Unit::Kubelet], "nothing is written");
    }
    assert_eq!(render(&folders, &settings("https://b:6443")).unwrap(), [Unit::Kubelet]);
    assert_eq!(affected(&folders, &parsed("{}")).unwrap(), [Unit::Kubelet]);
    assert_eq!(render(&folders, &parsed("{}")).unwrap(), [Unit::Kubelet]);
    assert_eq!(fs::read_dir(&folders.kubelet).unwrap().count(), 0, "the token is gone");
    node.save("settings-a.json", br#"{"schema": 3}"#).unwrap();
    let refused = configure_kubelet(&node, a(), &given, &folders).unwrap_err();
    assert!(matches!(refused, ConfigureError::Settings(_)), "{refused}");
}
