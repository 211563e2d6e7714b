//! Rules of inbox, outbox and dead letters.

use std::sync::Arc;

use super::{Case, bytes, commit, id, message, read, refused, same};
use crate::model::limits::{
    DEAD_LETTERS_MAX, HISTORY_ENTRIES_MAX, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, REASON_BYTES_MAX,
};
use crate::model::{AgentId, Priority};
use crate::store::{
    Batch, CommitError, DeadEntry, Engine, EntryKind, InboxEntry, Op, OutboxEntry, StoredState,
};

const LANE: Priority = Priority::Normal;

/// Appends an envelope to the inbox of `agent` and gives its number.
async fn append(engine: &dyn Engine, agent: &AgentId, number: u64) -> u64 {
    let batch = Batch::new().inbox_append(agent.clone(), LANE, message(number), bytes("envelope"));
    commit(engine, batch).await.seqs[0]
}

#[track_caller]
fn gone(rule: &str, error: CommitError, kind: EntryKind, number: u64) {
    match error {
        CommitError::Gone { entry, seq, .. } => same(rule, (entry, seq), (kind, number)),
        other => panic!("{rule}: {other}"),
    }
}

pub(super) async fn the_inbox_keeps_order_within_each_lane<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let (a, b) = (id("a"), id("a:b"));
    let rule = "each lane of an inbox keeps the order of its appends";
    let mut expected = vec![Vec::new(); 5];
    for number in 0..20 {
        let lane = Priority::ALL[number as usize % 5];
        let envelope = bytes(&number.to_string());
        let batch = Batch::new()
            .inbox_append(a.clone(), lane, message(number), envelope.clone())
            .inbox_append(b.clone(), lane, message(number), bytes("other"));
        let seq = commit(&*engine, batch).await.seqs[0];
        let entry = InboxEntry::new(seq, lane, message(number), envelope);
        expected[lane.lane()].push(entry);
    }
    for lane in Priority::ALL {
        let expected = &expected[lane.lane()];
        let page = read(engine.inbox_page(&a, lane, 0, 100).await);
        same(rule, page, expected.clone());
        let page = read(engine.inbox_page(&a, lane, expected[1].seq, 1).await);
        same(rule, page, expected[2..3].to_vec());
        let page = read(engine.inbox_page(&a, lane, expected[3].seq, 9).await);
        same(rule, page, vec![]);
    }
    same(rule, read(engine.inbox_counts(&a).await), [4; 5]);
    same(rule, read(engine.inbox_page(&a, LANE, 0, 0).await), vec![]);
}

pub(super) async fn an_ack_removes_and_a_second_is_gone<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "an acked entry is gone, and only it";
    let first = append(&*engine, &a, 1).await;
    let second = append(&*engine, &a, 2).await;
    let ack = |seq| Batch::new().inbox_ack(a.clone(), LANE, seq);
    let wrong_lane = Batch::new().inbox_ack(a.clone(), Priority::High, first);
    let error = refused(&*engine, wrong_lane).await;
    gone(rule, error, EntryKind::Inbox, first);
    commit(&*engine, ack(first)).await;
    gone(
        rule,
        refused(&*engine, ack(first)).await,
        EntryKind::Inbox,
        first,
    );
    let ops = [
        Op::InboxClaim {
            agent: a.clone(),
            lane: LANE,
            seq: first,
            attempts: 1,
        },
        Op::InboxNack {
            agent: a.clone(),
            lane: LANE,
            seq: first,
            attempts: 1,
            not_before_unix_ms: 0,
            reason: "late".into(),
        },
        Op::InboxBury {
            agent: a.clone(),
            lane: LANE,
            seq: first,
            reason: "late".into(),
            at_unix_ms: 0,
        },
    ];
    for op in ops {
        gone(
            rule,
            refused(&*engine, op.into()).await,
            EntryKind::Inbox,
            first,
        );
    }
    let left = read(engine.inbox_page(&a, LANE, 0, 9).await);
    same(rule, left.iter().map(|e| e.seq).collect(), vec![second]);
    same(rule, read(engine.dead_letters(0, 9).await), vec![]);
}

pub(super) async fn a_claim_counts_and_a_nack_explains<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "an entry tells how often it was tried, when it may be again, and what went wrong";
    let seq = append(&*engine, &a, 1).await;
    let mut expected = InboxEntry::new(seq, LANE, message(1), bytes("envelope"));
    commit(&*engine, Batch::new().inbox_claim(a.clone(), LANE, seq, 1)).await;
    expected.attempts = 1;
    let found = read(engine.inbox_page(&a, LANE, 0, 9).await);
    same(rule, found, vec![expected.clone()]);
    let nack = |attempts, at, reason: &str| {
        Batch::new().inbox_nack(a.clone(), LANE, seq, attempts, at, reason.into())
    };
    commit(&*engine, nack(1, 500, "first")).await;
    commit(&*engine, Batch::new().inbox_claim(a.clone(), LANE, seq, 2)).await;
    commit(&*engine, nack(2, 900, "second")).await;
    expected.attempts = 2;
    expected.not_before_unix_ms = 900;
    expected.history = vec!["first".into(), "second".into()];
    let found = read(engine.inbox_page(&a, LANE, 0, 9).await);
    same(rule, found, vec![expected]);
    same(rule, read(engine.inbox_counts(&a).await), [0, 0, 1, 0, 0]);
}

pub(super) async fn a_history_keeps_its_last_reasons<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "a history keeps its last reasons, each within its limit";
    let seq = append(&*engine, &a, 1).await;
    for attempt in 0..=HISTORY_ENTRIES_MAX {
        // Two-byte characters: the limit falls between the bytes of none.
        let reason = format!("{attempt:04}{}", "ü".repeat(REASON_BYTES_MAX / 2));
        let batch = Batch::new().inbox_nack(a.clone(), LANE, seq, attempt as u32, 0, reason);
        commit(&*engine, batch).await;
    }
    let entry = read(engine.inbox_page(&a, LANE, 0, 1).await).remove(0);
    same(rule, entry.history.len(), HISTORY_ENTRIES_MAX);
    same(rule, &entry.history[0][..4], "0001");
    same(rule, entry.history[0].len(), REASON_BYTES_MAX);
}

pub(super) async fn a_buried_entry_is_a_dead_letter_with_its_history<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "a buried entry is a dead letter with all that was known of it";
    let seq = append(&*engine, &a, 1).await;
    let nack = Batch::new().inbox_nack(a.clone(), LANE, seq, 1, 5, "first".into());
    commit(&*engine, nack).await;
    commit(&*engine, Batch::new().inbox_claim(a.clone(), LANE, seq, 2)).await;
    let bury = Batch::new().inbox_bury(a.clone(), LANE, seq, "last".into(), 99);
    let number = commit(&*engine, bury).await.seqs[0];
    let mut expected = DeadEntry::new(
        number,
        a.clone(),
        message(1),
        "last".into(),
        99,
        bytes("envelope"),
    );
    expected.attempts = 2;
    expected.history = vec!["first".into()];
    let found = read(engine.dead_letter(number).await);
    same(rule, found, Some(expected.clone()));
    same(rule, read(engine.dead_letters(0, 9).await), vec![expected]);
    same(rule, read(engine.inbox_page(&a, LANE, 0, 9).await), vec![]);
    same(rule, read(engine.inbox_counts(&a).await), [0; 5]);
}

pub(super) async fn a_dead_letter_is_retried_once<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let (a, b) = (id("a"), id("b"));
    let rule = "a dead letter is retried once, as if it was never tried";
    let seq = append(&*engine, &a, 1).await;
    commit(&*engine, Batch::new().inbox_claim(a.clone(), LANE, seq, 5)).await;
    let bury = Batch::new().inbox_bury(a.clone(), LANE, seq, "why".into(), 9);
    let dead = commit(&*engine, bury).await.seqs[0];
    let retry = Batch::new().dead_retry(dead, b.clone(), Priority::Low);
    let again = commit(&*engine, retry.clone()).await.seqs[0];
    let expected = InboxEntry::new(again, Priority::Low, message(1), bytes("envelope"));
    let found = read(engine.inbox_page(&b, Priority::Low, 0, 9).await);
    same(rule, found, vec![expected]);
    same(rule, read(engine.dead_letters(0, 9).await), vec![]);
    gone(
        rule,
        refused(&*engine, retry).await,
        EntryKind::DeadLetter,
        dead,
    );
}

pub(super) async fn a_dead_letter_can_be_put_and_removed<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let rule = "dead letters are listed from the oldest and removed by number";
    let put = |number| Op::DeadPut {
        agent: id("nobody"),
        id: message(number),
        envelope: bytes("envelope"),
        reason: "nobody is there".into(),
        at_unix_ms: 7,
        attempts: 1,
        history: vec!["before".into()],
    };
    let mut seqs = Vec::new();
    for number in 0..3 {
        seqs.extend(commit(&*engine, put(number).into()).await.seqs);
    }
    let page = read(engine.dead_letters(seqs[0], 1).await);
    same(rule, page.iter().map(|e| e.seq).collect(), vec![seqs[1]]);
    same(rule, (page[0].attempts, page[0].history.len()), (1, 1));
    commit(&*engine, Batch::new().dead_remove(seqs[1])).await;
    commit(&*engine, Batch::new().dead_remove(seqs[1])).await;
    let left = read(engine.dead_letters(0, 9).await);
    let left: Vec<_> = left.iter().map(|e| e.seq).collect();
    same(rule, left, vec![seqs[0], seqs[2]]);
}

pub(super) async fn the_oldest_dead_letter_makes_room<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let mut engine = case.open().await;
    let a = id("a");
    let rule = "beyond their limit the oldest dead letter goes with the batch that brings another";
    let puts = |numbers: std::ops::Range<usize>| {
        numbers.fold(Batch::new(), |batch, number| {
            batch.with(Op::DeadPut {
                agent: a.clone(),
                id: message(number as u64),
                envelope: bytes("x"),
                reason: "why".into(),
                at_unix_ms: 7,
                attempts: 1,
                history: Vec::new(),
            })
        })
    };
    let mut seqs = commit(&*engine, puts(0..DEAD_LETTERS_MAX - 3)).await.seqs;
    // Room that was made is room.
    let removed = Batch::new().dead_remove(seqs[1]).dead_remove(seqs[1]);
    commit(&*engine, removed).await;
    seqs.remove(1);
    seqs.extend(commit(&*engine, puts(0..4)).await.seqs);
    let listed = dead_letters(&*engine).await;
    same(rule, listed == seqs, true);
    engine = case.reopen(engine).await;
    // Three at once, one of them by a bury; one that came with the batch leaves with it.
    let entry = append(&*engine, &a, 1).await;
    let batch = puts(0..2).inbox_bury(a.clone(), LANE, entry, "last".into(), 9);
    seqs.extend(commit(&*engine, batch).await.seqs);
    same(rule, dead_letters(&*engine).await == seqs[3..], true);
    seqs.extend(commit(&*engine, puts(0..DEAD_LETTERS_MAX + 2)).await.seqs);
    let kept = &seqs[seqs.len() - DEAD_LETTERS_MAX..];
    same(rule, dead_letters(&*engine).await == kept, true);
}

/// The numbers of all dead letters.
async fn dead_letters(engine: &dyn Engine) -> Vec<u64> {
    let mut seqs = Vec::new();
    loop {
        let after = seqs.last().copied().unwrap_or(0);
        let page = read(engine.dead_letters(after, usize::MAX).await);
        if page.is_empty() {
            return seqs;
        }
        seqs.extend(page.iter().map(|entry| entry.seq));
    }
}

pub(super) async fn the_outbox_drains_in_order<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "an outbox drains in the order of its puts";
    let mut batch = Batch::new();
    for number in 0..5 {
        batch = batch.outbox_put(a.clone(), bytes(&number.to_string()));
    }
    let seqs = commit(&*engine, batch).await.seqs;
    let expected: Vec<_> = (0..5)
        .map(|n| OutboxEntry::new(seqs[n], bytes(&n.to_string())))
        .collect();
    same(
        rule,
        read(engine.outbox_page(&a, 0, 9).await),
        expected.clone(),
    );
    let page = read(engine.outbox_page(&a, seqs[1], 2).await);
    same(rule, page, expected[2..4].to_vec());
    let remove = Batch::new().outbox_remove(a.clone(), seqs[0]);
    commit(&*engine, remove.clone()).await;
    gone(
        rule,
        refused(&*engine, remove).await,
        EntryKind::Outbox,
        seqs[0],
    );
    let left = read(engine.outbox_page(&a, 0, 9).await);
    same(rule, left, expected[1..].to_vec());
}

pub(super) async fn agents_with_an_outbox_are_listed<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let rule = "every agent with an outbox is listed once";
    let ids = ["a", "a-b", "a@n", "ab", "b"].map(id);
    let mut batch = Batch::new();
    for agent in &ids {
        for _ in 0..3 {
            batch = batch.outbox_put(agent.clone(), bytes("x"));
        }
    }
    let seqs = commit(&*engine, batch).await.seqs;
    same(
        rule,
        read(engine.outbox_agents(None, 9).await),
        ids.to_vec(),
    );
    let page = read(engine.outbox_agents(Some(&ids[0]), 2).await);
    same(rule, page, ids[1..3].to_vec());
    same(
        rule,
        read(engine.outbox_agents(Some(&ids[4]), 9).await),
        vec![],
    );
    let mut batch = Batch::new();
    for seq in &seqs[..3] {
        batch = batch.outbox_remove(ids[0].clone(), *seq);
    }
    commit(&*engine, batch).await;
    same(
        rule,
        read(engine.outbox_agents(None, 9).await),
        ids[1..].to_vec(),
    );
}

pub(super) async fn erasing_an_agent_leaves_its_neighbours<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let rule = "erasing an agent takes all that is its own, and nothing else";
    let all = ["a", "a.", "a@n", "aa"].map(id);
    for agent in &all {
        let batch = Batch::new()
            .state_put(agent.clone(), 0, 1, 1, bytes("state"))
            .inbox_append(agent.clone(), LANE, message(1), bytes("in"))
            .outbox_put(agent.clone(), bytes("out"))
            .dedup_put(agent.clone(), message(2), None, 1)
            .timer_put(agent.clone(), 3, 1, bytes("timer"))
            .agent_put(agent.clone(), bytes("record"), 1);
        let seq = commit(&*engine, batch).await.seqs[0];
        let nack = Batch::new().inbox_nack(agent.clone(), LANE, seq, 1, 1, "x".into());
        commit(&*engine, nack).await;
    }
    // Also what the same batch has put before, and not what it puts afterwards.
    let batch = Batch::new()
        .timer_put(all[0].clone(), 4, 1, bytes("timer"))
        .agent_erase(all[0].clone())
        .timer_put(all[0].clone(), 5, 1, bytes("timer"));
    commit(&*engine, batch).await;
    let a = &all[0];
    same(rule, read(engine.load_state(a).await), None);
    same(rule, read(engine.inbox_counts(a).await), [0; 5]);
    same(rule, read(engine.outbox_page(a, 0, 9).await), vec![]);
    same(rule, read(engine.dedup_page(a, None, 9).await), vec![]);
    let timers = read(engine.timers(a, None, 9).await);
    same(rule, timers.iter().map(|t| t.timer).collect(), vec![5]);
    same(rule, read(engine.agent(a).await), None);
    for agent in &all[1..] {
        let state = Some(StoredState::new(1, 1, bytes("state")));
        same(rule, read(engine.load_state(agent).await), state);
        let entry = read(engine.inbox_page(agent, LANE, 0, 9).await).remove(0);
        same(rule, entry.history.len(), 1);
        same(rule, read(engine.outbox_page(agent, 0, 9).await).len(), 1);
        same(rule, read(engine.dedup_page(agent, None, 9).await).len(), 1);
        same(rule, read(engine.timers(agent, None, 9).await).len(), 1);
        assert!(read(engine.agent(agent).await).is_some(), "{rule}");
    }
}

pub(super) async fn pages_end_only_when_empty<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "a page ends at its bytes, and the next goes on behind it";
    let envelope = bytes::Bytes::from(vec![7; PAGE_BYTES_MAX / 4]);
    let mut seqs = Vec::new();
    for _ in 0..6 {
        let batch = Batch::new().outbox_put(a.clone(), envelope.clone());
        seqs.extend(commit(&*engine, batch).await.seqs);
    }
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let page = read(engine.outbox_page(&a, after, usize::MAX).await);
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 4, "{rule}: {} entries", page.len());
        after = last.seq;
        found.extend(page.iter().map(|entry| entry.seq));
    }
    same(rule, found, seqs);
}

pub(super) async fn pages_end_at_their_entries<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "a page ends at its entries, whatever was asked for, and the next goes on behind it";
    let many = PAGE_ENTRIES_MAX + 10;
    let names: Vec<_> = (0..many)
        .map(|number| format!("name-{number:06}"))
        .collect();
    let batch = names.iter().fold(Batch::new(), |batch, name| {
        batch
            .outbox_put(a.clone(), bytes("x"))
            .secret_put(name.clone(), bytes("x"))
    });
    let seqs = commit(&*engine, batch).await.seqs;
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let page = read(engine.outbox_page(&a, after, usize::MAX).await);
        let Some(last) = page.last() else { break };
        assert!(page.len() <= PAGE_ENTRIES_MAX, "{rule}: {}", page.len());
        after = last.seq;
        found.extend(page.iter().map(|entry| entry.seq));
    }
    same(rule, found == seqs, true);
    let mut found: Vec<String> = Vec::new();
    loop {
        let after = found.last().map(String::as_str);
        let page = read(engine.secret_names("name-", after, usize::MAX).await);
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= PAGE_ENTRIES_MAX, "{rule}: {}", page.len());
        found.extend(page);
    }
    same(rule, found == names, true);
}
