//! Agents generic over types and constants; bounds on the impl block are enough.

use std::fmt::Debug;

use mas::prelude::*;
use mas::private::{Agent, Call, Declare, HandlerSpec};
use serde::de::DeserializeOwned;

#[agent(id = "buffer")]
struct Buffer<T, const SIZE: usize = 4>
where
    T: Debug,
{
    items: Vec<T>,
}

#[agent]
impl<T, const SIZE: usize> Buffer<T, SIZE>
where
    T: Debug + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    #[on("push")]
    async fn push(&mut self, item: T, ctx: &mut Context<Self>) -> Result<usize> {
        let _ = ctx;
        self.items.push(item);
        Ok(self.items.len().min(SIZE))
    }

    #[on("last")]
    async fn last(&self) -> Option<T> {
        self.items.last().cloned()
    }

    #[on("all")]
    fn all(&self) -> impl Stream<Item = T> {
        futures_util::stream::iter(self.items.clone())
    }

    #[on("first")]
    async fn first(&self, _: [u8; 3]) -> [Option<T>; 1] {
        [self.items.first().cloned()]
    }
}

fn main() {
    assert_eq!(
        Buffer::<u8, 2>::HANDLERS[0],
        HandlerSpec::exclusive(0, "push")
    );
    let _: fn(&BufferRef<String>, String) -> Call<usize> = BufferRef::push;
    let _: fn(&BufferRef<u8, 9>) -> Call<Option<u8>> = BufferRef::last;
    let _ = <BufferRef<u8> as Declare<Buffer<u8>>>::declaration();
    let _ = Buffer::<u8> { items: Vec::new() };
}
