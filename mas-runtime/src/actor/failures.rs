//! The record of instances that were given up on: what supervision leaves for an audit, in a journal of the engine.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::host::Core;
use crate::model::limits::{FAILURE_RECORDS_MAX, REASON_BYTES_MAX};
use crate::model::{AgentId, Codec, Result};
use crate::store::{Batch, CommitError, Engine, Op};

/// The journal that they are in.
const SUPERVISION_JOURNAL: &str = "supervision";

/// An instance that was given up on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailureRecord {
    /// When, as time since 1970-01-01 UTC.
    pub at: Duration,
    /// Whose it was.
    pub agent: AgentId,
    /// Which of its instances.
    pub instance: u32,
    /// What it said last.
    pub reason: String,
}

/// A record as it is stored: MessagePack, named fields.
#[derive(Serialize, Deserialize)]
struct Stored {
    at_unix_ms: u64,
    agent: AgentId,
    instance: u32,
    /// Cut to [`REASON_BYTES_MAX`].
    reason: String,
}

/// Writes down that an instance was given up on. Nobody waits for it.
pub(crate) fn record(core: &Core, agent: &AgentId, instance: u32, reason: &str) {
    let stored = Stored {
        at_unix_ms: core.unix_ms(),
        agent: agent.clone(),
        instance,
        reason: reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].to_owned(),
    };
    let bytes: Bytes = match Codec::MessagePack.encode(&stored) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(%agent, %error, "the record of a failed agent can't be encoded");
            return;
        }
    };
    let batch = Batch::new().journal_append(SUPERVISION_JOURNAL.to_owned(), bytes, None);
    let commit = core.engine.commit(batch);
    let engine = Arc::clone(&core.engine);
    let agent = agent.clone();
    core.tasks.spawn(async move {
        let recorded = async {
            let committed = commit.await?;
            if let Some(before) = committed.seqs.last().and_then(|number| outdated(*number)) {
                let journal = SUPERVISION_JOURNAL.to_owned();
                let trim = Op::JournalTrim { journal, before };
                engine.commit(Batch::new().with(trim)).await?;
            }
            Ok::<(), CommitError>(())
        };
        if let Err(error) = recorded.await {
            tracing::error!(%agent, %error, "a failed agent could not be recorded");
        }
    });
}

/// Where the records end that are too many, looked at once for every 64 new ones.
fn outdated(number: u64) -> Option<u64> {
    let kept = FAILURE_RECORDS_MAX as u64;
    (number.is_multiple_of(64) && number >= kept).then(|| number + 1 - kept)
}

/// The last `limit` records, the oldest of them first.
pub(crate) async fn records(engine: &dyn Engine, limit: usize) -> Result<Vec<FailureRecord>> {
    let end = engine.journal_end(SUPERVISION_JOURNAL).await?;
    let mut from = end.saturating_sub(limit as u64);
    let mut records = Vec::new();
    while from < end {
        let wanted = usize::try_from(end - from).unwrap_or(usize::MAX);
        let page = engine
            .journal_page(SUPERVISION_JOURNAL, from, wanted)
            .await?;
        let Some(last) = page.last() else { break };
        from = last.seq + 1;
        for entry in page {
            let stored: Stored = Codec::MessagePack.decode(&entry.bytes)?;
            records.push(FailureRecord {
                at: Duration::from_millis(stored.at_unix_ms),
                agent: stored.agent,
                instance: stored.instance,
                reason: stored.reason,
            });
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_records_are_kept() {
        let kept = FAILURE_RECORDS_MAX as u64;
        assert_eq!(outdated(64), None);
        let number = kept.next_multiple_of(64);
        assert_eq!(outdated(number), Some(number + 1 - kept));
        assert_eq!(outdated(number + 1), None);
    }
}
