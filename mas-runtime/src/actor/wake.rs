//! The wake flag of a mailbox: whoever puts an envelope in learns whether, and how, its consumer must be woken.
//!
//! It is a module of its own that depends on nothing else, so that loom can check it (`RUSTFLAGS="--cfg mas_loom"`).
//!
//! A consumer is *busy* (it will look into the mailbox again by itself; so will one that has yet to come), or its task waits
//! and can be woken by its waker: *idle* with nothing to do, *parked* while handlers run that wait. Calling order of the
//! consumer: find the mailbox empty, [`Wake::idle`] or [`Wake::park`], **look again**, and [`Wake::rise`] if something is
//! there after all.

#[cfg(not(mas_loom))]
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU8, Ordering},
};

#[cfg(mas_loom)]
use loom::sync::{
    Mutex,
    atomic::{AtomicU8, Ordering},
};
#[cfg(mas_loom)]
use std::sync::PoisonError;
use std::task::Waker;

const BUSY: u8 = 0;
const PARKED: u8 = 1;
const IDLE: u8 = 2;

#[derive(Debug)]
pub(crate) struct Wake {
    state: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl Wake {
    /// The flag of a consumer that looks when it comes.
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU8::new(BUSY),
            waker: Mutex::new(None),
        }
    }

    /// The producer's part, after it put something in: whom to wake, if anybody waits.
    pub(crate) fn ring(&self) -> Option<Waker> {
        if self.state.load(Ordering::SeqCst) == BUSY {
            return None;
        }
        match self.state.swap(BUSY, Ordering::SeqCst) {
            BUSY => None,
            _ => self.waker().take(),
        }
    }

    /// The consumer found nothing, and waits with this waker for handlers that run.
    pub(crate) fn park(&self, waker: &Waker) {
        self.wait(waker, PARKED);
    }

    /// The consumer found nothing, and waits with this waker for something to do.
    pub(crate) fn idle(&self, waker: &Waker) {
        self.wait(waker, IDLE);
    }

    fn wait(&self, waker: &Waker, state: u8) {
        let mut slot = self.waker();
        match &mut *slot {
            Some(old) if old.will_wake(waker) => {}
            other => *other = Some(waker.clone()),
        }
        drop(slot);
        self.change(state);
    }

    /// Whether somebody has rung since the consumer began to wait, or nobody waits.
    pub(crate) fn has_rung(&self) -> bool {
        self.state.load(Ordering::SeqCst) == BUSY
    }

    /// The consumer goes on by itself.
    pub(crate) fn rise(&self) {
        self.change(BUSY);
    }

    /// Nobody will wait here any more: the task of the last one is let go.
    pub(crate) fn end(&self) {
        self.change(BUSY);
        let waker = self.waker().take();
        drop(waker);
    }

    /// A swap, as in `ring`: loom knows in which order swaps come, and not where a plain store stands among them.
    fn change(&self, state: u8) {
        self.state.swap(state, Ordering::SeqCst);
    }

    /// Whether the consumer is at work, as far as one can tell from outside.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.state.load(Ordering::Relaxed), BUSY | PARKED)
    }

    fn waker(&self) -> impl std::ops::DerefMut<Target = Option<Waker>> + '_ {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, mas_loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    /// A task's waker that counts.
    struct Counting(AtomicUsize);

    impl std::task::Wake for Counting {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Runs a consumer beside two producers that put one in each. It gives how often it had been woken when its last poll
    /// began, and whether it waits since: then whatever is left is behind a later wake-up.
    fn check(consume: fn(&Wake, &Mutex<usize>, &std::sync::Arc<Counting>) -> (usize, bool)) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let wake = Arc::new(Wake::new());
            let queue = Arc::new(Mutex::new(0_usize));
            let task = std::sync::Arc::new(Counting(AtomicUsize::new(0)));
            let producers: Vec<_> = (0..2)
                .map(|_| {
                    let (wake, queue) = (wake.clone(), queue.clone());
                    thread::spawn(move || {
                        *queue.lock().unwrap() += 1;
                        if let Some(waker) = wake.ring() {
                            waker.wake();
                        }
                    })
                })
                .collect();
            let (woken_before, waits) = consume(&wake, &queue, &task);
            for producer in producers {
                producer.join().unwrap();
            }
            let left = *queue.lock().unwrap();
            let woken = task.0.load(Ordering::SeqCst) > woken_before;
            assert!(
                left == 0 || !waits || woken,
                "left {left}, nobody woke the consumer"
            );
        });
    }

    /// It waits for something to do, as `pump::idle` does, and is polled three times, woken or not.
    #[test]
    fn no_wake_up_of_an_idle_consumer_is_lost() {
        check(|wake, queue, task| {
            let waker = Waker::from(task.clone());
            let mut waits = false;
            let mut woken_before = 0;
            for _ in 0..3 {
                woken_before = task.0.load(Ordering::SeqCst);
                if !(waits && wake.has_rung()) {
                    waits = true;
                    wake.idle(&waker);
                    if *queue.lock().unwrap() == 0 {
                        continue;
                    }
                    wake.rise();
                }
                *queue.lock().unwrap() = 0;
                waits = false;
            }
            (woken_before, waits)
        });
    }

    /// It waits for its handlers, and is polled twice: as when one of them has ended.
    #[test]
    fn no_wake_up_of_a_parked_consumer_is_lost() {
        check(|wake, queue, task| {
            let waker = Waker::from(task.clone());
            let mut waits = false;
            let mut woken_before = 0;
            for _ in 0..2 {
                woken_before = task.0.load(Ordering::SeqCst);
                wake.rise();
                *queue.lock().unwrap() = 0;
                wake.park(&waker);
                waits = *queue.lock().unwrap() == 0;
                if !waits {
                    wake.rise();
                }
            }
            (woken_before, waits)
        });
    }
}

#[cfg(all(test, not(mas_loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_ring_wakes() {
        let wake = Wake::new();
        assert!(wake.ring().is_none(), "it looks when it comes");
        for wait in [Wake::park, Wake::idle] {
            wait(&wake, Waker::noop());
            assert!(!wake.has_rung());
            assert!(wake.ring().is_some());
            assert!(wake.has_rung());
            assert!(wake.ring().is_none());
        }
        wake.idle(Waker::noop());
        wake.rise();
        assert!(wake.ring().is_none());
    }
}
