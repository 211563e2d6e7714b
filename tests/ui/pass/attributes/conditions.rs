//! `#[cfg]` on a handler takes it out of the table; the numbers of the others stay.

use mas::prelude::*;
use mas::private::{Agent, HandlerSpec};

#[agent]
struct Worker;

#[agent]
impl Worker {
    #[cfg(any())]
    #[on("gone")]
    async fn gone(&mut self, payload: NoSuchType) -> NoSuchType {
        payload
    }

    #[on("here")]
    async fn here(&mut self) {}

    #[cfg(all())]
    #[on("also")]
    async fn also(&self) {}

    #[on("either")]
    #[cfg(all())]
    async fn either(&self) -> u8 {
        1
    }

    #[on("either")]
    #[cfg(not(all()))]
    async fn either(&self) -> u16 {
        2
    }

    #[cfg(any())]
    #[on_start]
    async fn start(&mut self, ctx: &mut Context<Self>) {
        ctx.no_such_method();
    }

    #[cfg_attr(all(), cfg(any()))]
    #[on_stop]
    async fn stop(&mut self) -> Result<()> {
        NoSuchType
    }
}

#[cfg(any())]
#[agent(state = NoSuchType)]
struct Gone;

#[agent(state = NoSuchType)]
#[cfg(any())]
struct AlsoGone;

#[agent]
#[cfg(any())]
impl AlsoGone {
    #[on("a")]
    async fn a(&self) {}
}

fn main() {
    let table = [
        HandlerSpec::exclusive(1, "here"),
        HandlerSpec::shared(2, "also"),
        HandlerSpec::shared(3, "either"),
    ];
    assert_eq!(Worker::HANDLERS, table);
    let _: fn(&WorkerRef) -> mas::private::Call<u8> = WorkerRef::either;
}
