//! The built-in network of pods: a bridge, whose configuration goes into CNI's folder.
//!
//! In: the settings, and the addresses that the cluster gave this node for its pods. Out: one
//! file, which sorts behind that of any add-on, so that an add-on takes over as soon as it is
//! there. containerd could make such a file itself, under a name that sorts before flannel's.
//! **Invariant:** this file is touched and no other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::node::settings::{KubernetesSettings, PodNetwork};
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// CNI's folder of configurations.
pub const CNI_FOLDER: &str = "/etc/cni/net.d";
/// The file. It sorts last.
const FILE: &str = "99-slipway-bridge.conflist";
/// Addresses of pods on a node without a cluster.
const ALONE: &str = "10.88.0.0/16";
/// Pause between two questions for the node's addresses, and the longest one.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Brings the file in line with the settings, as far as they alone tell: the addresses that a
/// cluster gives come later, by [`follow`].
///
/// # Errors
/// When the folder cannot be written.
pub fn settle(folder: &Path, cluster: Option<&KubernetesSettings>) -> io::Result<()> {
    let file = folder.join(FILE);
    let alone = conflist(&[ALONE.to_owned()]);
    match cluster.map(|cluster| cluster.pod_network) {
        None => replace(&file, &alone),
        Some(PodNetwork::Bridge) if fs::read_to_string(&file).is_ok_and(|own| own != alone) => {
            Ok(())
        }
        Some(PodNetwork::Bridge | PodNetwork::AddOn) => match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    }
}

/// Waits until the cluster has given this node addresses for its pods, and writes the file.
pub async fn follow(cluster: Cluster, folder: PathBuf) {
    let mut pause = PAUSE;
    loop {
        match cluster.pod_ranges().await {
            Ok(ranges) if !ranges.is_empty() => {
                let ranges: Vec<String> = ranges.into_iter().map(String::from).collect();
                match replace(&folder.join(FILE), &conflist(&ranges)) {
                    Ok(()) => {
                        tracing::info!("slipway: pods get addresses of {ranges:?}");
                        return;
                    }
                    Err(error) => tracing::error!(%error, "cannot write CNI's configuration"),
                }
            }
            // A cluster that gives none may have an add-on that does.
            Ok(_) => pause = (pause * 2).min(LONGEST_PAUSE),
            Err(_) => pause = PAUSE,
        }
        tokio::time::sleep(pause).await;
    }
}

/// True of a file in CNI's folder that this module has written.
pub fn is_own(path: &Path, text: &str) -> bool {
    let ranges = || -> Option<Vec<String>> {
        let document: Value = serde_json::from_str(text).ok()?;
        let ranges = document["plugins"][0]["ipam"]["ranges"].as_array()?.iter();
        ranges.map(|range| Some(range[0]["subnet"].as_str()?.to_owned())).collect()
    };
    path == Path::new(FILE) && ranges().is_some_and(|ranges| conflist(&ranges) == text)
}

/// Names of network and bridge are those that flannel uses: when it takes over, it knows which
/// addresses are taken.
fn conflist(ranges: &[String]) -> String {
    let subnets: Vec<Value> = ranges.iter().map(|range| json!([{ "subnet": range }])).collect();
    let everywhere = |range: &String| if range.contains(':') { "::/0" } else { "0.0.0.0/0" };
    let routes: Vec<Value> =
        ranges.iter().map(|range| json!({ "dst": everywhere(range) })).collect();
    let bridge = json!({
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": true,
        "ipMasq": true,
        "hairpinMode": true,
        "ipam": { "type": "host-local", "ranges": subnets, "routes": routes },
    });
    let ports = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    let list = json!({ "cniVersion": "1.0.0", "name": "cbr0", "plugins": [bridge, ports] });
    format!("{list:#}\n")
}

/// Puts `text` in the file's place, at once, unless it is there.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(file).is_ok_and(|present| present == text) {
        return Ok(());
    }
    // CNI reads no file that ends so.
    let temporary = file.with_extension("new");
    fs::write(&temporary, text)?;
    fs::rename(temporary, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(network: &str) -> KubernetesSettings {
        let text = format!(
            r#"{{"server": "https://a", "certificateAuthority": "CA", "podNetwork": "{network}"}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn present(folder: &Path) -> Option<String> {
        fs::read_to_string(folder.join(FILE)).ok()
    }

    #[test]
    fn a_node_alone_has_a_bridge_and_one_of_a_cluster_waits_for_its_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        settle(folder, None).unwrap();
        let alone = present(folder).unwrap();
        assert!(alone.contains(ALONE) && is_own(Path::new(FILE), &alone));
        settle(folder, Some(&cluster("bridge"))).unwrap();
        assert_eq!(present(folder), None, "these addresses are not the cluster's");

        let given = conflist(&["10.244.3.0/24".to_owned(), "fd00:3::/64".to_owned()]);
        replace(&folder.join(FILE), &given).unwrap();
        settle(folder, Some(&cluster("bridge"))).unwrap();
        assert_eq!(present(folder).as_deref(), Some(&*given));
        settle(folder, Some(&cluster("addOn"))).unwrap();
        assert_eq!(present(folder), None);
        settle(folder, Some(&cluster("addOn"))).unwrap();
    }

    #[test]
    fn each_family_has_its_range_and_its_route() {
        let text = conflist(&["10.244.3.0/24".to_owned(), "fd00:3::/64".to_owned()]);
        let list: Value = serde_json::from_str(&text).unwrap();
        let ipam = &list["plugins"][0]["ipam"];
        assert_eq!(ipam["ranges"][1][0]["subnet"], "fd00:3::/64");
        assert_eq!(ipam["routes"][0]["dst"], "0.0.0.0/0");
        assert_eq!(ipam["routes"][1]["dst"], "::/0");
        assert!(is_own(Path::new(FILE), &text));
        assert!(!is_own(Path::new(FILE), &text.replace("cni0", "cni1")));
        assert!(!is_own(Path::new("10-other.conflist"), &text));
    }
}
