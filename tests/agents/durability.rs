//! Levels of durability: when whoever waits is answered, and what reaches the engine.

use std::sync::{Arc, Mutex};

use mas::prelude::*;
use mas::store::{
    Batch, DeadEntry, Durability as Level, EmbeddedEngine, EmbeddedOptions, Inbox, MemoryEngine,
    Op, StateStore,
};
use mas::testkit::{Fault, FaultyEngine};
use mas::{AgentId, Durability, SendError};

use crate::process::process;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    numbers: Vec<u32>,
}

/// An agent that notes numbers, and passes them on.
macro_rules! keeper {
    ($name:ident, $($keys:tt)*) => {
        #[agent(state = Tally, $($keys)*)]
        struct $name {
            next: Option<&'static str>,
        }

        #[agent]
        impl $name {
            #[on("note")]
            async fn note(&mut self, number: u32, ctx: &mut Context<Self>) -> Result<usize> {
                ctx.update_state(|tally| tally.numbers.push(number));
                if let Some(next) = self.next {
                    ctx.tell(next, "note", &number).await?;
                }
                Ok(ctx.state().numbers.len())
            }

            #[on("note.slowly")]
            async fn slowly(&mut self, number: u32, ctx: &mut Context<Self>) {
                tokio::time::sleep(secs(2)).await;
                ctx.update_state(|tally| tally.numbers.push(number));
            }

            #[on("note.shared")]
            async fn shared(&self, number: u32, ctx: &Context<Self>) {
                ctx.update_state(|tally| tally.numbers.push(number));
            }

            #[on("note.later")]
            async fn later(&mut self, number: u32, ctx: &mut Context<Self>) -> Result<()> {
                ctx.schedule(secs(1), "note", &number)?;
                Ok(())
            }

            #[on("refuse")]
            async fn refuse(&mut self, _number: u32) -> Result<()> {
                Err(Failure::permanent("no").into())
            }

            #[on("numbers")]
            async fn numbers(&self, ctx: &Context<Self>) -> Vec<u32> {
                ctx.state().numbers.clone()
            }
        }
    };
}

keeper!(Strict, id = "strict", durable);
keeper!(Quick, id = "quick", durable, durability = "buffered");
keeper!(Fleeting, id = "fleeting", durable, durability = "memory");
keeper!(QuickState, id = "quick-state", durability = "buffered");
keeper!(FleetingState, id = "fleeting-state", durability = "memory");
keeper!(Exact, id = "exact", durable, durability = "durable");

/// What reached an engine: the level of each batch, and what it changes of whom.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Commit>>>);

/// The level of a batch, and the names of its operations.
type Commit = (Level, Vec<String>);

impl Seen {
    fn behind(engine: &FaultyEngine) -> Self {
        let seen = Self::default();
        let own = seen.clone();
        engine.on_commit(move |batch| own.note(batch));
        seen
    }

    fn note(&self, batch: &Batch) {
        let ops = batch.ops().iter().map(|op| match agent_of(op) {
            Some(agent) => format!("{} {agent}", op.name()),
            None => op.name().to_owned(),
        });
        let line = (batch.level(), ops.collect());
        self.0.lock().unwrap().push(line);
    }

    fn take(&self) -> Vec<(Level, Vec<String>)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// The level of the only batch since the last look that has this operation.
    fn level_of(&self, op: &str) -> Level {
        let all = self.take();
        let levels: Vec<Level> = all
            .iter()
            .filter(|(_, ops)| ops.iter().any(|own| own == op))
            .map(|(level, _)| *level)
            .collect();
        assert_eq!(levels.len(), 1, "{op} in {all:?}");
        levels[0]
    }
}

fn agent_of(op: &Op) -> Option<&AgentId> {
    match op {
        Op::StatePut { agent, .. }
        | Op::InboxAppend { agent, .. }
        | Op::InboxClaim { agent, .. }
        | Op::InboxAck { agent, .. }
        | Op::InboxNack { agent, .. }
        | Op::InboxBury { agent, .. }
        | Op::OutboxPut { agent, .. }
        | Op::OutboxRemove { agent, .. }
        | Op::DedupPut { agent, .. }
        | Op::TimerPut { agent, .. }
        | Op::TimerRemove { agent, .. }
        | Op::AgentPut { agent, .. }
        | Op::AgentErase { agent, .. } => Some(agent),
        _ => None,
    }
}

struct Scene {
    kit: TestKit,
    engine: FaultyEngine,
    seen: Seen,
}

async fn scene() -> Scene {
    scene_on(MemoryEngine::new(), Durability::Durable).await
}

async fn scene_on(memory: MemoryEngine, durability: Durability) -> Scene {
    let engine = FaultyEngine::new(memory);
    let seen = Seen::behind(&engine);
    let kit = TestKit::builder()
        .engine(engine.clone())
        .configure(|builder| builder.durability(durability))
        .start()
        .await;
    seen.take();
    Scene { kit, engine, seen }
}

#[tokio::test]
async fn each_commit_of_a_buffered_agent_is_buffered() {
    let Scene { kit, seen, .. } = scene().await;
    let quick = kit.spawn(Quick { next: None }).await.unwrap();
    assert_eq!(seen.level_of("AgentPut quick"), Level::Buffered);
    quick.note(1).await.unwrap();
    let all = seen.take();
    let levels: Vec<_> = all.iter().map(|(level, ops)| (*level, ops.len())).collect();
    assert_eq!(
        levels,
        [
            (Level::Buffered, 1),
            (Level::Relaxed, 1),
            (Level::Buffered, 3)
        ],
        "append, claim, settle: {all:?}"
    );
    quick.shared(2).await.unwrap();
    assert_eq!(seen.level_of("StatePut quick"), Level::Buffered);
    quick.refuse(3).await.unwrap_err();
    assert_eq!(seen.level_of("InboxBury quick"), Level::Buffered);
    quick.later(4).await.unwrap();
    assert_eq!(seen.level_of("TimerPut quick"), Level::Buffered);
    kit.advance(secs(2)).await;
    assert_eq!(seen.level_of("TimerRemove quick"), Level::Buffered);
    let state = kit.spawn(QuickState { next: None }).await.unwrap();
    state.note(1).await.unwrap();
    assert_eq!(seen.level_of("StatePut quick-state"), Level::Buffered);
    kit.remove_with_data("quick").await.unwrap();
    assert_eq!(seen.level_of("AgentErase quick"), Level::Durable);
    kit.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_told_to_a_durable_agent_is_on_disk_when_a_buffered_handler_settles() {
    let Scene { kit, seen, .. } = scene().await;
    kit.spawn(Strict { next: None }).await.unwrap();
    let next = Some("strict");
    let quick = kit.spawn(Quick { next }).await.unwrap();
    seen.take();
    quick.note(1).await.unwrap();
    kit.advance(secs(1)).await;
    let all = seen.take();
    let durable = |op: &str| {
        let has = |ops: &Vec<String>| ops.iter().any(|own| own == op);
        let found = all.iter().find(|(_, ops)| has(ops));
        found.map(|(level, _)| *level)
    };
    assert_eq!(durable("InboxAppend quick"), Some(Level::Buffered));
    assert_eq!(durable("InboxAppend strict"), Some(Level::Durable));
    assert_eq!(durable("InboxAck quick"), Some(Level::Durable), "one batch");
    assert_eq!(durable("InboxClaim strict"), Some(Level::Relaxed));
    assert_eq!(durable("InboxAck strict"), Some(Level::Durable));
    kit.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_runtime_says_it_for_agents_that_do_not() {
    let quick = scene_on(MemoryEngine::new(), Durability::Buffered).await;
    let unsaid = quick.kit.spawn(Strict { next: None }).await.unwrap();
    let exact = quick.kit.spawn(Exact { next: None }).await.unwrap();
    quick.seen.take();
    unsaid.note(1).await.unwrap();
    assert_eq!(quick.seen.level_of("StatePut strict"), Level::Buffered);
    exact.note(1).await.unwrap();
    assert_eq!(quick.seen.level_of("StatePut exact"), Level::Durable);
    quick.kit.shutdown().await.unwrap();
}

#[tokio::test]
async fn in_a_runtime_of_memory_only_who_asks_for_the_disk_reaches_it() {
    let Scene { kit, seen, .. } = scene_on(MemoryEngine::new(), Durability::Memory).await;
    let unsaid = kit.spawn(Strict { next: None }).await.unwrap();
    assert_eq!(unsaid.note(1).await.unwrap(), 1);
    kit.crash(&unsaid);
    kit.advance(secs(1)).await;
    assert_eq!(unsaid.note(2).await.unwrap(), 2);
    assert_eq!(seen.take(), []);
    let exact = kit.spawn(Exact { next: None }).await.unwrap();
    exact.note(1).await.unwrap();
    assert_eq!(seen.level_of("StatePut exact"), Level::Durable);
    kit.shutdown().await.unwrap();
}

#[tokio::test]
async fn buffered_agents_answer_while_the_disk_hangs_in_its_sync() {
    let Scene { kit, engine, .. } = scene().await;
    let quick = kit.spawn(Quick { next: None }).await.unwrap();
    let strict = kit.spawn(Strict { next: None }).await.unwrap();
    engine.suffer(Fault::StuckSync);
    assert_eq!(quick.note(1).await.unwrap(), 1);
    assert_eq!(quick.note(2).await.unwrap(), 2);
    let strict_one = strict.clone();
    let told = tokio::spawn(async move { strict_one.note(1).tell().await });
    kit.advance(secs(1)).await;
    assert!(!told.is_finished(), "a durable agent's sender waits");
    assert_eq!(quick.note(3).await.unwrap(), 3);
    engine.heal();
    told.await.unwrap().unwrap();
    assert_eq!(strict.note(2).await.unwrap(), 2);
    kit.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_keeps_things_in_memory_leaves_nothing_in_the_engine() {
    let Scene { kit, engine, seen } = scene().await;
    let fleeting = kit.spawn(Fleeting { next: None }).await.unwrap();
    let state = kit.spawn(FleetingState { next: None }).await.unwrap();
    // Not even a disk that fails is in its way.
    engine.suffer(Fault::Errors);
    assert_eq!(fleeting.note(1).await.unwrap(), 1);
    fleeting.shared(2).await.unwrap();
    fleeting.refuse(3).await.unwrap_err();
    fleeting.later(4).await.unwrap();
    kit.advance(secs(2)).await;
    assert_eq!(fleeting.numbers().await.unwrap(), [1, 2, 4]);
    assert_eq!(state.note(1).await.unwrap(), 1);
    assert_eq!(seen.take(), []);
    engine.heal();
    kit.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_kept_in_memory_outlives_the_agent_and_not_the_process() {
    let memory = MemoryEngine::new();
    let Scene { kit, .. } = scene_on(memory.clone(), Durability::Durable).await;
    let fleeting = kit.spawn(Fleeting { next: None }).await.unwrap();
    fleeting.slowly(1).tell().await.unwrap();
    kit.advance(secs(1)).await;
    kit.crash(&fleeting);
    kit.advance(secs(5)).await;
    assert_eq!(fleeting.numbers().await.unwrap(), [1], "tried again");

    kit.stop("fleeting").await.unwrap();
    let unattended = kit.agent("fleeting").unwrap();
    unattended.tell("note", &2).await.unwrap();
    let fleeting = kit.spawn(Fleeting { next: None }).await.unwrap();
    kit.advance(secs(1)).await;
    assert_eq!(fleeting.numbers().await.unwrap(), [1, 2], "it waited");

    kit.remove_with_data("fleeting").await.unwrap();
    let fleeting = kit.spawn(Fleeting { next: None }).await.unwrap();
    assert_eq!(fleeting.note(3).await.unwrap(), 1, "all was removed");
    kit.shutdown().await.unwrap();

    let Scene { kit, .. } = scene_on(memory, Durability::Durable).await;
    let error = kit.agent("fleeting").unwrap().ask::<u32>("note", &1).await;
    assert!(error.is_err(), "nobody knows it");
    let fleeting = kit.spawn(Fleeting { next: None }).await.unwrap();
    assert_eq!(fleeting.note(4).await.unwrap(), 1);
    kit.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_message_between_disk_and_memory_takes_effect_once() {
    let Scene { kit, engine, .. } = scene().await;
    let next = Some("fleeting");
    let strict = kit.spawn(Strict { next }).await.unwrap();
    let next = Some("exact");
    let fleeting = kit.spawn(Fleeting { next }).await.unwrap();
    let exact = kit.spawn(Exact { next: None }).await.unwrap();
    for number in 0..20 {
        strict.note(number).tell().await.unwrap();
        match number % 4 {
            1 => kit.crash(&fleeting),
            2 => engine.suffer(Fault::StoredThenError),
            3 => engine.suffer(Fault::Errors),
            _ => {}
        }
        kit.advance(secs(3)).await;
        engine.heal();
        // What fails without an effect is tried again by itself.
        kit.advance(secs(60)).await;
    }
    let all: Vec<u32> = (0..20).collect();
    let mut at_first = strict.numbers().await.unwrap();
    at_first.sort_unstable();
    assert_eq!(at_first, all);
    let mut in_memory = fleeting.numbers().await.unwrap();
    in_memory.sort_unstable();
    assert_eq!(in_memory, all);
    let mut on_disk = exact.numbers().await.unwrap();
    on_disk.sort_unstable();
    assert_eq!(on_disk, all);
    kit.shutdown().await.unwrap();
}

#[test]
fn what_waits_on_disk_for_an_agent_in_memory_comes_with_the_next_process() {
    let memory = MemoryEngine::new();
    process(async {
        let Scene { kit, .. } = scene_on(memory.clone(), Durability::Durable).await;
        let next = Some("fleeting");
        let strict = kit.spawn(Strict { next }).await.unwrap();
        strict.note(1).await.unwrap();
    });
    process(async {
        let Scene { kit, .. } = scene_on(memory.clone(), Durability::Durable).await;
        let fleeting = kit.spawn(Fleeting { next: None }).await.unwrap();
        kit.advance(secs(1)).await;
        assert_eq!(fleeting.numbers().await.unwrap(), [1]);
        let outbox = memory.outbox_agents(None, 10).await.unwrap();
        assert!(outbox.is_empty(), "taken out");
    });
}

#[test]
fn an_agent_that_does_not_run_is_known_with_its_level_in_the_next_process() {
    let memory = MemoryEngine::new();
    process(async {
        let Scene { kit, .. } = scene_on(memory.clone(), Durability::Durable).await;
        kit.spawn(Quick { next: None }).await.unwrap();
    });
    process(async {
        let Scene { kit, seen, .. } = scene_on(memory.clone(), Durability::Durable).await;
        kit.agent("quick").unwrap().tell("note", &1).await.unwrap();
        assert_eq!(seen.level_of("InboxAppend quick"), Level::Buffered);
    });
}

#[tokio::test]
async fn an_agent_that_says_something_else_is_entered_anew() {
    #[agent(id = "strict", durable, durability = "buffered")]
    struct Changed;

    #[agent]
    impl Changed {
        #[on("note")]
        async fn note(&mut self, _number: u32) {}
    }

    let Scene { kit, seen, .. } = scene().await;
    kit.spawn(Strict { next: None }).await.unwrap();
    assert_eq!(seen.level_of("AgentPut strict"), Level::Durable);
    kit.stop("strict").await.unwrap();
    let changed = kit.spawn(Changed).await.unwrap();
    assert_eq!(seen.level_of("AgentPut strict"), Level::Buffered);
    changed.note(1).await.unwrap();
    assert_eq!(seen.level_of("InboxAppend strict"), Level::Buffered);
    kit.stop("strict").await.unwrap();
    kit.spawn(Changed).await.unwrap();
    assert_eq!(seen.take(), [], "it is entered as it is");
    kit.shutdown().await.unwrap();
}

#[tokio::test]
async fn dead_letters_in_memory_are_listed_retried_and_dropped() {
    let memory = MemoryEngine::new();
    let Scene { kit, .. } = scene_on(memory.clone(), Durability::Durable).await;
    let fleeting = kit.spawn(Fleeting { next: None }).await.unwrap();
    let strict = kit.spawn(Strict { next: None }).await.unwrap();
    fleeting.refuse(1).await.unwrap_err();
    strict.refuse(2).await.unwrap_err();
    let list = kit.dead_letters().list(10).await.unwrap();
    let durable: Vec<_> = list
        .iter()
        .map(|letter| (letter.target.as_str(), letter.durable))
        .collect();
    assert_eq!(durable, [("strict", true), ("fleeting", false)]);
    let on_disk: Vec<DeadEntry> = memory.dead_letters(0, 10).await.unwrap();
    assert_eq!(on_disk.len(), 1);

    kit.dead_letters().retry(list[1].number).await.unwrap();
    kit.advance(secs(1)).await;
    let again = kit.dead_letters().list(10).await.unwrap();
    assert_eq!(again.len(), 2, "refused once more");
    assert_ne!(again[1].number, list[1].number);
    let number = again[1].number;
    assert!(kit.dead_letters().show(number).await.unwrap().is_some());
    assert!(kit.dead_letters().drop(number).await.unwrap());
    assert!(kit.dead_letters().show(number).await.unwrap().is_none());
    kit.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_dead_letter_on_disk_for_an_agent_in_memory_is_retried() {
    let Scene { kit, .. } = scene().await;
    let next = Some("fleeting");
    let strict = kit.spawn(Strict { next }).await.unwrap();
    strict.note(1).await.unwrap();
    // Nobody is spawned in time: the outbox gives it up.
    kit.advance(secs(400)).await;
    let list = kit.dead_letters().list(10).await.unwrap();
    assert!(list.len() == 1 && list[0].durable, "{list:?}");
    let number = list[0].number;
    let early = kit.dead_letters().retry(number).await.unwrap_err();
    let error = early.downcast_ref::<SendError>();
    assert!(matches!(error, Some(SendError::UnknownAgent { .. })));
    let fleeting = kit.spawn(Fleeting { next: None }).await.unwrap();
    kit.dead_letters().retry(number).await.unwrap();
    kit.advance(secs(1)).await;
    assert_eq!(fleeting.numbers().await.unwrap(), [1]);
    assert!(kit.dead_letters().list(10).await.unwrap().is_empty());
    kit.shutdown().await.unwrap();
}

#[tokio::test]
async fn on_a_real_directory_each_level_keeps_what_it_promises() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = Runtime::builder().data_dir(directory.path());
    let runtime = runtime.start().await.unwrap();
    let strict = runtime.spawn(Strict { next: None }).await.unwrap();
    let quick = runtime.spawn(Quick { next: None }).await.unwrap();
    let fleeting = runtime.spawn(Fleeting { next: None }).await.unwrap();
    let state = runtime.spawn(FleetingState { next: None }).await.unwrap();
    for number in 1..=20 {
        let count = usize::try_from(number).unwrap();
        assert_eq!(strict.note(number).await.unwrap(), count);
        assert_eq!(quick.note(number).await.unwrap(), count);
        assert_eq!(fleeting.note(number).await.unwrap(), count);
        assert_eq!(state.note(number).await.unwrap(), count);
    }
    runtime.shutdown().await.unwrap();

    let engine = EmbeddedEngine::open(directory.path(), EmbeddedOptions::default()).unwrap();
    for (name, kept) in [
        ("strict", true),
        ("quick", true),
        ("fleeting", false),
        ("fleeting-state", false),
    ] {
        let id = AgentId::new(name).unwrap();
        let state = engine.load_state(&id).await.unwrap();
        assert_eq!(state.is_some(), kept, "{name}");
        let remembered = engine.dedup_page(&id, None, 10).await.unwrap();
        assert_eq!(remembered.is_empty(), !kept, "{name}");
    }
}
