//! A `validate` that takes something else than the state.

use mas::prelude::*;

#[derive(Default, Serialize, Deserialize)]
struct Tally {
    done: u64,
}

fn check(done: u64) -> std::result::Result<(), String> {
    if done < 9 {
        Ok(())
    } else {
        Err("too many".to_owned())
    }
}

#[agent(state = Tally, validate = check)]
struct Worker;

#[agent]
impl Worker {}

fn main() {
    let _ = (Worker, Tally { done: 1 }.done);
}
