//! `validate` and `migrate` take the path of a function, bare or as a string; its error is anything that displays.

use mas::prelude::*;
use mas::private::{Declare, Document};

#[derive(Default, Serialize, Deserialize)]
struct Tally {
    done: u64,
}

impl Tally {
    fn check(&self) -> std::result::Result<(), String> {
        if self.done < 9 {
            Ok(())
        } else {
            Err("too many".to_owned())
        }
    }
}

mod moves {
    pub fn up(_version: u32, _old: super::Document) -> Result<super::Tally, std::fmt::Error> {
        Err(std::fmt::Error)
    }
}

#[agent(state = Tally, state_version = 3, validate = Tally::check, migrate = moves::up)]
struct Bare;

#[agent(state = Tally, validate = "Tally::check", migrate = "moves::up")]
struct Quoted;

fn main() {
    let bare = format!("{:?}", <BareRef as Declare<Bare>>::declaration());
    let quoted = format!("{:?}", <QuotedRef as Declare<Quoted>>::declaration());
    assert_ne!(bare, quoted);
    assert!(Tally { done: 8 }.check().is_ok());
}
