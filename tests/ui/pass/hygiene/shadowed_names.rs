//! The user's own `Result`, `Option`, `String`, `Vec`, `Send` and others are not ours.

#![allow(dead_code, non_upper_case_globals)]

use mas::private::{Agent, Call};
use mas::{Context, agent};

struct Result;
struct Option;
struct String;
struct Vec;
struct Box;
struct Duration;
struct Message;
struct Reply;
struct Envelopes;
trait Send {}
trait Sync {}
trait Clone {}
trait Debug {}
trait From {}
trait Into {}
trait Default {}
trait Deref {}
trait Future {}
trait Stream {}
trait Serialize {}
trait ToOwned {}
fn drop() {}
const Ok: u8 = 0;
const Err: u8 = 1;
const Some: u8 = 2;
const None: u8 = 3;

#[agent(capabilities = ["a"], timeout = "1s")]
struct Worker;

#[agent]
impl Worker {
    #[on("a")]
    async fn a(&mut self, n: u8, ctx: &mut Context<Self>) -> u8 {
        let _ = ctx;
        n
    }
    #[on("b")]
    async fn b(&self) -> std::result::Result<&'static str, std::fmt::Error> {
        std::result::Result::Ok("b")
    }
    #[on("c")]
    fn c(&self) -> impl mas::Stream<Item = u8> {
        futures_util::stream::empty()
    }
    #[on_start]
    async fn d(&mut self) -> std::fmt::Result {
        std::result::Result::Ok(())
    }
}

fn main() {
    assert_eq!(Worker::HANDLERS.len(), 3);
    let _: fn(&WorkerRef, u8) -> Call<u8> = WorkerRef::a;
    let _: fn(&WorkerRef) -> Call<std::string::String> = WorkerRef::b;
}
