//! A payload, the envelope and the context: each optional, in any order, the context by `&mut` or `&`.

use mas::prelude::*;
use mas::private::{Agent, Call};

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[on("1")]
    async fn nothing(&mut self) {}
    #[on("2")]
    async fn payload(&mut self, _n: u8) {}
    #[on("3")]
    async fn envelope(&mut self, _e: Envelope) {}
    #[on("4")]
    async fn context(&mut self, _c: &mut Context<Self>) {}
    #[on("5")]
    async fn shared_context(&mut self, _c: &Context<Self>) {}
    #[on("6")]
    async fn all(&mut self, _n: u8, _e: Envelope, _c: &mut Context<Self>) {}
    #[on("7")]
    async fn backwards(&mut self, _c: &mut Context<Worker>, _e: mas::Envelope, _n: u8) {}
    #[on("8")]
    async fn of_shared(&self, _c: &mas::Context<Self>, _n: u8) {}
}

fn main() {
    let nothing: [fn(&WorkerRef) -> Call<()>; 4] = [
        WorkerRef::nothing,
        WorkerRef::envelope,
        WorkerRef::context,
        WorkerRef::shared_context,
    ];
    let payload: [fn(&WorkerRef, u8) -> Call<()>; 4] = [
        WorkerRef::payload,
        WorkerRef::all,
        WorkerRef::backwards,
        WorkerRef::of_shared,
    ];
    assert_eq!(Worker::HANDLERS.len(), nothing.len() + payload.len());
}
