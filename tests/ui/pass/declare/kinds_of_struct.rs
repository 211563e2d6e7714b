//! Unit, tuple and field structs, with fields that nothing reads but the agent itself.

use mas::prelude::*;
use mas::private::{Agent, HandlerSpec};

#[agent]
struct Unit;

#[agent]
struct Tuple(String, u8);

#[agent]
#[derive(Debug, Clone)]
struct Fields {
    suffix: String,
    peer: Option<UnitRef>,
}

#[agent]
impl Unit {
    #[on("a")]
    async fn a(&self) {}
}

#[agent]
impl Tuple {
    #[on("a")]
    async fn a(&self) -> String {
        format!("{}{}", self.0, self.1)
    }
}

#[agent]
impl Fields {
    #[on("a")]
    async fn a(&self) -> String {
        format!("{}{:?}", self.suffix, self.peer)
    }
}

fn main() {
    let table = [HandlerSpec::shared(0, "a")];
    assert_eq!(Unit::HANDLERS, table);
    assert_eq!(Tuple::HANDLERS, table);
    assert_eq!(Fields::HANDLERS, table);
    let _ = (
        Unit,
        Tuple(String::new(), 0),
        Fields {
            suffix: String::new(),
            peer: None,
        }
        .clone(),
    );
}
