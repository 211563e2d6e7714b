//! The decorator alone, in virtual time, around an engine that hangs and fails when told to.

use std::future::pending;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::model::limits::{
    CIRCUIT_FAILURES_MAX, CIRCUIT_PAUSE_MAX, CIRCUIT_PAUSE_MIN, ENGINE_DEADLINE,
};
use crate::model::{Moment, SystemClock};
use crate::store::{EntryKind, MemoryEngine, Op, conformance};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// tokio's clock, which stands still while somebody works.
#[derive(Debug)]
struct Virtual(Instant);

/// Now, by tokio's clock.
fn now() -> Instant {
    tokio::time::sleep(Duration::ZERO).deadline()
}

impl Clock for Virtual {
    fn now(&self) -> Moment {
        Moment::from_origin(now() - self.0)
    }

    fn unix(&self) -> Duration {
        now() - self.0
    }
}

/// What an engine does with its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    /// Calls wait until it is in another mood, and are answered then.
    Stuck,
    Errors,
    Full,
    Panics,
    Stopped,
}

/// A memory engine in a mood. It counts the calls that reach it.
struct Moody {
    engine: MemoryEngine,
    mood: watch::Sender<Mood>,
    calls: AtomicU32,
    probes: AtomicU32,
}

impl Moody {
    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    fn probes(&self) -> u32 {
        self.probes.load(Ordering::Relaxed)
    }

    fn is(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Waits while it is stuck, and gives the mood after that.
    fn roused(&self) -> BoxFuture<'static, Mood> {
        let mut mood = self.mood.subscribe();
        Box::pin(async move {
            let roused = mood.wait_for(|mood| *mood != Mood::Stuck).await;
            match roused.map(|mood| *mood) {
                Ok(mood) => mood,
                Err(_) => pending().await,
            }
        })
    }

    fn read<'a, T: Send + 'a>(&self, read: ReadFuture<'a, T>) -> ReadFuture<'a, T> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let roused = self.roused();
        Box::pin(async move {
            match roused.await {
                Mood::Errors => Err(StoreError::io("read", io::ErrorKind::Other.into())),
                _ => read.await,
            }
        })
    }
}

impl Commit for Moody {
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Committed, CommitError>> {
        assert_ne!(*self.mood.borrow(), Mood::Panics, "it was told to");
        let count = if batch.is_empty() {
            &self.probes
        } else {
            &self.calls
        };
        count.fetch_add(1, Ordering::Relaxed);
        let (roused, engine) = (self.roused(), self.engine.clone());
        Box::pin(async move {
            match roused.await {
                Mood::Errors => Err(CommitError::io("write", io::Error::other("no such device"))),
                Mood::Full => Err(CommitError::io("write", io::ErrorKind::StorageFull.into())),
                Mood::Stopped => Err(StoreError::failed("the disk is gone").into()),
                _ => engine.commit(batch).await,
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.read(self.engine.close())
    }

    fn describe(&self) -> String {
        "moody".to_owned()
    }
}

macro_rules! moody_reads {
    ($($part:ident { $($method:ident($($name:ident: $type:ty),*) -> $out:ty;)* })*) => {
        $(impl $part for Moody {
            $(fn $method(&self, $($name: $type),*) -> ReadFuture<'_, $out> {
                self.read(self.engine.$method($($name),*))
            })*
        })*
    };
}

moody_reads! {
    StateStore { load_state(agent: &AgentId) -> Option<StoredState>; }
    Inbox {
        inbox_page(agent: &AgentId, lane: Priority, after: u64, limit: usize) -> Vec<InboxEntry>;
        inbox_counts(agent: &AgentId) -> [u64; 5];
        outbox_page(agent: &AgentId, after: u64, limit: usize) -> Vec<OutboxEntry>;
        outbox_agents(after: Option<&AgentId>, limit: usize) -> Vec<AgentId>;
        dedup(agent: &AgentId, id: MessageId) -> Option<DedupEntry>;
        dedup_page(agent: &AgentId, after: Option<MessageId>, limit: usize) -> Vec<DedupEntry>;
        timers(agent: &AgentId, after: Option<u64>, limit: usize) -> Vec<TimerEntry>;
        dead_letters(after: u64, limit: usize) -> Vec<DeadEntry>;
        dead_letter(seq: u64) -> Option<DeadEntry>;
    }
    Directory {
        agent(agent: &AgentId) -> Option<DirectoryEntry>;
        agents(after: Option<&AgentId>, limit: usize) -> Vec<DirectoryEntry>;
    }
    Journal {
        journal_page(journal: &str, from: u64, limit: usize) -> Vec<JournalEntry>;
        journal_end(journal: &str) -> u64;
        journal_names(prefix: &str, after: Option<&str>, limit: usize) -> Vec<String>;
    }
    Secrets {
        secret(name: &str) -> Option<SecretBytes>;
        secret_names(prefix: &str, after: Option<&str>, limit: usize) -> Vec<String>;
    }
}

/// A breaker around a moody engine, and what it has told.
struct Scene {
    breaker: Breaker,
    engine: Arc<Moody>,
    told: Arc<Mutex<Vec<CircuitChange>>>,
}

fn scene() -> Scene {
    let engine = Arc::new(Moody {
        engine: MemoryEngine::new(),
        mood: watch::Sender::new(Mood::Well),
        calls: AtomicU32::new(0),
        probes: AtomicU32::new(0),
    });
    let told: Arc<Mutex<Vec<CircuitChange>>> = Arc::default();
    let tell = Arc::clone(&told);
    let breaker = Breaker::new(
        Arc::clone(&engine) as Arc<dyn Engine>,
        Arc::new(Virtual(now())),
        ENGINE_DEADLINE,
        move |change| tell.lock().unwrap().push(change),
    );
    Scene {
        breaker,
        engine,
        told,
    }
}

impl Scene {
    async fn commit(&self) -> Result<Committed, CommitError> {
        self.breaker.commit(record()).await
    }

    async fn records(&self) -> Result<u64, StoreError> {
        self.breaker.journal_end("j").await
    }

    /// How often it has opened, and closed again.
    fn changes(&self) -> (usize, usize) {
        let told = self.told.lock().unwrap();
        let is_opened = |change: &&CircuitChange| matches!(change, CircuitChange::Opened { .. });
        let opened = told.iter().filter(is_opened).count();
        (opened, told.len() - opened)
    }

    fn last(&self) -> CircuitChange {
        self.told.lock().unwrap().last().cloned().unwrap()
    }

    /// The engine hangs, and a call has found out.
    async fn is_stuck(&self) {
        self.engine.is(Mood::Stuck);
        assert!(matches!(
            self.commit().await,
            Err(CommitError::TimedOut { .. })
        ));
    }
}

fn record() -> Batch {
    Batch::new().journal_append("j".to_owned(), "record".into(), None)
}

fn agent() -> AgentId {
    AgentId::new("worker").unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_engine_behind_it_conforms() {
    let open = async |kept: &MemoryEngine| {
        let engine: Arc<dyn Engine> = Arc::new(kept.clone());
        let clock = Arc::new(SystemClock::new());
        let never = |change| panic!("{change:?}");
        Arc::new(Breaker::new(engine, clock, ENGINE_DEADLINE, never)) as Arc<dyn Engine>
    };
    conformance::run(MemoryEngine::new, open).await;
}

#[test]
fn what_answers_at_once_needs_no_timer() {
    let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
    let clock = Arc::new(SystemClock::new());
    // No tokio here: a timer would be a panic.
    let breaker = Breaker::new(engine, clock, ENGINE_DEADLINE, |_| {});
    assert!(breaker.commit(record()).now_or_never().unwrap().is_ok());
    let end = breaker.journal_end("j").now_or_never().unwrap();
    assert_eq!(end.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_call_has_the_deadline() {
    macro_rules! times_out {
        ($($method:ident($($argument:expr),*)),* $(,)?) => {$({
            let scene = scene();
            scene.engine.is(Mood::Stuck);
            let before = now();
            let answer = scene.breaker.$method($($argument),*).await;
            let error = CommitError::from(answer.unwrap_err());
            let CommitError::TimedOut { after, .. } = error else {
                panic!("{}: {error:?}", stringify!($method))
            };
            assert_eq!((after, now() - before), (ENGINE_DEADLINE, ENGINE_DEADLINE));
            assert_eq!(scene.engine.calls(), 1, "{}", stringify!($method));
        })*};
    }
    let (a, id) = (agent(), MessageId::from_bytes([7; 16]));
    times_out! {
        load_state(&a),
        inbox_page(&a, Priority::Normal, 0, 9), inbox_counts(&a),
        outbox_page(&a, 0, 9), outbox_agents(None, 9),
        dedup(&a, id), dedup_page(&a, None, 9), timers(&a, None, 9),
        dead_letters(0, 9), dead_letter(1),
        agent(&a), agents(None, 9),
        journal_page("j", 0, 9), journal_end("j"), journal_names("", None, 9),
        secret("s"), secret_names("", None, 9),
        commit(record()), close(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_in_time_is_an_answer() {
    let scene = scene();
    scene.engine.is(Mood::Stuck);
    let heal = async {
        tokio::time::sleep(ENGINE_DEADLINE - MILLI).await;
        scene.engine.is(Mood::Well);
    };
    let (answer, ()) = tokio::join!(scene.commit(), heal);
    answer.unwrap();
    assert_eq!(scene.changes(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn batches_go_to_the_engine_in_the_order_of_the_calls() {
    let scene = scene();
    let first = scene
        .breaker
        .commit(Batch::new().secret_put("s".into(), "1".into()));
    let second = scene
        .breaker
        .commit(Batch::new().secret_put("s".into(), "2".into()));
    second.await.unwrap();
    drop(first);
    assert_eq!(scene.engine.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_opens_the_circuit_and_calls_fail_at_once() {
    let scene = scene();
    scene.is_stuck().await;
    let CircuitChange::Opened { reason } = scene.last() else {
        panic!("{:?}", scene.last())
    };
    assert_eq!(&*reason, "the engine did not commit a batch within 10s");
    let (before, calls) = (now(), scene.engine.calls());
    let error = scene.commit().await.unwrap_err();
    assert!(!error.may_be_stored() && error.is_retryable(), "{error}");
    assert_eq!(error.retry_after(), Some(CIRCUIT_PAUSE_MIN));
    assert!(error.to_string().ends_with(&*reason), "{error}");
    let error = scene.records().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert_eq!(scene.engine.calls(), calls, "none of them reached it");
    assert_eq!(now(), before, "none of them waited");
    assert_eq!(scene.changes(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn many_that_wait_open_it_once() {
    let scene = scene();
    scene.engine.is(Mood::Stuck);
    let calls = (0..9).map(|_| scene.commit());
    for answer in futures_util::future::join_all(calls).await {
        assert!(matches!(answer, Err(CommitError::TimedOut { .. })));
    }
    assert_eq!(scene.changes(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stuck_engine_that_comes_back_answers_the_one_probe_and_serves() {
    let scene = scene();
    scene.is_stuck().await;
    tokio::time::sleep(SECOND * 3600).await;
    assert_eq!(scene.engine.probes(), 1, "no more of them pile up");
    let error = scene.commit().await.unwrap_err();
    assert!(
        matches!(error, CommitError::Unavailable { .. }),
        "{error:?}"
    );
    scene.engine.is(Mood::Well);
    tokio::time::sleep(MILLI).await;
    scene.commit().await.unwrap();
    assert_eq!(scene.changes(), (1, 1));
    let CircuitChange::Closed { after } = scene.last() else {
        panic!("{:?}", scene.last())
    };
    assert!(after >= SECOND * 3600 && after < SECOND * 3601, "{after:?}");
    assert_eq!(scene.engine.probes(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_but_the_probe_reaches_an_engine_whose_circuit_is_half_open() {
    let scene = scene();
    scene.is_stuck().await;
    tokio::time::sleep(CIRCUIT_PAUSE_MIN * 2).await;
    assert_eq!((scene.engine.calls(), scene.engine.probes()), (1, 1));
    assert!(scene.commit().await.is_err());
    assert!(scene.records().await.is_err());
    assert_eq!((scene.engine.calls(), scene.engine.probes()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn commits_that_fail_in_a_row_open_it() {
    let scene = scene();
    scene.engine.is(Mood::Errors);
    for failures in 1..=CIRCUIT_FAILURES_MAX {
        assert_eq!(scene.changes(), (0, 0), "before failure {failures}");
        assert!(matches!(scene.commit().await, Err(CommitError::Io { .. })));
    }
    assert_eq!(scene.changes(), (1, 0));
    let CircuitChange::Opened { reason } = scene.last() else {
        panic!("{:?}", scene.last())
    };
    assert!(
        reason.contains("5 commits") && reason.contains("no such device"),
        "{reason}"
    );
    assert!(matches!(
        scene.commit().await,
        Err(CommitError::Unavailable { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn one_commit_that_succeeds_begins_the_count_anew() {
    let scene = scene();
    for _ in 0..3 {
        scene.engine.is(Mood::Errors);
        for _ in 1..CIRCUIT_FAILURES_MAX {
            assert!(scene.commit().await.is_err());
        }
        scene.engine.is(Mood::Well);
        scene.commit().await.unwrap();
    }
    assert_eq!(scene.changes(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn refusals_full_disks_and_failed_reads_leave_it_closed() {
    let scene = scene();
    let gone = || {
        Batch::new().with(Op::InboxAck {
            agent: agent(),
            lane: Priority::Normal,
            seq: 7,
        })
    };
    for _ in 0..3 * CIRCUIT_FAILURES_MAX {
        let error = scene.breaker.commit(gone()).await.unwrap_err();
        let entry = EntryKind::Inbox;
        assert!(matches!(error, CommitError::Gone { entry: found, .. } if found == entry));
        let moved = record().journal_append("j".to_owned(), "x".into(), Some(7));
        let error = scene.breaker.commit(moved).await.unwrap_err();
        assert!(
            matches!(error, CommitError::JournalMoved { .. }),
            "{error:?}"
        );
        scene.engine.is(Mood::Full);
        assert!(matches!(
            scene.commit().await,
            Err(CommitError::Full { .. })
        ));
        scene.engine.is(Mood::Errors);
        assert!(matches!(scene.records().await, Err(StoreError::Io { .. })));
        scene.engine.is(Mood::Well);
    }
    assert_eq!(scene.changes(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn pauses_double_up_to_the_longest() {
    let scene = scene();
    scene.engine.is(Mood::Errors);
    while scene.changes() == (0, 0) {
        assert!(scene.commit().await.is_err());
    }
    // Timers are late by up to a millisecond each.
    let (mut due, slack) = (now(), MILLI * 10);
    for (probes, pause) in (0..).zip([1, 2, 4, 8, 16, 30, 30]) {
        due += SECOND * pause;
        tokio::time::sleep_until(due - MILLI).await;
        assert_eq!(scene.engine.probes(), probes, "before {pause} s");
        tokio::time::sleep_until(due + slack).await;
        assert_eq!(scene.engine.probes(), probes + 1, "after {pause} s");
    }
    assert_eq!(scene.changes(), (1, 0), "that it is still open is no news");
    scene.engine.is(Mood::Well);
    tokio::time::sleep(CIRCUIT_PAUSE_MAX).await;
    scene.commit().await.unwrap();
    assert_eq!(scene.changes(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_opens_again_soon_pauses_for_longer() {
    let scene = scene();
    scene.is_stuck().await;
    scene.engine.is(Mood::Well);
    tokio::time::sleep(CIRCUIT_PAUSE_MIN + MILLI).await;
    scene.commit().await.unwrap();
    scene.is_stuck().await;
    let error = scene.commit().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(CIRCUIT_PAUSE_MIN * 2));
    scene.engine.is(Mood::Well);
    tokio::time::sleep(CIRCUIT_PAUSE_MAX * 2).await;
    scene.is_stuck().await;
    let error = scene.commit().await.unwrap_err();
    assert_eq!(
        error.retry_after(),
        Some(CIRCUIT_PAUSE_MIN),
        "that was long ago"
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_meets_a_full_disk_closes_it_and_a_stopped_engine_does_not() {
    let scene = scene();
    scene.is_stuck().await;
    scene.engine.is(Mood::Stopped);
    tokio::time::sleep(CIRCUIT_PAUSE_MIN * 2).await;
    let error = scene.commit().await.unwrap_err();
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    scene.engine.is(Mood::Full);
    tokio::time::sleep(CIRCUIT_PAUSE_MAX).await;
    assert!(matches!(
        scene.commit().await,
        Err(CommitError::Full { .. })
    ));
    assert_eq!(scene.changes(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_is_one_that_failed() {
    let scene = scene();
    scene.engine.is(Mood::Stuck);
    assert!(scene.records().await.is_err());
    scene.engine.is(Mood::Panics);
    tokio::time::sleep(CIRCUIT_PAUSE_MIN * 2).await;
    let error = scene.records().await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    scene.engine.is(Mood::Well);
    tokio::time::sleep(CIRCUIT_PAUSE_MAX).await;
    assert_eq!(scene.records().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn closing_passes_an_open_circuit_by_and_ends_the_probe() {
    let scene = scene();
    scene.is_stuck().await;
    let before = now();
    let error = scene.breaker.close().await.unwrap_err();
    assert_eq!(error.to_string(), "the engine did not close within 10s");
    assert_eq!(now() - before, ENGINE_DEADLINE);
    assert!(matches!(scene.commit().await, Err(CommitError::Closed)));
    assert!(matches!(scene.records().await, Err(StoreError::Closed)));
    scene.engine.is(Mood::Well);
    tokio::time::sleep(CIRCUIT_PAUSE_MAX).await;
    assert_eq!(scene.changes(), (1, 0), "nobody probes it any more");
    scene.breaker.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_probes_an_engine_whose_breaker_is_gone() {
    let scene = scene();
    scene.is_stuck().await;
    let Scene {
        breaker,
        engine,
        told,
    } = scene;
    drop(breaker);
    engine.is(Mood::Well);
    tokio::time::sleep(CIRCUIT_PAUSE_MAX).await;
    assert_eq!((engine.probes(), told.lock().unwrap().len()), (0, 1));
    assert_eq!(Arc::strong_count(&engine), 1);
}
