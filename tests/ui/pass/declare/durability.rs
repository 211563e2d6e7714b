//! Each word of `durability`, with state, with durable delivery, and with both.

use mas::Durability;
use mas::prelude::*;
use mas::private::{Declaration, Declare};

#[derive(Default, Serialize, Deserialize)]
struct Tally {
    done: u64,
}

#[agent(state = Tally, durability = "durable")]
struct Exact;

#[agent(durable, durability = "buffered")]
struct Quick;

#[agent(state = Tally, durable, durability = "memory")]
struct Fleeting;

#[agent(state = Tally, durable)]
struct Unsaid;

#[agent]
impl Exact {}
#[agent]
impl Quick {}
#[agent]
impl Fleeting {}
#[agent]
impl Unsaid {}

fn main() {
    let expected = Declaration::new("exact").stateful();
    let expected = expected.durability(Durability::Durable);
    let declared = <ExactRef as Declare<Exact>>::declaration();
    assert_eq!(format!("{declared:?}"), format!("{expected:?}"));

    let expected = Declaration::new("quick").durable();
    let expected = expected.durability(Durability::Buffered);
    let declared = <QuickRef as Declare<Quick>>::declaration();
    assert_eq!(format!("{declared:?}"), format!("{expected:?}"));

    let expected = Declaration::new("fleeting").stateful().durable();
    let expected = expected.durability(Durability::Memory);
    let declared = <FleetingRef as Declare<Fleeting>>::declaration();
    assert_eq!(format!("{declared:?}"), format!("{expected:?}"));

    let expected = Declaration::new("unsaid").stateful().durable();
    let declared = <UnsaidRef as Declare<Unsaid>>::declaration();
    assert_eq!(format!("{declared:?}"), format!("{expected:?}"));
    assert_eq!(Tally::default().done, 0);
}
