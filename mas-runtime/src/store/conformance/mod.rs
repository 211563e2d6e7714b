//! The suite that every engine passes.
//!
//! Whoever writes an engine runs it in a test; it panics with the rule that was broken.
//!
//! ```
//! use std::sync::Arc;
//! use mas_runtime::store::{Engine, MemoryEngine, conformance};
//!
//! # fn main() {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! conformance::run(MemoryEngine::new, async |kept| Arc::new(kept.clone()) as Arc<dyn Engine>).await;
//! # });
//! # }
//! ```
//!
//! | file | rules of |
//! |---|---|
//! | `records` | states, directory, dedup, timers, journals, secrets |
//! | `queues` | inbox, outbox, dead letters |
//! | `commits` | atomicity, order, numbers, durability, limits, closing |

mod commits;
mod queues;
mod records;

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;

use super::{Batch, CommitError, Committed, Engine, StoreError};
use crate::model::{AgentId, MessageId};

/// Where an engine keeps its things, and how one is opened there.
struct Case<'o, P, O> {
    place: P,
    open: &'o O,
}

impl<P, O: AsyncFn(&P) -> Arc<dyn Engine>> Case<'_, P, O> {
    /// An engine on this place.
    async fn open(&self) -> Arc<dyn Engine> {
        (self.open)(&self.place).await
    }

    /// Closes an engine and opens the next on the same place.
    async fn reopen(&self, engine: Arc<dyn Engine>) -> Arc<dyn Engine> {
        if let Err(error) = engine.close().await {
            panic!("close failed: {error}");
        }
        drop(engine);
        self.open().await
    }
}

/// Runs every rule, each on a fresh place.
///
/// `fresh` makes an empty place to keep things (a directory, a handle); `open` opens an engine there, more than once, but
/// never before the last one was closed and dropped.
///
/// # Panics
/// When the engine breaks a rule, with the rule's name in the text.
pub async fn run<P>(fresh: impl Fn() -> P, open: impl AsyncFn(&P) -> Arc<dyn Engine>) {
    macro_rules! rules {
        ($($module:ident { $($rule:ident),* $(,)? })*) => {
            $($({
                tracing::debug!(rule = stringify!($rule), "checking an engine");
                let case = Case { place: fresh(), open: &open };
                $module::$rule(case).await;
            })*)*
        };
    }
    rules! {
        records {
            a_fresh_store_is_empty,
            a_state_moves_by_its_version,
            a_state_is_removed_by_its_version,
            the_directory_keeps_agents_in_order,
            ids_are_remembered_with_their_replies,
            timers_are_kept_by_number,
            journals_count_without_gaps,
            a_journal_that_moved_is_told,
            a_journal_loses_its_oldest_records,
            journals_are_found_by_prefix,
            secrets_are_found_by_prefix,
        }
        queues {
            the_inbox_keeps_order_within_each_lane,
            an_ack_removes_and_a_second_is_gone,
            a_claim_counts_and_a_nack_explains,
            a_history_keeps_its_last_reasons,
            a_buried_entry_is_a_dead_letter_with_its_history,
            a_dead_letter_is_retried_once,
            a_dead_letter_can_be_put_and_removed,
            the_oldest_dead_letter_makes_room,
            the_outbox_drains_in_order,
            agents_with_an_outbox_are_listed,
            erasing_an_agent_leaves_its_neighbours,
            pages_end_only_when_empty,
            pages_end_at_their_entries,
        }
        commits {
            a_batch_lands_whole_or_not_at_all,
            conditions_see_what_came_before_in_the_batch,
            batches_land_in_the_order_of_the_calls,
            a_dropped_future_still_commits,
            of_writers_that_read_the_same_one_wins,
            numbers_grow_and_never_come_again,
            every_level_is_readable_once_answered,
            everything_outlives_a_reopening,
            large_values_come_back,
            limits_are_refused_by_name,
            a_closed_engine_says_so,
        }
    }
}

/// Fails with the rule's text unless both sides are equal.
#[track_caller]
fn same<T: PartialEq + Debug>(rule: &str, found: T, expected: T) {
    assert!(
        found == expected,
        "{rule}: found {found:?}, expected {expected:?}"
    );
}

/// What a read gave; a failed read breaks every rule.
#[track_caller]
fn read<T>(result: Result<T, StoreError>) -> T {
    result.unwrap_or_else(|error| panic!("a read failed: {error}"))
}

/// Commits a batch that must succeed.
async fn commit(engine: &dyn Engine, batch: Batch) -> Committed {
    let shown = format!("{batch:?}");
    match engine.commit(batch).await {
        Ok(committed) => committed,
        Err(error) => panic!("{shown} was refused: {error}"),
    }
}

/// Commits a batch that must be refused.
async fn refused(engine: &dyn Engine, batch: Batch) -> CommitError {
    let shown = format!("{batch:?}");
    match engine.commit(batch).await {
        Ok(_) => panic!("{shown} was not refused"),
        Err(error) => error,
    }
}

/// The id that a rule names.
fn id(text: &str) -> AgentId {
    AgentId::new(text).unwrap_or_else(|error| panic!("{error}"))
}

/// A message id for each number, in their order.
fn message(number: u64) -> MessageId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    MessageId::from_bytes(bytes)
}

/// The bytes of a text.
fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
