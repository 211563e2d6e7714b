//! Agents in a runtime: sending, streaming, state, supervision, timers, topics.

mod alarms;
mod calls;
mod children;
mod cycles;
mod dedup;
mod discovery;
mod durable;
mod events;
mod failures;
mod faults;
mod floods;
mod harness;
mod killed;
mod kit;
mod letters;
mod pools;
mod process;
mod repeats;
mod sending;
mod shutdown;
mod spawning;
mod states;
mod streams;
mod supervision;
mod timers;
mod topics;
