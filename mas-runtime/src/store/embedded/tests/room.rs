//! The engine on a real file that may not grow: what is lost, what comes back.
//!
//! A child process may write files only up to a size. A shell sets the bound and lets its signal be ignored, since neither
//! can be done from here; `prlimit` lifts it.

use std::process::{Command, ExitStatus};

use std::time::Duration;

use super::*;

/// Set for the child: its data directory.
const CHILD_DIR: &str = "MAS_ROOM_DIR";
/// What the child may write into one file, in blocks of 512 or 1024 bytes: several commits fit, a hundred do not.
const BLOCKS: &str = "8192";
const CHILD: &str = "store::embedded::tests::room::helper_that_runs_out_of_room";

/// A state that takes a good part of the room.
fn large(n: u64) -> Batch {
    let bytes = Bytes::from(vec![n as u8; 256 * 1024]);
    Batch::new().state_put(agent(n), 0, 1, 1, bytes)
}

/// Commits a batch as soon as the engine works again.
async fn commit_at_last(engine: &EmbeddedEngine, batch: Batch) {
    for _ in 0..200 {
        match engine.commit(batch.clone()).await {
            Ok(_) => return,
            Err(CommitError::Full { .. } | CommitError::Io { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the engine does not come back");
}

/// Not a test of its own: what the child process runs.
#[tokio::test]
async fn helper_that_runs_out_of_room() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let engine = open(&dir);
    let mut kept = 0;
    let error = loop {
        match engine.commit(large(kept)).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 200, "there was room for everything");
    };
    assert!(matches!(error, CommitError::Full { .. }), "{error}");
    let pid = format!("--pid={}", std::process::id());
    let lifted = Command::new("prlimit")
        .args([&pid, "--fsize=unlimited:"])
        .status();
    assert!(lifted.unwrap().success());
    // The refused one may have been kept whole: the next one tells that the engine works.
    commit_at_last(&engine, large(1000)).await;
    for n in (0..kept).chain([1000]) {
        let state = engine.load_state(&agent(n)).await.unwrap();
        assert!(
            state.is_some_and(|state| state.version == 1),
            "{n} of {kept} is lost"
        );
    }
    engine.close().await.unwrap();
    println!("room: kept {kept}");
}

/// Runs this test's child with little room, and gives what it said.
fn run(dir: &Path) -> (ExitStatus, String) {
    let script = format!("ulimit -S -f {BLOCKS} && trap '' XFSZ && exec \"$@\"");
    let out = Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--nocapture"])
        .env(CHILD_DIR, dir)
        .output()
        .unwrap();
    let text = [out.stdout, out.stderr].concat();
    (out.status, String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn an_engine_that_ran_out_of_room_works_again_once_there_is_some() {
    if let Err(error) = Command::new("prlimit").arg("--version").output() {
        let required = std::env::var("MAS_TEST_REQUIRE").is_ok_and(|what| what == "all");
        assert!(!required, "prlimit: {error}");
        println!("left out: there is no `prlimit` to give room back: {error}");
        return;
    }
    let dir = TempDir::new().unwrap();
    let (status, text) = run(dir.path());
    assert!(status.success(), "{text}");
    let kept = text
        .split_once("room: kept ")
        .expect("it says what it kept")
        .1;
    let kept: u64 = kept.lines().next().unwrap().parse().unwrap();
    assert!(kept > 0, "nothing was kept before the room ran out");
    let engine = open(&dir);
    for n in (0..kept).chain([1000]) {
        let state = engine
            .load_state(&agent(n))
            .now_or_never()
            .unwrap()
            .unwrap();
        assert!(state.is_some(), "{n} of {kept} is lost");
    }
}
