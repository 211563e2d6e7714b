//! Rules of what is kept under a name: states, directory, dedup, timers, journals, secrets.

use std::sync::Arc;

use super::{Case, bytes, commit, id, message, read, refused, same};
use crate::model::Priority;
use crate::store::{
    Batch, CommitError, DedupEntry, DirectoryEntry, Engine, JournalEntry, SecretBytes, StoredState,
    TimerEntry,
};

pub(super) async fn a_fresh_store_is_empty<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "a fresh store is empty";
    same(rule, read(engine.load_state(&a).await), None);
    for lane in Priority::ALL {
        same(rule, read(engine.inbox_page(&a, lane, 0, 9).await), vec![]);
    }
    same(rule, read(engine.inbox_counts(&a).await), [0; 5]);
    same(rule, read(engine.outbox_page(&a, 0, 9).await), vec![]);
    same(rule, read(engine.outbox_agents(None, 9).await), vec![]);
    same(rule, read(engine.dedup(&a, message(1)).await), None);
    same(rule, read(engine.dedup_page(&a, None, 9).await), vec![]);
    same(rule, read(engine.timers(&a, None, 9).await), vec![]);
    same(rule, read(engine.dead_letters(0, 9).await), vec![]);
    same(rule, read(engine.dead_letter(1).await), None);
    same(rule, read(engine.agent(&a).await), None);
    same(rule, read(engine.agents(None, 9).await), vec![]);
    same(rule, read(engine.journal_page("j", 0, 9).await), vec![]);
    same(rule, read(engine.journal_end("j").await), 0);
    same(rule, read(engine.journal_names("", None, 9).await), vec![]);
    same(rule, read(engine.secret("s").await), None);
    same(rule, read(engine.secret_names("", None, 9).await), vec![]);
    assert!(!engine.describe().is_empty(), "an engine describes itself");
}

pub(super) async fn a_state_moves_by_its_version<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "a state moves only from the version that its author read";
    commit(
        &*engine,
        Batch::new().state_put(a.clone(), 0, 1, 7, bytes("one")),
    )
    .await;
    let stored = StoredState::new(1, 7, bytes("one"));
    same(
        rule,
        read(engine.load_state(&a).await),
        Some(stored.clone()),
    );
    for stale in [0, 2] {
        let batch = Batch::new().state_put(a.clone(), stale, 9, 7, bytes("lost"));
        match refused(&*engine, batch).await {
            CommitError::Conflict {
                agent,
                expected,
                stored,
            } => same(rule, (agent, expected, stored), (a.clone(), stale, 1)),
            other => panic!("{rule}: {other}"),
        }
    }
    same(rule, read(engine.load_state(&a).await), Some(stored));
    let batch = Batch::new().state_put(a.clone(), 1, 5, 8, bytes("five"));
    commit(&*engine, batch).await;
    let stored = StoredState::new(5, 8, bytes("five"));
    same(rule, read(engine.load_state(&a).await), Some(stored));
    same(rule, read(engine.load_state(&id("a2")).await), None);
}

pub(super) async fn a_state_is_removed_by_its_version<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "a state is removed only at the version that its author read";
    commit(&*engine, Batch::new().state_remove(a.clone(), 0)).await;
    commit(
        &*engine,
        Batch::new().state_put(a.clone(), 0, 3, 1, bytes("")),
    )
    .await;
    let error = refused(&*engine, Batch::new().state_remove(a.clone(), 0)).await;
    assert!(
        matches!(error, CommitError::Conflict { stored: 3, .. }),
        "{rule}: {error}"
    );
    commit(&*engine, Batch::new().state_remove(a.clone(), 3)).await;
    same(rule, read(engine.load_state(&a).await), None);
    let again = Batch::new().state_put(a.clone(), 0, 1, 1, bytes("again"));
    commit(&*engine, again).await;
}

pub(super) async fn the_directory_keeps_agents_in_order<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let rule = "the directory lists agents in the order of their ids";
    let ids = ["a", "a-1", "a@n", "aa", "b"].map(id);
    let mut batch = Batch::new();
    for agent in ids.iter().rev() {
        batch = batch.agent_put(agent.clone(), bytes(agent.as_str()), 5);
    }
    commit(&*engine, batch).await;
    let listed = read(engine.agents(None, 100).await);
    let listed: Vec<_> = listed.into_iter().map(|entry| entry.agent).collect();
    same(rule, listed, ids.to_vec());
    let page = read(engine.agents(Some(&ids[0]), 2).await);
    let expected: Vec<_> = ids[1..3]
        .iter()
        .map(|agent| DirectoryEntry::new(agent.clone(), bytes(agent.as_str()), 5))
        .collect();
    same(rule, page, expected);
    let renewed = Batch::new().agent_put(ids[0].clone(), bytes("new"), 6);
    commit(&*engine, renewed.agent_remove(ids[4].clone())).await;
    let entry = DirectoryEntry::new(ids[0].clone(), bytes("new"), 6);
    same(rule, read(engine.agent(&ids[0]).await), Some(entry));
    same(rule, read(engine.agent(&ids[4]).await), None);
    same(rule, read(engine.agents(Some(&ids[3]), 9).await), vec![]);
}

pub(super) async fn ids_are_remembered_with_their_replies<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let (a, b) = (id("a"), id("ab"));
    let rule = "an agent remembers ids with their replies";
    let batch = Batch::new()
        .dedup_put(a.clone(), message(2), Some(bytes("two")), 20)
        .dedup_put(a.clone(), message(1), None, 10)
        .dedup_put(a.clone(), message(3), Some(bytes("")), 30)
        .dedup_put(b.clone(), message(2), None, 40);
    commit(&*engine, batch).await;
    let two = DedupEntry::new(message(2), Some(bytes("two")), 20);
    let three = DedupEntry::new(message(3), Some(bytes("")), 30);
    same(
        rule,
        read(engine.dedup(&a, message(2)).await),
        Some(two.clone()),
    );
    same(rule, read(engine.dedup(&a, message(4)).await), None);
    let all = read(engine.dedup_page(&a, None, 9).await);
    let one = DedupEntry::new(message(1), None, 10);
    same(rule, all, vec![one.clone(), two, three]);
    same(rule, read(engine.dedup_page(&a, None, 1).await), vec![one]);
    let after = read(engine.dedup_page(&a, Some(message(2)), 9).await);
    same(rule, after.len(), 1);
    let batch = Batch::new()
        .dedup_remove(a.clone(), message(2))
        .dedup_remove(a.clone(), message(9));
    commit(&*engine, batch).await;
    same(rule, read(engine.dedup(&a, message(2)).await), None);
    let kept = DedupEntry::new(message(2), None, 40);
    same(rule, read(engine.dedup(&b, message(2)).await), Some(kept));
}

pub(super) async fn timers_are_kept_by_number<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let a = id("a");
    let rule = "timers are kept by their number";
    let batch = Batch::new()
        .timer_put(a.clone(), u64::MAX, 1, bytes("last"))
        .timer_put(a.clone(), 0, 2, bytes("zero"))
        .timer_put(a.clone(), 256, 3, bytes("old"))
        .timer_put(a.clone(), 256, 4, bytes("new"))
        .timer_put(id("a.b"), 5, 5, bytes("other"));
    commit(&*engine, batch).await;
    let expected = vec![
        TimerEntry::new(0, 2, bytes("zero")),
        TimerEntry::new(256, 4, bytes("new")),
        TimerEntry::new(u64::MAX, 1, bytes("last")),
    ];
    same(
        rule,
        read(engine.timers(&a, None, 9).await),
        expected.clone(),
    );
    let rest = read(engine.timers(&a, Some(0), 1).await);
    same(rule, rest, expected[1..2].to_vec());
    same(
        rule,
        read(engine.timers(&a, Some(u64::MAX), 9).await),
        vec![],
    );
    let batch = Batch::new()
        .timer_remove(a.clone(), 256)
        .timer_remove(a.clone(), 7);
    commit(&*engine, batch).await;
    same(rule, read(engine.timers(&a, None, 9).await).len(), 2);
}

pub(super) async fn journals_count_without_gaps<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let rule = "each journal counts its records from 0 without gaps";
    let batch = Batch::new()
        .journal_append("audit".into(), bytes("a0"), None)
        .journal_append("audit.b".into(), bytes("b0"), None)
        .journal_append("audit".into(), bytes("a1"), None);
    same(rule, commit(&*engine, batch).await.seqs, vec![0, 0, 1]);
    let refused_batch = Batch::new()
        .journal_append("audit".into(), bytes("lost"), None)
        .state_remove(id("a"), 5);
    refused(&*engine, refused_batch).await;
    let batch = Batch::new().journal_append("audit".into(), bytes("a2"), None);
    same(rule, commit(&*engine, batch).await.seqs, vec![2]);
    same(rule, read(engine.journal_end("audit").await), 3);
    same(rule, read(engine.journal_end("audit.b").await), 1);
    same(rule, read(engine.journal_end("audi").await), 0);
    let entry = |seq, text| JournalEntry::new(seq, bytes(text));
    let all = vec![entry(0, "a0"), entry(1, "a1"), entry(2, "a2")];
    let page = read(engine.journal_page("audit", 0, 9).await);
    same(rule, page, all.clone());
    let page = read(engine.journal_page("audit", 1, 1).await);
    same(rule, page, all[1..2].to_vec());
    same(rule, read(engine.journal_page("audit", 3, 9).await), vec![]);
}

pub(super) async fn a_journal_that_moved_is_told<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let rule = "a record that must get a number gets it or is refused";
    let append = |end| Batch::new().journal_append("j".into(), bytes("x"), Some(end));
    same(rule, commit(&*engine, append(0)).await.seqs, vec![0]);
    for wrong in [0, 2] {
        match refused(&*engine, append(wrong)).await {
            CommitError::JournalMoved {
                journal,
                expected,
                end,
            } => same(rule, (&*journal, expected, end), ("j", wrong, 1)),
            other => panic!("{rule}: {other}"),
        }
    }
    let both = append(1).journal_append("j".into(), bytes("y"), Some(2));
    same(rule, commit(&*engine, both).await.seqs, vec![1, 2]);
}

pub(super) async fn a_journal_loses_its_oldest_records<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let mut engine = case.open().await;
    let rule = "a journal loses the records below a number, and counts on as before";
    let append =
        |batch: Batch, name: &str, text: &str| batch.journal_append(name.into(), bytes(text), None);
    let mut batch = Batch::new();
    for number in 0..300 {
        batch = append(batch, "j", &number.to_string());
    }
    batch = append(append(batch, "j2", "x"), "i", "x");
    commit(&*engine, batch).await;
    let numbers = async |engine: &dyn Engine, from| {
        let page = read(engine.journal_page("j", from, 1000).await);
        page.iter().map(|entry| entry.seq).collect::<Vec<_>>()
    };
    // Records of the same batch go as well; a number below is no change.
    let trim = append(Batch::new(), "j", "300").journal_trim("j".into(), 257);
    same(rule, commit(&*engine, trim).await.seqs, vec![300]);
    commit(&*engine, Batch::new().journal_trim("j".into(), 3)).await;
    engine = case.reopen(engine).await;
    same(rule, numbers(&*engine, 0).await, (257..=300).collect());
    same(rule, numbers(&*engine, 299).await, vec![299, 300]);
    same(rule, read(engine.journal_end("j").await), 301);
    let all = append(Batch::new(), "j", "301").journal_trim("j".into(), u64::MAX);
    commit(&*engine, all.journal_trim("none".into(), 9)).await;
    same(rule, numbers(&*engine, 0).await, vec![]);
    let next = Batch::new().journal_append("j".into(), bytes("302"), Some(302));
    same(rule, commit(&*engine, next).await.seqs, vec![302]);
    same(rule, numbers(&*engine, 0).await, vec![302]);
    for other in ["j2", "i"] {
        same(rule, read(engine.journal_page(other, 0, 9).await).len(), 1);
    }
    let lost = Batch::new()
        .journal_trim("j".into(), 999)
        .state_remove(id("a"), 5);
    refused(&*engine, lost).await;
    same(rule, numbers(&*engine, 0).await, vec![302]);
}

pub(super) async fn journals_are_found_by_prefix<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let rule = "journals are found by prefix, each once, also when they are empty";
    let names = ["audit", "session/1", "session/2", "session/\u{0}"];
    let mut batch = Batch::new();
    for name in [names, names].concat() {
        batch = batch.journal_append(name.into(), bytes("x"), None);
    }
    commit(&*engine, batch.journal_trim("session/2".into(), 2)).await;
    let listed = read(engine.journal_names("session/", None, 9).await);
    let expected = ["session/\u{0}", "session/1", "session/2"].map(String::from);
    same(rule, listed, expected.to_vec());
    let listed = read(engine.journal_names("", Some("audit"), 2).await);
    same(rule, listed, expected[..2].to_vec());
    same(rule, read(engine.journal_names("x", None, 9).await), vec![]);
    same(rule, read(engine.journal_names("", None, 0).await), vec![]);
}

pub(super) async fn secrets_are_found_by_prefix<P>(
    case: Case<'_, P, impl AsyncFn(&P) -> Arc<dyn Engine>>,
) {
    let engine = case.open().await;
    let rule = "secrets are found by name and by prefix";
    let names = [
        "channel/1",
        "channel/2",
        "channel/\u{0}",
        "channels",
        "größe",
    ];
    let mut batch = Batch::new();
    for name in names {
        batch = batch.secret_put(name.into(), bytes(name));
    }
    commit(&*engine, batch).await;
    let found = read(engine.secret("channel/\u{0}").await);
    same(rule, found, Some(SecretBytes::new(bytes("channel/\u{0}"))));
    same(rule, read(engine.secret("channel").await), None);
    let listed = read(engine.secret_names("channel/", None, 9).await);
    same(
        rule,
        listed,
        ["channel/\u{0}", "channel/1", "channel/2"]
            .map(String::from)
            .to_vec(),
    );
    let listed = read(engine.secret_names("", Some("channel/1"), 2).await);
    same(
        rule,
        listed,
        ["channel/2", "channels"].map(String::from).to_vec(),
    );
    let batch = Batch::new()
        .secret_put("größe".into(), bytes("new"))
        .secret_remove("channels".into())
        .secret_remove("none".into());
    commit(&*engine, batch).await;
    let found = read(engine.secret("größe").await);
    same(rule, found, Some(SecretBytes::new(bytes("new"))));
    same(rule, read(engine.secret("channels").await), None);
}
