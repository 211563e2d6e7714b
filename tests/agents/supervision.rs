//! Crashes, restarts, limits, strategies, children.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mas::prelude::*;
use mas::{AskError, EventKind, FailureCode, SendError, SpawnError};

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    value: u32,
}

#[agent(id = "fragile", state = Kept, max_restarts = 3, timeout = "10s")]
struct Fragile {
    starts: Arc<AtomicU32>,
    stops: Arc<AtomicU32>,
    memory: u32,
}

#[agent]
impl Fragile {
    #[on_start]
    async fn starting(&mut self) {
        self.starts.fetch_add(1, Ordering::SeqCst);
    }

    #[on_stop]
    async fn stopping(&mut self) {
        self.stops.fetch_add(1, Ordering::SeqCst);
    }

    #[on("panic")]
    async fn panic(&mut self, ctx: &mut Context<Self>) {
        ctx.update_state(|kept| kept.value = 99);
        panic!("as asked");
    }

    #[on("panic.shared")]
    async fn panic_shared(&self) {
        panic!("as asked");
    }

    #[on("fail")]
    async fn fail(&mut self, ctx: &mut Context<Self>) -> u32 {
        ctx.fail("can't go on");
        7
    }

    #[on("hang")]
    async fn hang(&mut self) {
        std::future::pending::<()>().await;
    }

    #[on("set")]
    async fn set(&mut self, value: u32, ctx: &mut Context<Self>) {
        self.memory = value;
        ctx.update_state(|kept| kept.value = value);
    }

    #[on("set.then.error")]
    async fn set_then_error(&mut self, value: u32, ctx: &mut Context<Self>) -> Result<()> {
        ctx.update_state(|kept| kept.value = value);
        Err(Failure::retryable("undone").into())
    }

    #[on("get")]
    async fn get(&self, ctx: &Context<Self>) -> (u32, u32) {
        (self.memory, ctx.state().value)
    }
}

#[derive(Clone, Default)]
struct Counts {
    starts: Arc<AtomicU32>,
    stops: Arc<AtomicU32>,
}

impl Counts {
    fn agent(&self) -> Fragile {
        Fragile {
            starts: Arc::clone(&self.starts),
            stops: Arc::clone(&self.stops),
            memory: 0,
        }
    }

    fn starts(&self) -> u32 {
        self.starts.load(Ordering::SeqCst)
    }

    fn stops(&self) -> u32 {
        self.stops.load(Ordering::SeqCst)
    }
}

async fn kit() -> (TestKit, FragileRef, Counts) {
    let kit = TestKit::start().await;
    let counts = Counts::default();
    let fragile = kit.spawn(counts.agent()).await.unwrap();
    (kit, fragile, counts)
}

#[tokio::test]
async fn a_panic_tells_its_asker_undoes_its_state_and_restarts() {
    let (_kit, fragile, counts) = kit().await;
    fragile.set(5).await.unwrap();
    let error = fragile.panic().await.unwrap_err();
    let AskError::Failed(failure) = error else {
        panic!("{error:?}")
    };
    assert_eq!(failure.code, FailureCode::PANIC);
    assert!(failure.message.contains("as asked"));
    assert_eq!(
        fragile.get().await.unwrap(),
        (5, 5),
        "the value is kept, the state undone"
    );
    assert_eq!(counts.starts(), 2);
}

#[tokio::test]
async fn a_panic_loses_nothing_that_waits() {
    let (kit, fragile, _) = kit().await;
    let panics = fragile.panic().tell();
    let sets: Vec<_> = (1..=50).map(|n| fragile.set(n)).collect();
    panics.await.unwrap();
    let sets = futures_util::future::join_all(sets).await;
    assert!(sets.iter().all(Result::is_ok), "{sets:?}");
    assert_eq!(fragile.get().await.unwrap().1, 50);
    drop(kit);
}

#[tokio::test]
async fn too_many_restarts_end_it_and_its_askers_hear_so() {
    let (kit, fragile, counts) = kit().await;
    let mut events = kit.events();
    for _ in 0..4 {
        let _ = fragile.panic().await;
    }
    let waiting = fragile.get().await;
    let refused = matches!(&waiting, Err(AskError::Send(SendError::Failed { .. })))
        || matches!(&waiting, Err(AskError::Failed(f)) if f.code == FailureCode::FAILED);
    assert!(refused, "{waiting:?}");
    kit.advance(secs(1)).await;
    assert_eq!((counts.starts(), counts.stops()), (4, 1));
    let kinds: Vec<EventKind> = std::iter::from_fn(|| events.try_next())
        .map(|event| event.kind)
        .collect();
    let restarts = kinds
        .iter()
        .filter(|k| matches!(k, EventKind::Restarted { .. }));
    assert_eq!(restarts.count(), 3);
    assert!(kinds.iter().any(|k| matches!(k, EventKind::Failed { .. })));
    kit.spawn(counts.agent()).await.unwrap();
    assert_eq!(fragile.get().await.unwrap().1, 0);
}

#[tokio::test]
async fn an_instance_may_say_that_it_cannot_go_on() {
    let (kit, fragile, counts) = kit().await;
    assert_eq!(
        fragile.fail().await.unwrap(),
        7,
        "the message itself is fine"
    );
    kit.advance(secs(1)).await;
    assert_eq!(counts.starts(), 2);
}

#[tokio::test]
async fn a_handler_that_hangs_is_warned_of_and_cut_off() {
    let (kit, fragile, counts) = kit().await;
    let mut events = kit.events();
    let before = kit.now();
    let error = fragile.hang().await.unwrap_err();
    let AskError::Failed(failure) = error else {
        panic!("{error:?}")
    };
    assert_eq!(failure.code, FailureCode::TIMEOUT);
    assert!(kit.now().since(before) < secs(11));
    let slow = std::iter::from_fn(|| events.try_next())
        .any(|event| matches!(event.kind, EventKind::SlowHandler { .. }));
    assert!(slow, "it warned at half of the time");
    fragile.set(1).await.unwrap();
    assert_eq!(counts.starts(), 1, "no restart for a timeout");
}

#[tokio::test]
async fn an_error_undoes_the_state() {
    let (_kit, fragile, _) = kit().await;
    fragile.set(5).await.unwrap();
    assert!(fragile.set_then_error(6).await.is_err());
    assert_eq!(fragile.get().await.unwrap(), (5, 5));
}

#[tokio::test]
async fn a_panic_of_a_shared_handler_lets_the_others_end() {
    #[agent]
    struct Mixed;

    #[agent]
    impl Mixed {
        #[on("slow")]
        async fn slow(&self) -> u8 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            1
        }

        #[on("boom")]
        async fn boom(&self) {
            panic!("boom");
        }
    }

    let kit = TestKit::start().await;
    let mixed = kit.spawn(Mixed).await.unwrap();
    let slow = tokio::spawn(mixed.slow());
    tokio::task::yield_now().await;
    assert!(mixed.boom().await.is_err());
    assert_eq!(slow.await.unwrap().unwrap(), 1);
    assert_eq!(mixed.slow().await.unwrap(), 1);
}

#[tokio::test]
async fn a_killed_agent_comes_back_with_its_value() {
    let (kit, fragile, counts) = kit().await;
    fragile.set(5).await.unwrap();
    let hanging = tokio::spawn(fragile.hang());
    tokio::task::yield_now().await;
    kit.crash(&fragile);
    assert!(hanging.await.unwrap().is_err());
    assert_eq!(fragile.get().await.unwrap(), (5, 5));
    assert_eq!(counts.starts(), 2);
}

#[tokio::test]
async fn a_factory_makes_a_fresh_value_for_each_start() {
    let kit = TestKit::start().await;
    let counts = Counts::default();
    let own = counts.clone();
    let fragile = kit.spawn_with(move || own.agent()).await.unwrap();
    fragile.set(5).await.unwrap();
    let _ = fragile.panic().await;
    assert_eq!(fragile.get().await.unwrap(), (0, 5));
}

#[agent(id = "refuses")]
struct Refuses {
    left: Arc<AtomicU32>,
}

#[agent]
impl Refuses {
    #[on_start]
    async fn starting(&mut self) -> Result<()> {
        match self.left.load(Ordering::SeqCst) {
            0 => Ok(()),
            left => {
                self.left.store(left - 1, Ordering::SeqCst);
                Err(Failure::retryable("not yet").into())
            }
        }
    }

    #[on("crash")]
    async fn crash(&mut self, refusals: u32) {
        self.left.store(refusals, Ordering::SeqCst);
        panic!("crash");
    }

    #[on("ping")]
    async fn ping(&self) -> u8 {
        1
    }
}

#[tokio::test]
async fn an_agent_that_does_not_start_is_an_error_and_leaves_nothing_behind() {
    let kit = TestKit::start().await;
    let left = Arc::new(AtomicU32::new(1));
    let agent = || Refuses {
        left: Arc::clone(&left),
    };
    let error = kit.spawn(agent()).await.unwrap_err();
    assert!(matches!(&error, SpawnError::Start { source, .. } if source.message == "not yet"));
    let refuses = kit.spawn(agent()).await.unwrap();
    assert_eq!(refuses.ping().await.unwrap(), 1);
}

#[tokio::test]
async fn a_failed_restart_is_tried_again() {
    let kit = TestKit::start().await;
    let left = Arc::new(AtomicU32::new(0));
    let refuses = kit.spawn(Refuses { left }).await.unwrap();
    let _ = refuses.crash(2).await;
    assert_eq!(refuses.ping().await.unwrap(), 1);
}

#[agent(id = "parent", strategy = "one_for_all")]
struct Parent {
    log: Arc<std::sync::Mutex<Vec<String>>>,
}

#[agent(id = "child")]
struct Child {
    log: Arc<std::sync::Mutex<Vec<String>>>,
}

#[agent]
impl Parent {
    #[on_start]
    async fn starting(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        for name in ["child-1", "child-2"] {
            let log = Arc::clone(&self.log);
            ctx.spawn_as(name, Child { log }).await?;
        }
        Ok(())
    }

    #[on_stop]
    async fn stopping(&mut self) {
        self.log.lock().unwrap().push("parent stops".into());
    }

    #[on("panic")]
    async fn panic(&mut self) {
        panic!("parent");
    }

    #[on("ping")]
    async fn ping(&self) {}
}

#[agent]
impl Child {
    #[on_start]
    async fn starting(&mut self, ctx: &mut Context<Self>) {
        self.log
            .lock()
            .unwrap()
            .push(format!("{} starts", ctx.id()));
    }

    #[on_stop]
    async fn stopping(&mut self, ctx: &mut Context<Self>) {
        self.log.lock().unwrap().push(format!("{} stops", ctx.id()));
    }

    #[on("panic")]
    async fn panic(&mut self) {
        panic!("child");
    }

    #[on("ping")]
    async fn ping(&self) {}
}

#[tokio::test]
async fn children_stop_before_their_parent() {
    let kit = TestKit::start().await;
    let log: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let parent = kit.spawn(Parent { log: log.clone() }).await.unwrap();
    parent.stop().await.unwrap();
    assert_eq!(
        *log.lock().unwrap(),
        [
            "child-1 starts",
            "child-2 starts",
            "child-2 stops",
            "child-1 stops",
            "parent stops"
        ]
    );
    assert!(
        kit.agent("child-1")
            .unwrap()
            .ask::<()>("ping", &())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn one_for_all_restarts_the_siblings() {
    let kit = TestKit::start().await;
    let log: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    kit.spawn(Parent { log: log.clone() }).await.unwrap();
    log.lock().unwrap().clear();
    let _ = kit.agent("child-1").unwrap().ask::<()>("panic", &()).await;
    kit.advance(secs(1)).await;
    let mut seen = log.lock().unwrap().clone();
    seen.sort();
    assert_eq!(seen, ["child-1 starts", "child-2 starts"]);
}

#[tokio::test]
async fn a_parent_that_restarts_starts_its_children_anew() {
    let kit = TestKit::start().await;
    let log: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let parent = kit.spawn(Parent { log: log.clone() }).await.unwrap();
    log.lock().unwrap().clear();
    let _ = parent.panic().await;
    parent.ping().await.unwrap();
    assert_eq!(
        *log.lock().unwrap(),
        [
            "child-2 stops",
            "child-1 stops",
            "child-1 starts",
            "child-2 starts"
        ]
    );
}

#[agent(id = "watcher")]
struct Watcher;

#[agent]
impl Watcher {
    #[on("watch")]
    async fn watch(&mut self, agent: String, ctx: &mut Context<Self>) -> Result<()> {
        ctx.watch(agent).await
    }

    #[on("agent.ended")]
    async fn ended(&mut self, ended: mas::Ended, ctx: &mut Context<Self>) -> Result<()> {
        ctx.tell("log", "ended", &ended).await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_watcher_hears_of_the_end() {
    let (kit, fragile, _) = kit().await;
    let log = kit.probe("log").await.unwrap();
    let watcher = kit.spawn(Watcher).await.unwrap();
    watcher.watch("fragile".into()).await.unwrap();
    let _ = fragile.panic().await;
    fragile.get().await.unwrap();
    assert_eq!(log.count(), 0, "a restart is no end");
    fragile.stop().await.unwrap();
    let ended: mas::Ended = log.next("ended").await.unwrap();
    assert_eq!((ended.agent.as_str(), ended.failed), ("fragile", false));
    watcher.watch("nobody".into()).await.unwrap();
    let ended: mas::Ended = log.next("ended").await.unwrap();
    assert_eq!(ended.agent, "nobody");
}

#[tokio::test]
async fn always_restarts_an_agent_that_stops_itself_and_never_does_not() {
    #[agent(restart = "always")]
    struct Phoenix;

    #[agent]
    impl Phoenix {
        #[on("quit")]
        async fn quit(&mut self, ctx: &mut Context<Self>) {
            ctx.stop();
        }

        #[on("ping")]
        async fn ping(&self) {}
    }

    #[agent(restart = "never")]
    struct Mayfly;

    #[agent]
    impl Mayfly {
        #[on("panic")]
        async fn panic(&mut self) {
            panic!("once");
        }

        #[on("ping")]
        async fn ping(&self) {}
    }

    let kit = TestKit::start().await;
    let phoenix = kit.spawn(Phoenix).await.unwrap();
    phoenix.quit().await.unwrap();
    phoenix.ping().await.unwrap();
    let mayfly = kit.spawn(Mayfly).await.unwrap();
    let _ = mayfly.panic().await;
    kit.advance(secs(1)).await;
    assert!(mayfly.ping().await.is_err());
}

#[tokio::test]
async fn an_agent_may_stop_itself_and_shut_its_runtime_down() {
    #[agent]
    struct Ender {
        runtime: Option<Runtime>,
    }

    #[agent]
    impl Ender {
        #[on("end")]
        async fn end(&mut self) -> Result<()> {
            match &self.runtime {
                Some(runtime) => runtime.shutdown().await,
                None => Ok(()),
            }
        }

        #[on("quit")]
        async fn quit(&mut self, ctx: &mut Context<Self>) {
            ctx.stop();
        }
    }

    let kit = TestKit::start().await;
    let quitter = kit
        .spawn_as("quitter", Ender { runtime: None })
        .await
        .unwrap();
    quitter.quit().await.unwrap();
    kit.advance(secs(1)).await;
    assert!(quitter.quit().await.is_err());
    let runtime = Some(kit.runtime().clone());
    let ender = kit.spawn(Ender { runtime }).await.unwrap();
    let before = kit.now();
    ender.end().await.unwrap();
    kit.shutdown().await.unwrap();
    assert!(kit.now().since(before) < secs(1), "it waits for nothing");
}

#[tokio::test]
async fn many_agents_stop_at_once() {
    let kit = TestKit::start().await;
    let counts = Counts::default();
    for number in 0..10_000 {
        kit.spawn_as(format!("a-{number}"), counts.agent())
            .await
            .unwrap();
    }
    kit.shutdown().await.unwrap();
    assert_eq!(counts.stops(), 10_000);
}

#[tokio::test]
async fn two_runtimes_in_one_process_do_not_meet() {
    let (one, fragile, _) = kit().await;
    let two = TestKit::start().await;
    assert!(
        two.agent("fragile")
            .unwrap()
            .ask::<()>("get", &())
            .await
            .is_err()
    );
    let counts = Counts::default();
    two.spawn(counts.agent()).await.unwrap();
    two.shutdown().await.unwrap();
    fragile.get().await.unwrap();
    one.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_update_may_look_at_the_state_and_not_update_inside() {
    #[agent(state = Kept)]
    struct Nested;

    #[agent]
    impl Nested {
        #[on("look")]
        async fn look(&mut self, ctx: &mut Context<Self>) -> u32 {
            ctx.update_state(|kept| kept.value = 3);
            ctx.update_state(|kept| kept.value += ctx.state().value);
            ctx.state().value
        }

        #[on("look.shared")]
        async fn look_shared(&self, ctx: &Context<Self>) -> u32 {
            ctx.update_state(|kept| kept.value += ctx.state().value);
            ctx.state().value
        }

        #[on("nest")]
        async fn nest(&self, ctx: &Context<Self>) {
            ctx.update_state(|_| ctx.update_state(|kept| kept.value = 0));
        }
    }

    let kit = TestKit::start().await;
    let nested = kit.spawn(Nested).await.unwrap();
    assert_eq!(nested.look().await.unwrap(), 6);
    assert_eq!(nested.look_shared().await.unwrap(), 12);
    let error = nested.nest().await.unwrap_err();
    assert!(
        error.to_string().contains("inside `update_state`"),
        "{error}"
    );
    assert_eq!(nested.look_shared().await.unwrap(), 24);
}

#[tokio::test]
async fn an_agent_may_stop_itself_while_it_starts() {
    #[agent]
    struct Shy;

    #[agent]
    impl Shy {
        #[on_start]
        async fn starting(&mut self, ctx: &mut Context<Self>) {
            ctx.stop();
        }

        #[on("ping")]
        async fn ping(&self) {}
    }

    let kit = TestKit::start().await;
    let shy = kit.spawn(Shy).await.unwrap();
    kit.advance(secs(1)).await;
    assert!(shy.ping().await.is_err(), "it has stopped");
}

#[tokio::test]
async fn a_stop_is_not_taken_back_by_a_sibling_that_restarts() {
    #[agent(strategy = "one_for_all")]
    struct Head;

    #[agent]
    impl Head {
        #[on_start]
        async fn starting(&mut self, ctx: &mut Context<Self>) -> Result<()> {
            ctx.spawn_as("limb-1", Limb).await?;
            ctx.spawn_as("limb-2", Limb).await?;
            Ok(())
        }

        #[on("ping")]
        async fn ping(&self) {}
    }

    #[agent]
    struct Limb;

    #[agent]
    impl Limb {
        #[on("sleep")]
        async fn sleep(&mut self) {
            tokio::time::sleep(Duration::from_secs(20)).await;
        }

        #[on("panic")]
        async fn panic(&mut self) {
            panic!("limb");
        }
    }

    let kit = TestKit::start().await;
    kit.spawn(Head).await.unwrap();
    let limb = |id| LimbRef::attach(kit.runtime(), id).unwrap();
    limb("limb-2").sleep().tell().await.unwrap();
    kit.advance(Duration::from_millis(10)).await;
    let two = limb("limb-2");
    let stopping = tokio::spawn(async move { two.stop().await });
    kit.advance(Duration::from_millis(10)).await;
    let _ = limb("limb-1").panic().await;
    let before = kit.now();
    stopping.await.unwrap().unwrap();
    assert!(kit.now().since(before) < secs(11));
    assert!(
        kit.agent("limb-2")
            .unwrap()
            .ask::<()>("panic", &())
            .await
            .is_err()
    );
}
