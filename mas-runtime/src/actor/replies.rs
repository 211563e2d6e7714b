//! A streamed reply, as its asker reads it.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::ask::read_answer;
use super::delivery::Part;
use super::error::AskError;
use crate::model::{AgentId, Failure, FailureCode};

/// The items of a streamed reply. Dropping it ends the handler that makes them.
///
/// An error ends it: the handler's failure, an item of another shape, or no item within the asker's timeout.
pub struct Replies<T> {
    items: mpsc::Receiver<Part>,
    target: AgentId,
    timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    over: bool,
    item: PhantomData<fn() -> T>,
}

impl<T> Replies<T> {
    pub(crate) fn new(items: mpsc::Receiver<Part>, target: AgentId, timeout: Duration) -> Self {
        Self {
            items,
            target,
            timeout,
            timer: None,
            over: false,
            item: PhantomData,
        }
    }

    fn end(&mut self) {
        self.over = true;
        self.timer = None;
        self.items.close();
    }
}

impl<T: DeserializeOwned + 'static> Stream for Replies<T> {
    type Item = Result<T, AskError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(answer) = self.items.poll_recv(cx) {
            self.timer = None;
            let target = &self.target;
            let item = match answer {
                Some(Part::Item(payload)) => Some(read_answer(Some(Ok(payload)), target)),
                Some(Part::Failed(failure)) => Some(Err(failure.into())),
                Some(Part::End) => None,
                None => Some(Err(cut_off(target).into())),
            };
            if !matches!(item, Some(Ok(_))) {
                self.end();
            }
            return Poll::Ready(item);
        }
        let timeout = self.timeout;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        std::task::ready!(timer.as_mut().poll(cx));
        let error = AskError::TimedOut {
            target: self.target.clone(),
            after: timeout,
        };
        self.end();
        Poll::Ready(Some(Err(error)))
    }
}

fn cut_off(target: &AgentId) -> Failure {
    let text = format!("`{target}` ended before its stream did");
    Failure::new(FailureCode::STOPPED, text)
}

impl<T> fmt::Debug for Replies<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
