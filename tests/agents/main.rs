//! Agents in a runtime: sending, streaming, state, supervision, timers, topics.

mod calls;
mod cycles;
mod durable;
mod floods;
mod killed;
mod pools;
mod sending;
mod streams;
mod supervision;
mod timers;
mod topics;
