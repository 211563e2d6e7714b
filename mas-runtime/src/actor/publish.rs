//! One message to every subscriber of a topic.

use std::sync::Arc;

use futures_util::future::join_all;
use serde::Serialize;

use super::draft::{Draft, Handle};
use super::error::SendError;
use super::host::Host;
use super::send::Tell;
use super::turn::Turn;
use crate::model::{MessageType, Payload};

/// Sends a message to all that subscribe to `topic`, and returns to how many. It is encoded once and sent to all of them
/// before any is waited for, so that one without room does not keep the others from getting theirs.
///
/// # Errors
/// That of the first that could not be sent; the others are sent.
pub(crate) async fn publish<P: Serialize + ?Sized>(
    host: &Arc<dyn Host>,
    turn: Option<Arc<Turn>>,
    topic: &str,
    payload: &P,
) -> Result<usize, SendError> {
    let subscribers = host.subscribers(topic);
    if subscribers.is_empty() {
        return Ok(0);
    }
    let message_type = MessageType::new(topic)?;
    let mut payload = Payload::encode(payload)?;
    let mut tells = Vec::with_capacity(subscribers.len());
    for id in subscribers {
        let port = host.port(&id);
        let host = Arc::clone(host);
        let to = Arc::new(Handle { host, id, port });
        let payload = payload.share()?;
        let draft = Draft::new(to, turn.clone(), message_type.clone(), payload);
        tells.push(Tell::new(draft));
    }
    let sent = join_all(tells).await;
    let count = sent.len();
    let all: Result<(), SendError> = sent.into_iter().collect();
    all.map(|()| count)
}
