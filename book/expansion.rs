//! One agent twice: as the macros write it, and by hand, as the chapter on the macros shows it.
//!
//! The two are the same to the runtime:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! mas_book::expansion::compare().await
//! # }).unwrap();
//! ```

use mas::prelude::*;
use mas::private::{Agent, Declare};

/// What the agent keeps.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    done: u64,
}

/// As a user writes it.
pub mod by_macro {
    use super::Tally;
    use mas::prelude::*;

    // ANCHOR: agent
    #[agent(id = "worker", capabilities = ["text"], state = Tally, durable)]
    pub struct Worker;

    #[agent]
    impl Worker {
        #[on("task.process")]
        async fn process(&mut self, task: String, ctx: &mut Context<Self>) -> Result<u64> {
            let _ = task;
            Ok(ctx.update_state(|tally| {
                tally.done += 1;
                tally.done
            }))
        }

        #[on("status.check")]
        async fn status(&self) -> &'static str {
            "healthy"
        }
    }
    // ANCHOR_END: agent
}

/// What the macros make of it, without the lint attributes and with shorter paths.
pub mod by_hand {
    use super::Tally;
    use mas::prelude::*;
    use mas::private::{
        Agent, Call, Declaration, Declare, Expect, HandlerIndex, HandlerSpec, Message, Post, Reply,
        attach, call, call_empty, sendable,
    };
    use std::ops::Deref;

    /// The struct and the methods stay as they are.
    #[derive(Debug)]
    pub struct Worker;

    impl Worker {
        async fn process(&mut self, task: String, ctx: &mut Context<Self>) -> Result<u64> {
            let _ = task;
            Ok(ctx.update_state(|tally| {
                tally.done += 1;
                tally.done
            }))
        }

        async fn status(&self) -> &'static str {
            "healthy"
        }
    }

    // ANCHOR: ref
    /// The ref: what `spawn` returns.
    #[derive(Clone, Debug)]
    pub struct WorkerRef {
        agent_ref: AgentRef<Worker>,
    }

    impl WorkerRef {
        /// The ref of an agent that runs already.
        pub fn attach(runtime: &Runtime, id: &str) -> Result<Self> {
            attach::<Worker>(runtime, id).map(Self::from)
        }
    }

    impl From<AgentRef<Worker>> for WorkerRef {
        fn from(agent_ref: AgentRef<Worker>) -> Self {
            Self { agent_ref }
        }
    }

    impl Deref for WorkerRef {
        type Target = AgentRef<Worker>;

        fn deref(&self) -> &Self::Target {
            &self.agent_ref
        }
    }
    // ANCHOR_END: ref

    // ANCHOR: declare
    impl Declare<Worker> for WorkerRef {
        type State = Tally;

        fn declaration() -> Declaration {
            Declaration::new("worker")
                .capability("text")
                .stateful()
                .durable()
        }

        fn from_ref(agent_ref: AgentRef<Worker>) -> Self {
            Self { agent_ref }
        }
    }
    // ANCHOR_END: declare

    // ANCHOR: dispatch
    impl Agent for Worker {
        type Ref = WorkerRef;

        const HANDLERS: &'static [HandlerSpec] = &[
            HandlerSpec::exclusive(0, "task.process"),
            HandlerSpec::shared(1, "status.check"),
        ];

        async fn handle_exclusive(
            &mut self,
            handler: HandlerIndex,
            mut message: Message,
            context: &mut Context<Self>,
        ) -> Reply {
            match handler {
                0 => {
                    let payload = match message.payload::<String>() {
                        Ok(payload) => payload,
                        Err(failure) => return Reply::failed(message, failure),
                    };
                    let result = sendable(Self::process(self, payload, context)).await;
                    message.reply_result::<u64, _>(result)
                }
                _ => message.unknown(),
            }
        }

        async fn handle_shared(
            &self,
            handler: HandlerIndex,
            mut message: Message,
            _context: &Context<Self>,
        ) -> Reply {
            match handler {
                1 => {
                    message.no_payload();
                    let value = sendable(Self::status(self)).await;
                    message.reply::<<str as ToOwned>::Owned>(value.to_owned())
                }
                _ => message.unknown(),
            }
        }
    }
    // ANCHOR_END: dispatch

    // ANCHOR: calls
    impl WorkerRef {
        /// The typed call of `process`.
        pub fn process(&self, task: String) -> Call<u64>
        where
            for<'__mas> String: Post,
            for<'__mas> u64: Expect,
        {
            call::<Worker, String, u64>(&self.agent_ref, 0, "task.process", task)
        }

        /// The typed call of `status`.
        pub fn status(&self) -> Call<String>
        where
            for<'__mas> String: Expect,
        {
            call_empty::<Worker, String>(&self.agent_ref, 1, "status.check")
        }
    }
    // ANCHOR_END: calls
}

/// Holds the two against each other: their tables, their declarations, what they answer.
///
/// # Errors
/// When an agent does not start, or does not answer.
///
/// # Panics
/// When they differ.
pub async fn compare() -> Result<()> {
    assert_eq!(by_macro::Worker::HANDLERS, by_hand::Worker::HANDLERS);
    let macros = <by_macro::WorkerRef as Declare<by_macro::Worker>>::declaration();
    let hand = <by_hand::WorkerRef as Declare<by_hand::Worker>>::declaration();
    assert_eq!(format!("{macros:?}"), format!("{hand:?}"));

    let runtime = Runtime::builder().start().await?;
    let macros = runtime.spawn(by_macro::Worker).await?;
    let hand = runtime.spawn_as("by-hand", by_hand::Worker).await?;
    let task = || "a task".to_owned();
    assert_eq!(macros.process(task()).await?, hand.process(task()).await?);
    assert_eq!(macros.status().await?, hand.status().await?);
    runtime.shutdown().await
}
