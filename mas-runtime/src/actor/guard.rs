//! Running a user's code so that its panic, or its hanging, stays its own.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::turn::Turn;

/// How a user's future ended.
#[derive(Debug)]
pub(crate) enum Ran<T> {
    Done(T),
    TimedOut,
    /// What it said.
    Panicked(String),
}

/// Runs `future` as part of `turn`, which is lent to the thread during each poll: at most for `timeout`, with a warning at half of it.
///
/// A future that is ready at once costs no timer. It is pinned where it was made: it is not moved in here.
pub(crate) async fn run<T>(
    turn: &mut Option<Arc<Turn>>,
    mut future: Pin<&mut impl Future<Output = T>>,
    timeout: impl Fn() -> Duration,
    slow: impl Fn(&Turn, Duration),
) -> Ran<T> {
    let mut watchdog: Option<Watchdog> = None;
    poll_fn(|cx| {
        let polled = Turn::enter(turn, || {
            catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)))
        });
        match polled {
            Ok(Poll::Ready(value)) => return Poll::Ready(Ran::Done(value)),
            Ok(Poll::Pending) => {}
            Err(panic) => return Poll::Ready(Ran::Panicked(text_of(&*panic))),
        }
        watchdog
            .get_or_insert_with(|| Watchdog::new(timeout()))
            .poll(cx, |after| {
                if let Some(turn) = &*turn {
                    slow(turn, after);
                }
            })
            .map(|()| Ran::TimedOut)
    })
    .await
}

/// Warns at half of a timeout, and ends at all of it.
struct Watchdog {
    timer: Pin<Box<Sleep>>,
    half: Duration,
    end: Instant,
    warned: bool,
}

impl Watchdog {
    fn new(timeout: Duration) -> Self {
        let half = timeout / 2;
        let timer = Box::pin(tokio::time::sleep(half));
        let end = timer.deadline() + (timeout - half);
        Self {
            timer,
            half,
            end,
            warned: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, slow: impl Fn(Duration)) -> Poll<()> {
        std::task::ready!(self.timer.as_mut().poll(cx));
        if self.warned {
            return Poll::Ready(());
        }
        self.warned = true;
        slow(self.half);
        let end = self.end;
        self.timer.as_mut().reset(end);
        self.timer.as_mut().poll(cx)
    }
}

/// Calls a user's function.
pub(crate) fn call<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| text_of(&*panic))
}

/// What a panic said.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let owned = || panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(owned)
        .unwrap_or("a panic without a text")
        .to_owned()
}
