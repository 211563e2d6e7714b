//! A disk that is full from any of its operations on, or at any size: nothing is lost, and the store works again by itself
//! once there is room.

use super::lives::Lives;
use super::world::{Machine, batch};
use crate::model::Entropy;

/// Steps of a load.
const STEPS: u64 = 24;

/// One load on a disk that gets full, then room again.
fn load(seed: u64, fill: impl FnOnce(&Machine)) -> (Lives, bool) {
    let mut lives = Lives::new(Entropy::seeded(seed));
    fill(&lives.machine);
    lives.expect_faults();
    lives.open().expect("nothing cuts it");
    let is_made = lives.is_open();
    if is_made {
        for _ in 0..STEPS {
            let done = match lives.entropy.below(8) {
                0 | 1 => lives.snapshot(),
                2 => lives.idle(),
                _ => lives.commit_some(),
            };
            done.expect("nothing cuts it");
        }
    } else {
        lives.make_room();
        lives.open().expect("nothing cuts it");
        lives.commit_some().expect("nothing cuts it");
    }
    lives.heal().expect("nothing cuts it");
    lives.restart().expect("nothing cuts it");
    (lives, is_made)
}

#[test]
fn a_disk_that_is_full_from_any_operation_on_loses_nothing() {
    let mut openings_failed = 0;
    for seed in 0..4 {
        for from in 1.. {
            let mut operations = 0;
            let (lives, is_made) = load(seed, |machine| machine.disk.full_from(Some(from)));
            openings_failed += u64::from(!is_made);
            operations += lives.machine.disk.operations();
            let has_failed = lives.seen.keys().any(|what| what.starts_with("failed: "));
            assert!(
                has_failed || from > 50,
                "seed {seed}, full from {from}: {:?}",
                lives.seen
            );
            if from > operations || !has_failed {
                break;
            }
        }
    }
    assert!(openings_failed > 10, "{openings_failed}");
}

#[test]
fn a_disk_that_is_full_at_any_size_loses_nothing() {
    for step in 0..300 {
        let (lives, _) = load(step, |machine| machine.disk.full_at_bytes(step * 500));
        if step < 10 {
            assert!(!lives.seen.is_empty());
        }
    }
}

#[test]
fn a_disk_that_stays_full_is_not_filled_with_attempts() {
    let machine = Machine::default();
    let mut store = machine.open().unwrap();
    let entropy = Entropy::seeded(3);
    for _ in 0..20 {
        let batch = batch(&entropy, &store.contents().unwrap());
        store.group([batch]);
    }
    let used = |machine: &Machine| {
        machine
            .disk
            .files()
            .iter()
            .map(|(_, size)| size)
            .sum::<u64>()
    };
    let before = machine.disk.files().len();
    // A pack can be begun there, and not be written.
    machine.disk.full_at_bytes(used(&machine) + 1000);
    for _ in 0..20 {
        assert!(store.flush().is_err());
    }
    let after = machine.disk.files().len();
    assert!(after <= before + 1, "{before} files became {after}");
    machine.disk.full_at_bytes(u64::MAX);
    store.flush().unwrap();
}
