//! Modules and values of the user that are called like crates are not ours either.

#![allow(dead_code)]

mod agents {
    mod mas {}
    mod std {}
    mod core {}
    mod serde {}
    mod alloc {}
    mod private {}

    use ::mas::prelude::*;

    #[agent(state = u8, timeout = 3)]
    pub struct Worker;

    #[agent]
    impl Worker {
        #[on("a")]
        async fn a(&mut self, mas: u8, ctx: &mut Context<Self>) -> Result<u8> {
            let core = ctx;
            core.update_state(|std| *std += mas);
            Ok(mas)
        }
        #[on("b")]
        async fn b(&self, message: u8, handler: Envelope) -> u8 {
            let _ = handler;
            message
        }
    }
}

fn main() {
    use mas::private::Agent;
    assert_eq!(agents::Worker::HANDLERS.len(), 2);
}
