//! `#[on_start]` and `#[on_stop]`: with a context or without, fallible or not, whatever they are called.

use mas::prelude::*;
use mas::private::Agent;

#[agent]
struct Loud;

#[agent]
impl Loud {
    #[on_start]
    async fn on_start(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    #[on_stop]
    async fn on_stop(&mut self, ctx: &mut Context<Self>) {
        let _ = ctx;
    }
}

#[agent]
struct Quiet;

#[agent]
impl Quiet {
    #[on_start]
    async fn begin(&self) {}

    #[on_stop]
    async fn end(&mut self) -> std::result::Result<(), std::fmt::Error> {
        Err(std::fmt::Error)
    }
}

#[agent]
struct Formatted;

#[agent]
impl Formatted {
    #[on_start]
    async fn begin(&self, _ctx: &Context<Self>) -> std::fmt::Result {
        Ok(())
    }
}

fn main() {
    assert!(
        Loud::HANDLERS.is_empty() && Quiet::HANDLERS.is_empty() && Formatted::HANDLERS.is_empty()
    );
}
