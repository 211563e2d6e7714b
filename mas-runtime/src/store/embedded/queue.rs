//! Where batches wait for the committer: in the order of the calls, with a bound on what nobody waits for any more.
//!
//! The first [`COMMIT_QUEUE_MAX`] batches, within [`COMMIT_QUEUE_BYTES_MAX`], are taken: they are committed whatever
//! becomes of their futures. Batches behind them stand in line with their future and leave with it. So the order is always
//! that of the calls, senders wait when there are too many, and what nobody waits for stays bounded.
//!
//! The engine's own work, a [`Chore`], waits beside the line: its turn comes when nobody waits, or after some groups.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::oneshot;

use super::committer::Chore;
use crate::model::limits::{COMMIT_GROUP_BYTES_MAX, COMMIT_QUEUE_BYTES_MAX, COMMIT_QUEUE_MAX};
use crate::store::{Batch, CommitError, Committed};

/// What a commit answers.
pub(super) type Answer = Result<Committed, CommitError>;

/// Groups that go before a chore which waits.
const GROUPS_BEFORE_CHORE: u32 = 16;

/// The queue between those who commit and the committer.
#[derive(Default)]
pub(super) struct Queue {
    line: Mutex<Line>,
    /// Signals the committer: a batch came, or the end.
    news: Condvar,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    chore: Option<Chore>,
    /// Groups that went before the chore.
    groups_before: u32,
    /// Numbers given to batches so far.
    numbers: u64,
    end: End,
    /// Whether the engine's owner has closed it, failed or not.
    closed: bool,
}

/// Whether batches are taken.
#[derive(Default)]
enum End {
    #[default]
    Open,
    /// What is here is still committed.
    Closed,
    /// Nothing is committed any more.
    Failed(Arc<str>),
}

impl End {
    fn error(&self) -> Option<CommitError> {
        match self {
            Self::Open => None,
            Self::Closed => Some(CommitError::Closed),
            Self::Failed(reason) => Some(CommitError::Failed {
                reason: Arc::clone(reason),
            }),
        }
    }
}

/// A batch in the line.
pub(super) struct Waiting {
    number: u64,
    bytes: usize,
    pub(super) batch: Batch,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// What the committer finds when it looks for work.
pub(super) enum Work {
    /// Batches to commit together, in order.
    Group(Vec<Waiting>),
    /// Work of the engine's own.
    Chore(Chore),
    /// None came in time.
    Idle,
    /// None will come any more.
    End,
}

impl Queue {
    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing panics while the line is half changed.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a batch at the end of the line.
    pub(super) fn push(self: &Arc<Self>, batch: Batch) -> Result<Ticket, CommitError> {
        let bytes = batch.payload_bytes();
        let (answer, answered) = oneshot::channel();
        let mut line = self.line();
        if line.closed {
            return Err(CommitError::Closed);
        }
        if let Some(error) = line.end.error() {
            return Err(error);
        }
        let number = line.numbers;
        line.numbers += 1;
        line.waiting.push_back(Waiting {
            number,
            bytes,
            batch,
            answer,
        });
        drop(line);
        self.news.notify_one();
        Ok(Ticket {
            queue: Arc::clone(self),
            number,
            answered,
            settled: false,
        })
    }

    /// Leaves a chore to the committer, which drops it when the queue ends before its turn. One at a time waits.
    pub(super) fn push_chore(&self, chore: Chore) {
        let mut line = self.line();
        if line.end.error().is_none() {
            line.chore = Some(chore);
            line.groups_before = 0;
        }
        drop(line);
        self.news.notify_one();
    }

    /// Waits for work, at most for `patience` when it is given. It may come back early with [`Work::Idle`].
    pub(super) fn next(&self, patience: Option<Duration>) -> Work {
        let mut line = self.line();
        if line.waiting.is_empty() && line.chore.is_none() && line.end.error().is_none() {
            line = match patience {
                None => self.news.wait(line).unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    let waited = self.news.wait_timeout(line, patience);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        if (line.waiting.is_empty() || line.groups_before >= GROUPS_BEFORE_CHORE)
            && let Some(chore) = line.chore.take()
        {
            return Work::Chore(chore);
        }
        if !line.waiting.is_empty() {
            line.groups_before = line.groups_before.saturating_add(1);
            let count = taken(&line.waiting, COMMIT_GROUP_BYTES_MAX).max(1);
            return Work::Group(line.waiting.drain(..count).collect());
        }
        match line.end {
            End::Open => Work::Idle,
            End::Closed | End::Failed(_) => Work::End,
        }
    }

    /// Takes no more batches. Those that are here are still committed.
    pub(super) fn close(&self) {
        let mut line = self.line();
        line.closed = true;
        line.chore = None;
        if matches!(line.end, End::Open) {
            line.end = End::Closed;
        }
        drop(line);
        self.news.notify_all();
    }

    /// Waits until the queue is closed.
    pub(super) fn wait_closed(&self) {
        let mut line = self.line();
        while !line.closed {
            line = self.news.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many batches wait.
    pub(super) fn len(&self) -> usize {
        self.line().waiting.len()
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.line().waiting.is_empty()
    }

    /// Whether the queue was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.line().closed
    }

    /// Commits nothing any more, and tells everybody why.
    pub(super) fn fail(&self, reason: Arc<str>) {
        let mut line = self.line();
        let waiting = std::mem::take(&mut line.waiting);
        line.chore = None;
        line.end = End::Failed(Arc::clone(&reason));
        drop(line);
        for Waiting { answer, .. } in waiting {
            let reason = Arc::clone(&reason);
            // Who dropped the future does not want the answer.
            let _ = answer.send(Err(CommitError::Failed { reason }));
        }
    }

    /// Why nothing is taken, if so.
    fn error(&self) -> Option<CommitError> {
        self.line().end.error()
    }

    /// Takes a batch out of the line whose future is gone, unless it is among those that are taken.
    fn withdraw(&self, number: u64) {
        let mut line = self.line();
        let place = line.waiting.binary_search_by_key(&number, |w| w.number);
        if let Ok(place) = place
            && place >= taken(&line.waiting, COMMIT_QUEUE_BYTES_MAX)
        {
            drop(line.waiting.remove(place));
        }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.line().waiting.len();
        f.debug_struct("Queue")
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

/// How many batches, from the front of the line, hold at most `bytes_max` and are at most [`COMMIT_QUEUE_MAX`].
fn taken(waiting: &VecDeque<Waiting>, bytes_max: usize) -> usize {
    let mut bytes = 0;
    waiting
        .iter()
        .take(COMMIT_QUEUE_MAX)
        .take_while(|waiting| {
            bytes += waiting.bytes;
            bytes <= bytes_max
        })
        .count()
}

/// A place in the line: the future of one commit.
pub(super) struct Ticket {
    queue: Arc<Queue>,
    number: u64,
    answered: oneshot::Receiver<Answer>,
    settled: bool,
}

impl Future for Ticket {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let answer = ready!(Pin::new(&mut self.answered).poll(cx));
        self.settled = true;
        Poll::Ready(answer.unwrap_or_else(|_| {
            // The committer went down with the batch in hand: it may be stored, whatever the queue says by now.
            match self.queue.error() {
                Some(error @ CommitError::Failed { .. }) => Err(error),
                _ => Err(CommitError::Failed {
                    reason: "the committer was lost".into(),
                }),
            }
        }))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled {
            self.queue.withdraw(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::model::AgentId;
    use crate::store::Op;

    fn batch(seq: u64) -> Batch {
        Batch::new().dead_remove(seq)
    }

    /// The numbers of the batches that the committer would take next.
    fn group(queue: &Queue) -> Vec<u64> {
        let Work::Group(group) = queue.next(Some(Duration::ZERO)) else {
            return Vec::new();
        };
        let number = |waiting: Waiting| match waiting.batch.ops() {
            [Op::DeadRemove { seq }] => *seq,
            _ => u64::MAX,
        };
        group.into_iter().map(number).collect()
    }

    #[test]
    fn what_is_taken_stays_and_what_stands_behind_leaves_with_its_future() {
        let queue = Arc::new(Queue::default());
        let max = COMMIT_QUEUE_MAX as u64;
        let mut tickets: Vec<_> = (0..max + 3)
            .map(|n| queue.push(batch(n)).unwrap())
            .collect();
        drop(tickets.remove(max as usize + 1));
        drop(tickets.remove(max as usize - 1));
        drop(tickets.remove(0));
        assert_eq!(group(&queue), (0..max).collect::<Vec<_>>());
        assert_eq!(group(&queue), [max, max + 2]);
    }

    #[test]
    fn the_bytes_of_what_is_taken_are_bounded_too() {
        let queue = Arc::new(Queue::default());
        let large = |n: u64| {
            let half = vec![0; COMMIT_QUEUE_BYTES_MAX / 2];
            let agent = AgentId::new("a").unwrap();
            queue.push(batch(n).outbox_put(agent, half.into())).unwrap()
        };
        let mut tickets: Vec<_> = (0..3).map(large).collect();
        drop(tickets.pop());
        drop(tickets.pop());
        assert_eq!(
            queue.line().waiting.len(),
            2,
            "the third had no room and left"
        );
    }

    #[test]
    fn a_group_ends_at_its_bytes_but_holds_one() {
        let queue = Arc::new(Queue::default());
        let agent = AgentId::new("a").unwrap();
        let tickets: Vec<_> = [COMMIT_GROUP_BYTES_MAX + 1, 1, COMMIT_GROUP_BYTES_MAX - 1, 1]
            .map(|bytes| {
                let bytes = vec![0; bytes].into();
                queue
                    .push(Batch::new().outbox_put(agent.clone(), bytes))
                    .unwrap()
            })
            .into();
        let sizes: Vec<_> = (0..3).map(|_| group(&queue).len()).collect();
        assert_eq!(sizes, [1, 2, 1]);
        drop(tickets);
    }

    #[test]
    fn a_closed_queue_drains() {
        let queue = Arc::new(Queue::default());
        let _ticket = queue.push(batch(1)).unwrap();
        queue.close();
        assert!(matches!(queue.push(batch(2)), Err(CommitError::Closed)));
        assert_eq!(group(&queue), [1]);
        assert!(matches!(queue.next(None), Work::End));
    }

    #[test]
    fn a_chore_yields_to_batches_but_not_for_ever() {
        let queue = Arc::new(Queue::default());
        let chore = || {
            let (answer, answered) = oneshot::channel();
            queue.push_chore(Chore::PartLog(answer));
            answered
        };
        let is_chore = || matches!(queue.next(Some(Duration::ZERO)), Work::Chore(_));
        let mut answered = chore();
        let mut groups = 0;
        loop {
            let _ticket = queue.push(batch(1)).unwrap();
            if is_chore() {
                break;
            }
            groups += 1;
        }
        assert_eq!(groups, GROUPS_BEFORE_CHORE);
        assert!(answered.try_recv().is_err());
        assert_eq!(group(&queue), [1]);
        let _answered = chore();
        assert!(is_chore() && !is_chore());
        let answered = chore();
        queue.close();
        assert!(matches!(queue.next(None), Work::End));
        assert!(answered.now_or_never().unwrap().is_err(), "it is dropped");
        assert!(chore().now_or_never().unwrap().is_err());
    }

    #[test]
    fn a_failed_queue_answers_everybody() {
        let queue = Arc::new(Queue::default());
        let ticket = queue.push(batch(1)).unwrap();
        queue.fail("why".into());
        let answer = ticket.now_or_never().unwrap();
        assert!(matches!(answer, Err(CommitError::Failed { reason }) if &*reason == "why"));
        assert!(matches!(
            queue.push(batch(2)),
            Err(CommitError::Failed { .. })
        ));
        assert!(matches!(queue.next(None), Work::End));
        queue.close();
        assert!(matches!(queue.push(batch(3)), Err(CommitError::Closed)));
    }

    #[test]
    fn a_lost_committer_is_told() {
        let queue = Arc::new(Queue::default());
        let ticket = queue.push(batch(1)).unwrap();
        drop(queue.next(None));
        let answer = ticket.now_or_never().unwrap();
        assert!(matches!(answer, Err(CommitError::Failed { .. })));
    }
}
