//! The embedded engine as a whole.

mod crashes;
mod damage;
mod doctor;
mod exports;
mod flips;
mod full;
#[cfg(unix)]
mod kills;
mod lives;
mod migration;
mod model;
#[cfg(target_os = "linux")]
mod room;
mod sealed;
pub(super) mod traps;
pub(super) mod world;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tempfile::TempDir;

use super::*;
use crate::model::Priority;
use crate::store::{Engine, Inbox, Journal, StateStore, conformance};

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
    fs::write(dir.path().join("format"), "mas-store 3\n").unwrap();
    let error = refused(&dir);
    assert!(matches!(
        error,
        OpenError::NewerFormat {
            found: 3,
            known: 2,
            ..
        }
    ));
    assert!(error.to_string().contains("has format 3"), "{error}");
}

#[test]
fn a_format_that_says_nothing_is_damage() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    let good = fs::read_to_string(dir.path().join("format")).unwrap();
    let other = good.replace("id ", "id f");
    for text in [
        "",
        "mas-store",
        "mas-store x",
        "mas-store 0",
        "other 1",
        "mas-store 2",
        &other,
    ] {
        fs::write(dir.path().join("format"), text).unwrap();
        let error = refused(&dir);
        assert!(
            matches!(error, OpenError::Damaged { .. }),
            "{text:?}: {error}"
        );
    }
}

#[test]
fn a_store_without_its_format_is_damage() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    engine.commit(state(0, 1)).now_or_never();
    drop(engine);
    fs::remove_file(dir.path().join("format")).unwrap();
    let error = refused(&dir);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[test]
fn a_store_without_its_log_is_damage() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir));
    for segment in fs::read_dir(dir.path().join("log")).unwrap() {
        fs::remove_file(segment.unwrap().path()).unwrap();
    }
    let error = refused(&dir);
    assert!(error.to_string().contains("log is missing"), "{error}");
}

#[cfg(unix)]
#[test]
fn the_directory_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("a/b");
    drop(open(&dir));
    for dir in [
        dir.clone(),
        dir.join("log"),
        dir.join("packs"),
        dir.join("refs"),
    ] {
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
async fn leftovers_of_an_interrupted_snapshot_of_sled_are_removed() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    engine.commit(state(0, 1)).await.unwrap();
    drop(engine);
    let leftover = dir.path().join("refs/snap.FFFFFFFFFFFFFFFF.generating");
    fs::write(&leftover, "half a snapshot").unwrap();
    let engine = open(&dir);
    assert!(!leftover.exists());
    assert_eq!(engine.recovery().index, None);
    let stored = engine.load_state(&agent(0)).await.unwrap();
    assert_eq!(stored.unwrap().version, 1);
}

#[tokio::test]
async fn what_does_not_fit_into_memory_is_brought_into_the_tree() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    let lane = Priority::Normal;
    for n in 0..160 {
        let envelope = Bytes::from(vec![n as u8; 1024 * 1024]);
        let id = MessageId::from_bytes([n as u8; 16]);
        let batch = Batch::new().inbox_append(agent(n % 3), lane, id, envelope);
        engine.commit(batch).await.unwrap();
    }
    assert_eq!(engine.inbox_counts(&agent(1)).await.unwrap()[2], 53);
    assert!(engine.records.active_bytes() < 64 << 20);
    for n in 0..150 {
        let seq = n + 1;
        engine
            .commit(Batch::new().inbox_ack(agent(n % 3), lane, seq))
            .await
            .unwrap();
    }
    engine.close().await.unwrap();
    drop(engine);
    let bytes: u64 = ["log", "packs"]
        .iter()
        .flat_map(|name| fs::read_dir(dir.path().join(name)).unwrap())
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes < 120 << 20, "{bytes} bytes for 10 MB");
    let engine = open(&dir);
    assert_eq!(engine.recovery().replayed, 0);
    assert_eq!(engine.inbox_counts(&agent(1)).await.unwrap()[2], 3);
}

#[tokio::test]
async fn a_panic_in_the_flusher_is_told() {
    let dir = TempDir::new().unwrap();
    let traps = Arc::new(traps::Traps::default());
    let mut plan = world::Machine::default().plan();
    plan.layout = Layout::of(dir.path());
    plan.home = Arc::new(traps::TrapHome {
        inner: plan.home,
        traps: Arc::clone(&traps),
    });
    // Not dropped: where this fails, that would wait for ever.
    let engine = Box::leak(Box::new(EmbeddedEngine::open_with(&plan).unwrap()));
    traps.apply.store(true, Ordering::Relaxed);
    let large = |n| {
        let bytes = Bytes::from(vec![1; 1024 * 1024]);
        engine.commit(Batch::new().outbox_put(agent(n), bytes))
    };
    let mut kept = 0;
    let refused = loop {
        let committed = tokio::time::timeout(Duration::from_secs(30), large(kept)).await;
        match committed.expect("it is answered") {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 100, "the engine gathers more than it may");
    };
    assert!(matches!(refused, CommitError::Failed { .. }), "{refused}");
    let closed = tokio::time::timeout(Duration::from_secs(30), engine.close()).await;
    assert!(closed.expect("it ends").is_err());
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
