//! What the node remembers survives restarts, power cuts and damage.

use super::*;
use crate::effects::fake::Fault;

const COPIES: [&str; 2] = ["tuf-0.json", "tuf-1.json"];

/// A node that has seen version 1 and then version 2 of a channel.
async fn experienced() -> (Maker, Server, Node) {
    let maker = channel("1.1.0");
    let server = Server::start(maker.files()).await;
    let node = Node::new(&[&server], maker.initial_root());
    node.look().await.unwrap();
    server.serve(maker.next().files());
    node.look().await.unwrap();
    (maker, server, node)
}

fn damage(state: &FakeNode, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = state.document(name).expect("a copy");
    change(&mut bytes);
    state.save(name, &bytes).unwrap();
}

fn sequence(state: &FakeNode, name: &str) -> u64 {
    let bytes = state.load(name).unwrap().expect("a copy");
    let text = String::from_utf8(bytes).unwrap();
    let value: serde_json::Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
    value["sequence"].as_u64().unwrap()
}

#[tokio::test]
async fn damage_of_either_copy_leaves_the_node_protected() {
    for (index, name) in COPIES.into_iter().enumerate() {
        let damages: [fn(&mut Vec<u8>); 4] = [
            |bytes| bytes.truncate(100),
            |bytes| bytes.clear(),
            |bytes| bytes[200] ^= 1,
            |bytes| bytes.extend(b"x"),
        ];
        for change in damages {
            let (maker, server, node) = experienced().await;
            damage(&node.state, name, change);
            let found = node.look().await.unwrap();
            assert!(found.is_memory_damaged, "copy {index}");
            // What was left is as new as what is served; and both are whole again.
            server.serve(maker.files());
            let error = node.error().await;
            assert!(matches!(error, ChannelError::RolledBack { .. }), "copy {index}: {error}");
        }
    }
}

#[tokio::test]
async fn damage_of_both_copies_is_no_dead_end() {
    let (_maker, _server, node) = experienced().await;
    for name in COPIES {
        damage(&node.state, name, |bytes| bytes.truncate(10));
    }
    let found = node.look().await.unwrap();
    assert!(found.is_memory_damaged && found.offer.is_some());
}

#[tokio::test]
async fn looks_that_bring_nothing_new_write_nothing() {
    let (_maker, _server, node) = experienced().await;
    let before = node.state.log();
    node.look().await.unwrap();
    assert_eq!(node.state.log(), before);
}

#[tokio::test]
async fn saves_go_to_the_copies_in_turn() {
    let (maker, server, node) = experienced().await;
    let sequences = || COPIES.map(|name| sequence(&node.state, name));
    let [even, odd] = sequences();
    assert_eq!(even.abs_diff(odd), 1);
    server.serve(maker.next().next().files());
    node.look().await.unwrap();
    let [next_even, next_odd] = sequences();
    assert!(next_even.max(next_odd) > even.max(odd));
    assert_eq!(next_even.abs_diff(next_odd), 1);
}

#[tokio::test]
async fn a_full_state_partition_stops_the_look_and_keeps_the_memory() {
    let (maker, server, node) = experienced().await;
    server.serve(maker.next().next().files());
    node.state.disturb(|_| Some(Fault::Full));
    let error = node.error().await;
    assert!(matches!(error, ChannelError::State(_)), "{error}");
    node.state.disturb(|_| None);
    assert_eq!(node.version().await, "1.1.0");
}

#[tokio::test]
async fn the_settings_of_either_slot_keep_their_root() {
    let (maker, server, mut node) = experienced().await;
    let first = node.root.clone();
    // The settings of the other slot name another channel, with other keys.
    let mut other = channel("3.0.0");
    other.root_keys = vec![31, 32, 33];
    other.keys = repository::ROLES.into_iter().zip(41..).collect();
    other.roots.clear();
    other.add_root(&[31, 32]);
    server.serve(other.files());
    node.root = other.initial_root();
    assert_eq!(node.version().await, "3.0.0");
    server.serve(maker.next().next().files());
    node.root = first;
    assert_eq!(node.version().await, "1.1.0");
}
