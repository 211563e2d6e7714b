//! What carries none of our attributes is left as it is.

use mas::prelude::*;
use mas::private::{Agent, HandlerSpec};

#[agent]
struct Worker {
    count: u32,
}

#[agent]
impl Worker {
    const LIMIT: u32 = 9;

    pub fn new() -> Self {
        Self { count: 0 }
    }

    fn bump<T: Into<u32>>(&mut self, by: T) -> u32 {
        self.count = (self.count + by.into()).min(Self::LIMIT);
        self.count
    }

    #[on("bump")]
    async fn handle(&mut self, by: u32) -> u32 {
        self.bump(by)
    }

    async fn ask(self) -> u32 {
        self.count
    }

    extern "C" fn raw(&self) -> u32 {
        self.count
    }
}

fn main() {
    assert_eq!(Worker::HANDLERS, [HandlerSpec::exclusive(0, "bump")]);
    let mut worker = Worker::new();
    assert_eq!(worker.bump(4_u32), 4);
    assert_eq!(worker.bump(40_u32), Worker::LIMIT);
    let _ = (Worker::raw, worker.ask());
}
