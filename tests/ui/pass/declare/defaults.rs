//! Without keys an agent is known by its struct's name in kebab-case, and every setting is the runtime's.

use mas::prelude::*;
use mas::private::{Agent, Declaration, Declare};

#[agent]
struct HTTPServer2;

#[agent]
impl HTTPServer2 {}

fn main() {
    let declared = <HTTPServer2Ref as Declare<HTTPServer2>>::declaration();
    assert_eq!(
        format!("{declared:?}"),
        format!("{:?}", Declaration::new("http-server2"))
    );
    assert!(HTTPServer2::HANDLERS.is_empty());
}
