//! Power cuts at every step of the disk, under a mixed load.

use super::world::{Driven, Machine, Model, batch};
use super::*;
use crate::store::Durability;

/// Seeds that are tried, unless `MAS_CRASH_SEEDS` says otherwise.
const SEEDS: u64 = 2_000;
/// Steps of a load.
const STEPS: u64 = 24;

/// What a load has reached when it ended.
#[derive(Debug)]
struct Reached {
    /// The last commit that was promised to outlive a power cut.
    promised: u64,
}

/// Runs a load until it is done or the disk fails. `model` knows what was decided.
fn load(
    store: &mut Driven,
    model: &mut Model,
    entropy: &Entropy,
    steps: u64,
) -> Result<Reached, (Reached, StoreError)> {
    let mut reached = Reached {
        promised: store.recovery.position,
    };
    for _ in 0..steps {
        let failed = match entropy.below(10) {
            0 => store.flush().err(),
            1 => {
                store.clock.advance(10);
                store.committer.tend();
                store.committer.look_after_log();
                None
            }
            2 => store.flush().and_then(|()| store.flusher.snapshot()).err(),
            _ => commit(store, model, entropy, &mut reached),
        };
        if let Some(error) = failed {
            return Err((reached, error));
        }
    }
    Ok(reached)
}

/// Commits a group. Answers must be the model's.
fn commit(
    store: &mut Driven,
    model: &mut Model,
    entropy: &Entropy,
    reached: &mut Reached,
) -> Option<StoreError> {
    let (mut batches, mut expected) = (Vec::new(), Vec::new());
    for _ in 0..=entropy.below(3) {
        let batch = batch(entropy, model.now());
        expected.push(model.commit(&batch));
        batches.push(batch);
    }
    let levels: Vec<_> = batches.iter().map(Batch::level).collect();
    let mut failed = None;
    let answers = store.group(batches);
    for ((answer, expected), level) in answers.into_iter().zip(expected).zip(levels) {
        match (answer, expected) {
            (Ok(answer), Ok(expected)) => {
                assert_eq!(answer, expected);
                if level == Durability::Durable {
                    reached.promised = reached.promised.max(answer.position);
                }
            }
            (Err(CommitError::Io { source, .. }), _) => {
                failed = Some(StoreError::io("commit", std::io::Error::other(source)))
            }
            (Err(answer), Err(expected)) => assert_eq!(answer.to_string(), expected.to_string()),
            (answer, expected) => panic!("{answer:?}, expected {expected:?}"),
        }
    }
    failed
}

/// Opens what a crash has left, and holds it against what was promised and decided.
fn recovered(machine: &Machine, model: &mut Model, promised: u64) -> Driven {
    let store = machine.open().expect("what no bit has flipped in opens");
    let position = store.recovery.position;
    assert!(
        position >= promised,
        "commit {promised} was promised, the store is at {position}"
    );
    let contents = store.contents().unwrap();
    assert!(
        contents == *model.at(position),
        "what is there is not what commit {position} had left"
    );
    model.cut(position);
    store
}

/// One load, cut at one operation of the disk, then another on what is left, cut as well, then one more that ends in order.
fn round(seed: u64, cut: impl Fn(u64, &Entropy) -> u64) -> u64 {
    let entropy = Entropy::seeded(seed);
    let (mut machine, mut model, mut promised, mut first_cut) =
        (Machine::default(), Model::default(), 0, 0);
    for part in 0..2 {
        let at = cut(part, &entropy);
        machine.disk.crash_at(machine.disk.operations() + at);
        let before = machine.disk.operations();
        if let Ok(mut store) = machine.open() {
            assert!(store.recovery.position >= promised);
            model.cut(store.recovery.position);
            let reached = load(&mut store, &mut model, &entropy, STEPS);
            promised = reached.unwrap_or_else(|(reached, _)| reached).promised;
        }
        if part == 0 {
            first_cut = machine.disk.operations() - before;
        }
        machine = if entropy.below(8) == 0 && machine.disk.operations() < before + at {
            machine.kill()
        } else {
            machine.after_crash(entropy.next_u64())
        };
    }
    let mut store = recovered(&machine, &mut model, promised);
    let ended = load(&mut store, &mut model, &entropy, STEPS).map_err(|(_, error)| error);
    ended.unwrap();
    assert!(store.contents().unwrap() == *model.now());
    store.close().unwrap();
    let store = machine.open().unwrap();
    assert_eq!(store.recovery.replayed, 0, "it ended in order");
    assert!(store.contents().unwrap() == *model.now());
    first_cut
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_that_was_promised() {
    let seeds = std::env::var("MAS_CRASH_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let first = std::env::var("MAS_CRASH_FIRST").map_or(0, |first| first.parse().unwrap());
    for seed in first..first + seeds {
        let round = std::panic::catch_unwind(|| round(seed, |_, entropy| 1 + entropy.below(260)));
        if let Err(panic) = round {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_power_cut_at_every_operation_of_one_load_loses_nothing_that_was_promised() {
    for at in 1.. {
        let cut = |part, entropy: &Entropy| {
            if part == 0 {
                at
            } else {
                1 + entropy.below(200)
            }
        };
        let operations = round(42, cut);
        if operations < at {
            assert!(at > 100, "the load has only {operations} operations");
            break;
        }
    }
}

#[test]
fn what_a_killed_process_had_written_is_there() {
    let machine = Machine::default();
    let mut store = machine.open().unwrap();
    let batch = Batch::new().journal_append("audit".to_owned(), "x".into(), None);
    let relaxed = batch.durability(Durability::Relaxed);
    assert_eq!(store.one(relaxed).position, 1);
    let machine = machine.kill();
    assert_eq!(machine.open().unwrap().recovery.position, 1);
    // What is readable after a kill must outlive a power cut: somebody may have seen it.
    let seen = machine.after_crash(3).open().unwrap();
    assert_eq!(seen.recovery.position, 1);
}
