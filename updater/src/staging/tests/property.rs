//! Whatever changes between two releases and whatever goes wrong: staging ends, never calls
//! wrong bytes staged, and converges once things are well.

use proptest::prelude::*;

use super::machine::{EIO, ENOSPC, Machine, Place, Trouble};
use super::release::{noise, publish};
use super::server::{Manner, Server};
use super::{assert_installed, chain, impatient, stage_within};

fn manner() -> impl Strategy<Value = Manner> {
    prop_oneof![
        3 => Just(Manner::Honest),
        1 => Just(Manner::IgnoresRange),
        1 => (0_usize..100_000).prop_map(Manner::Stops),
        1 => Just(Manner::ShortRange),
        1 => Just(Manner::Corrupts),
        1 => prop_oneof![Just(416), Just(503), Just(404), Just(500)].prop_map(Manner::Status),
        1 => Just(Manner::WrongRange),
        1 => Just(Manner::NoContentRange),
        1 => Just(Manner::Redirects),
        1 => Just(Manner::Endless),
        1 => Just(Manner::HangsUp),
        1 => Just(Manner::Gibberish),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![Just(Place::TargetRoot), Just(Place::TargetVerity), Just(Place::Temporary)]
}

fn trouble() -> impl Strategy<Value = Option<Trouble>> {
    let errno = prop_oneof![Just(EIO), Just(ENOSPC)];
    prop_oneof![
        3 => Just(None),
        1 => (place(), 0_usize..20, errno)
            .prop_map(|(place, after, errno)| Some(Trouble::WriteFails { place, after, errno })),
        1 => (place(), 0_usize..20)
            .prop_map(|(place, number)| Some(Trouble::WriteLies { place, number })),
        1 => place().prop_map(|place| Some(Trouble::ReadFails(place))),
        2 => (0_usize..40).prop_map(|after| Some(Trouble::PowerCut { after })),
        1 => Just(Some(Trouble::StateFull)),
    ]
}

/// How the new root comes from the old one.
#[derive(Debug, Clone)]
enum Edit {
    Change { block: usize, seed: u64 },
    Copy { from: usize, to: usize },
    Insert { block: usize, seed: u64 },
    Remove { block: usize },
}

fn edit() -> impl Strategy<Value = Edit> {
    let (block, seed) = (0_usize..400, 0_u64..9);
    prop_oneof![
        (block.clone(), seed.clone()).prop_map(|(block, seed)| Edit::Change { block, seed }),
        (block.clone(), block.clone()).prop_map(|(from, to)| Edit::Copy { from, to }),
        (block.clone(), seed).prop_map(|(block, seed)| Edit::Insert { block, seed }),
        block.prop_map(|block| Edit::Remove { block }),
    ]
}

fn edited(old: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut blocks: Vec<Vec<u8>> = old.chunks(4096).map(<[u8]>::to_vec).collect();
    for edit in edits {
        let count = blocks.len();
        match *edit {
            Edit::Change { block, seed } => blocks[block % count] = noise(seed, 4096),
            Edit::Copy { from, to } => blocks[to % count] = blocks[from % count].clone(),
            Edit::Insert { block, seed } => blocks.insert(block % count, noise(seed, 4096)),
            Edit::Remove { block } if count > 1 => drop(blocks.remove(block % count)),
            Edit::Remove { .. } => {}
        }
    }
    blocks.concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn staged_means_the_bytes_of_the_offer_and_a_rerun_converges(
        blocks in 1_usize..300,
        edits in prop::collection::vec(edit(), 0..12),
        salts in (0_u8..2, 0_u8..2),
        manners in prop::collection::vec(manner(), 0..12),
        then in manner(),
        trouble in trouble(),
        lasting in 0_usize..4,
        blocks_way in any::<bool>(),
    ) {
        let root = noise(1, blocks * 4096);
        let old = publish(root.clone(), 1, &[salts.0]);
        let mut new = publish(edited(&root, &edits), 2, &[salts.1]);
        if !blocks_way {
            new = new.keep_ways(|way| way.blob().is_none());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let machine = Machine::running(&old);
            let server = Server::start(&new.blobs, &manners, then).await;
            machine.set(trouble);

            match stage_within(&machine, &new, server.mirrors(), impatient()).await {
                Ok(_staged) => assert_installed(&machine, &new),
                Err(error) => prop_assert!(!chain(&error).is_empty()),
            }
            machine.power_cycle(|number| lasting != 0 && number % lasting == 0);
            server.set(Manner::Honest);
            let staged = stage_within(&machine, &new, server.mirrors(), impatient()).await;
            prop_assert!(staged.is_ok(), "{}", chain(&staged.unwrap_err()));
            assert_installed(&machine, &new);
            Ok(())
        })?;
    }
}
