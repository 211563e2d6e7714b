//! The tasks of a runtime, and where they run.

use std::future::{Future, poll_fn};
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::task::TaskTracker;

/// The tasks of a runtime. They run on the tokio runtime that it was started on, whoever asks for them: a caller's own may end
/// before they do, or there may be none.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    /// None where there is no tokio runtime yet: beside a test harness.
    home: Option<Handle>,
}

impl Tasks {
    /// Tasks that run where this is called.
    pub(crate) fn here() -> Self {
        Self {
            tracker: TaskTracker::new(),
            home: Handle::try_current().ok(),
        }
    }

    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        match &self.home {
            Some(home) => self.tracker.spawn_on(task, home),
            None => self.tracker.spawn(task),
        }
    }

    /// Does work to its end, whether its caller goes on with the future that this is or not. What need not wait is done here
    /// and now, which costs no task; the rest is a task. A panic
    /// at once is the caller's; one in the task is an `Err`.
    pub(crate) async fn at_once<T>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError>
    where
        T: Send + 'static,
    {
        let mut work = Box::pin(work);
        let begun = poll_fn(|cx| {
            // Its own tasks and timers belong at home, whichever runtime this is polled on.
            let _home = self.home.as_ref().map(Handle::enter);
            Poll::Ready(work.as_mut().poll(cx))
        });
        match begun.await {
            Poll::Ready(done) => Ok(done),
            Poll::Pending => self.spawn(work).await,
        }
    }

    /// No more are expected: [`Tasks::wait`] may end.
    pub(crate) fn close(&self) {
        self.tracker.close();
    }

    /// Waits until all of them have ended.
    pub(crate) async fn wait(&self) {
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_run_at_home_whoever_spawns_them() {
        let home = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let tasks = home.block_on(async { Tasks::here() });
        let (done, is_done) = tokio::sync::oneshot::channel();
        // Outside any tokio runtime.
        tasks.spawn(async move { done.send(7).unwrap() });
        assert_eq!(home.block_on(is_done).unwrap(), 7);
    }
}
