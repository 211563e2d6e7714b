//! Agents that crash: as they start, in a pool, behind a ref by their id, and on their way out.

use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use mas::prelude::*;
use mas::store::MemoryEngine;
use mas::testkit::{Fault, FaultyEngine};
use mas::{AskError, EventKind, FailureCode, SpawnError};

#[derive(Debug, Default, Serialize, Deserialize)]
struct Count {
    value: u32,
}

/// Its first starts panic.
#[agent(id = "starter", state = Count)]
struct Starter {
    panics: Arc<AtomicU32>,
    memory: u32,
}

impl Starter {
    fn new(panics: &Arc<AtomicU32>) -> Self {
        Self {
            panics: Arc::clone(panics),
            memory: 0,
        }
    }

    fn calm() -> Self {
        Self::new(&Arc::default())
    }
}

#[agent]
impl Starter {
    #[on_start]
    async fn starting(&mut self, ctx: &mut Context<Self>) {
        ctx.update_state(|count| count.value += 100);
        let left = self
            .panics
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        assert!(left.is_err(), "as asked");
    }

    #[on("add")]
    async fn add(&mut self, number: u32, ctx: &mut Context<Self>) -> (u32, u32) {
        self.memory += number;
        ctx.update_state(|count| count.value += number);
        (self.memory, ctx.state().value)
    }

    #[on("slow")]
    async fn slow(&mut self, ctx: &mut Context<Self>) -> u32 {
        tokio::time::sleep(secs(1)).await;
        ctx.instance()
    }
}

#[tokio::test]
async fn a_panic_in_on_start_is_an_error_and_the_next_spawn_works() {
    let kit = TestKit::start().await;
    let panics = Arc::new(AtomicU32::new(1));
    let error = kit.spawn(Starter::new(&panics)).await.unwrap_err();
    let SpawnError::Start { id, source } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*id, "starter");
    assert_eq!(source.code, FailureCode::PANIC);
    let starter = kit.spawn(Starter::new(&panics)).await.unwrap();
    assert_eq!(
        starter.add(1).await.unwrap(),
        (1, 101),
        "what the first start did to the state is undone"
    );
}

#[tokio::test]
async fn a_panic_in_on_start_after_a_crash_is_followed_by_another_start() {
    let kit = TestKit::start().await;
    let panics: Arc<AtomicU32> = Arc::default();
    let starter = kit.spawn(Starter::new(&panics)).await.unwrap();
    starter.add(1).await.unwrap();
    panics.store(2, Ordering::SeqCst);
    kit.crash(&starter);
    assert_eq!(
        starter.add(1).await.unwrap(),
        (2, 202),
        "only the start that went well counts"
    );
    assert_eq!(panics.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn agents_of_one_type_crash_each_for_itself() {
    let kit = TestKit::start().await;
    let one = kit.spawn_as("one", Starter::calm()).await.unwrap();
    let other = kit.spawn_as("other", Starter::calm()).await.unwrap();
    one.add(1).await.unwrap();
    other.add(2).await.unwrap();
    kit.crash(&one);
    assert_eq!(one.add(0).await.unwrap(), (1, 201), "under its own id");
    assert_eq!(other.add(0).await.unwrap(), (2, 102), "it never restarted");
}

#[tokio::test]
async fn a_pool_loses_what_a_crashed_instance_had_in_hand_and_nothing_else() {
    let kit = TestKit::start().await;
    let pool = kit.spawn_pool("starters", 3, Starter::calm).await.unwrap();
    let asks: Vec<_> = (0..6)
        .map(|_| tokio::spawn(pool.slow().into_future()))
        .collect();
    kit.advance(Duration::from_millis(500)).await;
    kit.crash_instance(&pool, 1);
    let mut answers = Vec::new();
    for ask in asks {
        answers.push(ask.await.unwrap());
    }
    let lost: Vec<_> = answers.iter().filter(|answer| answer.is_err()).collect();
    assert_eq!(lost.len(), 1, "{answers:?}");
    assert!(
        matches!(lost[0], Err(AskError::Failed(f)) if f.code == FailureCode::STOPPED),
        "{lost:?}"
    );
    let again = join_all((0..3).map(|_| pool.slow())).await;
    let mut numbers: Vec<u32> = again.into_iter().map(Result::unwrap).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2], "it is whole again");
}

/// Its work takes a second, and is counted when it is over.
#[agent(id = "durable-starter", state = Count, durable)]
struct DurableStarter {
    by_instance: Arc<[AtomicU32; 3]>,
}

#[agent]
impl DurableStarter {
    #[on("slow")]
    async fn slow(&mut self, ctx: &mut Context<Self>) -> u32 {
        self.by_instance[ctx.instance() as usize].fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(secs(1)).await;
        ctx.update_state(|count| count.value += 1);
        ctx.instance()
    }

    #[on("value")]
    async fn value(&self, ctx: &Context<Self>) -> u32 {
        ctx.state().value
    }
}

#[tokio::test]
async fn what_a_crashed_instance_of_a_durable_pool_had_in_hand_is_done_all_the_same() {
    let kit = TestKit::start().await;
    let by_instance: Arc<[AtomicU32; 3]> = Arc::default();
    let own = Arc::clone(&by_instance);
    let make = move || DurableStarter {
        by_instance: Arc::clone(&own),
    };
    let pool = kit.spawn_pool("starters", 3, make).await.unwrap();
    let asks: Vec<_> = (0..3)
        .map(|_| tokio::spawn(pool.slow().into_future()))
        .collect();
    kit.advance(Duration::from_millis(500)).await;
    assert_eq!(
        by_instance[1].load(Ordering::SeqCst),
        1,
        "it has work in hand"
    );
    kit.crash_instance(&pool, 1);
    for ask in asks {
        ask.await.unwrap().unwrap();
    }
    assert_eq!(pool.value().await.unwrap(), 3, "each once");
}

#[tokio::test]
async fn a_ref_by_id_leads_to_the_agent_across_a_crash_and_a_new_spawn() {
    let kit = TestKit::start().await;
    let early = kit.agent("starter").unwrap();
    let starter = kit.spawn(Starter::calm()).await.unwrap();
    let by_id = kit.agent("starter").unwrap();
    kit.crash(&starter);
    for own in [&early, &by_id] {
        own.ask::<(u32, u32)>("add", &1).await.unwrap();
    }
    starter.stop().await.unwrap();
    assert!(by_id.ask::<(u32, u32)>("add", &1).await.is_err());
    kit.spawn(Starter::calm()).await.unwrap();
    for (own, memory) in [(&early, 1), (&by_id, 2)] {
        let added: (u32, u32) = own.ask("add", &1).await.unwrap();
        assert_eq!(added.0, memory, "the new one answers");
    }
}

#[tokio::test]
async fn a_removal_that_the_engine_refused_is_made_by_the_next() {
    for (with_data, value) in [(false, 1), (true, 0)] {
        let engine = FaultyEngine::new(MemoryEngine::new());
        let kit = TestKit::builder().engine(engine.clone()).start().await;
        let by_instance: Arc<[AtomicU32; 3]> = Arc::default();
        let spawn = || {
            kit.spawn(DurableStarter {
                by_instance: Arc::clone(&by_instance),
            })
        };
        let agent = spawn().await.unwrap();
        agent.slow().await.unwrap();
        let remove = async || match with_data {
            true => kit.remove_with_data("durable-starter").await,
            false => kit.remove("durable-starter").await,
        };
        engine.suffer(Fault::Errors);
        assert!(remove().await.is_err());
        // It has stopped, and is known still.
        let by_id = kit.agent("durable-starter").unwrap();
        let error = by_id.ask::<u32>("value", &()).await.unwrap_err();
        assert!(error.to_string().contains("stopped"), "{error}");
        engine.heal();
        remove().await.unwrap();
        let error = by_id.ask::<u32>("value", &()).await.unwrap_err();
        assert!(error.to_string().contains("no agent"), "{error}");
        let agent = spawn().await.unwrap();
        assert_eq!(agent.value().await.unwrap(), value);
    }
}

#[tokio::test]
async fn a_crash_while_it_is_stopped_ends_the_agent_all_the_same() {
    let kit = TestKit::start().await;
    let mut events = kit.events();
    let starter = kit.spawn(Starter::calm()).await.unwrap();
    let slow = tokio::spawn(starter.slow().into_future());
    kit.advance(Duration::from_millis(100)).await;
    let stop = starter.clone();
    let stop = tokio::spawn(async move { stop.stop().await });
    kit.advance(Duration::from_millis(100)).await;
    kit.crash(&starter);
    stop.await.unwrap().unwrap();
    assert!(slow.await.unwrap().is_err());
    let kinds: Vec<_> = std::iter::from_fn(|| events.try_next())
        .map(|event| event.kind)
        .collect();
    assert!(
        matches!(
            kinds.as_slice(),
            [EventKind::Started { .. }, EventKind::Stopped { .. }]
        ),
        "{kinds:?}"
    );
}

/// Whether nobody can make a [`Touchy`].
static IS_TOUCHED: AtomicBool = AtomicBool::new(true);

#[derive(Debug, Serialize, Deserialize)]
struct Touchy;

impl Default for Touchy {
    fn default() -> Self {
        assert!(!IS_TOUCHED.load(Ordering::Relaxed), "not now");
        Self
    }
}

#[agent(id = "touchy", state = Touchy)]
struct Touched;

#[agent]
impl Touched {
    #[on("is")]
    async fn is(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_state_that_panics_as_it_is_made_is_an_error_and_the_next_spawn_works() {
    let kit = TestKit::start().await;
    let error = kit.spawn(Touched).await.unwrap_err();
    match &error {
        SpawnError::Start { id, source } => {
            assert_eq!(id.as_str(), "touchy");
            assert_eq!(source.code, FailureCode::PANIC);
            assert!(source.message.contains("not now"), "{source}");
        }
        other => panic!("{other}"),
    }
    IS_TOUCHED.store(false, Ordering::Relaxed);
    let agent = kit.spawn(Touched).await.unwrap();
    assert!(agent.is().await.unwrap());
}

/// Waits on a thread that no tokio runtime knows of.
fn wait_without_tokio<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
        std::thread::park();
    }
}

#[test]
fn an_agent_lives_where_its_runtime_does_whoever_spawns_it() {
    let tokio = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let (home, other) = (tokio(), tokio());
    let runtime = home.block_on(Runtime::builder().start()).unwrap();
    let mut events = runtime.events();
    let first = other.block_on(runtime.spawn(Starter::calm())).unwrap();
    drop(other);
    let second = wait_without_tokio(runtime.spawn_as("second", Starter::calm())).unwrap();
    for agent in [first, second] {
        let sum = home.block_on(agent.add(1).into_future()).unwrap();
        assert_eq!(sum, (1, 101), "it has started once, and goes on");
    }
    home.block_on(runtime.shutdown()).unwrap();
    while let Some(event) = events.try_next() {
        assert!(
            !matches!(event.kind, EventKind::Restarted { .. }),
            "{event:?}"
        );
    }
}

/// It takes its time to start.
#[agent(id = "sleepy")]
struct Sleepy;

#[agent]
impl Sleepy {
    #[on_start]
    async fn starting(&mut self) {
        tokio::time::sleep(secs(1)).await;
    }

    #[on("is")]
    async fn is(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn an_agent_starts_although_nobody_looks_whether_it_has() {
    let kit = TestKit::start().await;
    let mut spawn = Box::pin(kit.spawn(Sleepy));
    assert!(futures_util::poll!(&mut spawn).is_pending());
    kit.advance(secs(2)).await;
    let sleepy = SleepyRef::attach(&kit, "sleepy").unwrap();
    assert!(sleepy.is().await.unwrap());
    assert!(spawn.await.is_ok());
}
