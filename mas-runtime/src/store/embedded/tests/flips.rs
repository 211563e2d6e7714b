//! One flipped bit in every byte of a small store: found, or without effect.

use super::world::{Contents, Driven, Machine};
use super::*;

/// A small store with everything that has a shape of its own: leaves with many records, large values, some replaced, some
/// removed. Some of it is in the tree, the rest in the log.
fn furnished() -> (Machine, Driven) {
    let machine = Machine {
        segment_bytes: 4096,
        ..Machine::default()
    };
    let mut store = machine.open().unwrap();
    let put = |n: u64, version, size| {
        let bytes = Bytes::from(vec![n as u8 + 1; size]);
        Batch::new()
            .state_put(agent(n), version, version + 1, 1, bytes.clone())
            .journal_append("audit".to_owned(), bytes.slice(..size.min(20)), None)
    };
    for n in 0..12 {
        store.one(put(n, 0, if n == 4 { 4200 } else { 60 }));
    }
    store.flush().unwrap();
    store.flusher.snapshot().unwrap();
    store.one(put(3, 1, 80));
    store.one(Batch::new().agent_erase(agent(7)));
    store.flush().unwrap();
    store.one(put(5, 1, 90));
    store.one(put(12, 0, 30));
    (machine, store)
}

/// What became of the flips.
#[derive(Debug, Default)]
struct Flips {
    named: u64,
    harmless: u64,
}

/// Flips a bit in every byte of the files of a store, one after the other. Where the index is lost, those files count from
/// which it is made anew.
fn flip_all(machine: &Machine, expected: &Contents, position: u64, is_index_lost: bool) -> Flips {
    let mut flips = Flips::default();
    for (path, size) in machine.disk.files() {
        if is_index_lost && path.extension().is_some_and(|it| it == "pack") {
            continue;
        }
        for offset in 0..size {
            let bit = (offset % 8) as u8;
            let flipped = machine.kill();
            flipped.disk.flip(&path, offset, bit).unwrap();
            if is_index_lost {
                flipped.home.damage();
            }
            let what = format!("bit {bit} of byte {offset} of {}", path.display());
            let opened = std::panic::catch_unwind(|| flipped.open());
            let opened = opened.unwrap_or_else(|_| panic!("{what}: it panicked"));
            match opened.map(|store| (store.contents(), store.recovery.position)) {
                Err(
                    OpenError::Damaged { .. }
                    | OpenError::Corrupt { .. }
                    | OpenError::NewerFormat { .. },
                )
                | Ok((Err(StoreError::Corrupt(_)), _)) => flips.named += 1,
                Ok((Ok(found), at)) => {
                    assert!(
                        found == *expected && at == position,
                        "{what}: something is lost, and nobody says so"
                    );
                    flips.harmless += 1;
                }
                other => panic!("{what}: {other:?}"),
            }
        }
    }
    flips
}

#[test]
fn a_flipped_bit_anywhere_in_a_closed_store_is_found_or_does_not_matter() {
    let (machine, store) = furnished();
    let (expected, position) = (store.contents().unwrap(), store.committer.position());
    store.close().unwrap();
    let flips = flip_all(&machine, &expected, position, false);
    assert!(flips.named > 1000 && flips.harmless > 1000, "{flips:?}");
}

#[test]
fn a_flipped_bit_anywhere_in_a_killed_store_is_found_or_does_not_matter() {
    let (machine, mut store) = furnished();
    let (expected, position) = (store.contents().unwrap(), store.committer.position());
    // It was idle: without a mark, damage to the records of the last sync would be taken for a torn end.
    store.committer.look_after_log();
    for is_index_lost in [false, true] {
        let flips = flip_all(&machine, &expected, position, is_index_lost);
        assert!(flips.named > 1000 && flips.harmless > 500, "{flips:?}");
    }
}
