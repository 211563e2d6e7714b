//! The state of a generic agent may be generic, too.

use mas::prelude::*;
use mas::private::{Agent, StateOf};
use serde::de::DeserializeOwned;

#[derive(Default, Serialize, Deserialize)]
struct Seen<T> {
    last: Option<T>,
}

#[agent(state = Seen<T>, durable)]
struct Watcher<T> {
    of: std::marker::PhantomData<fn() -> T>,
}

#[agent]
impl<T> Watcher<T>
where
    T: Default + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    #[on("seen")]
    async fn seen(&mut self, item: T, ctx: &mut Context<Self>) {
        ctx.update_state(|seen| seen.last = Some(item));
    }
}

fn main() {
    let _: StateOf<Watcher<u8>> = Seen { last: Some(1_u8) };
    assert_eq!(Watcher::<u8>::HANDLERS.len(), 1);
    let _ = Watcher::<u8> {
        of: std::marker::PhantomData,
    };
}
