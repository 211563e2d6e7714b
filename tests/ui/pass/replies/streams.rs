//! A stream of values or of `Result`s, from `&self` or `&mut self`, with a payload or without, borrowing or not.

use futures_util::stream;
use mas::prelude::*;
use mas::private::{Agent, HandlerSpec, StreamCall};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Token(String);

#[agent]
struct Worker {
    words: Vec<String>,
}

#[agent]
impl Worker {
    #[on("owned")]
    fn owned(&self, prompt: String) -> impl Stream<Item = Token> + use<> {
        stream::iter([Token(prompt)])
    }
    #[on("borrowed")]
    fn borrowed(&self) -> impl Stream<Item = Token> {
        stream::iter(self.words.iter().cloned().map(Token))
    }
    #[on("alone")]
    fn alone(&mut self, ctx: &mut Context<Self>) -> impl Stream<Item = Result<Token>> {
        let _ = ctx;
        stream::iter(self.words.drain(..).map(|word| Ok(Token(word))))
    }
    #[on("io")]
    fn io(&self) -> impl Send + mas::Stream<Item = std::io::Result<Token>> {
        stream::iter([Ok(Token(String::new()))])
    }
}

fn main() {
    let table = [
        HandlerSpec::shared(0, "owned").streams(),
        HandlerSpec::shared(1, "borrowed").streams(),
        HandlerSpec::exclusive(2, "alone").streams(),
        HandlerSpec::shared(3, "io").streams(),
    ];
    assert_eq!(Worker::HANDLERS, table);
    let _: fn(&WorkerRef, String) -> StreamCall<Token> = WorkerRef::owned;
    let _: [fn(&WorkerRef) -> StreamCall<Token>; 3] =
        [WorkerRef::borrowed, WorkerRef::alone, WorkerRef::io];
    let _ = Worker { words: Vec::new() };
}
