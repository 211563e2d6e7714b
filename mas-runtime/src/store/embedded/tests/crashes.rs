//! Power cuts and kills at every step of the disk, under a mixed load in which other things fail, too.

use super::lives::{Cut, Lives, Seen};
use crate::model::Entropy;

/// Seeds that are tried, unless `MAS_CRASH_SEEDS` says otherwise.
const SEEDS: u64 = 2_000;
/// Steps of a load.
const STEPS: u64 = 24;

/// What must have happened in so many rounds, or they show less than they seem to.
const MUST_HAPPEN: &[&str] = &[
    "closed",
    "cut",
    "cut: beginning a segment",
    "cut: bringing the log back",
    "cut: closing",
    "cut: committing",
    "cut: flushing",
    "cut: idling",
    "cut: mending the index",
    "cut: opening",
    "cut: opening after a cut opening",
    "cut: opening after a kill",
    "cut: removing packs",
    "cut: removing segments",
    "cut: taking a snapshot",
    "done: idling",
    "done: removing packs",
    "done: removing segments",
    "done: taking a snapshot",
    "failed: bringing the log back",
    "failed: committing",
    "failed: flushing",
    "failed: mending the index",
    "failed: no room",
    "failed: taking a snapshot",
    "fault: a sync",
    "fault: room",
    "fault: the index",
    "fault: writes",
    "flushed: a pack was emptied",
    "flushed: large values",
    "flushed: several packs",
    "flushed: several segments",
    "healed",
    "killed",
    "opened: a torn end",
    "opened: commits were replayed",
    "opened: the index made anew",
    "opened: the replay was flushed",
];

/// Lives until the power is cut, or until the load is done.
fn live(lives: &mut Lives) -> Result<(), Cut> {
    lives.open()?;
    (0..STEPS).try_for_each(|_| lives.step())
}

/// Some lives that end badly, each on what the one before has left, then one that ends in order. The first one ends after
/// so many operations of the disk. Gives what has happened, and whether the first load was done before.
fn round(seed: u64, first_cut: Option<u64>) -> (Seen, bool) {
    let entropy = Entropy::seeded(seed);
    let count = 1 + entropy.below(4);
    let mut lives = Lives::new(entropy);
    let mut was_done = false;
    for life in 0..count {
        // Opening takes few operations: it is to be hit as well.
        let most = if lives.entropy.below(3) == 0 { 24 } else { 300 };
        let random = 1 + lives.entropy.below(most);
        lives.cut_after(first_cut.filter(|_| life == 0).unwrap_or(random));
        let is_done = live(&mut lives).is_ok();
        was_done |= life == 0 && is_done;
        if lives.entropy.below(3) == 0 {
            lives.kill();
        } else {
            lives.power_cut();
        }
    }
    live(&mut lives).expect("nothing cuts it");
    lives.restart().expect("nothing cuts it");
    (lives.seen, was_done)
}

/// As [`round`], and names the seed of one that fails.
fn named_round(seed: u64, first_cut: Option<u64>) -> (Seen, bool) {
    std::panic::catch_unwind(|| round(seed, first_cut)).unwrap_or_else(|panic| {
        eprintln!("seed {seed}, first cut {first_cut:?}");
        std::panic::resume_unwind(panic)
    })
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_promised() {
    let seeds = std::env::var("MAS_CRASH_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let first = std::env::var("MAS_CRASH_FIRST").map_or(0, |first| first.parse().unwrap());
    let mut all = Seen::new();
    for seed in first..first + seeds {
        for (what, count) in named_round(seed, None).0 {
            *all.entry(what).or_default() += count;
        }
    }
    println!("{all:#?}");
    if seeds >= SEEDS {
        for what in MUST_HAPPEN {
            assert!(all.contains_key(*what), "it never happened: {what}");
        }
    }
}

#[test]
fn a_crash_at_every_operation_of_one_load_loses_nothing_that_was_promised() {
    for at in 1.. {
        if named_round(42, Some(at)).1 {
            assert!(at > 100, "the load has only {at} operations");
            break;
        }
    }
}

#[test]
fn attempts_to_make_a_store_that_were_interrupted_are_in_nobodys_way() {
    // Each is cut at every operation, and leaves a segment of its own in any order.
    for seed in 0..40 {
        for at in 1..24 {
            let mut lives = Lives::new(Entropy::seeded(seed));
            for attempt in 0..4 {
                lives.cut_after(1 + (at + attempt * seed) % 24);
                let _ = lives.open();
                match seed.is_multiple_of(2) {
                    true => lives.kill(),
                    false => lives.power_cut(),
                }
            }
            lives.open().expect("nothing cuts it");
        }
    }
}
