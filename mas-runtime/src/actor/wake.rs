//! The wake flag of a mailbox: whoever puts an envelope in learns whether, and how, its consumer must be woken.
//!
//! It is a module of its own that depends on nothing else, so that loom can check it (`RUSTFLAGS="--cfg mas_loom"`).
//!
//! A consumer is *busy* (it will look into the mailbox again by itself), *absent* (its actor waits for its first message), or
//! its task waits and can be woken by its waker: *idle* with nothing to do, *parked* while handlers run that wait. Calling
//! order of the consumer: find the mailbox empty, [`Wake::idle`] or [`Wake::park`], **look again**, and [`Wake::rise`] if
//! something is there after all.

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
const ABSENT: u8 = 1;
const PARKED: u8 = 2;
const IDLE: u8 = 3;

/// What the producer must do after it put something in.
#[derive(Debug)]
pub(crate) enum Ring {
    /// Nothing: the consumer will look again.
    Nothing,
    /// Send the actor a message.
    Actor,
    /// Wake the consumer's task.
    Task(Option<Waker>),
}

#[derive(Debug)]
pub(crate) struct Wake {
    state: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl Wake {
    /// The flag of a consumer that has not come yet.
    pub(crate) fn new() -> Self {
        Self {
            state: AtomicU8::new(ABSENT),
            waker: Mutex::new(None),
        }
    }

    /// The producer's part, after it put something in.
    pub(crate) fn ring(&self) -> Ring {
        if self.state.load(Ordering::SeqCst) == BUSY {
            return Ring::Nothing;
        }
        match self.state.swap(BUSY, Ordering::SeqCst) {
            ABSENT => Ring::Actor,
            PARKED | IDLE => Ring::Task(self.waker().take()),
            _ => Ring::Nothing,
        }
    }

    /// A consumer will come when its actor gets a message.
    pub(crate) fn expect(&self) {
        self.change(ABSENT);
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

    /// Two producers and one consumer: whatever was put in is taken, or somebody was told to wake the consumer.
    #[test]
    fn no_wake_up_is_lost() {
        loom::model(|| {
            let wake = Arc::new(Wake::new());
            let queue = Arc::new(Mutex::new(0_usize));
            let calls = Arc::new(AtomicUsize::new(0));
            wake.rise();
            let producers: Vec<_> = (0..2)
                .map(|_| {
                    let (wake, queue, calls) = (wake.clone(), queue.clone(), calls.clone());
                    thread::spawn(move || {
                        *queue.lock().unwrap() += 1;
                        if matches!(wake.ring(), Ring::Actor) {
                            calls.fetch_add(1, Ordering::SeqCst);
                        }
                    })
                })
                .collect();
            let taken = std::mem::take(&mut *queue.lock().unwrap());
            wake.expect();
            let late = *queue.lock().unwrap() > 0;
            if late {
                wake.rise();
            }
            for producer in producers {
                producer.join().unwrap();
            }
            let left = *queue.lock().unwrap();
            let woken = calls.load(Ordering::SeqCst) > 0;
            assert!(
                left == 0 || late || woken,
                "taken {taken}, left {left}, nobody woke the consumer"
            );
        });
    }

    /// A task's waker that counts.
    struct Counting(AtomicUsize);

    impl std::task::Wake for Counting {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Two producers and a consumer that waits in its task, and is polled twice: as when a handler that it runs has ended.
    /// Whatever is left is behind a wake-up that came after the last poll began.
    #[test]
    fn no_wake_up_of_a_parked_consumer_is_lost() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let wake = Arc::new(Wake::new());
            let queue = Arc::new(Mutex::new(0_usize));
            let actor = Arc::new(AtomicUsize::new(0));
            let task = std::sync::Arc::new(Counting(AtomicUsize::new(0)));
            wake.rise();
            let producers: Vec<_> = (0..2)
                .map(|_| {
                    let (wake, queue, actor) = (wake.clone(), queue.clone(), actor.clone());
                    thread::spawn(move || {
                        *queue.lock().unwrap() += 1;
                        match wake.ring() {
                            Ring::Task(Some(waker)) => waker.wake(),
                            Ring::Actor => {
                                actor.fetch_add(1, Ordering::SeqCst);
                            }
                            Ring::Task(None) | Ring::Nothing => {}
                        }
                    })
                })
                .collect();
            let waker = Waker::from(task.clone());
            let mut woken_before = 0;
            let mut looks_again = false;
            for _ in 0..2 {
                woken_before = task.0.load(Ordering::SeqCst);
                wake.rise();
                *queue.lock().unwrap() = 0;
                wake.park(&waker);
                looks_again = *queue.lock().unwrap() > 0;
                if looks_again {
                    wake.rise();
                }
            }
            for producer in producers {
                producer.join().unwrap();
            }
            let left = *queue.lock().unwrap();
            let woken = task.0.load(Ordering::SeqCst) > woken_before;
            assert!(
                left == 0 || looks_again || woken,
                "left {left}, nobody woke the consumer"
            );
            let rung = actor.load(Ordering::SeqCst);
            assert_eq!(rung, 0, "its actor waits for its task, and hears nothing");
        });
    }
}

#[cfg(all(test, not(mas_loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_ring_wakes() {
        let wake = Wake::new();
        assert!(matches!(wake.ring(), Ring::Actor));
        assert!(matches!(wake.ring(), Ring::Nothing));
        wake.park(Waker::noop());
        assert!(matches!(wake.ring(), Ring::Task(Some(_))));
        assert!(matches!(wake.ring(), Ring::Nothing));
        wake.expect();
        wake.rise();
        assert!(matches!(wake.ring(), Ring::Nothing));
    }
}
