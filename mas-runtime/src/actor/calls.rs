//! What the macros' typed calls and arms are made of.

use std::future::Future;

use futures_core::Stream;
use futures_util::StreamExt;

use super::agent::HandlerIndex;
use super::agent_ref::AgentRef;
use super::ask::{AskStream, Call, StreamCall};
use super::delivery::Delivery;
use super::message::{Expect, Post};
use crate::model::Payload;

/// A typed call of a handler with a payload.
#[inline]
pub fn call<A: 'static, P: Post, R: Expect>(
    to: &AgentRef<A>,
    handler: HandlerIndex,
    message_type: &'static str,
    payload: P,
) -> Call<R> {
    let delivery = Delivery::typed(payload);
    Call::new(to.typed_draft(handler, message_type, delivery))
}

/// A typed call of a handler without a payload.
#[inline]
pub fn call_empty<A: 'static, R: Expect>(
    to: &AgentRef<A>,
    handler: HandlerIndex,
    message_type: &'static str,
) -> Call<R> {
    let delivery = Delivery::new(Payload::empty());
    Call::new(to.typed_draft(handler, message_type, delivery))
}

/// A typed call of a streaming handler with a payload.
pub fn stream_call<A: 'static, P: Post, T: Expect>(
    to: &AgentRef<A>,
    handler: HandlerIndex,
    message_type: &'static str,
    payload: P,
) -> StreamCall<T> {
    let delivery = Delivery::typed(payload);
    AskStream::new(to.typed_draft(handler, message_type, delivery))
}

/// A typed call of a streaming handler without a payload.
pub fn stream_call_empty<A: 'static, T: Expect>(
    to: &AgentRef<A>,
    handler: HandlerIndex,
    message_type: &'static str,
) -> StreamCall<T> {
    let delivery = Delivery::new(Payload::empty());
    AskStream::new(to.typed_draft(handler, message_type, delivery))
}

/// A stream of references arrives owned.
pub fn owned_stream<'a, T, S>(stream: S) -> impl Stream<Item = T::Owned> + Send
where
    T: ToOwned + ?Sized + 'a,
    S: Stream<Item = &'a T> + Send,
{
    stream.map(ToOwned::to_owned)
}

/// A stream of references or errors arrives owned.
pub fn owned_try_stream<'a, T, E, S>(stream: S) -> impl Stream<Item = Result<T::Owned, E>> + Send
where
    T: ToOwned + ?Sized + 'a,
    S: Stream<Item = Result<&'a T, E>> + Send,
{
    stream.map(|item| item.map(ToOwned::to_owned))
}

/// Checks that a handler's future may move between threads, where the compiler can say so at the handler's name.
pub fn sendable<F: Future + Send>(future: F) -> impl Future<Output = F::Output> + Send {
    future
}
