//! Work that comes to its end whoever waits for it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::host::Boxed;
use super::tasks::Tasks;

/// A future that goes on in a task of the runtime's when whoever awaits it goes away: an instance that is killed, a sender
/// that loses patience.
pub(crate) struct ToItsEnd<T: Send + 'static> {
    tasks: Tasks,
    work: Option<Boxed<'static, T>>,
    /// What becomes of a result that nobody takes.
    unclaimed: fn(T),
}

impl<T: Send + 'static> ToItsEnd<T> {
    /// Work whose result may be thrown away.
    pub(crate) fn new(tasks: &Tasks, work: impl Future<Output = T> + Send + 'static) -> Self {
        Self::or_else(tasks, work, drop)
    }

    /// Work whose result goes to `unclaimed` when nobody awaits it.
    pub(crate) fn or_else(
        tasks: &Tasks,
        work: impl Future<Output = T> + Send + 'static,
        unclaimed: fn(T),
    ) -> Self {
        Self {
            tasks: tasks.clone(),
            work: Some(Box::pin(work)),
            unclaimed,
        }
    }
}

impl<T: Send + 'static> Future for ToItsEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Taken out meanwhile: work that panics is not polled again.
        let Some(mut work) = self.work.take() else {
            return Poll::Pending;
        };
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for ToItsEnd<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            let unclaimed = self.unclaimed;
            self.tasks.spawn(async move { unclaimed(work.await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn work_that_nobody_awaits_any_more_is_done() {
        let tasks = Tasks::here();
        let (go, gone) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let mut work = Box::pin(ToItsEnd::or_else(
            &tasks,
            async move {
                gone.await.unwrap();
                done
            },
            |done| done.send("unclaimed").unwrap(),
        ));
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        go.send(()).unwrap();
        assert_eq!(is_done.await.unwrap(), "unclaimed");
    }

    #[tokio::test]
    async fn a_result_that_is_awaited_is_not_unclaimed() {
        let tasks = Tasks::here();
        let work = ToItsEnd::or_else(&tasks, async { 7 }, |_| panic!("it was awaited"));
        assert_eq!(work.await, 7);
        tasks.close();
        tasks.wait().await;
    }
}
