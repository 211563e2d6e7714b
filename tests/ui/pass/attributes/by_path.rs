//! Nothing needs to be imported: every attribute and type can be written with its path.

#[mas::agent]
struct Worker;

#[mas::agent]
impl Worker {
    #[mas::on("a")]
    async fn a(
        &mut self,
        ctx: &mut mas::Context<Self>,
        envelope: mas::Envelope,
    ) -> mas::Result<u8> {
        let _ = (ctx, envelope);
        Ok(1)
    }

    #[::mas::on_start]
    async fn start(&mut self) {}

    #[mas::prelude::on_stop]
    async fn stop(&mut self) {}

    #[::mas::on_any]
    async fn other(&mut self) {}
}

fn main() {
    use mas::private::{Agent, HandlerSpec};
    assert_eq!(
        Worker::HANDLERS,
        [HandlerSpec::exclusive(0, "a"), HandlerSpec::any(1, true)]
    );
}
