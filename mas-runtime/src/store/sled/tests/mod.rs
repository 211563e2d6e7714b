//! The embedded engine as a whole.

#[cfg(target_os = "linux")]
mod room;

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use futures_util::poll;
use tempfile::TempDir;

use super::*;
use crate::model::{Entropy, Priority};
use crate::store::index::Index;
use crate::store::keys::{ENGINE_SPACE, KeyRange};
use crate::store::{Durability, Engine, Inbox, StateStore, conformance};

fn open(dir: impl AsRef<Path>) -> EmbeddedEngine {
    EmbeddedEngine::open(dir, EmbeddedOptions::default()).unwrap()
}

fn refused(dir: &TempDir) -> OpenError {
    EmbeddedEngine::open(dir, EmbeddedOptions::default()).unwrap_err()
}

fn agent(number: u64) -> AgentId {
    AgentId::new(format!("agent-{number}")).unwrap()
}

fn state(expected: u64, next: u64) -> Batch {
    Batch::new().state_put(agent(0), expected, next, 1, Bytes::from_static(b"state"))
}

#[tokio::test]
async fn it_conforms() {
    conformance::run(
        || TempDir::new().unwrap(),
        async |dir| Arc::new(open(dir)) as Arc<dyn Engine>,
    )
    .await;
}

#[test]
fn it_works_without_a_runtime_of_tokio() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    drop(engine.commit(state(0, 1)));
    drop(engine);
    let engine = open(&dir);
    let stored = engine.load_state(&agent(0)).now_or_never().unwrap();
    assert_eq!(stored.unwrap().unwrap().version, 1);
}

#[test]
fn a_second_engine_is_told_who_holds_the_directory() {
    let dir = TempDir::new().unwrap();
    let first = open(&dir);
    let OpenError::Locked { holder, .. } = refused(&dir) else {
        panic!("opened twice");
    };
    let pid = std::process::id();
    assert!(
        holder.starts_with(&format!("process {pid} on host ")),
        "{holder}"
    );
    assert!(
        holder.contains(" since 20") && holder.ends_with('Z'),
        "{holder}"
    );
    drop(first);
    drop(open(&dir));
    assert_eq!(fs::read_to_string(dir.path().join("lock")).unwrap(), "");
}

#[cfg(target_os = "linux")]
#[test]
fn a_lock_that_can_not_be_signed_holds_all_the_same() {
    let dir = TempDir::new().unwrap();
    // Nothing can be written there, as on a full disk.
    std::os::unix::fs::symlink("/dev/full", dir.path().join("lock")).unwrap();
    let _first = open(&dir);
    assert!(matches!(refused(&dir), OpenError::Locked { .. }));
}

#[test]
fn a_newer_format_is_refused_and_named() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    fs::write(dir.path().join("format"), "mas-store 2\n").unwrap();
    let error = refused(&dir);
    assert!(matches!(
        error,
        OpenError::NewerFormat {
            found: 2,
            known: 1,
            ..
        }
    ));
    assert!(error.to_string().contains("has format 2"), "{error}");
}

#[test]
fn a_format_that_says_nothing_is_damage() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    for text in ["", "mas-store", "mas-store x", "mas-store 0", "other 1"] {
        fs::write(dir.path().join("format"), text).unwrap();
        let error = refused(&dir);
        assert!(
            matches!(error, OpenError::Damaged { .. }),
            "{text:?}: {error}"
        );
    }
    fs::remove_file(dir.path().join("format")).unwrap();
    let error = refused(&dir);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn the_directory_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("a/b");
    drop(open(&dir));
    for dir in [dir.clone(), dir.join("index")] {
        let mode = fs::metadata(&dir).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}

#[test]
fn a_path_that_is_no_directory_is_an_error() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "x").unwrap();
    let error = EmbeddedEngine::open(&path, EmbeddedOptions::default()).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}

#[tokio::test]
async fn leftovers_of_an_interrupted_snapshot_are_removed() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    engine.commit(state(0, 1)).await.unwrap();
    drop(engine);
    let leftover = dir.path().join("index/snap.FFFFFFFFFFFFFFFF.generating");
    fs::write(&leftover, "half a snapshot").unwrap();
    let engine = open(&dir);
    assert!(!leftover.exists());
    let stored = engine.load_state(&agent(0)).await.unwrap();
    assert_eq!(stored.unwrap().version, 1);
}

/// Syncs that tell when they begin, and end when they are let go: at once, once the test has let go of its sender.
fn held_syncs() -> (SyncFile, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let ((begin, began), (go, wait)) = (mpsc::channel(), mpsc::channel());
    let wait = Mutex::new(wait);
    let sync = move |file: &File| {
        let _ = begin.send(());
        let _ = wait.lock().unwrap().recv();
        file.sync_data()
    };
    (Arc::new(sync), began, go)
}

#[tokio::test]
async fn batches_that_wait_together_share_a_sync_and_are_answered_after_it_in_order() {
    const SOON: Duration = Duration::from_secs(20);
    let dir = TempDir::new().unwrap();
    let (sync, began, go) = held_syncs();
    go.send(()).unwrap();
    let engine = EmbeddedEngine::open_with(dir.path(), EmbeddedOptions::default(), sync).unwrap();
    began.recv_timeout(SOON).expect("opening syncs");
    let mut first = engine.commit(state(0, 1));
    began.recv_timeout(SOON).expect("a durable commit syncs");
    let mut others: Vec<_> = (1..500).map(|n| engine.commit(state(n, n + 1))).collect();
    assert!(poll!(&mut first).is_pending(), "answered before its sync");
    go.send(()).unwrap();
    assert_eq!(first.await.unwrap().position, 1);
    began.recv_timeout(SOON).expect("the next group syncs");
    for other in &mut others {
        assert!(poll!(other).is_pending(), "answered before its sync");
    }
    go.send(()).unwrap();
    for (n, answer) in join_all(others).await.into_iter().enumerate() {
        assert_eq!(answer.unwrap().position, n as u64 + 2);
    }
    assert!(began.try_recv().is_err(), "one sync for all that waited");
    drop(go);
}

#[tokio::test]
async fn a_power_cut_after_the_answer_loses_nothing() {
    let (dir, disk) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    // The disk holds what the files held when they were last synced.
    let (from, to) = (dir.path().to_owned(), disk.path().to_owned());
    let sync = move |file: &File| {
        file.sync_data()?;
        copy_dir(&from, &to);
        Ok(())
    };
    let options = EmbeddedOptions::default();
    let engine = EmbeddedEngine::open_with(dir.path(), options, Arc::new(sync)).unwrap();
    for n in 0..12 {
        // Some are too large for one piece; what was only handed to the system goes along.
        let large = Bytes::from(vec![n as u8; n as usize * 5000]);
        let relaxed = Batch::new().outbox_put(agent(n), large.clone());
        let relaxed = engine.commit(relaxed.durability(Durability::Relaxed));
        let batch = Batch::new().state_put(agent(n), 0, 1, 1, large);
        engine.commit(batch).await.unwrap();
        relaxed.await.unwrap();
        let after = TempDir::new().unwrap();
        copy_dir(disk.path(), after.path());
        let expected = contents(&engine).unwrap();
        assert_eq!(contents(&open(&after)).unwrap(), expected, "commit {n}");
    }
}

#[tokio::test]
async fn large_values_need_no_files_of_their_own() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    let lane = Priority::Normal;
    for n in 0..40 {
        let envelope = Bytes::from(vec![n as u8; 1024 * 1024]);
        let id = MessageId::from_bytes([n as u8; 16]);
        let batch = Batch::new().inbox_append(agent(n % 3), lane, id, envelope);
        engine.commit(batch).await.unwrap();
    }
    assert_eq!(
        fs::read_dir(dir.path().join("index/blobs"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(engine.inbox_counts(&agent(1)).await.unwrap()[2], 13);
}

#[tokio::test]
async fn a_lost_end_of_the_log_is_damage() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    engine.commit(state(0, 1)).await.unwrap();
    engine.close().await.unwrap();
    drop(engine);
    let copy = TempDir::new().unwrap();
    copy_dir(dir.path(), copy.path());
    let engine = open(&dir);
    engine.commit(state(1, 2)).await.unwrap();
    drop(engine);
    // The index of before, with the note of after.
    fs::copy(dir.path().join("tip"), copy.path().join("tip")).unwrap();
    let error = refused(&copy);
    assert!(
        error
            .to_string()
            .contains("ends at commit 1, but 2 was on disk"),
        "{error}"
    );
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// All that a store holds, as text.
fn contents(engine: &EmbeddedEngine) -> Result<String, StoreError> {
    let all = KeyRange {
        from: Vec::new(),
        to: vec![ENGINE_SPACE],
    };
    let mut text = String::new();
    engine.index.scan(&all, &mut |key, value| {
        text += &format!("{key:?} {:x}\n", digest::hash(key, &value));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(text)
}

/// A small store with everything that has a shape of its own: many entries, large ones, some replaced, some removed.
async fn furnished(dir: &Path) -> String {
    let engine = open(dir);
    for n in 0..200 {
        let size = if n % 10 == 0 { 20_000 } else { 100 };
        let bytes = Bytes::from(vec![n as u8; size]);
        let batch = Batch::new()
            .state_put(agent(n), 0, 1, 1, bytes.clone())
            .outbox_put(agent(n % 7), bytes)
            .journal_append("audit".into(), Bytes::from_static(b"record"), None);
        engine.commit(batch).await.unwrap();
        if n % 3 == 0 {
            let batch = Batch::new().state_put(agent(n), 1, 2, 1, Bytes::from(vec![1; size / 2]));
            engine.commit(batch).await.unwrap();
        }
        if n % 5 == 4 {
            engine
                .commit(Batch::new().agent_erase(agent(n)))
                .await
                .unwrap();
        }
    }
    let contents = contents(&engine).unwrap();
    engine.close().await.unwrap();
    contents
}

/// The files of sled, with their sizes.
fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut files: Vec<_> = fs::read_dir(dir.join("index"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            let size = fs::metadata(&path).unwrap().len();
            (path, size)
        })
        .collect();
    files.sort();
    files
}

fn flip(path: &Path, at: u64, with: u8) {
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ with]).unwrap();
}

/// Rounds of the bit-flip test. Issue: the heart, store.
const FLIP_ROUNDS: u64 = 100;

#[tokio::test]
async fn a_flipped_byte_is_an_error_or_does_not_matter() {
    // As it was closed, which leaves a log to replay; and as it was opened once more, which leaves a snapshot.
    let (closed, reopened) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let expected = furnished(closed.path()).await;
    copy_dir(closed.path(), reopened.path());
    assert_eq!(contents(&open(&reopened)).unwrap(), expected);
    let entropy = Entropy::seeded(7);
    let (mut errors, mut harmless) = (0, 0);
    for round in 0..FLIP_ROUNDS {
        let dir = TempDir::new().unwrap();
        let original = if round % 2 == 0 { &closed } else { &reopened };
        copy_dir(original.path(), dir.path());
        let files = files(dir.path());
        let (path, size) = &files[entropy.below(files.len() as u64) as usize];
        let (at, with) = (entropy.below(*size), 1 << entropy.below(8));
        flip(path, at, with);
        let opened = EmbeddedEngine::open(&dir, EmbeddedOptions::default());
        match opened.map(|engine| contents(&engine)) {
            Err(OpenError::Damaged { .. }) | Ok(Err(StoreError::Corrupt(_))) => errors += 1,
            Ok(Ok(found)) => {
                let name = path.file_name().unwrap();
                assert!(
                    found == expected,
                    "round {round}: {name:?} at {at} with {with}"
                );
                harmless += 1;
            }
            other => panic!("round {round}: {other:?}"),
        }
    }
    assert!(
        errors > 0 && harmless > 0,
        "{errors} errors, {harmless} harmless"
    );
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_an_error_or_does_not_matter() {
    let original = TempDir::new().unwrap();
    let expected = furnished(original.path()).await;
    let mut cut = files(original.path());
    for name in ["format", "lock", "tip"] {
        let path = original.path().join(name);
        let size = fs::metadata(&path).unwrap().len();
        cut.push((path, size));
    }
    let (mut errors, mut harmless) = (0, 0);
    for (path, size) in cut {
        let name = path.strip_prefix(original.path()).unwrap();
        for eighths in 0..8 {
            let dir = TempDir::new().unwrap();
            copy_dir(original.path(), dir.path());
            let file = File::options().write(true).open(dir.path().join(name));
            file.unwrap().set_len(size * eighths / 8).unwrap();
            let opened = EmbeddedEngine::open(&dir, EmbeddedOptions::default());
            match opened.map(|engine| contents(&engine)) {
                Err(OpenError::Damaged { .. }) | Ok(Err(StoreError::Corrupt(_))) => errors += 1,
                Ok(Ok(found)) => {
                    assert!(found == expected, "{name:?} cut to {eighths} eighths");
                    harmless += 1;
                }
                other => panic!("{name:?} cut to {eighths} eighths: {other:?}"),
            }
        }
    }
    assert!(errors > 0 && harmless > 0, "{errors} {harmless}");
}
