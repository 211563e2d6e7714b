use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;

use super::*;
use crate::model::{MessageId, Priority};
use crate::store::{
    Batch, Commit, CommitError, Committed, Directory, Engine, Inbox, MemoryEngine, StateStore,
    conformance,
};

fn id(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

/// Three agents, each of which says what it is called.
fn levels() -> Arc<Levels> {
    let levels = Levels::new(Durability::Durable);
    levels.say(&id("durable"), Some(Durability::Durable));
    levels.say(&id("buffered"), Some(Durability::Buffered));
    levels.say(&id("memory"), Some(Durability::Memory));
    Arc::new(levels)
}

fn own(agent: &str) -> Batch {
    let message = MessageId::from_bytes([1; 16]);
    Batch::new()
        .state_put(id(agent), 0, 1, 1, Bytes::from_static(b"state"))
        .inbox_ack(id(agent), Priority::Normal, 1)
        .dedup_put(id(agent), message, None, 1)
        .timer_put(id(agent), 1, 1, Bytes::new())
}

fn append(agent: &str) -> Batch {
    let message = MessageId::from_bytes([2; 16]);
    let letter = Bytes::from_static(b"letter");
    Batch::new().inbox_append(id(agent), Priority::Normal, message, letter)
}

fn both(one: Batch, other: Batch) -> Batch {
    other.into_ops().into_iter().fold(one, Batch::with)
}

fn buried(seq: u64) -> Batch {
    Batch::new().inbox_bury(id("memory"), Priority::Normal, seq, "no".into(), 1)
}

#[test]
fn a_batch_is_as_durable_as_the_strongest_of_those_it_belongs_to() {
    use store::Durability::{Buffered, Durable, Relaxed};
    let levels = levels();
    let of = |batch: Batch| levels.of_batch(batch.ops()).unwrap().1;
    assert_eq!(of(own("durable")), Durable);
    assert_eq!(of(own("buffered")), Buffered);
    assert_eq!(of(own("memory")), Relaxed);
    assert_eq!(of(own("nobody")), Durable, "the runtime's word");
    assert_eq!(of(append("buffered")), Buffered);
    assert_eq!(of(both(own("buffered"), append("durable"))), Durable);
    assert_eq!(of(both(own("durable"), append("buffered"))), Durable);
    let claim = |agent| Batch::new().inbox_claim(id(agent), Priority::Normal, 1, 1);
    assert_eq!(of(claim("durable")), Relaxed);
    assert_eq!(of(both(claim("durable"), own("buffered"))), Buffered);
    assert_eq!(
        of(Batch::new().agent_put(id("buffered"), Bytes::new(), 0)),
        Buffered
    );
}

#[test]
fn what_belongs_to_no_agent_is_durable() {
    use store::Durability::{Buffered, Durable};
    let levels = Levels::new(Durability::Buffered);
    let of = |batch: Batch| levels.of_batch(batch.ops()).unwrap().1;
    assert_eq!(of(Batch::new()), Durable, "it brings all to disk");
    assert_eq!(of(Batch::new().agent_remove(id("a"))), Durable);
    assert_eq!(of(Batch::new().agent_erase(id("a"))), Durable);
    assert_eq!(of(Batch::new().dead_remove(1)), Durable);
    assert_eq!(
        of(Batch::new().secret_put("n".into(), Bytes::new())),
        Durable
    );
    let record = Batch::new().journal_append("audit".into(), Bytes::new(), None);
    assert_eq!(of(record), Durable);
    let letter = Op::DeadPut {
        agent: id("a"),
        id: MessageId::from_bytes([1; 16]),
        envelope: Bytes::new(),
        reason: String::new(),
        at_unix_ms: 0,
        attempts: 0,
        history: Vec::new(),
    };
    assert_eq!(of(Batch::from(letter.clone())), Durable);
    assert_eq!(of(own("a").with(letter)), Buffered, "it goes along");
}

#[test]
fn a_word_taken_back_leaves_it_to_the_runtime() {
    let levels = Levels::new(Durability::Memory);
    assert_eq!(levels.home(&id("a")), Home::Memory);
    levels.say(&id("a"), Some(Durability::Buffered));
    assert_eq!(levels.home(&id("a")), Home::Engine);
    levels.say(&id("a"), None);
    assert_eq!(levels.home(&id("a")), Home::Memory);
    assert!(levels.said.read().unwrap().is_empty());
}

#[test]
fn a_listing_is_read_back_and_an_earlier_one_says_nothing() {
    let declaration = Declaration::new("a").capability("text");
    assert_eq!(listed(&listing(&declaration)), None);
    let declaration = declaration.durability(Durability::Buffered);
    assert_eq!(listed(&listing(&declaration)), Some(Durability::Buffered));
    let earlier = Codec::MessagePack.encode(&["text"]).unwrap();
    assert_eq!(listed(&earlier), None);
    assert_eq!(listed(b""), None);
}

#[test]
fn the_engine_conforms() {
    let suite = conformance::run(MemoryEngine::new, async |kept| {
        let levels = Arc::new(Levels::new(Durability::Durable));
        Arc::new(LeveledEngine::new(levels, kept.clone())) as Arc<dyn Engine>
    });
    assert!(suite.now_or_never().is_some());
}

/// An engine of two homes, and what stands behind it.
fn homes() -> (LeveledEngine<MemoryEngine>, MemoryEngine) {
    let engine = MemoryEngine::new();
    (LeveledEngine::new(levels(), engine.clone()), engine)
}

fn commit(engine: &impl Commit, batch: Batch) -> Result<Committed, CommitError> {
    engine.commit(batch).now_or_never().unwrap()
}

fn state_of(engine: &impl StateStore, agent: &str) -> bool {
    let agent = id(agent);
    let state = engine.load_state(&agent).now_or_never().unwrap();
    state.unwrap().is_some()
}

fn state(agent: &str) -> Batch {
    Batch::new().state_put(id(agent), 0, 1, 1, Bytes::from_static(b"state"))
}

#[test]
fn what_is_at_home_in_memory_never_reaches_the_engine() {
    let (leveled, engine) = homes();
    commit(&leveled, state("memory")).unwrap();
    commit(&leveled, state("buffered")).unwrap();
    assert!(state_of(&leveled, "memory") && !state_of(&engine, "memory"));
    assert!(state_of(&leveled, "buffered") && state_of(&engine, "buffered"));
}

#[test]
fn a_batch_of_two_homes_is_refused_and_stores_nothing() {
    let (leveled, engine) = homes();
    let spans = both(state("durable"), append("memory"));
    let refused = commit(&leveled, spans).unwrap_err();
    assert!(refused.is_retryable() && !refused.may_be_stored());
    assert!(!state_of(&engine, "durable"));
    let memory = id("memory");
    let counts = leveled.inbox_counts(&memory).now_or_never().unwrap();
    assert_eq!(counts.unwrap(), [0; 5]);
}

#[test]
fn a_removal_reaches_both_homes() {
    let (leveled, engine) = homes();
    commit(&engine, state("memory")).unwrap();
    commit(&leveled, state("memory")).unwrap();
    commit(&leveled, Batch::new().agent_erase(id("memory"))).unwrap();
    assert!(!state_of(&leveled, "memory") && !state_of(&engine, "memory"));
}

#[test]
fn dead_letters_of_both_homes_are_one_list_and_keep_their_numbers() {
    let (leveled, engine) = homes();
    let seq = commit(&leveled, append("durable")).unwrap().seqs[0];
    let bury = Batch::new().inbox_bury(id("durable"), Priority::Normal, seq, "no".into(), 1);
    let first = commit(&leveled, bury).unwrap().seqs[0];
    let seq = commit(&leveled, append("memory")).unwrap().seqs[0];
    let second = commit(&leveled, buried(seq)).unwrap().seqs[0];
    assert_eq!(home_of_letter(first), Home::Engine);
    assert_eq!(home_of_letter(second), Home::Memory);

    let mut numbers = Vec::new();
    let mut after = 0;
    loop {
        let page = leveled.dead_letters(after, 1).now_or_never().unwrap();
        let Some(entry) = page.unwrap().pop() else {
            break;
        };
        after = entry.seq;
        numbers.push((entry.seq, entry.agent));
    }
    assert_eq!(numbers, [(first, id("durable")), (second, id("memory"))]);
    let of_engine = engine.dead_letters(0, 10).now_or_never().unwrap().unwrap();
    assert_eq!(of_engine.len(), 1);

    let shown = |number| leveled.dead_letter(number).now_or_never().unwrap().unwrap();
    assert_eq!(shown(second).unwrap().seq, second);
    commit(&leveled, Batch::new().dead_remove(second)).unwrap();
    assert!(shown(second).is_none() && shown(first).is_some());
}

#[test]
fn pages_of_both_homes_are_one_order_without_gaps() {
    let levels = Arc::new(Levels::new(Durability::Durable));
    let leveled = LeveledEngine::new(Arc::clone(&levels), MemoryEngine::new());
    let names: Vec<String> = (0..20).map(|number| format!("a{number:02}")).collect();
    for (number, name) in names.iter().enumerate() {
        let in_memory = number < 3 || number % 4 == 0;
        levels.say(&id(name), in_memory.then_some(Durability::Memory));
        commit(&leveled, Batch::new().agent_put(id(name), Bytes::new(), 0)).unwrap();
    }
    for limit in 1..8 {
        let mut found = Vec::new();
        let mut after: Option<AgentId> = None;
        loop {
            let page = leveled.agents(after.as_ref(), limit).now_or_never();
            let page = page.unwrap().unwrap();
            let Some(last) = page.last() else { break };
            assert!(page.len() <= limit);
            after = Some(last.agent.clone());
            found.extend(page.iter().map(|entry| entry.agent.to_string()));
        }
        assert_eq!(found, names, "pages of {limit}");
    }
}
