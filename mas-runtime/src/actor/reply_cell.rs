//! Where one reply is waited for, and how that wait ends at its deadline.
//!
//! Most asks are answered within moments. A timer of tokio's for each of them would cost more than the ask, so an ask that
//! waits is noted among the [`Young`], and takes a timer only if it still waits some milliseconds later.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use super::delivery::Answer;
use super::tasks::Tasks;

/// After this long, or up to twice as long, an ask that still waits takes a timer of its own.
pub(crate) const YOUNG: Duration = Duration::from_millis(5);

/// Where one reply is waited for.
struct Cell {
    state: Mutex<State>,
    /// Whether nobody waits any more. It is set under the lock, and read without.
    over: AtomicBool,
}

enum State {
    Waiting(Option<Waker>),
    Answered(Answer),
    /// The answer has been taken, or one of the two has gone.
    Over,
}

impl Cell {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// The side that answers, until it has.
pub(crate) struct ReplySender(Option<Arc<Cell>>);

/// The side that waits, until the answer is here.
pub(crate) struct ReplyReceiver(Option<Arc<Cell>>);

/// A place for one reply.
pub(crate) fn reply_cell() -> (ReplySender, ReplyReceiver) {
    let cell = Arc::new(Cell {
        state: Mutex::new(State::Waiting(None)),
        over: AtomicBool::new(false),
    });
    (
        ReplySender(Some(Arc::clone(&cell))),
        ReplyReceiver(Some(cell)),
    )
}

impl ReplySender {
    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.as_ref().is_none_or(|cell| cell.is_over())
    }

    /// Answers. False when nobody waits any more.
    pub(crate) fn send(mut self, answer: Answer) -> bool {
        let Some(cell) = self.0.take() else {
            return false;
        };
        let mut state = cell.state();
        let State::Waiting(waker) = &mut *state else {
            return false;
        };
        let waker = waker.take();
        *state = State::Answered(answer);
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

impl Drop for ReplySender {
    fn drop(&mut self) {
        let Some(cell) = self.0.take() else {
            return;
        };
        let mut state = cell.state();
        if let State::Waiting(waker) = &mut *state {
            let waker = waker.take();
            *state = State::Over;
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl ReplyReceiver {
    /// The answer, once it is here; `None` when there will be none.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<Answer>> {
        let Some(cell) = &self.0 else {
            return Poll::Ready(None);
        };
        let mut state = cell.state();
        if let State::Waiting(waker) = &mut *state {
            match waker {
                Some(own) if own.will_wake(cx.waker()) => {}
                other => *other = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        let answer = match std::mem::replace(&mut *state, State::Over) {
            State::Answered(answer) => Some(answer),
            State::Waiting(_) | State::Over => None,
        };
        drop(state);
        self.0 = None;
        Poll::Ready(answer)
    }
}

impl Drop for ReplyReceiver {
    fn drop(&mut self) {
        let Some(cell) = self.0.take() else {
            return;
        };
        let mut state = cell.state();
        cell.over.store(true, Ordering::Release);
        let left = std::mem::replace(&mut *state, State::Over);
        drop(state);
        // An answer that nobody has taken may run code of its author's as it goes.
        drop(left);
    }
}

/// The asks that have begun to wait a moment ago, and those that have been woken since.
#[derive(Default)]
pub(crate) struct Young {
    state: Mutex<Asks>,
}

#[derive(Default)]
struct Asks {
    waiting: Slab<(Arc<Cell>, Age)>,
    /// Whether somebody will look after them.
    watched: bool,
}

/// How often the watch has come by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    New,
    Seen,
    Woken,
}

impl Young {
    /// Wakes whoever waits for this reply once it is not young any more. Gives the number to [`Young::forget`] it by.
    pub(crate) fn note(self: &Arc<Self>, reply: &ReplyReceiver, tasks: &Tasks) -> Option<usize> {
        let cell = Arc::clone(reply.0.as_ref()?);
        let mut state = self.state();
        let number = state.waiting.insert((cell, Age::New));
        if !std::mem::replace(&mut state.watched, true) {
            drop(state);
            tasks.spawn(Watch(Some(Arc::clone(self))).run());
        }
        Some(number)
    }

    /// Whether the one of this number has been woken, for it is not young any more.
    pub(crate) fn has_grown(&self, number: usize) -> bool {
        let state = self.state();
        let age = state.waiting.get(number).map(|(_, age)| *age);
        age.is_none_or(|age| age == Age::Woken)
    }

    /// The reply is here, or is waited for in another way, or not any more.
    pub(crate) fn forget(&self, number: usize) {
        let forgotten = self.state().waiting.try_remove(number);
        drop(forgotten);
    }

    /// Comes by once: those that have grown since it came last are woken. False when none is young.
    fn look(&self) -> bool {
        let mut young = false;
        let mut grown = Vec::new();
        let mut state = self.state();
        for (_, (cell, age)) in &mut state.waiting {
            match age {
                Age::New => {
                    *age = Age::Seen;
                    young = true;
                }
                Age::Seen => {
                    *age = Age::Woken;
                    grown.push(Arc::clone(cell));
                }
                Age::Woken => {}
            }
        }
        if state.waiting.is_empty() {
            // What a burst has left: each look would go through all of it.
            state.waiting = Slab::new();
        }
        state.watched = young;
        drop(state);
        for cell in grown {
            let waker = match &*cell.state() {
                State::Waiting(waker) => waker.clone(),
                State::Answered(_) | State::Over => None,
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        young
    }

    fn state(&self) -> MutexGuard<'_, Asks> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who looks after the asks. Dropped before none is young, with its task, it leaves that to the next.
struct Watch(Option<Arc<Young>>);

impl Watch {
    async fn run(mut self) {
        while let Some(young) = &self.0 {
            tokio::time::sleep(YOUNG).await;
            if !young.look() {
                self.0 = None;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(young) = &self.0 {
            young.state().watched = false;
        }
    }
}

impl fmt::Debug for Young {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Young")
            .field("waiting", &self.state().waiting.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Payload;
    use std::future::poll_fn;

    #[tokio::test]
    async fn a_reply_arrives_once() {
        let (sender, mut receiver) = reply_cell();
        let waits = tokio::spawn(async move {
            let first = poll_fn(|cx| receiver.poll(cx)).await;
            (
                first.is_some(),
                poll_fn(|cx| receiver.poll(cx)).await.is_none(),
            )
        });
        tokio::task::yield_now().await;
        assert!(sender.send(Ok(Payload::empty())));
        assert_eq!(waits.await.unwrap(), (true, true));
    }

    #[tokio::test]
    async fn each_side_learns_that_the_other_has_gone() {
        let (sender, mut receiver) = reply_cell();
        drop(sender);
        assert!(poll_fn(|cx| receiver.poll(cx)).await.is_none());
        let (sender, receiver) = reply_cell();
        assert!(!sender.is_closed());
        drop(receiver);
        assert!(sender.is_closed());
        assert!(!sender.send(Ok(Payload::empty())));
    }

    #[tokio::test(start_paused = true)]
    async fn an_ask_that_is_not_young_any_more_is_woken() {
        let (young, tasks) = (Arc::new(Young::default()), Tasks::here());
        let (_sender, mut receiver) = reply_cell();
        let mut polls = 0;
        let woken = poll_fn(|cx| {
            assert!(receiver.poll(cx).is_pending());
            if polls == 0 {
                young.note(&receiver, &tasks);
            }
            polls += 1;
            if polls == 2 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        let is_woken = tokio::select! {
            biased;
            // First, or a poll for its sake would pass for one that the watch has made.
            () = tokio::time::sleep(3 * YOUNG) => false,
            () = woken => true,
        };
        assert!(is_woken);
        tasks.close();
        tasks.wait().await;
        assert!(!young.state().watched, "nobody watches over nobody");
    }

    #[tokio::test(start_paused = true)]
    async fn an_ask_that_is_forgotten_leaves_the_others_in_peace() {
        let (young, tasks) = (Arc::new(Young::default()), Tasks::here());
        let cells: Vec<_> = (0..3).map(|_| reply_cell()).collect();
        let note = |place: usize| young.note(&cells[place].1, &tasks).unwrap();
        let (first, second) = (note(0), note(1));
        young.forget(first);
        assert_eq!(note(2), first, "its number is free again");
        tokio::time::sleep(3 * YOUNG).await;
        assert!(young.has_grown(first) && young.has_grown(second));
        assert!(!young.state().watched, "all have been woken");
        young.forget(first);
        assert!(
            young.has_grown(first),
            "one that nobody knows needs no watch"
        );
        assert!(young.has_grown(second));
        young.forget(second);
        assert!(young.state().waiting.is_empty());
        let third = note(2);
        assert!(young.state().watched && !young.has_grown(third));
        tasks.close();
        tasks.wait().await;
        assert!(young.has_grown(third));
    }
}
