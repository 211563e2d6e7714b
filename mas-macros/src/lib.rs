//! The attribute macros of mas: [`macro@agent`] and its companions inside an `#[agent] impl`.
//!
//! `#[agent]` on a struct declares an agent, `#[agent]` on its impl block collects the handlers. Both expand to plain
//! items and trait impls that one could write by hand; what they do at run time lives in the runtime.
//!
//! The stages, each a module: `attr` turns options into typed values, `model` turns an item into an agent and its
//! handlers, `check` holds the rules over the whole model, `expand` turns the model into tokens. Beside them `names`
//! knows every path and name of the output, `faults` collects what is wrong, and `fallback` keeps the rest of a
//! program compiling after a fault. Nothing here knows how a message is delivered.

mod attr;
mod check;
mod expand;
mod fallback;
mod faults;
mod model;
mod names;

use proc_macro::TokenStream;

/// Declares an agent (on a struct), or collects its handlers (on an impl block).
///
/// # On a struct
///
/// ```text
/// #[agent(id = "worker", capabilities = ["nlp", "text"], state = Tally, durable)]
/// struct Worker { suffix: String }
/// ```
///
/// Every key is optional:
///
/// | key | value | default |
/// |---|---|---|
/// | `id` | the agent's id: 1 to 128 of `A-Z a-z 0-9 . _ : -` | the struct's name in kebab-case: `HTTPServer2` is `http-server2` |
/// | `capabilities` | `["nlp", "text"]`: the words that discovery finds it by | none |
/// | `metadata` | `{ owner = "search", "build.version" = "7" }` | none |
/// | `state` | the type that survives a restart: `Serialize + Deserialize + Default + Send + Sync` | `()` |
/// | `durable` | (no value) a durable inbox and outbox, each message takes effect exactly once | off |
/// | `durability` | `"durable"`, `"buffered"` (at most 5 ms behind the disk) or `"memory"`: how what it keeps is kept | as the runtime says: `"durable"` |
/// | `mailbox` | how many envelopes may wait in each lane, 1 to 1048576 | 1024 |
/// | `overflow` | `"wait"`, `"refuse"`, `"drop_newest"` or `"drop_oldest"`: what a full mailbox does | `"wait"` |
/// | `concurrency` | how many `&self` handlers may run at once, 1 to 65536 | 64 |
/// | `restart` | `"on_failure"`, `"always"` or `"never"` | `"on_failure"` |
/// | `strategy` | `"one_for_one"`, `"one_for_all"` or `"rest_for_one"`, for its children | `"one_for_one"` |
/// | `max_restarts` | how many restarts within a minute before it is given up on | 5 |
/// | `max_attempts` | how often a durable message is tried, from 1 | 5 |
/// | `timeout` | how long a handler may run: `"500ms"`, `"30s"`, `"2m"`, `"1h"`, or whole seconds | 55 s |
/// | `security` | `"direct"`; the other levels are not built yet | `"direct"` |
/// | `state_version` | the version of the state's shape, from 1 | 1 |
/// | `validate` | a `fn(&State) -> Result<(), E>` that refuses an update | none |
/// | `migrate` | a `fn(u32, Document) -> Result<State, E>` from an older version | none |
/// | `crate` | the path of the `mas` crate, as a string, where it has another name | `"::mas"` |
///
/// Beside the struct stands its ref, the name with `Ref` behind it (`WorkerRef`): what `spawn` returns, and what
/// carries the typed calls.
///
/// # On an impl block
///
/// ```text
/// #[agent]
/// impl Worker {
///     #[on("task.process")]
///     async fn process(&mut self, task: TaskRequest, ctx: &mut Context<Self>) -> Result<TaskDone> { .. }
/// }
/// ```
///
/// All handlers of an agent stand in one block; methods without `#[on]` and its companions are left as they are. A
/// handler takes `&self` (runs side by side with others) or `&mut self` (runs alone), then, each optional and in any
/// order: one payload by value, the whole `Envelope`, and its context by reference. It returns nothing, a value, a
/// `Result`, or, without `async`, `impl Stream<Item = T>`. These types are known by the last word of their path: a payload
/// of your own that is called `Context` or `Envelope` needs another name here. The only key is `crate`.
///
/// The typed calls become methods of the ref. Where the struct stands in another module, import its ref by name beside
/// it, `use workers::{Worker, WorkerRef};`, or write the path: `impl workers::Worker`. An import by `*` is not enough.
#[proc_macro_attribute]
pub fn agent(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::agent(args.into(), item.into()).into()
}

/// Makes a method the handler of a message type, inside an `#[agent]` impl block: `#[on("task.process")]`.
///
/// A message type is 1 to 128 of `A-Z a-z 0-9 . _ : -`. A method may carry several `#[on]`s.
#[proc_macro_attribute]
pub fn on(_args: TokenStream, item: TokenStream) -> TokenStream {
    fallback::outside("on(\"..\")", item.into()).into()
}

/// Makes a method run before the first message, inside an `#[agent]` impl block.
///
/// It is an `async fn` of `&mut self` or `&self` and, if it likes, its context, and returns nothing or `Result<()>`. State
/// is loaded by then. After each restart it runs again.
#[proc_macro_attribute]
pub fn on_start(_args: TokenStream, item: TokenStream) -> TokenStream {
    fallback::outside("on_start", item.into()).into()
}

/// Makes a method run after the last message, inside an `#[agent]` impl block.
///
/// It is an `async fn` of `&mut self` or `&self` and, if it likes, its context, and returns nothing or `Result<()>`.
#[proc_macro_attribute]
pub fn on_stop(_args: TokenStream, item: TokenStream) -> TokenStream {
    fallback::outside("on_stop", item.into()).into()
}

/// Makes a method the handler of every message type that no `#[on]` names, inside an `#[agent]` impl block.
#[proc_macro_attribute]
pub fn on_any(_args: TokenStream, item: TokenStream) -> TokenStream {
    fallback::outside("on_any", item.into()).into()
}
