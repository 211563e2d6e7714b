//! A borrowed reply arrives owned.

use mas::prelude::*;
use mas::private::{Call, StreamCall};

#[agent]
struct Worker {
    name: String,
    bytes: Vec<u8>,
}

#[agent]
impl Worker {
    #[on("static")]
    async fn status(&self) -> &'static str {
        "healthy"
    }
    #[on("own")]
    async fn name(&mut self) -> &str {
        &self.name
    }
    #[on("slice")]
    async fn bytes(&self, _ctx: &Context<Self>) -> &[u8] {
        &self.bytes
    }
    #[on("maybe")]
    async fn maybe(&self) -> Option<&'static str> {
        None
    }
    #[on("fallible")]
    async fn fallible(&self) -> Result<&'static str> {
        Ok("fine")
    }
    #[on("words")]
    fn words(&self) -> impl Stream<Item = &'static str> {
        futures_util::stream::iter(["a", "b"])
    }
    #[on("lines")]
    fn lines(&self) -> impl Stream<Item = std::io::Result<&str>> {
        futures_util::stream::iter(self.name.lines().map(Ok))
    }
}

fn main() {
    let _: [fn(&WorkerRef) -> Call<String>; 3] =
        [WorkerRef::status, WorkerRef::name, WorkerRef::fallible];
    let _: fn(&WorkerRef) -> Call<Vec<u8>> = WorkerRef::bytes;
    let _: [fn(&WorkerRef) -> StreamCall<String>; 2] = [WorkerRef::words, WorkerRef::lines];
    let _ = Worker {
        name: String::new(),
        bytes: Vec::new(),
    };
}
