//! Engines under real threads, and one data directory under two processes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;

use mas::prelude::*;
use mas::store::{
    Batch, CommitError, EmbeddedEngine, EmbeddedOptions, Engine, KeyFile, MemoryEngine, OpenError,
};
use mas::{AgentId, Builder, EventKind, StartError};

fn tokio_runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap()
}

/// Threads that each move one state on, over and over.
fn move_a_state_on_from_many_threads(engine: &dyn Engine) {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 50;
    let start = Barrier::new(THREADS as usize);
    let agent = AgentId::new("a").unwrap();
    let work = async |number: u64| {
        let mut won = 0;
        while won < ROUNDS {
            let stored = engine.load_state(&agent).await.unwrap();
            let version = stored.map_or(0, |state| state.version);
            let bytes = number.to_string().into_bytes();
            let batch = Batch::new()
                .state_put(agent.clone(), version, version + 1, 1, bytes.clone().into())
                .journal_append("j".into(), bytes.into(), None);
            match engine.commit(batch).await {
                Ok(_) => won += 1,
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let (work, start) = (&work, &start);
            scope.spawn(move || {
                start.wait();
                tokio_runtime().block_on(work(number));
            });
        }
    });
    tokio_runtime().block_on(async {
        let state = engine.load_state(&agent).await.unwrap();
        assert_eq!(state.unwrap().version, THREADS * ROUNDS);
        let records = engine.journal_page("j", 0, usize::MAX).await.unwrap();
        for number in 0..THREADS {
            let number = number.to_string().into_bytes();
            let own = records.iter().filter(|record| record.bytes == number);
            assert_eq!(
                own.count() as u64,
                ROUNDS,
                "each commit landed whole, and once"
            );
        }
    });
}

#[test]
fn threads_lose_no_update_of_the_memory_engine() {
    move_a_state_on_from_many_threads(&MemoryEngine::new());
}

#[test]
fn threads_lose_no_update_of_the_embedded_engine() {
    let dir = tempfile::tempdir().unwrap();
    let engine = EmbeddedEngine::open(&dir, EmbeddedOptions::default()).unwrap();
    move_a_state_on_from_many_threads(&engine);
}

/// Set for the child: its data directory.
const CHILD_DIR: &str = "MAS_HOLDER_DIR";

/// Not a test of its own: what the child process runs, until it is killed.
#[test]
fn helper_that_holds_a_directory() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    tokio_runtime().block_on(async {
        let _runtime = Runtime::builder().data_dir(dir).start().await.unwrap();
        println!("holder: up");
        std::future::pending::<()>().await;
    });
}

/// A process that has a runtime on `dir`.
fn holder(dir: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_that_holds_a_directory", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let up = out
        .lines()
        .map_while(std::result::Result::ok)
        .any(|line| line.contains("holder: up"));
    assert!(up, "the holder did not start");
    child
}

#[test]
fn a_runtime_with_a_key_file_starts_with_it_only() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, key) = (parent.path().join("data"), parent.path().join("key"));
    KeyFile::create(&key).unwrap();
    let start = |builder: Builder| tokio_runtime().block_on(builder.start());
    let with_key = || Runtime::builder().data_dir(&dir).key_file(&key);
    let stopped = tokio_runtime().block_on(async {
        with_key()
            .start()
            .await?
            .shutdown()
            .await
            .map_err(|e| panic!("{e}"))
    });
    stopped
        .map_err(|error: StartError| error.to_string())
        .unwrap();
    let error =
        start(Runtime::builder().data_dir(&dir)).expect_err("a sealed store without its key");
    assert!(
        matches!(error, StartError::Open(OpenError::Key { .. })),
        "{error}"
    );
    let error = start(Runtime::builder().key_file(&key)).expect_err("a key and no store");
    assert!(matches!(error, StartError::NoDataDir), "{error}");
    assert!(start(with_key()).is_ok());
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = holder(dir.path());
    let start = || tokio_runtime().block_on(Runtime::builder().data_dir(dir.path()).start());
    let error: StartError = start().expect_err("two processes on one directory");
    let causes: Vec<_> =
        std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source())
            .map(ToString::to_string)
            .collect();
    let expected = format!("is in use by process {} on host ", child.id());
    assert!(
        causes.iter().any(|cause| cause.contains(&expected)),
        "{causes:?}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(start().is_ok(), "a killed process holds nothing");
}

#[test]
fn a_runtime_tells_what_was_mended_in_its_store() {
    let dir = tempfile::tempdir().unwrap();
    tokio_runtime().block_on(async {
        let start = async || {
            Runtime::builder()
                .data_dir(dir.path())
                .start()
                .await
                .unwrap()
        };
        let runtime = start().await;
        assert!(runtime.events().try_next().is_none(), "a new store");
        runtime.shutdown().await.unwrap();
        // Damaged in the middle, as a bad sector would.
        let index = dir.path().join("refs").join("db");
        let mut bytes = std::fs::read(&index).unwrap();
        bytes.fill(0xa5);
        std::fs::write(&index, bytes).unwrap();
        let runtime = start().await;
        let event = runtime.events().try_next().expect("it tells");
        let EventKind::StoreRecovered(recovery) = event.kind else {
            panic!("{event:?}");
        };
        let index = recovery.index.expect("the index was made anew");
        assert!(std::path::Path::new(&index.aside).exists(), "{index:?}");
        runtime.shutdown().await.unwrap();
        let runtime = start().await;
        assert!(
            runtime.events().try_next().is_none(),
            "nothing is wrong any more"
        );
    });
}
