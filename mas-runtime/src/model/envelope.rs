//! What travels between agents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::limits::{BUDGET_DEFAULT, HOPS_MAX};
use super::{AgentId, MessageId, MessageType, Moment, Payload, Priority};

/// One message on its way: who sends what to whom, and under which terms.
#[derive(Debug)]
#[non_exhaustive]
pub struct Envelope {
    /// Its id, a UUID of version 7: its first 48 bits say when it was made.
    pub id: MessageId,
    /// Who sent it; [`AgentId::RUNTIME`] from outside any handler.
    pub sender: AgentId,
    /// Who it is for.
    pub target: AgentId,
    /// Which handler it is for.
    pub message_type: MessageType,
    /// Its body.
    pub payload: Payload,
    /// The terms it travels under.
    pub meta: Meta,
}

impl Envelope {
    /// An envelope with the terms of a root message.
    pub fn new(
        id: MessageId,
        sender: AgentId,
        target: AgentId,
        message_type: MessageType,
        payload: Payload,
    ) -> Self {
        Self {
            id,
            sender,
            target,
            message_type,
            payload,
            meta: Meta::default(),
        }
    }
}

/// The terms under which an envelope travels.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Meta {
    /// The version of the envelope's layout: 1.
    pub version: u8,
    /// On a reply: the id of the ask that it answers.
    pub correlation_id: Option<MessageId>,
    /// Whether somebody waits for a reply.
    pub expects_reply: bool,
    /// Whether this is a reply.
    pub is_reply: bool,
    /// How urgent it is.
    pub priority: Priority,
    /// When it stops being worth handling, on this runtime's monotonic clock. At rest and on wires it is wall-clock time.
    pub deadline: Option<Moment>,
    /// Handlers that led to it, 0 for a root message. Beyond [`HOPS_MAX`] nothing is sent.
    pub hops: u8,
    /// Further messages that it may still cause.
    pub budget: u32,
    /// What few envelopes carry.
    pub extra: Option<Box<Extra>>,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            version: 1,
            correlation_id: None,
            expects_reply: false,
            is_reply: false,
            priority: Priority::default(),
            deadline: None,
            hops: 0,
            budget: BUDGET_DEFAULT,
            extra: None,
        }
    }
}

impl Meta {
    /// Whether the trail that this envelope belongs to may grow by one more handler.
    pub const fn may_go_on(&self) -> bool {
        self.hops < HOPS_MAX && self.budget > 0
    }
}

/// What few envelopes carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Extra {
    /// The coordination session that it belongs to.
    pub session: Option<String>,
    /// The instance that sent it, where several share the sender's id.
    pub sender_instance: Option<u64>,
    /// The instance that a reply must go to.
    pub reply_to_instance: Option<u64>,
    /// W3C trace context: the `traceparent` header.
    pub traceparent: Option<String>,
    /// W3C trace context: the `tracestate` header.
    pub tracestate: Option<String>,
    /// What the user wants carried along.
    pub headers: BTreeMap<String, String>,
}
