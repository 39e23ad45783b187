//! Two tenants, each with a group of nodes of its own in one cluster: a tenant's pods run on its
//! own nodes and nowhere else, and each group runs the release that its own document pins. The
//! nodes are neighbours in one network, and register with their addresses there.

use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::cluster::{self, Cluster, is_ready};
use testbed::faulty;
use testbed::node::NodeAccess;
use vm_tests::machine::{Hardware, Machine, POD_PORT, SharedNetworkCard};
use vm_tests::site::Site;
use vm_tests::{BOOT_SECONDS, artefacts, image, isolation, ready, settings};

const NAME: &str = "tenants_share_a_cluster";
/// How long a pod that nobody may run is watched.
const WATCHED: Duration = Duration::from_secs(20);

/// A tenant, and what its group pins.
struct Tenant {
    name: &'static str,
    release: &'static str,
    ports_at: Ipv4Addr,
    card: SharedNetworkCard,
}

const BLUE: Tenant = Tenant {
    name: "blue",
    release: "0.1.0",
    ports_at: Ipv4Addr::new(127, 0, 0, 1),
    card: SharedNetworkCard { host: 11 },
};
const GREEN: Tenant = Tenant {
    name: "green",
    release: "0.1.1",
    ports_at: Ipv4Addr::new(127, 0, 0, 2),
    card: SharedNetworkCard { host: 12 },
};

#[test]
#[ignore = "runs two machines: run `make soak`"]
fn tenants_share_a_cluster() {
    let prepare = || {
        cluster::build()?;
        Site::prepare(NAME, |channel| {
            channel.publish(&image::newer(1)?)?;
            channel.point(settings::CHANNEL, "0.1.0", &[])?;
            [BLUE, GREEN].iter().try_for_each(|tenant| {
                channel.group(tenant.name, &format!("release: {}", tenant.release))
            })
        })
    };
    isolation::prepared(NAME, prepare, scenario);
}

fn scenario() -> Result<()> {
    let site = Site::open(NAME)?;
    let cluster = Cluster::start(&artefacts().join(format!("{NAME}-cluster")))?;
    let (blue, blue_access) = start(&site, &cluster, &BLUE)?;
    let (green, green_access) = start(&site, &cluster, &GREEN)?;
    green_access.runs(&green, GREEN.release, 2 * BOOT_SECONDS)?;
    blue_access.runs(&blue, BLUE.release, BOOT_SECONDS)?;
    println!("{:.0} s: each group runs its own release", green.seconds());
    for (machine, tenant) in [(&blue, &BLUE), (&green, &GREEN)] {
        let node = cluster.wait_for(machine, &["node", &tenant.node()], BOOT_SECONDS, is_ready)?;
        let addresses = node["status"]["addresses"].as_array().context("no addresses")?;
        let own = json!({"type": "InternalIP", "address": tenant.card.address()});
        ensure!(addresses.contains(&own), "{addresses:?}");
    }

    for tenant in [&BLUE, &GREEN] {
        cluster.apply(&pod(&format!("{}-1", tenant.name), Some(tenant), None))?;
        cluster.apply(&pod(&format!("{}-2", tenant.name), Some(tenant), None))?;
    }
    cluster.apply(&pod("nobodys", None, None))?;
    cluster.apply(&pod("stray", Some(&BLUE), Some(&GREEN)))?;
    for (machine, tenant) in [(&blue, &BLUE), (&green, &GREEN)] {
        for number in 1..=2 {
            let name = format!("{}-{number}", tenant.name);
            // Ready also means that the neighbour's node answers.
            let found = cluster.wait_for(machine, &["pod", &name], BOOT_SECONDS, is_ready)?;
            ensure!(found["spec"]["nodeName"] == *tenant.node(), "{found:#}");
        }
    }
    sleep(WATCHED);
    for name in ["nobodys", "stray"] {
        let found = cluster.get(&["pod", name])?;
        ensure!(found["spec"]["nodeName"] == Value::Null, "{name} runs: {found:#}");
    }

    blue_access.ask(&["check"])?;
    blue_access.runs(&blue, BLUE.release, BOOT_SECONDS)?;
    Ok(())
}

impl Tenant {
    fn node(&self) -> String {
        format!("node-{}", self.name)
    }

    fn neighbour(&self) -> &Tenant {
        if self.name == BLUE.name { &GREEN } else { &BLUE }
    }
}

fn start(site: &Site, cluster: &Cluster, tenant: &Tenant) -> Result<(Machine, NodeAccess)> {
    let folder = artefacts().join(format!("{NAME}-{}-access", tenant.name));
    let access = NodeAccess::create_for(&folder, tenant.ports_at)?;
    let mut document = settings::following(&site.channel, faulty::PORT, &access)?;
    document["hostname"] = tenant.node().into();
    document["mode"] = "automatic".into();
    document["channel"]["group"] = tenant.name.into();
    document["kubernetes"] = cluster.settings();
    document["kubernetes"]["labels"] = json!({"example.com/tenant": tenant.name});
    document["kubernetes"]["nodeIp"] = json!(tenant.card.address());
    document["network"]["interfaces"] = json!([{
        "match": SharedNetworkCard::INTERFACE,
        "addresses": [format!("{}/24", tenant.card.address())],
    }]);
    let taint = format!("example.com/tenant={}:NoSchedule", tenant.name);
    document["kubernetes"]["taints"] = json!([taint]);
    let hardware = Hardware {
        settings: Some(settings::text(&document)?),
        ports_at: Some(tenant.ports_at),
        second_card: Some(tenant.card),
        ..Hardware::default()
    };
    let name = format!("{NAME}-{}", tenant.name);
    Ok((ready::start(&name, &image::test_image()?, hardware)?, access))
}

/// A pod that tolerates the nodes of `owner`, and asks for those of `wanted`, or else for them.
/// It is Ready when its node reaches the neighbour's static pod.
fn pod(name: &str, owner: Option<&Tenant>, wanted: Option<&Tenant>) -> String {
    let tolerations: Vec<Value> = owner
        .map(|tenant| json!({"key": "example.com/tenant", "value": tenant.name}))
        .into_iter()
        .collect();
    let neighbour = owner.map(|tenant| {
        let address = tenant.neighbour().card.address();
        json!({"httpGet": {"host": address, "port": POD_PORT, "path": "/"}})
    });
    let selector = wanted.or(owner).map(|tenant| json!({"example.com/tenant": tenant.name}));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "tolerations": tolerations,
            "nodeSelector": selector,
            "containers": [{
                "name": "hello",
                "image": "localhost/slipway/hello:1",
                "imagePullPolicy": "Never",
                "readinessProbe": neighbour,
            }],
        },
    })
    .to_string()
}
