//! The engine against a plain map, with flushes, snapshots, faults, restarts and crashes in any order.

use proptest::prelude::*;

use super::lives::{Cut, Lives};
use crate::model::Entropy;

#[derive(Clone, Copy, Debug)]
enum Step {
    Commit(u64),
    Flush,
    Snapshot,
    Idle,
    Fault,
    Heal,
    Restart,
    Kill,
    PowerCut,
    /// The power is cut within the next steps.
    CutAfter(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => any::<u64>().prop_map(Step::Commit),
        2 => Just(Step::Flush),
        2 => Just(Step::Snapshot),
        2 => Just(Step::Idle),
        1 => Just(Step::Fault),
        1 => Just(Step::Heal),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
        1 => Just(Step::PowerCut),
        1 => (1..60_u64).prop_map(Step::CutAfter),
    ]
}

/// Takes a step. Whatever it answers and leaves is held against the model there.
fn take(lives: &mut Lives, step: Step) -> Result<(), Cut> {
    match step {
        Step::Commit(seed) => {
            lives.entropy = Entropy::seeded(seed);
            lives.commit_some()
        }
        Step::Flush => lives.flush(),
        Step::Snapshot => lives.snapshot(),
        Step::Idle => lives.idle(),
        Step::Fault => {
            lives.fault();
            Ok(())
        }
        Step::Heal => lives.heal(),
        Step::Restart => lives.restart(),
        Step::Kill => {
            lives.kill();
            lives.open()
        }
        Step::PowerCut => Err(Cut),
        Step::CutAfter(operations) => {
            lives.cut_after(operations);
            Ok(())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn it_is_a_map_that_outlives_what_it_stands_on(steps in prop::collection::vec(step(), 1..60)) {
        let mut lives = Lives::new(Entropy::seeded(1));
        lives.open().expect("nothing cuts it");
        for step in steps {
            if take(&mut lives, step).is_err() {
                lives.power_cut();
                lives.open().expect("nothing cuts it");
            }
            lives.compare();
        }
    }
}
