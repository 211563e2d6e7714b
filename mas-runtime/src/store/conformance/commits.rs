//! Rules of commits: atomicity, order, numbers, durability, limits, closing.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;

use super::{Case, bytes, commit, id, message, read, refused, same};
use crate::model::Priority;
use crate::model::limits::{BATCH_BYTES_MAX, BATCH_OPS_MAX, STORE_NAME_BYTES_MAX, VALUE_BYTES_MAX};
use crate::store::{
    Batch, CommitError, DeadEntry, DirectoryEntry, Durability, Engine, JournalEntry, Op,
    OutboxEntry, SecretBytes, StoreError, StoredState, TimerEntry,
};

const LANE: Priority = Priority::Normal;

pub(super) async fn a_batch_lands_whole_or_not_at_all<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "a refused batch leaves nothing behind";
    let whole = Batch::new()
        .state_put(a.clone(), 0, 1, 1, bytes("state"))
        .inbox_append(a.clone(), LANE, message(1), bytes("in"))
        .outbox_put(a.clone(), bytes("out"))
        .dedup_put(a.clone(), message(2), None, 1)
        .timer_put(a.clone(), 1, 1, bytes("timer"))
        .agent_put(a.clone(), bytes("record"), 1)
        .journal_append("j".into(), bytes("record"), None)
        .secret_put("s".into(), bytes("secret"));
    let late = [
        Op::StateRemove {
            agent: id("b"),
            expected: 9,
        },
        Op::InboxAck {
            agent: a.clone(),
            lane: LANE,
            seq: 999,
        },
        Op::OutboxRemove {
            agent: a.clone(),
            seq: 999,
        },
        Op::DeadRetry {
            seq: 999,
            agent: a.clone(),
            lane: LANE,
        },
        Op::JournalAppend {
            journal: "j".into(),
            bytes: bytes("x"),
            expected_end: Some(9),
        },
    ];
    for op in late {
        refused(&*engine, whole.clone().with(op)).await;
        same(rule, read(engine.load_state(&a).await), None);
        same(rule, read(engine.inbox_counts(&a).await), [0; 5]);
        same(rule, read(engine.outbox_agents(None, 9).await), vec![]);
        same(rule, read(engine.dedup_page(&a, None, 9).await), vec![]);
        same(rule, read(engine.timers(&a, None, 9).await), vec![]);
        same(rule, read(engine.agents(None, 9).await), vec![]);
        same(rule, read(engine.journal_end("j").await), 0);
        same(rule, read(engine.secret("s").await), None);
    }
    same(rule, commit(&*engine, whole).await.seqs.len(), 3);
    same(rule, read(engine.inbox_counts(&a).await), [0, 0, 1, 0, 0]);
}

pub(super) async fn conditions_see_what_came_before_in_the_batch<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "a condition sees the earlier operations of its batch";
    let batch = Batch::new()
        .state_put(a.clone(), 0, 1, 1, bytes("one"))
        .state_put(a.clone(), 1, 2, 1, bytes("two"))
        .state_remove(a.clone(), 2)
        .state_put(a.clone(), 0, 7, 1, bytes("seven"))
        .journal_append("j".into(), bytes("0"), Some(0))
        .journal_append("j".into(), bytes("1"), Some(1));
    commit(&*engine, batch).await;
    let state = StoredState::new(7, 1, bytes("seven"));
    same(rule, read(engine.load_state(&a).await), Some(state));
    let append = Batch::new().inbox_append(a.clone(), LANE, message(1), bytes("in"));
    let seq = commit(&*engine, append).await.seqs[0];
    let ack = |batch: Batch| batch.inbox_ack(a.clone(), LANE, seq);
    let error = refused(&*engine, ack(ack(Batch::new()))).await;
    assert!(matches!(error, CommitError::Gone { .. }), "{rule}: {error}");
    let bury = Batch::new().inbox_bury(a.clone(), LANE, seq, "why".into(), 1);
    let dead = commit(&*engine, bury).await.seqs[0];
    let retry = |batch: Batch| batch.dead_retry(dead, a.clone(), LANE);
    let error = refused(&*engine, retry(retry(Batch::new()))).await;
    assert!(matches!(error, CommitError::Gone { .. }), "{rule}: {error}");
    let batch = retry(Batch::new()).dead_remove(dead);
    let again = commit(&*engine, batch).await.seqs;
    let page = read(engine.inbox_page(&a, LANE, 0, 9).await);
    same(rule, page.iter().map(|e| e.seq).collect(), again);
}

pub(super) async fn batches_land_in_the_order_of_the_calls<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "batches land in the order of the calls";
    // Each builds on the one before; none is polled before all are called, and then the last one first.
    let calls: Vec<_> = (0..20)
        .map(|version| {
            let batch = Batch::new()
                .state_put(a.clone(), version, version + 1, 1, bytes("x"))
                .outbox_put(a.clone(), bytes(&version.to_string()));
            engine.commit(batch)
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls.into_iter().rev() {
        match call.await {
            Ok(committed) => answers.push(committed),
            Err(error) => panic!("{rule}: {error}"),
        }
    }
    answers.reverse();
    for pair in answers.windows(2) {
        let grows = pair[0].position < pair[1].position && pair[0].seqs < pair[1].seqs;
        assert!(grows, "{rule}: {pair:?}");
    }
    let page = read(engine.outbox_page(&a, 0, 99).await);
    let expected: Vec<_> = answers
        .iter()
        .enumerate()
        .map(|(n, answer)| OutboxEntry::new(answer.seqs[0], bytes(&n.to_string())))
        .collect();
    same(rule, page, expected);
}

pub(super) async fn a_dropped_future_still_commits<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "dropping the future does not take the batch back";
    drop(engine.commit(Batch::new().state_put(a.clone(), 0, 1, 1, bytes("one"))));
    commit(
        &*engine,
        Batch::new().state_put(a.clone(), 1, 2, 1, bytes("two")),
    )
    .await;
    let state = StoredState::new(2, 1, bytes("two"));
    same(rule, read(engine.load_state(&a).await), Some(state));
}

pub(super) async fn of_writers_that_read_the_same_one_wins<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    const WRITERS: u64 = 16;
    const ROUNDS: u64 = 8;
    let engine = case.open().await;
    let a = id("a");
    let rule = "of writers that have read the same state one wins, and its whole batch lands";
    for round in 0..ROUNDS {
        // All have read before the first commits.
        let reads = (0..WRITERS).map(|_| engine.load_state(&a));
        let commits = join_all(reads).await.into_iter().map(|stored| {
            let version = read(stored).map_or(0, |state| state.version);
            let batch = Batch::new()
                .state_put(a.clone(), version, version + 1, 1, bytes("x"))
                .journal_append("j".into(), bytes("x"), None);
            engine.commit(batch)
        });
        let mut won = 0;
        for answer in join_all(commits).await {
            match answer {
                Ok(_) => won += 1,
                Err(CommitError::Conflict { stored, .. }) => same(rule, stored, round + 1),
                Err(error) => panic!("{rule}: {error}"),
            }
        }
        same(rule, won, 1);
    }
    same(rule, read(engine.journal_end("j").await), ROUNDS);
}

pub(super) async fn numbers_grow_and_never_come_again<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let rule = "numbers and positions grow, also after a reopening, and none comes twice";
    let mut engine = case.open().await;
    let a = id("a");
    let (mut position, mut last) = (0, 0);
    for _ in 0..3 {
        let batch = Batch::new()
            .inbox_append(a.clone(), LANE, message(1), bytes("in"))
            .outbox_put(a.clone(), bytes("out"));
        let put = commit(&*engine, batch).await;
        let (entry, sent) = (put.seqs[0], put.seqs[1]);
        let settle = Batch::new()
            .inbox_bury(a.clone(), LANE, entry, "why".into(), 1)
            .outbox_remove(a.clone(), sent);
        let settled = commit(&*engine, settle).await;
        let dead = settled.seqs[0];
        commit(&*engine, Batch::new().dead_remove(dead)).await;
        assert!(
            last < entry && entry < sent && sent < dead,
            "{rule}: {last} {entry} {sent} {dead}"
        );
        assert!(
            position < put.position && put.position < settled.position,
            "{rule}: {position} {put:?} {settled:?}"
        );
        (position, last) = (settled.position, dead);
        engine = case.reopen(engine).await;
    }
}

pub(super) async fn every_level_is_readable_once_answered<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let mut engine = case.open().await;
    let a = id("a");
    let rule = "a commit of any level is readable once answered, and kept by a close";
    let mut version = 0;
    for level in [
        Durability::Durable,
        Durability::Buffered,
        Durability::Relaxed,
    ] {
        for _ in 0..3 {
            let batch = Batch::new().state_put(a.clone(), version, version + 1, 1, bytes("x"));
            commit(&*engine, batch.durability(level)).await;
            version += 1;
            let state = read(engine.load_state(&a).await);
            same(rule, state.map(|s| s.version), Some(version));
        }
        commit(&*engine, Batch::new()).await;
        let relaxed = Batch::new().state_put(a.clone(), version, version + 1, 1, bytes("x"));
        commit(&*engine, relaxed.durability(level)).await;
        version += 1;
        engine = case.reopen(engine).await;
        let state = read(engine.load_state(&a).await);
        same(rule, state.map(|s| s.version), Some(version));
    }
}

pub(super) async fn everything_outlives_a_reopening<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "everything outlives a reopening";
    let batch = Batch::new()
        .state_put(a.clone(), 0, 1, 2, bytes("state"))
        .inbox_append(a.clone(), LANE, message(1), bytes("in"))
        .inbox_append(a.clone(), LANE, message(2), bytes("dead"))
        .outbox_put(a.clone(), bytes("out"))
        .dedup_put(a.clone(), message(3), Some(bytes("reply")), 1)
        .timer_put(a.clone(), 1, 1, bytes("timer"))
        .agent_put(a.clone(), bytes("record"), 1)
        .journal_append("j".into(), bytes("record"), None)
        .secret_put("s".into(), bytes("secret"));
    let seqs = commit(&*engine, batch).await.seqs;
    let batch = Batch::new()
        .inbox_nack(a.clone(), LANE, seqs[0], 3, 4, "why".into())
        .inbox_bury(a.clone(), LANE, seqs[1], "late".into(), 8);
    let dead = commit(&*engine, batch).await.seqs[0];
    let engine = case.reopen(engine).await;
    let state = StoredState::new(1, 2, bytes("state"));
    same(rule, read(engine.load_state(&a).await), Some(state));
    let entry = read(engine.inbox_page(&a, LANE, 0, 9).await).remove(0);
    same(rule, (entry.attempts, entry.not_before_unix_ms), (3, 4));
    same(
        rule,
        (entry.id, entry.history),
        (message(1), vec!["why".to_owned()]),
    );
    let out = OutboxEntry::new(seqs[2], bytes("out"));
    same(rule, read(engine.outbox_page(&a, 0, 9).await), vec![out]);
    let reply = read(engine.dedup(&a, message(3)).await).and_then(|entry| entry.reply);
    same(rule, reply, Some(bytes("reply")));
    let timer = TimerEntry::new(1, 1, bytes("timer"));
    same(rule, read(engine.timers(&a, None, 9).await), vec![timer]);
    let record = DirectoryEntry::new(a.clone(), bytes("record"), 1);
    same(rule, read(engine.agents(None, 9).await), vec![record]);
    let journal = read(engine.journal_page("j", 0, 9).await);
    same(rule, journal, vec![JournalEntry::new(0, bytes("record"))]);
    same(rule, read(engine.journal_end("j").await), 1);
    let secret = SecretBytes::new(bytes("secret"));
    same(rule, read(engine.secret("s").await), Some(secret));
    let letter = DeadEntry::new(dead, a, message(2), "late".into(), 8, bytes("dead"));
    same(rule, read(engine.dead_letter(dead).await), Some(letter));
}

pub(super) async fn large_values_come_back<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let mut engine = case.open().await;
    let rule = "values of any size come back as they went";
    let sizes = [
        0, 1, 4095, 4096, 4097, 65_536, 131_072, 1_048_576, 3_000_001,
    ];
    let value = |size: usize| -> bytes::Bytes {
        (0..size)
            .map(|at| (at * 31 + size) as u8)
            .collect::<Vec<_>>()
            .into()
    };
    let of = |size: usize| id(&format!("a{size}"));
    for round in 0..3 {
        for size in sizes {
            let batch = Batch::new().state_put(of(size), round, round + 1, 1, value(size));
            commit(&*engine, batch).await;
        }
        engine = case.reopen(engine).await;
        for size in sizes {
            let state = read(engine.load_state(&of(size)).await);
            let found = state.map(|state| (state.version, state.bytes == value(size)));
            same(rule, found, Some((round + 1, true)));
        }
    }
    for size in sizes {
        commit(&*engine, Batch::new().state_remove(of(size), 3)).await;
        same(rule, read(engine.load_state(&of(size)).await), None);
    }
}

pub(super) async fn limits_are_refused_by_name<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let rule = "what is over a limit is refused by name";
    let mut ops = Batch::new();
    (0..=BATCH_OPS_MAX).for_each(|seq| ops.push(Op::DeadRemove { seq: seq as u64 }));
    let name = "n".repeat(STORE_NAME_BYTES_MAX);
    let value: bytes::Bytes = vec![0; VALUE_BYTES_MAX + 1].into();
    let over = [
        ops,
        Batch::new().secret_put(name.clone() + "n", bytes("x")),
        Batch::new().journal_append(name.clone() + "n", bytes("x"), None),
        Batch::new().outbox_put(id("a"), value.clone()),
        (0..BATCH_BYTES_MAX / VALUE_BYTES_MAX)
            .map(|_| value.slice(1..))
            .fold(Batch::new(), |batch, value| {
                batch.outbox_put(id("a"), value)
            })
            .outbox_put(id("a"), value.slice(..1)),
    ];
    for batch in over {
        match refused(&*engine, batch).await {
            CommitError::TooLarge { size, max, .. } => same(rule, size, max + 1),
            other => panic!("{rule}: {other}"),
        }
    }
    let zero = Batch::new().state_put(id("a"), 0, 0, 1, bytes("x"));
    let error = refused(&*engine, zero).await;
    assert!(
        matches!(error, CommitError::Misuse { .. }),
        "{rule}: {error}"
    );
    let largest = Batch::new()
        .secret_put(name.clone(), bytes("x"))
        .journal_append(name.clone(), bytes("x"), None);
    commit(&*engine, largest).await;
    same(
        rule,
        read(engine.secret_names(&name, None, 9).await),
        vec![name],
    );
}

pub(super) async fn a_closed_engine_says_so<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "a closed engine takes nothing and says so";
    let first = engine.commit(Batch::new().state_put(a.clone(), 0, 1, 1, bytes("x")));
    let closed = engine.close().await;
    assert!(closed.is_ok(), "{rule}: {closed:?}");
    let first = first.await;
    assert!(first.is_ok(), "{rule}: taken before, but {first:?}");
    let put = Batch::new().state_put(a.clone(), 1, 2, 1, bytes("x"));
    let error = refused(&*engine, put).await;
    assert!(matches!(error, CommitError::Closed), "{rule}: {error}");
    match engine.load_state(&a).await {
        Err(StoreError::Closed) => {}
        other => panic!("{rule}: a read gave {other:?}"),
    }
    let again = engine.close().await;
    assert!(again.is_ok(), "{rule}: closing again gave {again:?}");
    assert!(!engine.describe().is_empty(), "{rule}");
    drop(engine);
    let engine = case.open().await;
    let state = read(engine.load_state(&a).await);
    same(rule, state.map(|s| s.version), Some(1));
    let seqs: BTreeSet<u64> = commit(&*engine, Batch::new())
        .await
        .seqs
        .into_iter()
        .collect();
    assert!(seqs.is_empty(), "{rule}: an empty batch gets no numbers");
}
