//! Each word of `overflow`, `restart` and `strategy`, and each way to write a time.

use std::time::Duration;

use mas::prelude::*;
use mas::private::{Declaration, Declare, Overflow, Restart, Strategy};

#[agent(
    id = "w",
    overflow = "wait",
    restart = "on_failure",
    strategy = "one_for_one",
    timeout = "30s"
)]
struct First;
#[agent(
    id = "w",
    overflow = "refuse",
    restart = "always",
    strategy = "one_for_all",
    timeout = "2m"
)]
struct Second;
#[agent(id = "w", overflow = "drop_newest", timeout = "1h")]
struct Third;
#[agent(id = "w", timeout = 7)]
struct Fourth;

fn shown<A, R: Declare<A>>() -> String {
    format!("{:?}", R::declaration())
}

fn main() {
    let declaration = || Declaration::new("w");
    let first = declaration()
        .overflow(Overflow::Wait)
        .restart(Restart::OnFailure)
        .strategy(Strategy::OneForOne);
    assert_eq!(
        shown::<First, FirstRef>(),
        format!("{:?}", first.timeout(Duration::from_secs(30)))
    );
    let second = declaration()
        .overflow(Overflow::Refuse)
        .restart(Restart::Always)
        .strategy(Strategy::OneForAll);
    assert_eq!(
        shown::<Second, SecondRef>(),
        format!("{:?}", second.timeout(Duration::from_secs(120)))
    );
    let third = declaration()
        .overflow(Overflow::DropNewest)
        .timeout(Duration::from_secs(3600));
    assert_eq!(shown::<Third, ThirdRef>(), format!("{third:?}"));
    let fourth = declaration().timeout(Duration::from_secs(7));
    assert_eq!(shown::<Fourth, FourthRef>(), format!("{fourth:?}"));
}
