//! Engines that hang: whoever sends hears so soon, and what was accepted is neither lost nor done twice.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use mas::prelude::*;
use mas::store::{CommitError, MemoryEngine, StoreError};
use mas::testkit::{Fault, FaultyEngine};
use mas::{AskError, EventKind, Events, SendError, SpawnError, StartError};

const DEADLINE: Duration = mas::model::limits::ENGINE_DEADLINE;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    done: Vec<u32>,
}

/// Takes its time, and tells its twin of each number.
#[agent(id = "ledger", state = Tally, durable)]
struct Ledger;

#[agent]
impl Ledger {
    #[on("book")]
    async fn book(&mut self, number: u32, ctx: &mut Context<Self>) -> Result<usize> {
        tokio::time::sleep(Duration::from_millis(200)).await;
        ctx.update_state(|tally| tally.done.push(number));
        ctx.tell("copy", "book", &number).await?;
        Ok(ctx.state().done.len())
    }

    #[on("total")]
    async fn total(&self, ctx: &Context<Self>) -> Vec<u32> {
        ctx.state().done.clone()
    }
}

#[agent(id = "copy", state = Tally, durable)]
struct Twin;

#[agent]
impl Twin {
    #[on("book")]
    async fn book(&mut self, number: u32, ctx: &mut Context<Self>) {
        ctx.update_state(|tally| tally.done.push(number));
    }

    #[on("total")]
    async fn total(&self, ctx: &Context<Self>) -> Vec<u32> {
        ctx.state().done.clone()
    }
}

struct Scene {
    kit: TestKit,
    engine: FaultyEngine,
    memory: MemoryEngine,
    ledger: LedgerRef,
    twin: TwinRef,
}

async fn scene() -> Scene {
    let memory = MemoryEngine::new();
    let engine = FaultyEngine::new(memory.clone());
    let kit = TestKit::builder().engine(engine.clone()).start().await;
    let twin = kit.spawn(Twin).await.unwrap();
    let ledger = kit.spawn(Ledger).await.unwrap();
    Scene {
        kit,
        engine,
        memory,
        ledger,
        twin,
    }
}

impl Scene {
    /// How often each number was booked, by the ledger and by its twin.
    async fn booked(&self) -> (BTreeMap<u32, u32>, BTreeMap<u32, u32>) {
        let own = counted(&self.ledger.total().await.unwrap());
        let told = counted(&self.twin.total().await.unwrap());
        (own, told)
    }
}

fn counted(numbers: &[u32]) -> BTreeMap<u32, u32> {
    let mut counts = BTreeMap::new();
    for number in numbers {
        *counts.entry(*number).or_default() += 1;
    }
    counts
}

/// Each of these once.
fn once(numbers: impl IntoIterator<Item = u32>) -> BTreeMap<u32, u32> {
    numbers.into_iter().map(|number| (number, 1)).collect()
}

/// What has been told of the engine so far.
fn told(events: &mut Events) -> Vec<EventKind> {
    let mut told = Vec::new();
    while let Some(event) = events.try_next() {
        if matches!(
            event.kind,
            EventKind::EngineUnavailable { .. }
                | EventKind::EngineResumed { .. }
                | EventKind::EngineFailed { .. }
        ) {
            told.push(event.kind);
        }
    }
    told
}

#[tokio::test]
async fn a_stuck_engine_fails_its_senders_fast_and_service_resumes_by_itself() {
    let scene = scene().await;
    let (kit, ledger) = (&scene.kit, &scene.ledger);
    let mut events = kit.events();
    ledger.book(1).await.unwrap();
    scene.engine.suffer(Fault::Stuck);
    let before = kit.now();
    for answer in join_all((2..5).map(|number| ledger.book(number).tell())).await {
        let Err(SendError::Commit(error @ CommitError::TimedOut { .. })) = answer else {
            panic!("{answer:?}")
        };
        assert!(error.may_be_stored() && error.is_retryable());
    }
    let waited = kit.now().since(before);
    assert!(
        waited >= DEADLINE && waited < DEADLINE + secs(1),
        "{waited:?}"
    );
    let told_first = told(&mut events);
    let [EventKind::EngineUnavailable { reason }] = &told_first[..] else {
        panic!("{told_first:?}")
    };
    assert!(reason.contains("within 10s"), "{reason}");

    let before = kit.now();
    let told_error = ledger.book(5).tell().await.unwrap_err();
    let SendError::Commit(CommitError::Unavailable { .. }) = &told_error else {
        panic!("{told_error:?}")
    };
    let text = Failure::from_error(told_error).message;
    assert!(
        text.contains("unavailable") && text.contains("within 10s"),
        "{text}"
    );
    let asked = ledger.book(6).await.unwrap_err();
    assert!(
        matches!(
            asked,
            AskError::Send(SendError::Commit(CommitError::Unavailable { .. }))
        ),
        "{asked:?}"
    );
    assert_eq!(kit.now(), before, "nobody waited");

    kit.advance(secs(100)).await;
    scene.engine.heal();
    kit.advance(secs(5)).await;
    let told_last = told(&mut events);
    let [EventKind::EngineResumed { after }] = &told_last[..] else {
        panic!("{told_last:?}")
    };
    assert!(*after >= secs(100) && *after < secs(101), "{after:?}");
    ledger.book(7).await.unwrap();
    kit.advance(secs(5)).await;
    // Those that timed out had reached the engine: they take effect when it is back. Those that were refused had not.
    let expected = once([1, 2, 3, 4, 7]);
    assert_eq!(scene.booked().await, (expected.clone(), expected));
}

#[tokio::test]
async fn what_is_in_hand_when_the_engine_hangs_takes_effect_once() {
    // The engine hangs before the handler is over, and after: while its commit, or its twin's, is on its way.
    for hangs_after in [0, 100, 199, 200, 201, 300] {
        let scene = scene().await;
        let asked: Vec<_> = (0..3)
            .map(|number| tokio::spawn(scene.ledger.book(number).into_future()))
            .collect();
        scene.kit.advance(Duration::from_millis(hangs_after)).await;
        scene.engine.suffer(Fault::Stuck);
        scene.kit.advance(secs(30)).await;
        scene.engine.heal();
        scene.kit.advance(secs(20)).await;
        let (own, told) = scene.booked().await;
        assert_eq!(own, once(0..3), "it hung after {hangs_after} ms");
        assert_eq!(told, once(0..3), "it hung after {hangs_after} ms");
        for asked in asked {
            assert!(
                asked.await.unwrap().is_ok(),
                "it hung after {hangs_after} ms"
            );
        }
    }
}

#[tokio::test]
async fn nothing_that_was_accepted_is_lost_or_done_twice_by_an_engine_that_hangs_again_and_again() {
    let scene = scene().await;
    let (kit, engine) = (&scene.kit, &scene.engine);
    let mut accepted = Vec::new();
    let mut sent = 0..;
    for round in 0..40_u64 {
        // From a blink to longer than the deadline and some pauses.
        let hangs_for = Duration::from_millis(7 + round * round * 31);
        let batch: Vec<u32> = sent.by_ref().take(3).collect();
        let sending = join_all(batch.iter().map(|number| {
            let send = scene.ledger.book(*number).tell();
            async move { (*number, send.await) }
        }));
        let hanging = async {
            kit.advance(Duration::from_millis(round * 13 % 450)).await;
            engine.suffer(Fault::Stuck);
            kit.advance(hangs_for).await;
            engine.heal();
        };
        let (answers, ()) = tokio::join!(sending, hanging);
        let is_accepted = |(number, answer): (u32, std::result::Result<(), SendError>)| {
            answer.is_ok().then_some(number)
        };
        accepted.extend(answers.into_iter().filter_map(is_accepted));
        kit.advance(Duration::from_millis(round * 97 % 3_000)).await;
    }
    kit.advance(secs(120)).await;
    let (own, told) = scene.booked().await;
    assert_eq!(own, told);
    let twice: Vec<_> = own.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let lost: Vec<_> = accepted.iter().filter(|n| !own.contains_key(n)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!((20..120).contains(&accepted.len()), "{}", accepted.len());
}

#[tokio::test]
async fn an_engine_that_fails_again_and_again_is_given_a_rest() {
    let scene = scene().await;
    let mut events = scene.kit.events();
    scene.engine.suffer(Fault::Errors);
    for _ in 0..mas::model::limits::CIRCUIT_FAILURES_MAX {
        let error = scene.ledger.book(1).tell().await.unwrap_err();
        assert!(
            matches!(error, SendError::Commit(CommitError::Io { .. })),
            "{error:?}"
        );
    }
    let error = scene.ledger.book(1).tell().await.unwrap_err();
    assert!(
        matches!(error, SendError::Commit(CommitError::Unavailable { .. })),
        "{error:?}"
    );
    scene.engine.heal();
    scene.kit.advance(secs(2)).await;
    scene.ledger.book(2).await.unwrap();
    let told = told(&mut events);
    let [
        EventKind::EngineUnavailable { reason },
        EventKind::EngineResumed { .. },
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert!(reason.contains("a fault was asked for"), "{reason}");
}

#[tokio::test]
async fn a_hanging_engine_is_no_reason_to_be_busy() {
    let scene = scene().await;
    for number in 0..50 {
        scene.ledger.book(number).tell().await.unwrap();
    }
    scene.kit.advance(secs(1)).await;
    scene.engine.suffer(Fault::Stuck);
    scene.kit.advance(DEADLINE * 2).await;
    let mut events = scene.kit.events();
    let before = scene.kit.trace().len();
    scene.kit.advance(secs(600)).await;
    let lines = scene.kit.trace().len() - before;
    assert_eq!(lines, 0, "{:?}", &scene.kit.trace()[before..]);
    assert_eq!(told(&mut events), [], "nothing is news");
    scene.engine.heal();
    scene.kit.advance(secs(60)).await;
    assert_eq!(scene.booked().await, (once(0..50), once(0..50)));
}

#[tokio::test]
async fn a_shutdown_on_a_hanging_engine_ends_and_what_was_accepted_is_there_next_time() {
    for waits in [secs(0), secs(5), secs(60)] {
        let scene = scene().await;
        for number in 0..5 {
            scene.ledger.book(number).tell().await.unwrap();
        }
        scene.engine.suffer(Fault::Stuck);
        scene.kit.advance(waits).await;
        let before = scene.kit.now();
        let error = scene.kit.shutdown().await.unwrap_err();
        let error = error.downcast_ref::<StoreError>().unwrap();
        assert!(matches!(error, StoreError::TimedOut { .. }), "{error:?}");
        let took = scene.kit.now().since(before);
        assert!(took <= DEADLINE * 3, "it took {took:?} after {waits:?}");

        let next = TestKit::builder().engine(scene.memory).start().await;
        let twin = next.spawn(Twin).await.unwrap();
        let ledger = next.spawn(Ledger).await.unwrap();
        next.advance(secs(30)).await;
        assert_eq!(counted(&ledger.total().await.unwrap()), once(0..5));
        assert_eq!(counted(&twin.total().await.unwrap()), once(0..5));
    }
}

#[tokio::test(start_paused = true)]
async fn neither_a_runtime_nor_an_agent_waits_long_for_an_engine_to_start_on() {
    let engine = FaultyEngine::new(MemoryEngine::new());
    engine.suffer(Fault::Stuck);
    let start = Runtime::builder()
        .engine(engine.clone())
        .engine_deadline(secs(3));
    let error = start.start().await.unwrap_err();
    let StartError::Store(StoreError::TimedOut { after, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(after, secs(3));
    engine.heal();
    let runtime = Runtime::builder()
        .engine(engine.clone())
        .start()
        .await
        .unwrap();
    engine.suffer(Fault::Stuck);
    let error = runtime.spawn(Twin).await.unwrap_err();
    assert!(
        matches!(
            &error,
            SpawnError::Commit {
                source: CommitError::TimedOut { .. },
                ..
            }
        ),
        "{error:?}"
    );
    let error = runtime.spawn(Twin).await.unwrap_err();
    assert!(
        matches!(
            &error,
            SpawnError::Commit {
                source: CommitError::Unavailable { .. },
                ..
            }
        ),
        "{error:?}"
    );
    engine.heal();
    tokio::time::sleep(secs(2)).await;
    runtime.spawn(Twin).await.unwrap();
    runtime.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_deadline_of_nothing_is_refused() {
    let start = Runtime::builder().engine_deadline(Duration::ZERO).start();
    let error = start.await.unwrap_err();
    assert!(matches!(error, StartError::Setting { .. }), "{error:?}");
}
