//! Where the crate has another name, both attributes are told.

mod facade {
    pub mod inner {
        pub use mas::*;
    }
}

use facade::inner as framework;
use framework::prelude::*;

#[agent(crate = "crate::facade::inner")]
struct Worker;

#[agent(crate = "crate::facade::inner")]
impl Worker {
    #[on("a")]
    async fn a(&self) {}
}

#[framework::agent(crate = "framework")]
struct Other;

#[framework::agent(crate = "framework")]
impl Other {
    #[framework::on("a")]
    async fn a(&self) {}
}

fn main() {
    use framework::private::Agent;
    assert_eq!(Worker::HANDLERS, Other::HANDLERS);
}
