//! The mailbox of one instance: bounded lanes, senders that wait in line, the wake flag, and what the instance is told
//! besides envelopes.
//!
//! It outlives the actor that empties it: a crash loses nothing that waits.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::agent::Overflow;
use super::delivery::Delivery;
use super::lanes::Lanes;
use super::wake::Wake;
use crate::model::Priority;

pub(crate) struct Mailbox {
    state: Mutex<State>,
    wake: Wake,
    /// An [`Order`]. It stands here since the instance looks for it as often as for envelopes.
    order: AtomicU8,
    overflow: Overflow,
    /// Envelopes a lane.
    capacity: usize,
}

struct State {
    lanes: Lanes<Delivery>,
    /// Senders in line, the first first. Each holds its own envelope.
    line: VecDeque<(Priority, Arc<Place>)>,
    closed: bool,
    /// How often something was taken out.
    taken: u64,
}

/// What an instance is told to do when it has a moment; a greater one is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Run = 0,
    /// End after what runs now, and start again.
    Restart = 1,
    /// End after what runs now, because the agent wants it.
    Quit = 2,
    /// End after what runs now.
    Stop = 3,
}

/// A sender's place in line.
struct Place(Mutex<Waiting>);

enum Waiting {
    InLine(Delivery, Waker),
    Taken,
    Closed(Delivery),
    /// The delivery went back to the sender, or the sender has gone.
    Left,
}

/// What became of a delivery that was pushed.
pub(crate) enum Pushed {
    Accepted,
    /// Accepted, and this one, the oldest of its lane, had to go.
    Displaced(Delivery),
    /// There is no room for it.
    Full(Delivery),
    /// The mailbox is closed.
    Closed(Delivery),
}

impl Mailbox {
    pub(crate) fn new(capacity: usize, overflow: Overflow) -> Self {
        Self {
            state: Mutex::new(State {
                lanes: Lanes::new(),
                line: VecDeque::new(),
                closed: false,
                taken: 0,
            }),
            wake: Wake::new(),
            order: AtomicU8::new(Order::Run as u8),
            overflow,
            capacity,
        }
    }

    /// Puts a delivery in if its lane has room and nobody of its priority waits in line.
    pub(crate) fn push(&self, delivery: Delivery) -> Pushed {
        let priority = delivery.priority;
        let mut state = self.state();
        if state.closed {
            return Pushed::Closed(delivery);
        }
        let mut displaced = None;
        if state.lanes.lane_len(priority) >= self.capacity || state.has_line(priority) {
            if self.overflow != Overflow::DropOldest {
                return Pushed::Full(delivery);
            }
            displaced = state.lanes.pop_lane(priority);
        }
        state.lanes.push(priority, delivery);
        self.ring(state);
        displaced.map_or(Pushed::Accepted, Pushed::Displaced)
    }

    /// Puts an envelope in whatever the room: its number is bounded elsewhere. It comes back when the mailbox is closed.
    pub(crate) fn force(&self, delivery: Delivery) -> Result<(), Delivery> {
        let mut state = self.state();
        if state.closed {
            drop(state);
            return Err(delivery);
        }
        state.lanes.push(delivery.priority, delivery);
        self.ring(state);
        Ok(())
    }

    /// Waits in line. Dropped before it is ready, the future takes its envelope out of the line.
    pub(crate) fn wait(self: &Arc<Self>, delivery: Delivery) -> InLine {
        InLine {
            mailbox: Arc::clone(self),
            delivery: Some(delivery),
            place: None,
        }
    }

    /// Takes up to `count` envelopes out, by weight, and lets as many senders in from the line. The first is given, the
    /// others stand in `rest`.
    pub(crate) fn take(&self, count: usize, rest: &mut VecDeque<Delivery>) -> Option<Delivery> {
        let mut state = self.state();
        state.taken += 1;
        let first = state.lanes.pop();
        if state.lanes.len() > 0 {
            rest.extend(std::iter::from_fn(|| state.lanes.pop()).take(count - 1));
        }
        // Senders in line may refill empty lanes: what they bring is taken on the next call.
        self.let_in(state);
        first
    }

    /// Takes one envelope out for another instance.
    pub(crate) fn take_one(&self) -> Option<Delivery> {
        let mut state = self.state();
        let delivery = state.lanes.pop();
        self.let_in(state);
        delivery
    }

    fn let_in(&self, mut state: MutexGuard<'_, State>) {
        if state.line.is_empty() {
            return;
        }
        let woken = self.admit(&mut state);
        drop(state);
        for waker in woken {
            waker.wake();
        }
    }

    /// How many envelopes wait.
    pub(crate) fn len(&self) -> usize {
        self.state().lanes.len()
    }

    /// Lets senders in from the line once a lane is half empty: one that is woken then finds room for many messages,
    /// where one that is woken for each free place would sleep again after one.
    fn admit(&self, state: &mut State) -> Vec<Waker> {
        let mut woken = Vec::new();
        let half = self.capacity / 2;
        let low = |(priority, _): &(Priority, _)| state.lanes.lane_len(*priority) <= half;
        if !state.line.iter().any(low) {
            return woken;
        }
        let mut stay = VecDeque::with_capacity(state.line.len());
        for (priority, place) in std::mem::take(&mut state.line) {
            if state.lanes.lane_len(priority) >= self.capacity {
                stay.push_back((priority, place));
                continue;
            }
            let mut waiting = place.lock();
            match std::mem::replace(&mut *waiting, Waiting::Taken) {
                Waiting::InLine(delivery, waker) => {
                    state.lanes.push(priority, delivery);
                    woken.push(waker);
                }
                other => *waiting = other,
            }
        }
        state.line = stay;
        woken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state().lanes.len() == 0
    }

    /// How much there is to do: for choosing among instances. A closed mailbox comes last.
    pub(crate) fn load(&self) -> usize {
        let state = self.state();
        if state.closed {
            return usize::MAX;
        }
        state.lanes.len() + state.line.len() + usize::from(self.wake.is_busy())
    }

    /// How often the consumer has come.
    pub(crate) fn taken(&self) -> u64 {
        self.state().taken
    }

    /// What the instance is told.
    pub(crate) fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::Run,
            1 => Order::Restart,
            2 => Order::Quit,
            _ => Order::Stop,
        }
    }

    /// Tells the instance something. An order does not take back a stronger one.
    pub(crate) fn give(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
    }

    /// Takes an order back, unless there is another by now.
    pub(crate) fn clear_order(&self, order: Order) {
        let run = Order::Run as u8;
        let (done, not) = (Ordering::AcqRel, Ordering::Acquire);
        let _ = self.order.compare_exchange(order as u8, run, done, not);
    }

    pub(crate) const fn overflow(&self) -> Overflow {
        self.overflow
    }

    pub(crate) const fn wake(&self) -> &Wake {
        &self.wake
    }

    /// A consumer has come, which looks at everything first.
    pub(crate) fn begin(&self) {
        self.wake.rise();
    }

    /// Wakes the consumer although nothing was put in: it has something else to look at.
    pub(crate) fn nudge(&self) {
        self.ring(self.state());
    }

    /// Lets nobody in any more, and gives back whatever waits, also in line.
    pub(crate) fn close(&self) -> Vec<Delivery> {
        let mut state = self.state();
        state.closed = true;
        let left = state.lanes.drain();
        let line = std::mem::take(&mut state.line);
        drop(state);
        self.wake.end();
        for (_, place) in line {
            let mut waiting = place.lock();
            if let Waiting::InLine(delivery, waker) =
                std::mem::replace(&mut *waiting, Waiting::Left)
            {
                *waiting = Waiting::Closed(delivery);
                drop(waiting);
                waker.wake();
            }
        }
        left
    }

    /// Puts back what was taken but not begun, in front.
    pub(crate) fn put_back(&self, batch: impl DoubleEndedIterator<Item = Delivery>) {
        let mut state = self.state();
        for delivery in batch.rev() {
            state.lanes.push_front(delivery.priority, delivery);
        }
    }

    fn ring(&self, state: MutexGuard<'_, State>) {
        let waker = self.wake.ring();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_line(&self, priority: Priority) -> bool {
        !self.line.is_empty() && self.line.iter().any(|(other, _)| *other == priority)
    }
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Mailbox")
            .field("waiting", &state.lanes.len())
            .field("in_line", &state.line.len())
            .field("closed", &state.closed)
            .finish_non_exhaustive()
    }
}

/// A sender in line for room: ready when its envelope is in, or comes back because the mailbox closed.
pub(crate) struct InLine {
    mailbox: Arc<Mailbox>,
    delivery: Option<Delivery>,
    place: Option<Arc<Place>>,
}

impl Future for InLine {
    type Output = Result<(), Delivery>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(delivery) = self.delivery.take() {
            return self.enter(delivery, cx);
        }
        let Some(place) = self.place.clone() else {
            return Poll::Ready(Ok(()));
        };
        let mut waiting = place.lock();
        match std::mem::replace(&mut *waiting, Waiting::Left) {
            Waiting::InLine(delivery, waker) => {
                let waker = if waker.will_wake(cx.waker()) {
                    waker
                } else {
                    cx.waker().clone()
                };
                *waiting = Waiting::InLine(delivery, waker);
                Poll::Pending
            }
            Waiting::Taken | Waiting::Left => Poll::Ready(Ok(())),
            Waiting::Closed(delivery) => Poll::Ready(Err(delivery)),
        }
    }
}

impl InLine {
    /// The first poll: room may have come up meanwhile.
    fn enter(&mut self, delivery: Delivery, cx: &Context<'_>) -> Poll<Result<(), Delivery>> {
        let priority = delivery.priority;
        let mut state = self.mailbox.state();
        if state.closed {
            return Poll::Ready(Err(delivery));
        }
        if state.lanes.lane_len(priority) < self.mailbox.capacity && !state.has_line(priority) {
            state.lanes.push(priority, delivery);
            self.mailbox.ring(state);
            return Poll::Ready(Ok(()));
        }
        let waiting = Waiting::InLine(delivery, cx.waker().clone());
        let place = Arc::new(Place(Mutex::new(waiting)));
        state.line.push_back((priority, Arc::clone(&place)));
        drop(state);
        self.place = Some(place);
        Poll::Pending
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else {
            return;
        };
        let left = std::mem::replace(&mut *place.lock(), Waiting::Left);
        if matches!(left, Waiting::InLine(..)) {
            let mut state = self.mailbox.state();
            state.line.retain(|(_, other)| !Arc::ptr_eq(other, &place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Payload;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake as TaskWake;

    /// A sender's task: how often it was woken.
    #[derive(Default)]
    struct Sender(AtomicUsize);

    impl TaskWake for Sender {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Sender {
        fn woken(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    fn message() -> Delivery {
        Delivery::new(Payload::empty())
    }

    fn full(capacity: usize) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::new(capacity, Overflow::Wait));
        for _ in 0..capacity {
            assert!(matches!(mailbox.push(message()), Pushed::Accepted));
        }
        assert!(matches!(mailbox.push(message()), Pushed::Full(_)));
        mailbox
    }

    fn poll(line: &mut InLine, sender: &Arc<Sender>) -> Poll<Result<(), Delivery>> {
        let waker = Waker::from(Arc::clone(sender));
        Pin::new(line).poll(&mut Context::from_waker(&waker))
    }

    #[test]
    fn a_sender_in_line_is_woken_where_it_was_polled_last() {
        let mailbox = full(1);
        let mut line = mailbox.wait(message());
        let (first, second) = (Arc::new(Sender::default()), Arc::new(Sender::default()));
        assert!(poll(&mut line, &first).is_pending());
        assert!(poll(&mut line, &second).is_pending());
        assert!(mailbox.take(1, &mut VecDeque::new()).is_some());
        assert_eq!((first.woken(), second.woken()), (0, 1));
        assert!(matches!(poll(&mut line, &second), Poll::Ready(Ok(()))));
        assert_eq!(mailbox.len(), 1);
    }

    #[test]
    fn all_in_line_get_in_whoever_leaves() {
        for capacity in [1, 2, 3] {
            let mailbox = full(capacity);
            let sender = Arc::new(Sender::default());
            let mut lines: Vec<_> = (0..5).map(|_| mailbox.wait(message())).collect();
            for line in &mut lines {
                assert!(poll(line, &sender).is_pending());
            }
            lines.remove(2);
            lines.remove(0);
            let mut taken = 0;
            while mailbox.take(1, &mut VecDeque::new()).is_some() {
                taken += 1;
            }
            assert_eq!(taken, capacity + 3);
            assert_eq!(sender.woken(), 3);
            for line in &mut lines {
                assert!(matches!(poll(line, &sender), Poll::Ready(Ok(()))));
            }
        }
    }

    #[test]
    fn a_sender_in_line_gets_its_message_back_when_the_mailbox_closes() {
        let mailbox = full(1);
        let sender = Arc::new(Sender::default());
        let mut line = mailbox.wait(message());
        assert!(poll(&mut line, &sender).is_pending());
        assert_eq!(mailbox.close().len(), 1);
        assert_eq!(sender.woken(), 1);
        assert!(matches!(poll(&mut line, &sender), Poll::Ready(Err(_))));
        let mut late = mailbox.wait(message());
        assert!(matches!(poll(&mut late, &sender), Poll::Ready(Err(_))));
    }

    #[test]
    fn an_order_does_not_take_back_a_stronger_one() {
        let mailbox = Mailbox::new(1, Overflow::Wait);
        assert_eq!(mailbox.order(), Order::Run);
        mailbox.give(Order::Stop);
        mailbox.give(Order::Restart);
        assert_eq!(mailbox.order(), Order::Stop);
        mailbox.clear_order(Order::Restart);
        assert_eq!(mailbox.order(), Order::Stop);
        mailbox.clear_order(Order::Stop);
        assert_eq!(mailbox.order(), Order::Run);
    }
}
