//! Encryption at rest: what a sealed store takes, refuses, hides, and how stores come to be sealed.

use std::time::Duration;

use super::world::{Driven, Machine, Model, batch};
use super::*;
use crate::model::Entropy;
use crate::store::index::Index;
use crate::store::keys;
use crate::store::seal::tests::keys as key_ring;
use crate::store::seal::{KeyError, KeyFile, Wanted};
use crate::store::{DedupEntry, Secrets};

/// What stands in every value that is committed here, and may stand in no file.
const MARKER: &[u8] = b"a value that nobody may read";

fn options(key: &Path) -> EmbeddedOptions {
    EmbeddedOptions::default().encryption(Encryption::KeyFile(key.to_owned()))
}

/// A directory for a store and a key file beside it.
fn places() -> (TempDir, PathBuf, PathBuf) {
    let parent = TempDir::new().unwrap();
    let (dir, key) = (parent.path().join("data"), parent.path().join("store.key"));
    KeyFile::create(&key).unwrap();
    (parent, dir, key)
}

fn marked(size: usize) -> Bytes {
    MARKER.iter().copied().cycle().take(size).collect()
}

/// One of everything, all of it marked.
fn marked_batch(n: u64, version: u64) -> Batch {
    let id = MessageId::from_bytes([n as u8; 16]);
    let size = if n.is_multiple_of(5) { 9000 } else { 150 };
    Batch::new()
        .state_put(agent(n), version, version + 1, 1, marked(size))
        .inbox_append(agent(n), Priority::Normal, id, marked(200))
        .outbox_put(agent(n), marked(100))
        .dedup_put(agent(n), id, Some(marked(90)), 1)
        .timer_put(agent(n), n, 2, marked(80))
        .journal_append("audit".to_owned(), marked(70), None)
        .secret_put(format!("secret-{n}"), marked(60))
}

/// The files below a directory that hold the marker.
fn shown(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(shown(&path));
        } else if holds_marker(&fs::read(&path).unwrap()) {
            found.push(path);
        }
    }
    found
}

fn holds_marker(bytes: &[u8]) -> bool {
    // Enough of it, wherever a value is cut.
    bytes.windows(12).any(|part| part == &MARKER[..12])
}

fn key_error(dir: &Path, options: EmbeddedOptions) -> KeyError {
    match EmbeddedEngine::open(dir, options) {
        Err(OpenError::Key { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

fn wait_whole(engine: &EmbeddedEngine) {
    for _ in 0..3000 {
        if engine.sealing() == SealingProgress::Whole {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("not sealed: {:?}", engine.sealing());
}

#[tokio::test]
async fn a_sealed_engine_conforms() {
    conformance::run(places, async |(_, dir, key)| {
        let engine = EmbeddedEngine::open(dir, options(key)).unwrap();
        Arc::new(engine) as Arc<dyn Engine>
    })
    .await;
}

#[tokio::test]
async fn a_sealed_store_opens_with_its_own_keys_only() {
    let (parent, dir, key) = places();
    let engine = EmbeddedEngine::open(&dir, options(&key)).unwrap();
    engine.commit(marked_batch(1, 0)).await.unwrap();
    assert_eq!(engine.sealing(), SealingProgress::Whole);
    drop(engine);

    let off = key_error(&dir, EmbeddedOptions::default());
    assert!(matches!(off, KeyError::Sealed), "{off}");
    let other = parent.path().join("other.key");
    KeyFile::create(&other).unwrap();
    let wrong = key_error(&dir, options(&other));
    assert!(matches!(wrong, KeyError::WrongKey { .. }), "{wrong}");
    let none = key_error(&dir, options(&parent.path().join("no.key")));
    assert!(matches!(none, KeyError::Io { .. }), "{none}");

    let by_name = Encryption::SealExisting(key.clone());
    for options in [
        options(&key),
        EmbeddedOptions::default().encryption(by_name),
    ] {
        let engine = EmbeddedEngine::open(&dir, options).unwrap();
        let stored = engine.load_state(&agent(1)).await.unwrap().unwrap();
        assert_eq!(stored.bytes, marked(150));
        assert_eq!(engine.sealing(), SealingProgress::Whole);
    }
}

#[tokio::test]
async fn a_plain_store_is_not_taken_for_a_sealed_one() {
    let (_parent, dir, key) = places();
    let engine = open(&dir);
    assert_eq!(engine.sealing(), SealingProgress::Plain);
    engine.commit(marked_batch(1, 0)).await.unwrap();
    drop(engine);
    assert!(matches!(key_error(&dir, options(&key)), KeyError::Plain));
    assert!(!shown(&dir).is_empty(), "the marker can be found");
    assert_eq!(open(&dir).recovery().position, 1);
}

#[tokio::test]
async fn no_file_shows_a_value() {
    let (parent, dir, key) = places();
    let engine = EmbeddedEngine::open(&dir, options(&key)).unwrap();
    for n in 0..40 {
        engine.commit(marked_batch(n, 0)).await.unwrap();
    }
    let killed = parent.path().join("killed");
    copy_dir(&dir, &killed);
    engine.close().await.unwrap();
    drop(engine);
    let engine = EmbeddedEngine::open(&dir, options(&key)).unwrap();
    for n in 0..40 {
        engine.commit(marked_batch(n, 1)).await.unwrap();
    }
    drop(engine);
    let again = EmbeddedEngine::open(&killed, options(&key)).unwrap();
    assert_eq!(again.recovery().replayed, 40);
    let found = again.secret("secret-3").await.unwrap();
    assert_eq!(found.unwrap().expose(), &marked(60));
    assert_eq!(shown(&dir), Vec::<PathBuf>::new());
    assert_eq!(shown(&killed), Vec::<PathBuf>::new());
    drop(again);
    assert_eq!(shown(&killed), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_store_without_its_check_is_damaged_never_plain() {
    let (parent, dir, key) = places();
    let engine = EmbeddedEngine::open(&dir, options(&key)).unwrap();
    engine.commit(marked_batch(1, 0)).await.unwrap();
    drop(engine);
    let (check, format) = (dir.join("check"), dir.join("format"));
    let (good, text) = (fs::read(&check).unwrap(), fs::read(&format).unwrap());
    let assert_damaged = |what: &str| {
        let by_name = Encryption::SealExisting(key.clone());
        for options in [
            options(&key),
            EmbeddedOptions::default().encryption(by_name),
        ] {
            let error = EmbeddedEngine::open(&dir, options).unwrap_err();
            let is_named = matches!(error, OpenError::Damaged { .. });
            assert!(is_named, "{what}: {error}");
        }
        let error = EmbeddedEngine::open(&dir, EmbeddedOptions::default()).unwrap_err();
        let is_refused = matches!(error, OpenError::Damaged { .. } | OpenError::Key { .. });
        assert!(is_refused, "{what}: {error}");
    };

    fs::remove_file(&check).unwrap();
    assert_damaged("no check");
    for at in 0..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        fs::write(&check, flipped).unwrap();
        assert_damaged(&format!("byte {at} of the check"));
    }
    let other = parent.path().join("other");
    drop(EmbeddedEngine::open(&other, options(&key)).unwrap());
    fs::copy(other.join("check"), &check).unwrap();
    assert_damaged("the check of another store");

    fs::write(&check, &good).unwrap();
    let cut = text.strip_suffix(b"sealed\n").unwrap();
    fs::write(&format, cut).unwrap();
    assert_damaged("the third line of the format");
    fs::write(&format, &text).unwrap();
    drop(EmbeddedEngine::open(&dir, options(&key)).unwrap());
}

#[test]
fn a_flipped_byte_in_a_sealed_value_is_named() {
    let machine = Machine {
        wanted: Wanted::Sealed(Arc::new(key_ring(&[(1, 1)]))),
        ..Machine::default()
    };
    let mut store = machine.open().unwrap();
    store.one(marked_batch(1, 0));
    let key = keys::state(&agent(1));
    let sealed = store.records.stored(&key).unwrap().unwrap();
    for at in 0..sealed.len() {
        let mut flipped = sealed.to_vec();
        flipped[at] ^= 1;
        store.records.publish([(key.clone(), Some(flipped.into()))]);
        let error = store.records.get(&key).unwrap_err();
        let StoreError::Corrupt(corrupt) = &error else {
            panic!("byte {at}: {error:?}");
        };
        assert!(corrupt.to_string().contains("agent-1"), "{corrupt}");
        assert!(matches!(store.contents(), Err(StoreError::Corrupt(_))));
    }
}

#[tokio::test]
async fn an_existing_store_is_sealed_while_it_is_in_use() {
    let (_parent, dir, key) = places();
    let engine = open(&dir);
    for n in 0..60 {
        engine.commit(marked_batch(n, 0)).await.unwrap();
    }
    drop(engine);
    let engine = open(&dir);
    engine.commit(marked_batch(60, 0)).await.unwrap();
    drop(engine);

    let by_name = EmbeddedOptions::default().encryption(Encryption::SealExisting(key.clone()));
    let engine = EmbeddedEngine::open(&dir, by_name).unwrap();
    for n in 0..61 {
        engine.commit(marked_batch(n, 1)).await.unwrap();
    }
    wait_whole(&engine);
    assert_eq!(shown(&dir), Vec::<PathBuf>::new(), "while it is open");
    for n in 0..61 {
        let stored = engine.load_state(&agent(n)).await.unwrap().unwrap();
        assert_eq!(stored.version, 2);
    }
    drop(engine);
    assert_eq!(shown(&dir), Vec::<PathBuf>::new());
    assert!(matches!(
        key_error(&dir, EmbeddedOptions::default()),
        KeyError::Sealed
    ));
    let engine = EmbeddedEngine::open(&dir, options(&key)).unwrap();
    assert_eq!(engine.sealing(), SealingProgress::Whole);
    let reply = engine
        .dedup(&agent(7), MessageId::from_bytes([7; 16]))
        .await;
    let DedupEntry { reply, .. } = reply.unwrap().unwrap();
    assert_eq!(reply.unwrap(), marked(90));
}

#[tokio::test]
async fn a_rotated_key_is_not_needed_any_more() {
    let (_parent, dir, key) = places();
    let engine = EmbeddedEngine::open(&dir, options(&key)).unwrap();
    for n in 0..60 {
        engine.commit(marked_batch(n, 0)).await.unwrap();
    }
    drop(engine);
    for _ in 0..2 {
        KeyFile::rotate(&key).unwrap();
        // Closed at once, wherever it stands.
        drop(EmbeddedEngine::open(&dir, options(&key)).unwrap());
    }
    let engine = EmbeddedEngine::open(&dir, options(&key)).unwrap();
    wait_whole(&engine);
    drop(engine);

    let text = fs::read_to_string(&key).unwrap();
    let newest = text.lines().last().unwrap();
    fs::write(&key, format!("mas-store-key 1\n{newest}\n")).unwrap();
    let engine = EmbeddedEngine::open(&dir, options(&key)).unwrap();
    assert_eq!(engine.sealing(), SealingProgress::Whole);
    for n in 0..60 {
        assert!(engine.load_state(&agent(n)).await.unwrap().is_some());
    }
}

/// A machine with a store under these keys, or a plain one, that has seen some commits.
fn furnished(wanted: Wanted, entropy: &Entropy) -> (Machine, Model) {
    let machine = Machine {
        wanted,
        ..Machine::default()
    };
    let mut model = Model::default();
    let mut store = machine.open().unwrap();
    for n in 0..4 {
        commit(&mut store, &mut model, marked_batch(n, 0)).unwrap();
    }
    store.flush().unwrap();
    for _ in 0..6 {
        let batch = batch(entropy, model.now());
        let _ = commit(&mut store, &mut model, batch);
    }
    commit(&mut store, &mut model, marked_batch(4, 0)).unwrap();
    if entropy.below(2) == 0 {
        store.close().unwrap();
    }
    (machine, model)
}

/// Commits a batch in store and model, which is durable then. Refusals are alike; what the disk says is an error.
fn commit(store: &mut Driven, model: &mut Model, batch: Batch) -> Result<(), CommitError> {
    let batch = batch.durability(crate::store::Durability::Durable);
    let expected = model.commit(&batch);
    match (store.group([batch]).remove(0), expected) {
        (Err(error @ CommitError::Io { .. }), _) => Err(error),
        (answer, expected) => {
            assert_eq!(
                answer.map_err(|e| e.to_string()),
                expected.map_err(|e| e.to_string())
            );
            Ok(())
        }
    }
}

/// Seals what is stored to its end, with commits in between, or until the disk fails. Gives what was promised.
fn seal_all(store: &mut Driven, model: &mut Model, entropy: &Entropy) -> (u64, bool) {
    let mut promised = store.recovery.position;
    loop {
        if entropy.below(3) == 0 {
            let batch = batch(entropy, model.now());
            if commit(store, model, batch).is_err() {
                return (promised, false);
            }
            promised = store.position();
        }
        let step = store.reseal_step();
        model.pass_to(store.position());
        match step {
            Ok(true) => return (promised, true),
            Ok(false) => {}
            Err(error) => {
                assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
                return (promised, false);
            }
        }
    }
}

fn shown_on(machine: &Machine) -> Vec<PathBuf> {
    let files = machine.disk.files().into_iter().map(|(path, _)| path);
    let shows = |path: &PathBuf| holds_marker(&machine.disk.read_file(path).unwrap());
    files.filter(shows).collect()
}

/// From `before` to `after`, cut at one operation of the disk, then brought to its end. Gives whether the cut was met.
fn cut_while_sealing(before: Wanted, after: Wanted, last: Wanted, seed: u64, at: u64) -> bool {
    let entropy = Entropy::seeded(seed);
    let was_plain = matches!(before, Wanted::Plain);
    let (mut machine, mut model) = furnished(before, &entropy);
    machine.wanted = after;
    machine.disk.crash_at(machine.disk.operations() + at);
    let end = machine.disk.operations() + at;
    let (mut promised, mut is_whole) = (model.position(), false);
    if let Ok(mut store) = machine.open() {
        (promised, is_whole) = seal_all(&mut store, &mut model, &entropy);
    }
    let is_cut = machine.disk.operations() >= end;
    machine = machine.after_crash(seed ^ at);

    // Whoever comes without the key gets nothing, or a store of which nothing was sealed.
    let mut without = machine.kill();
    without.wanted = Wanted::Plain;
    match without.open() {
        Err(OpenError::Key { .. }) => {}
        Ok(store) => {
            assert!(was_plain && !is_whole);
            let files = machine.disk.files();
            let has_check = files.iter().any(|(path, _)| path.ends_with("check"));
            assert!(!has_check, "it was asked to be sealed");
            assert!(store.contents().unwrap() == *model.at(store.recovery.position));
        }
        other => panic!("{other:?}"),
    }

    let mut store = machine.open().expect("what no bit has flipped in opens");
    let position = store.recovery.position;
    assert!(position >= promised, "{promised} was promised");
    assert!(store.contents().unwrap() == *model.at(position));
    model.cut(position);
    assert!(seal_all(&mut store, &mut model, &entropy).1);
    assert!(store.contents().unwrap() == *model.now());
    assert_eq!(shown_on(&machine), Vec::<PathBuf>::new());
    machine = machine.after_crash(seed);
    assert_eq!(
        shown_on(&machine),
        Vec::<PathBuf>::new(),
        "after a power cut"
    );

    machine.wanted = last;
    let store = machine.open().unwrap();
    assert!(store.resealer.is_none() && store.contents().unwrap() == *model.now());
    is_cut
}

fn cut_at_every_operation(cut: impl Fn(u64) -> bool) {
    for at in 1.. {
        if !cut(at) {
            assert!(at > 40, "it has only {at} operations");
            return;
        }
    }
}

#[test]
fn sealing_a_store_survives_a_power_cut_at_any_operation() {
    let keys = Arc::new(key_ring(&[(1, 1)]));
    cut_at_every_operation(|at| {
        let (by_name, sealed) = (
            Wanted::SealExisting(Arc::clone(&keys)),
            Wanted::Sealed(Arc::clone(&keys)),
        );
        cut_while_sealing(Wanted::Plain, by_name, sealed, 3 + at % 7, at)
    });
}

#[test]
fn a_rotation_survives_a_power_cut_at_any_operation() {
    cut_at_every_operation(|at| {
        let sealed = |lines: &[(u32, u8)]| Wanted::Sealed(Arc::new(key_ring(lines)));
        let (old, both, new) = (
            sealed(&[(1, 1)]),
            sealed(&[(1, 1), (2, 2)]),
            sealed(&[(2, 2)]),
        );
        cut_while_sealing(old, both, new, 5 + at % 7, at)
    });
}

/// A machine with more values than one commit seals anew, all in the tree, and no key.
fn large() -> (Machine, Model) {
    let (machine, mut model) = (Machine::default(), Model::default());
    let mut store = machine.open().unwrap();
    for n in 0..500 {
        let batch = Batch::new().state_put(agent(n), 0, 1, 1, marked(1000));
        commit(&mut store, &mut model, batch).unwrap();
    }
    store.close().unwrap();
    (machine, model)
}

#[test]
fn a_leaf_that_was_sealed_in_part_stays_in_no_pack() {
    for snapshots in [false, true] {
        let (mut machine, mut model) = large();
        machine.wanted = Wanted::SealExisting(Arc::new(key_ring(&[(1, 1)])));
        let mut store = machine.open().unwrap();
        let mut steps = 0;
        while !store.reseal_step().unwrap() {
            steps += 1;
            // What the first commits have sealed shares a leaf with what is still plain.
            store.flush().unwrap();
            if snapshots {
                store.flusher.snapshot().unwrap();
            }
        }
        assert!(steps > 5, "{steps}");
        model.pass_to(store.position());
        assert!(store.contents().unwrap() == *model.now());
        assert_eq!(shown_on(&machine), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_store_that_lost_its_check_while_it_was_sealed_is_damaged() {
    let (mut machine, _) = large();
    let keys = Arc::new(key_ring(&[(1, 1)]));
    machine.wanted = Wanted::SealExisting(Arc::clone(&keys));
    let mut store = machine.open().unwrap();
    assert!(!store.reseal_step().unwrap());
    store.flush().unwrap();
    drop(store);
    let check = machine.plan().layout.check;
    machine.plan().disk.remove(&check).unwrap();
    for wanted in [
        Wanted::SealExisting(Arc::clone(&keys)),
        Wanted::Sealed(keys),
        Wanted::Plain,
    ] {
        machine.wanted = wanted;
        let error = machine.open().map(drop).unwrap_err();
        let is_refused = match &error {
            OpenError::Damaged { reason, .. } => reason.contains("check"),
            OpenError::Key { source, .. } => matches!(source, KeyError::Sealed),
            _ => false,
        };
        assert!(is_refused, "{error}");
    }
}

#[test]
fn a_value_that_does_not_open_keeps_the_old_key() {
    let sealed = |lines: &[(u32, u8)]| Wanted::Sealed(Arc::new(key_ring(lines)));
    let entropy = Entropy::seeded(1);
    let (mut machine, mut model) = furnished(sealed(&[(1, 1)]), &entropy);
    machine.wanted = sealed(&[(1, 1), (2, 2)]);
    let mut store = machine.open().unwrap();
    let key = keys::state(&agent(4));
    let mut damaged = store.records.stored(&key).unwrap().unwrap().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    store.records.publish([(key, Some(damaged.into()))]);
    while !store.reseal_step().unwrap() {
        model.pass_to(store.position());
    }
    let progress = *store.sealing.lock().unwrap();
    assert_eq!(progress, SealingProgress::Stuck { damaged: 1 });
    drop(store);
    machine.wanted = sealed(&[(2, 2)]);
    let error = machine.open().map(drop).unwrap_err();
    let OpenError::Key { source, .. } = error else {
        panic!("{error}");
    };
    assert!(matches!(source, KeyError::MissingKey { .. }), "{source}");
}

#[tokio::test]
async fn a_store_of_the_engine_before_is_sealed_as_it_is_brought_over() {
    let (_parent, dir, key) = places();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/embedded/tests/format-1");
    copy_dir(&here.join("closed"), &dir);
    let engine = EmbeddedEngine::open(&dir, options(&key)).unwrap();
    assert_eq!(engine.recovery().migrated_from, Some(1));
    assert_eq!(engine.sealing(), SealingProgress::Whole);
    let stored = engine.load_state(&agent(2)).await.unwrap().unwrap();
    assert_eq!(stored.bytes, Bytes::from(vec![2; 6000]));
    drop(engine);
    let packs = fs::read_dir(dir.join("packs")).unwrap();
    for pack in packs {
        let bytes = fs::read(pack.unwrap().path()).unwrap();
        assert!(!bytes.windows(40).any(|part| part == [2; 40]));
    }
    assert!(matches!(
        key_error(&dir, EmbeddedOptions::default()),
        KeyError::Sealed
    ));
}
