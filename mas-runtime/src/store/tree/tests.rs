use std::path::Path;

use proptest::prelude::*;

use super::flush::Flusher;
use super::pack::PackWriter;
use super::refs::{IndexHome, LeafEntry};
use super::sim_index::SimIndexHome;
use super::*;
use crate::store::disk::{self, Disk, RealDisk};

const STORE: [u8; 16] = [3; 16];

/// A tree on a real disk, and what changes it.
struct Grown {
    tree: Tree,
    flusher: Flusher,
    position: u64,
    dir: tempfile::TempDir,
}

impl Grown {
    fn new(pack_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let packs = Packs::open(Arc::new(RealDisk), &dir.path().join("packs"), STORE).unwrap();
        let packs = Arc::new(packs);
        let flusher = Flusher::new(PackWriter::new(Arc::clone(&packs), pack_bytes));
        let tree = Tree::new(SimIndexHome::default().open().unwrap(), packs, 64 * 1024);
        Self {
            tree,
            flusher,
            position: 0,
            dir,
        }
    }

    fn flush(&mut self, changes: &RecordChanges) {
        let flushed = self.flusher.write(&self.tree, changes).unwrap();
        self.position += 1;
        self.flusher
            .put_into_force(&self.tree, flushed, self.position)
            .unwrap();
    }

    /// Everything, read in parts.
    fn all(&self, range: &KeyRange, bytes_max: usize) -> Vec<(Key, Bytes)> {
        let (mut all, mut range) = (Vec::new(), range.clone());
        loop {
            let chunk = self.tree.chunk(&range, bytes_max, &Reach::Disk).unwrap();
            let keys = self
                .tree
                .chunk_keys(&range, usize::MAX, &Reach::Disk)
                .unwrap();
            assert!(
                chunk
                    .entries
                    .iter()
                    .zip(&keys.entries)
                    .all(|((a, _), (b, ()))| a == b)
            );
            all.extend(chunk.entries);
            match chunk.rest {
                Some(rest) => range.from = rest,
                None => return all,
            }
        }
    }

    fn leaves(&self) -> Vec<(Key, LeafRef)> {
        let mut leaves = Vec::new();
        let walked = self.tree.index().walk(&mut |first, leaf| {
            leaves.push((first.to_vec(), leaf));
            Ok(())
        });
        walked.unwrap();
        leaves
    }
}

fn everything() -> KeyRange {
    KeyRange {
        from: vec![],
        to: vec![0xff],
    }
}

fn key(n: u32) -> Key {
    [&[0x20][..], &n.to_be_bytes()].concat()
}

/// Sizes around the limits of what stands alone and of what a leaf holds.
fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0..300_usize, 2 => 3_000..4_200_usize, 1 => Just(ALONE_BYTES), 1 => Just(ALONE_BYTES + 1), 1 => 10_000..40_000_usize]
}

fn changes() -> impl Strategy<Value = Vec<(u32, Option<usize>)>> {
    prop::collection::vec((0..400_u32, prop::option::weighted(0.7, sizes())), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn it_holds_what_a_map_would(rounds in prop::collection::vec(changes(), 1..12), from in 0..400_u32, to in 0..400_u32) {
        let mut grown = Grown::new(100_000);
        let mut model = BTreeMap::new();
        for (round, changes) in rounds.iter().enumerate() {
            let changes: RecordChanges = changes.iter().map(|(n, size)| {
                (key(*n), size.map(|size| Bytes::from(vec![round as u8; size])))
            }).collect();
            grown.flush(&changes);
            for (key, value) in changes {
                match value {
                    Some(value) => drop(model.insert(key, value)),
                    None => drop(model.remove(&key)),
                }
            }
            let found: BTreeMap<_, _> = grown.all(&everything(), 20_000).into_iter().collect();
            prop_assert_eq!(&found, &model);
        }
        for n in 0..400 {
            prop_assert_eq!(grown.tree.get(&key(n), &Reach::Disk).unwrap(), model.get(&key(n)).cloned());
        }
        let range = KeyRange { from: key(from), to: key(to) };
        let expected: Vec<_> = model.range::<Key, _>(range.bounds()).map(|(k, v)| (k.clone(), v.clone())).collect();
        prop_assert_eq!(grown.all(&range, 5_000), expected);
        // What is counted as it goes is what a count finds.
        let counted = grown.tree.packs.used();
        for leaf in grown.leaves() {
            grown.tree.packs.count(leaf.1, false);
        }
        prop_assert!(grown.tree.packs.used().values().all(|used| used.live == 0), "{counted:?}");
    }
}

#[test]
fn leaves_are_neither_many_nor_large() {
    let mut grown = Grown::new(u64::MAX);
    // Rising, as queues grow, and scattered.
    for n in 0..100 {
        let changes = (0..100).map(|m| (key(n * 100 + m), Some(Bytes::from(vec![1; 100]))));
        grown.flush(&changes.collect());
    }
    for n in 0..100 {
        let changes = (0..100).map(|m| (key(m * 101 + n), Some(Bytes::from(vec![2; 120]))));
        grown.flush(&changes.collect());
    }
    let leaves = grown.leaves();
    let bytes: u64 = leaves.iter().map(|(_, leaf)| u64::from(leaf.bytes)).sum();
    assert!(leaves.iter().all(|(_, leaf)| leaf.bytes < 26_000));
    assert!(
        bytes / leaves.len() as u64 > 8_000,
        "{} leaves for {bytes} bytes",
        leaves.len()
    );
    // Emptied, almost.
    let changes = (0..10_100).filter(|n| n % 100 != 0).map(|n| (key(n), None));
    grown.flush(&changes.collect());
    assert!(
        grown.leaves().len() < leaves.len() / 3,
        "{} leaves are left",
        grown.leaves().len()
    );
}

#[test]
fn a_large_value_is_not_written_again_for_its_neighbours() {
    let mut grown = Grown::new(u64::MAX);
    let large = Bytes::from(vec![9; 100_000]);
    grown.flush(&[(key(5), Some(large))].into_iter().collect());
    let place = grown.leaves()[0].1;
    for n in [4, 6, 3, 7] {
        grown.flush(
            &[(key(n), Some(Bytes::from_static(b"small")))]
                .into_iter()
                .collect(),
        );
    }
    let leaves = grown.leaves();
    assert!(leaves.contains(&(key(5), place)), "{leaves:?}");
    assert_eq!(leaves.len(), 3);
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let mut grown = Grown::new(u64::MAX);
    grown.flush(&[(key(5), Some(Bytes::new()))].into_iter().collect());
    let before = grown.leaves();
    grown.flush(&[(key(1), None), (key(9), None)].into_iter().collect());
    assert_eq!(grown.leaves(), before);
}

#[test]
fn garbage_stays_within_half_of_what_is_needed() {
    let mut grown = Grown::new(1 << 20);
    let mut random = 1_u64;
    // 10 MB that are overwritten five times.
    for round in 0..60 {
        let changes = (0..10_000).map(|n| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let n = if round < 10 {
                round * 10_000 + n
            } else {
                (random >> 33) as u32 % 100_000
            };
            (key(n), Some(Bytes::from(vec![round as u8; 100])))
        });
        grown.flush(&changes.collect());
        let empty = grown.flusher.empty(&grown.tree);
        grown.tree.packs.remove(&empty).unwrap();
    }
    let used = grown.tree.packs.used();
    let (size, live) = used.values().fold((0, 0), |(size, live), used| {
        (size + used.size, live + used.live)
    });
    assert!(size < live * 17 / 10, "{size} bytes for {live}");
}

#[test]
fn a_damaged_leaf_stands_in_nobodys_way() {
    let mut grown = Grown::new(256 * 1024);
    let all = |byte: u8| (0..40_000).map(move |n| (key(n), Some(Bytes::from(vec![byte; 100]))));
    grown.flush(&all(1).collect());
    let (first, leaf) = grown.leaves()[5].clone();
    let behind = grown.leaves()[6].0.clone();
    let path = grown
        .dir
        .path()
        .join(format!("packs/{:016x}.pack", leaf.pack));
    let file = RealDisk.open(&path).unwrap();
    file.write_at(leaf.offset + 50, &[0xff; 8]).unwrap();
    // Everything else is written anew, again and again, so that its pack is emptied.
    let is_other = |n: &u32| {
        let key = key(*n);
        key < first || key >= behind
    };
    let others: Vec<u32> = (0..40_000).filter(is_other).collect();
    for byte in 2..6 {
        let changes = others
            .iter()
            .map(|n| (key(*n), Some(Bytes::from(vec![byte; 100]))));
        grown.flush(&changes.collect());
    }
    grown.tree.forget(leaf);
    let read = grown.tree.get(&first, &Reach::Disk);
    assert!(matches!(read, Err(StoreError::Corrupt(_))), "{read:?}");
    let other = grown.tree.get(&key(39_999), &Reach::Disk).unwrap().unwrap();
    assert_eq!(other, vec![5; 100]);
}

fn copy_of(leaves: &[(Key, LeafRef)]) -> Arc<dyn LeafIndex> {
    let index = SimIndexHome::default().open().unwrap();
    let changes: Vec<_> = leaves
        .iter()
        .map(|(first, leaf)| (first.clone(), Some(*leaf)))
        .collect();
    index.apply(&changes, 77).unwrap();
    index
}

fn some_leaves(count: u32) -> Vec<(Key, LeafRef)> {
    let leaf = |n| LeafRef {
        pack: 1,
        offset: u64::from(n) * 9,
        bytes: 9,
        crc: n,
        records: 1,
    };
    (0..count).map(|n| (key(n), leaf(n))).collect()
}

fn read_snapshot(
    path: &Path,
    store: [u8; 16],
) -> Result<(Option<u64>, Vec<LeafEntry>), StoreError> {
    let mut found = Vec::new();
    let position = snapshot::read(&RealDisk, path, store, &mut |first, leaf| {
        found.push((first.to_vec(), leaf));
        Ok(())
    })?;
    Ok((position, found))
}

#[test]
fn a_snapshot_holds_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    assert_eq!(read_snapshot(&path, STORE).unwrap(), (None, vec![]));
    for count in [0, 1, 10_000] {
        let leaves = some_leaves(count);
        let size = snapshot::write(&RealDisk, &path, STORE, &*copy_of(&leaves)).unwrap();
        assert_eq!(RealDisk.open(&path).unwrap().size().unwrap(), size);
        assert_eq!(read_snapshot(&path, STORE).unwrap(), (Some(77), leaves));
    }
    let other = read_snapshot(&path, [4; 16]).unwrap_err();
    assert!(other.to_string().contains("another store"), "{other}");
}

#[test]
fn every_damaged_byte_of_a_snapshot_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    snapshot::write(&RealDisk, &path, STORE, &*copy_of(&some_leaves(3))).unwrap();
    let file = RealDisk.open(&path).unwrap();
    let whole = disk::read_whole(&*file, 1 << 20).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        disk::replace(&RealDisk, &path, &bytes).unwrap();
        let read = read_snapshot(&path, STORE);
        assert!(
            matches!(read, Err(StoreError::Corrupt(_))),
            "byte {at}: {read:?}"
        );
        disk::replace(&RealDisk, &path, &whole[..at]).unwrap();
        let read = read_snapshot(&path, STORE);
        assert!(
            matches!(read, Err(StoreError::Corrupt(_))),
            "cut at {at}: {read:?}"
        );
    }
    disk::replace(&RealDisk, &path, &[&whole[..], &[0]].concat()).unwrap();
    assert!(read_snapshot(&path, STORE).is_err());
}
