//! The life of an envelope: make, resolve, admit, coordinate, seal, carry, open, dispatch, commit, settle.
//!
//! This file holds the first six, in that order; admit, coordinate and seal have nothing to do at level `direct`. The rest
//! happens where the handler runs: `actor::pump` and `actor::settle`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Inner;
use super::repeats::Repeats;
use crate::actor::{
    Boxed, DeadLetter, Delivered, Delivery, Draft, EndReason, Handle, Host, Letter, Mailbox, NO_ID,
    Overflow, Planned, Port, Route, SendError, Sending, ToItsEnd, Turn, Window,
};
use crate::model::limits::INBOX_ENTRIES_MAX;
use crate::model::{
    AgentId, Envelope, MessageId, MessageType, Payload, PayloadError, Priority, encode_envelope,
};
use crate::store::{Batch, CommitError, Committed, Op, StoreError};

impl Inner {
    /// Sends one message, whose terms are settled, on its way.
    pub(super) fn send_letter(&self, to: &Handle, letter: Letter) -> Sending {
        if !self.open.load(Ordering::Acquire) {
            return Sending::Done(Err(SendError::ShutDown));
        }
        if let Err(error) = self.check_size(&letter.delivery) {
            return Sending::Done(Err(error));
        }
        // The port is borrowed from the ref: all senders share its count of references.
        match &to.port {
            Some(port) if !port.has_ended() => self.send_to(port, letter),
            _ => match self.port(&to.id) {
                Some(port) => self.send_to(&port, letter),
                None => self.to_nobody(to, letter),
            },
        }
    }

    fn send_to(&self, port: &Arc<Port>, mut letter: Letter) -> Sending {
        match route(port, &letter) {
            Ok(route) => Self::make(&mut letter, route),
            Err(error) => return Sending::Done(Err(error)),
        }
        let Some(window) = &port.window else {
            return self.carry(port, letter);
        };
        let Some(letter) = self.not_lost(&port.id, letter) else {
            return Sending::Done(Ok(()));
        };
        let (window, port) = (Arc::clone(window), Arc::clone(port));
        Sending::Wait(self.append_to(window, port, letter, Batch::new()))
    }

    /// Whether nothing gets from one agent to another now, for the test kit wants it so.
    pub(super) fn is_parted(&self, sender: &AgentId, target: &AgentId) -> bool {
        let intercept = self.core.intercept.get();
        intercept.is_some_and(|intercept| intercept.parts(sender, target))
    }

    /// Step 1, make: completes what will be delivered.
    pub(super) fn make(letter: &mut Letter, route: Route) {
        letter.delivery.route = route;
        if route.any {
            letter.delivery.cover_mut().message_type = Some(letter.message_type.clone());
        }
    }

    /// A message to a durable agent, unless it is lost on its way to the inbox.
    fn not_lost(&self, target: &AgentId, mut letter: Letter) -> Option<Letter> {
        if self.is_parted(letter.delivery.sender(), target)
            && let Some(intercept) = self.core.intercept.get()
        {
            letter.delivery = intercept.pass(target, letter.delivery)?;
        }
        Some(letter)
    }

    fn check_size(&self, delivery: &Delivery) -> Result<(), SendError> {
        let bytes_max = self.core.options.payload_bytes_max;
        match delivery.encoded_len() {
            Some(bytes) if bytes > bytes_max => {
                Err(PayloadError::TooLarge { bytes, bytes_max }.into())
            }
            _ => Ok(()),
        }
    }

    /// Step 2, resolve: who takes it. A ref keeps the port that it was made for; once that has ended, the router knows.
    fn resolve(&self, draft: &Draft) -> Option<Arc<Port>> {
        match &draft.to.port {
            Some(port) if !port.has_ended() => Some(Arc::clone(port)),
            _ => self.port(&draft.to.id),
        }
    }

    /// Nobody here takes it: an error for an ask, a dead letter for a tell. What is for a durable agent that does not run
    /// now waits in its inbox.
    fn to_nobody(&self, to: &Handle, mut letter: Letter) -> Sending {
        let target = to.id.clone();
        if target.node().is_some() {
            return Sending::Done(Err(SendError::NoLink { target }));
        }
        let asker = &letter.delivery.asker;
        if asker.wants_reply() || asker.wants_stream() {
            let ended = to.port.as_ref().and_then(|port| port.end());
            return Sending::Done(Err(match ended {
                Some(EndReason::Failed(_)) => SendError::Failed { target },
                Some(EndReason::Stopped) => SendError::Stopped { target },
                None if self.is_known(&target) => SendError::Stopped { target },
                None => SendError::UnknownAgent { target },
            }));
        }
        if self.is_known(&target) {
            let Some(letter) = self.not_lost(&target, letter) else {
                return Sending::Done(Ok(()));
            };
            return Sending::Wait(self.append_unattended(target, letter, Batch::new()));
        }
        self.dead_letter(DeadLetter {
            reason: format!("no agent `{target}` is known here"),
            envelope: letter.delivery.take_envelope(target, letter.message_type),
        });
        Sending::Done(Ok(()))
    }

    /// Step 6, carry, to an agent without an inbox: into a mailbox.
    fn carry(&self, port: &Arc<Port>, letter: Letter) -> Sending {
        let Letter {
            mut delivery,
            try_now,
            turn,
            ..
        } = letter;
        if let Some(intercept) = self.core.intercept.get() {
            match intercept.pass(&port.id, delivery) {
                Some(passed) => delivery = passed,
                None => return Sending::Done(Ok(())),
            }
        }
        if Repeats::may_come(&delivery) && !self.repeats.begin(&self.me(), &port.id, &mut delivery)
        {
            return Sending::Done(Ok(()));
        }
        match port.deliver(delivery) {
            Delivered::Accepted => Sending::Done(Ok(())),
            Delivered::Dropped(dropped) => {
                self.dropped(port, dropped);
                Sending::Done(Ok(()))
            }
            Delivered::Closed(delivery) => Sending::Done(self.again(port, delivery)),
            Delivered::Full(delivery, mailbox)
                if !try_now && mailbox.overflow() == Overflow::Wait =>
            {
                self.wait_in_line(port, mailbox, delivery, turn.as_deref())
            }
            Delivered::Full(delivery, _) => Sending::Done(Err(full(port, delivery))),
        }
    }

    /// The sender waits for room.
    fn wait_in_line(
        &self,
        port: &Arc<Port>,
        mailbox: &Arc<Mailbox>,
        delivery: Delivery,
        turn: Option<&Turn>,
    ) -> Sending {
        // Only the handler that waits could make room: it would wait for ever.
        if turn.is_some_and(|turn| turn.is_alone_in(port)) {
            return Sending::Done(Err(full(port, delivery)));
        }
        let line = mailbox.wait(delivery);
        let inner = self.me();
        let port = Arc::clone(port);
        Sending::Wait(Box::pin(async move {
            match line.await {
                Ok(()) => Ok(()),
                Err(delivery) => inner.again(&port, delivery),
            }
        }))
    }

    /// An instance ended before it took the message: another may.
    fn again(&self, port: &Port, delivery: Delivery) -> Result<(), SendError> {
        if port.has_ended() {
            return self.closed(port, delivery);
        }
        match port.deliver(delivery) {
            Delivered::Accepted => Ok(()),
            Delivered::Full(delivery, _) => Err(full(port, delivery)),
            Delivered::Dropped(dropped) => {
                self.dropped(port, dropped);
                Ok(())
            }
            Delivered::Closed(delivery) => self.closed(port, delivery),
        }
    }

    /// The agent ended before it took the message.
    fn closed(&self, port: &Port, mut delivery: Delivery) -> Result<(), SendError> {
        let target = port.id.clone();
        let failed = matches!(port.end(), Some(EndReason::Failed(_)));
        if delivery.asker.wants_reply() || delivery.asker.wants_stream() {
            std::mem::take(&mut delivery.asker).disarm();
            return Err(if failed {
                SendError::Failed { target }
            } else {
                SendError::Stopped { target }
            });
        }
        let what = if failed { "has failed" } else { "was stopped" };
        self.dead_letter(DeadLetter {
            reason: format!("`{target}` {what}"),
            envelope: delivery.open(port).0,
        });
        Ok(())
    }

    /// A full mailbox gave this one up, as its agent declares.
    fn dropped(&self, port: &Port, delivery: Delivery) {
        self.core.counters.dropped.fetch_add(1, Ordering::Relaxed);
        let failure = crate::model::Failure::new(
            crate::model::FailureCode::MAILBOX_FULL,
            format!("the mailbox of `{}` is full", port.id),
        );
        let (envelope, asker) = delivery.open(port);
        asker.answer(Err(failure));
        self.dead_letter(DeadLetter {
            reason: "the mailbox was full".to_owned(),
            envelope,
        });
    }

    /// Step 6, carry, to a durable agent: into its inbox first.
    pub(super) fn append_to(
        &self,
        window: Arc<Window>,
        port: Arc<Port>,
        letter: Letter,
        batch: Batch,
    ) -> Boxed<'static, Result<(), SendError>> {
        let inner = self.me();
        Box::pin(async move {
            let waits = !letter.try_now && port.declaration.overflow == Overflow::Wait;
            let mut delivery = letter.delivery;
            // Before it takes room: whoever wrote how the payload is encoded may panic there.
            let stored = inner.encode(&mut delivery, &port.id, letter.message_type)?;
            let room = if waits {
                window.make_room().await
            } else {
                window.try_make_room()
            };
            if !room {
                return Err(no_room(&port));
            }
            let id = delivery.id();
            let asker = std::mem::take(&mut delivery.asker);
            if delivery.expects_reply {
                window.expect(id, asker);
            }
            let lane = delivery.priority;
            let batch = batch.with(Op::InboxAppend {
                agent: port.id.clone(),
                lane,
                id,
                envelope: stored.clone(),
            });
            window.set_out(id);
            let commit = inner.core.engine.commit(batch);
            let landing = Landing {
                window,
                delivery,
                lane,
                id,
                stored,
            };
            // Given up on by its sender, it still gets there.
            let lands = async move { landing.land(commit.await) };
            ToItsEnd::new(&inner.core.tasks, lands).await
        })
    }

    /// Gives a message its id, and its bytes as an envelope.
    fn encode(
        &self,
        delivery: &mut Delivery,
        target: &AgentId,
        message_type: MessageType,
    ) -> Result<bytes::Bytes, SendError> {
        if delivery.id() == NO_ID {
            delivery.cover_mut().id = self.core.new_id();
        }
        let mut envelope = delivery.take_envelope(target.clone(), message_type);
        let stored = self.encode_envelope(&mut envelope);
        delivery.set_payload(envelope.payload);
        stored
    }

    fn encode_envelope(&self, envelope: &mut Envelope) -> Result<bytes::Bytes, SendError> {
        let bytes_max = self.core.options.payload_bytes_max;
        encode_envelope(envelope, &*self.core.clock, bytes_max).map_err(|error| match error {
            crate::model::RecordError::Payload(error) => error.into(),
            other => SendError::Payload(PayloadError::Codec(crate::model::CodecError::Encode {
                codec: crate::model::Codec::MessagePack,
                reason: other.to_string(),
            })),
        })
    }

    /// Into the inbox of a durable agent that does not run now.
    pub(super) fn append_unattended(
        &self,
        target: AgentId,
        letter: Letter,
        batch: Batch,
    ) -> Boxed<'static, Result<(), SendError>> {
        let inner = self.me();
        Box::pin(async move {
            let mut delivery = letter.delivery;
            let envelope = inner.encode(&mut delivery, &target, letter.message_type)?;
            if !inner.take_unattended_room(&target).await? {
                return Err(SendError::InboxFull {
                    target,
                    entries: INBOX_ENTRIES_MAX,
                });
            }
            let batch = batch.with(Op::InboxAppend {
                agent: target.clone(),
                lane: delivery.priority,
                id: delivery.id(),
                envelope,
            });
            let commit = inner.core.engine.commit(batch);
            let own = Arc::clone(&inner);
            let lands = async move {
                let committed = commit.await;
                match &committed {
                    Ok(_) => {}
                    Err(error) if error.may_be_stored() => own.unattended.forget(&target),
                    Err(_) => own.unattended.give_room_back(&target),
                }
                // It may have been spawned meanwhile.
                own.missed(&target);
                committed.map(drop)
            };
            ToItsEnd::new(&inner.core.tasks, lands).await?;
            Ok(())
        })
    }

    /// Takes room for one entry in the inbox of a durable agent that does not run: whether there was any.
    async fn take_unattended_room(&self, target: &AgentId) -> Result<bool, StoreError> {
        if self.unattended.take_room(target) == Some(true) {
            return Ok(true);
        }
        // Not counted so far, or full: then it is counted anew, since dead letters come back and others are removed.
        let counts = self.core.engine.inbox_counts(target).await?;
        self.unattended.forget(target);
        self.unattended.counted(target, counts.iter().sum());
        Ok(self.unattended.take_room(target) == Some(true))
    }

    /// Entries may have come into an inbox that nobody told of.
    pub(super) fn missed(&self, agent: &AgentId) {
        if let Some(window) = self.port(agent).and_then(|port| port.window.clone()) {
            window.missed();
        }
    }

    /// Adds a message of a durable handler to the handler's batch.
    pub(super) fn plan_draft(&self, draft: Draft, batch: &mut Batch) -> Planned {
        let sender = draft.letter.delivery.sender().clone();
        let port = self.resolve(&draft);
        let target = draft.to.id.clone();
        let priority = draft.letter.delivery.priority;
        let direct = port.as_ref().and_then(|port| {
            let window = port.window.clone()?;
            let route = route(port, &draft.letter).ok()?;
            let may = self.share_home(&sender, &target)
                && self.outboxes.is_clear(&sender)
                && !self.is_parted(&sender, &target);
            (may && window.try_make_room()).then_some((window, route))
        });
        let route = direct
            .as_ref()
            .map_or_else(Route::default, |(_, route)| *route);
        let mut letter = draft.letter;
        Self::make(&mut letter, route);
        let Letter {
            mut delivery,
            message_type,
            ..
        } = letter;
        let stored = match self.encode(&mut delivery, &target, message_type.clone()) {
            Ok(stored) => stored,
            Err(error) => {
                if let Some((window, _)) = direct {
                    window.give_room_back();
                }
                let envelope = delivery.take_envelope(target, message_type);
                return self.plan_dead(envelope, &error, batch);
            }
        };
        if let Some((window, _)) = direct {
            let id = delivery.id();
            window.set_out(id);
            batch.push(Op::InboxAppend {
                agent: target,
                lane: priority,
                id,
                envelope: stored.clone(),
            });
            let landing = Landing {
                window,
                delivery,
                lane: priority,
                id,
                stored,
            };
            return landing.planned();
        }
        batch.push(Op::OutboxPut {
            agent: sender.clone(),
            envelope: stored,
        });
        self.outboxes.entered(&sender);
        Planned::Outbox(sender)
    }

    /// Whether what two agents keep can change in one batch.
    pub(super) fn share_home(&self, one: &AgentId, other: &AgentId) -> bool {
        self.levels.home(one) == self.levels.home(other)
    }

    /// A message that can't be encoded is a dead letter without its payload.
    fn plan_dead(&self, mut envelope: Envelope, error: &SendError, batch: &mut Batch) -> Planned {
        envelope.payload = Payload::empty();
        let bytes = self.encode_envelope(&mut envelope).unwrap_or_default();
        batch.push(Op::DeadPut {
            agent: envelope.target.clone(),
            id: envelope.id,
            envelope: bytes,
            reason: error.to_string(),
            at_unix_ms: self.core.unix_ms(),
            attempts: 0,
            history: Vec::new(),
        });
        Planned::Dead
    }
}

/// The handler that a message is for, if it may be asked in this way.
fn route(port: &Port, letter: &Letter) -> Result<Route, SendError> {
    let delivery = &letter.delivery;
    let known = letter.route.or_else(|| port.route(&letter.message_type));
    let Some(route) = known else {
        return Err(SendError::UnknownMessageType {
            target: port.id.clone(),
            message_type: letter.message_type.clone(),
            handled: port.table.message_types(),
        });
    };
    if route.streams && delivery.asker.wants_reply() {
        return Err(SendError::AnswersByStream {
            target: port.id.clone(),
            message_type: letter.message_type.clone(),
        });
    }
    if !route.streams && delivery.asker.wants_stream() {
        return Err(SendError::AnswersOnce {
            target: port.id.clone(),
            message_type: letter.message_type.clone(),
        });
    }
    Ok(route)
}

/// Why an inbox took nothing.
fn no_room(port: &Port) -> SendError {
    let target = port.id.clone();
    match port.end() {
        None => SendError::InboxFull {
            target,
            entries: INBOX_ENTRIES_MAX,
        },
        Some(EndReason::Stopped) => SendError::Stopped { target },
        Some(EndReason::Failed(_)) => SendError::Failed { target },
    }
}

fn full(port: &Port, delivery: Delivery) -> SendError {
    let (envelope, asker) = delivery.open(port);
    asker.disarm();
    SendError::MailboxFull(Box::new(envelope))
}

/// A message on its way into an inbox, and what there is to do when it is in.
struct Landing {
    window: Arc<Window>,
    delivery: Delivery,
    lane: Priority,
    id: MessageId,
    stored: bytes::Bytes,
}

impl Landing {
    fn planned(mut self) -> Planned {
        self.claim(0);
        Planned::Inbox(self.window, self.delivery)
    }

    fn claim(&mut self, seq: u64) {
        self.delivery.claim = Some(Box::new(crate::actor::Claim {
            lane: self.lane,
            seq,
            id: self.id,
            attempts: 0,
            stored: self.stored.clone(),
            conflicts: 0,
        }));
    }

    fn land(mut self, committed: Result<Committed, CommitError>) -> Result<(), SendError> {
        match committed {
            Ok(committed) => {
                let seq = committed.seqs.last().copied().unwrap_or_default();
                self.claim(seq);
                self.window.arrived(seq, self.delivery);
                Ok(())
            }
            Err(error) => {
                for asker in self.window.forget(self.id) {
                    asker.disarm();
                }
                if error.may_be_stored() {
                    self.window.may_be_stored(self.id);
                } else {
                    self.window.not_stored(self.id);
                }
                Err(error.into())
            }
        }
    }
}

impl Inner {
    /// The batch of a planned message is durable.
    pub(super) fn release_planned(&self, planned: Planned, seq: u64) {
        match planned {
            Planned::Inbox(window, mut delivery) => {
                if let Some(claim) = &mut delivery.claim {
                    claim.seq = seq;
                }
                window.arrived(seq, delivery);
            }
            Planned::Outbox(sender) => {
                self.outboxes.settled(&sender);
                self.outboxes.poke(&self.me(), &sender);
            }
            Planned::Dead => {}
        }
    }

    /// Nobody knows whether the batch of a planned message came about: whoever would have it looks.
    pub(super) fn doubt_planned(&self, planned: Planned) {
        match planned {
            Planned::Inbox(window, delivery) => window.may_be_stored(delivery.id()),
            Planned::Outbox(sender) => {
                self.outboxes.settled(&sender);
                self.outboxes.poke(&self.me(), &sender);
            }
            Planned::Dead => {}
        }
    }

    /// The batch of a planned message did not come about.
    pub(super) fn withdraw_planned(&self, planned: Planned) {
        match planned {
            Planned::Inbox(window, delivery) => window.not_stored(delivery.id()),
            Planned::Outbox(sender) => {
                self.outboxes.settled(&sender);
                self.outboxes.left(&sender);
            }
            Planned::Dead => {}
        }
    }

    /// Whether this is a durable agent that was spawned here before.
    fn is_known(&self, id: &AgentId) -> bool {
        self.registry.is_kept(id)
    }
}
