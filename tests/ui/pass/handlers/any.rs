//! `#[on_any]` takes what nobody else does, like any handler; it has no typed call.

use mas::prelude::*;
use mas::private::{Agent, HandlerSpec};

#[agent]
struct Alone;

#[agent]
impl Alone {
    #[on("a")]
    async fn a(&self) {}

    #[on_any]
    async fn tell(&mut self, envelope: Envelope, ctx: &mut Context<Self>) -> Result<()> {
        let _ = (envelope, ctx);
        Ok(())
    }
}

#[agent]
struct Shared;

#[agent]
impl Shared {
    #[on_any]
    async fn other(&self, n: u8) -> u8 {
        n
    }
}

#[agent]
struct Streamer;

#[agent]
impl Streamer {
    #[on_any]
    fn other(&self) -> impl Stream<Item = u8> + use<> {
        futures_util::stream::empty()
    }
}

fn main() {
    assert_eq!(
        Alone::HANDLERS,
        [HandlerSpec::shared(0, "a"), HandlerSpec::any(1, true)]
    );
    assert_eq!(Shared::HANDLERS, [HandlerSpec::any(0, false)]);
    assert_eq!(Streamer::HANDLERS, [HandlerSpec::any(0, false).streams()]);
}
