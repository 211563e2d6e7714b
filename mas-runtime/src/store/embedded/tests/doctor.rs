//! Examinations: sound stores, every kind of damage, and whether the verdict is what opening finds. Cutting the log.

use std::collections::BTreeMap;

use super::damage::{files, flip, furnished};
use super::world::{self, Contents, Machine, Model, contents};
use super::*;
use crate::model::limits::STORE_FINDINGS_MAX;
use crate::store::disk::StillDisk;
use crate::store::keys;
use crate::store::record::{self, Counters, Delivery};
use crate::store::tree::RecordChanges;

/// Rounds of damage to a real directory.
const DAMAGE_ROUNDS: u64 = 80;
/// Seeds of simulated crashes.
const CRASH_SEEDS: u64 = 60;

fn examined(dir: &Path) -> Examination {
    examine(dir, &ExamineOptions::default(), &mut |_| {}).unwrap()
}

/// Examines a simulated store, which stays as it is.
fn examined_on(machine: &Machine) -> Result<Examination, OpenError> {
    let plan = machine.plan();
    let plan = Plan {
        disk: Arc::new(StillDisk::over(&plan.disk)),
        home: Arc::new(machine.home.killed()),
        ..plan
    };
    super::super::doctor::run(&plan, &mut |_| {})
}

/// Every file of a directory with its bytes.
fn bytes_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = files(dir).into_iter();
    files
        .map(|(path, _)| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

/// The one finding that a store has, and its verdict.
fn only(examination: &Examination) -> (Severity, Place, Verdict) {
    let [finding] = &examination.findings[..] else {
        panic!("{examination}");
    };
    (
        finding.severity,
        finding.place.clone(),
        examination.verdict(),
    )
}

#[tokio::test]
async fn sound_stores_are_sound_and_stay_as_they_are() {
    let scratch = TempDir::new().unwrap();
    for closes in [true, false] {
        let dir = TempDir::new().unwrap();
        let expected = furnished(dir.path(), closes).await;
        let before = bytes_of(dir.path());
        let (mut calls, mut records) = (0, 0);
        let options = ExamineOptions::default().scratch(scratch.path());
        let found = examine(&dir, &options, &mut |progress| {
            assert!(progress.records > records);
            (calls, records) = (calls + 1, progress.records);
        });
        let found = found.unwrap();
        assert_eq!(found.verdict(), Verdict::Sound, "{found}");
        assert_eq!((&found.findings[..], found.left_out), (&[][..], 0));
        assert!(found.position > Some(200) && calls > 0);
        assert_eq!(found.totals.records, records);
        if closes {
            assert_eq!(found.totals.records, expected.len() as u64);
            assert_eq!(found.totals.index, found.totals.snapshot);
        } else {
            assert!(found.totals.replayed > 0);
        }
        assert!(bytes_of(dir.path()) == before, "something was changed");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
        let engine = open(&dir);
        assert_eq!(Some(engine.recovery().position), found.position);
        let locked = examine(&dir, &options, &mut |_| {});
        assert!(matches!(locked, Err(OpenError::Locked { .. })));
    }
    let nowhere = examine(
        scratch.path().join("no"),
        &ExamineOptions::default(),
        &mut |_| {},
    );
    assert!(matches!(nowhere, Err(OpenError::Io { .. })));
    let empty = examined(scratch.path());
    assert_eq!((empty.position, empty.verdict()), (Some(0), Verdict::Sound));
}

#[tokio::test]
async fn damage_to_the_log_is_named_with_its_place() {
    let killed = TempDir::new().unwrap();
    furnished(killed.path(), false).await;
    let log = inspect_log(&killed).unwrap();
    let newest = log.segments.last().unwrap();
    let name = format!("log/{:016x}.log", newest.number);
    let segment = newest.number;

    // Behind the end: what a crash leaves.
    let dir = TempDir::new().unwrap();
    copy_dir(killed.path(), dir.path());
    let end = newest.used_bytes;
    flip(&dir.path().join(&name), end + 40, 0x55);
    let found = examined(dir.path());
    let place = Place::Log {
        segment,
        offset: end,
    };
    assert_eq!(
        only(&found),
        (Severity::Repairable, place, Verdict::Repairs)
    );
    assert_eq!(found.position, newest.last);
    drop(open(&dir));
    assert_eq!(examined(dir.path()).verdict(), Verdict::Sound);

    // In the middle: what was on disk.
    let dir = TempDir::new().unwrap();
    copy_dir(killed.path(), dir.path());
    flip(&dir.path().join(&name), end - 4000, 1);
    let found = examined(dir.path());
    let OpenError::Corrupt {
        segment, offset, ..
    } = refused(&dir)
    else {
        panic!("{found}");
    };
    let place = Place::Log { segment, offset };
    assert_eq!(only(&found), (Severity::Loss, place, Verdict::Lossy));
    assert_eq!((found.position, found.verdict().exit_code()), (None, 2));
    assert!(found.to_string().contains("it does not open"), "{found}");
}

#[tokio::test]
async fn damage_to_packs_snapshot_and_index_is_named() {
    let closed = TempDir::new().unwrap();
    furnished(closed.path(), true).await;
    let copy = || {
        let dir = TempDir::new().unwrap();
        copy_dir(closed.path(), dir.path());
        dir
    };
    let (path, size) = files(&closed.path().join("packs")).pop().unwrap();
    let name = path.strip_prefix(closed.path()).unwrap();

    let dir = copy();
    flip(&dir.path().join(name), size - 9, 4);
    let found = examined(dir.path());
    let (severity, place, verdict) = only(&found);
    assert_eq!((severity, verdict), (Severity::Loss, Verdict::Lossy));
    assert!(matches!(place, Place::Pack { offset, .. } if offset < size));
    assert!(found.findings[0].what.contains("checksum"), "{found}");

    let dir = copy();
    fs::remove_file(dir.path().join(name)).unwrap();
    let found = examined(dir.path());
    assert_eq!((found.verdict(), found.position), (Verdict::Lossy, None));
    assert!(found.findings[0].what.contains("is not there"), "{found}");
    refused(&dir);

    let dir = copy();
    flip(&dir.path().join("snapshot"), 50, 1);
    let found = examined(dir.path());
    assert_eq!(
        only(&found),
        (Severity::Repairable, Place::Snapshot, Verdict::Repairs)
    );
    drop(open(&dir));
    assert_eq!(examined(dir.path()).verdict(), Verdict::Sound);

    for damage in [
        |refs: &Path| fs::remove_dir_all(refs).unwrap(),
        |refs: &Path| fs::write(refs.join("db"), [7; 4096]).unwrap(),
    ] {
        let dir = copy();
        damage(&dir.path().join("refs"));
        let found = examined(dir.path());
        let expected = (Severity::Repairable, Place::Index, Verdict::Repairs);
        assert_eq!(only(&found), expected);
        assert_eq!(found.verdict().exit_code(), 1);
        drop(open(&dir));
        assert_eq!(examined(dir.path()).verdict(), Verdict::Sound);
    }

    let dir = copy();
    for name in ["notes.txt", "log/notes.txt", "packs/notes.txt"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    let found = examined(dir.path());
    assert_eq!((found.verdict(), found.findings.len()), (Verdict::Sound, 3));
}

#[tokio::test]
async fn the_verdict_is_what_opening_finds() {
    let (closed, killed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let expected = furnished(closed.path(), true).await;
    furnished(killed.path(), false).await;
    let entropy = Entropy::seeded(11);
    let mut verdicts = [0; 3];
    for round in 0..DAMAGE_ROUNDS {
        let dir = TempDir::new().unwrap();
        let original = if round % 2 == 0 { &closed } else { &killed };
        copy_dir(original.path(), dir.path());
        let mut files = files(dir.path());
        files.retain(|(_, size)| *size > 0);
        let (path, size) = &files[round as usize / 2 % files.len()];
        let at = entropy.below(*size);
        if entropy.below(4) == 0 {
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(at).unwrap();
        } else {
            flip(path, at, 1 << entropy.below(8));
        }
        let what = format!("round {round}: {} at {at}", path.display());
        let before = bytes_of(dir.path());
        let found = examine(&dir, &ExamineOptions::default(), &mut |_| {});
        assert!(bytes_of(dir.path()) == before, "{what}: it was changed");
        let opened = EmbeddedEngine::open(&dir, EmbeddedOptions::default());
        let Ok(found) = found else {
            assert!(opened.is_err(), "{what}");
            continue;
        };
        verdicts[found.verdict() as usize] += 1;
        assert_eq!(found.position.is_some(), opened.is_ok(), "{what}: {found}");
        let held = opened.map(|engine| (engine.recovery().position, contents(&*engine.records)));
        let is_whole = matches!(&held, Ok((_, Ok(held))) if *held == expected);
        let is_lossy = found.verdict() == Verdict::Lossy;
        assert_eq!(is_lossy, !is_whole, "{what}: {found}");
        if let Ok((position, _)) = held {
            assert_eq!(found.position, Some(position), "{what}");
        }
    }
    assert!(verdicts.iter().all(|count| *count > 0), "{verdicts:?}");
}

/// A store that has seen some batches.
fn furnished_on(machine: &Machine, seed: u64, model: &mut Model) -> u64 {
    let mut store = machine.open().unwrap();
    let entropy = Entropy::seeded(seed);
    for _ in 0..60 + entropy.below(60) {
        let batch = world::batch(&entropy, model.now());
        let _ = model.commit(&batch);
        store.group([batch]);
        match entropy.below(16) {
            0 => store.flush().unwrap(),
            1 if entropy.below(3) == 0 => store.flusher.snapshot().unwrap(),
            _ => {}
        }
    }
    store.committer.send_all().unwrap();
    crate::store::apply::counters(model.now()).unwrap().position
}

#[test]
fn what_a_crash_leaves_is_no_loss() {
    for seed in 0..CRASH_SEEDS {
        let machine = Machine::default();
        furnished_on(&machine, seed, &mut Model::default());
        let crashed = machine.after_crash(seed);
        let found = examined_on(&crashed).unwrap();
        let opened = crashed.open();
        assert_eq!(
            found.verdict() == Verdict::Lossy,
            opened.is_err(),
            "{seed}: {found}"
        );
        let position = opened.ok().map(|store| store.recovery.position);
        assert_eq!(found.position, position, "{seed}: {found}");
    }
}

#[test]
fn an_index_that_was_altered_with_a_right_tally_is_found() {
    for seed in 0..20 {
        let machine = Machine::default();
        furnished_on(&machine, seed, &mut Model::default());
        let snapshot = machine.open().unwrap();
        snapshot.close().unwrap();
        // Something behind the snapshot, in the index.
        let mut store = machine.open().unwrap();
        let journal = |n: u8| Batch::new().journal_append("audit".into(), vec![n; 50].into(), None);
        store.one(journal(1));
        let old: Vec<_> = leaves(&*store.records.tree().index());
        store.flush().unwrap();
        let now: Vec<_> = leaves(&*store.records.tree().index());
        let index = store.records.tree().index();
        let position = index.position();
        assert_eq!(examined_on(&machine).unwrap().verdict(), Verdict::Sound);
        let (first, stale) = old.iter().find(|leaf| !now.contains(leaf)).unwrap();
        index
            .apply(&[(first.clone(), Some(*stale))], position)
            .unwrap();
        let found = examined_on(&machine).unwrap();
        assert_eq!(found.verdict(), Verdict::Lossy);
        let other = |finding: &Finding| {
            matches!(finding.place, Place::Record { .. }) && finding.what.contains("`refs`")
        };
        assert!(found.findings.iter().any(other), "{found}");
        // One that is missing.
        let (first, gone) = now.iter().find(|leaf| leaf.0 == *first).unwrap();
        index.apply(&[(first.clone(), None)], position).unwrap();
        let found = examined_on(&machine).unwrap();
        let missing = found
            .findings
            .iter()
            .filter(|f| f.what.contains("does not hold it"));
        assert!(missing.count() as u32 >= gone.records.min(2), "{found}");
    }
}

fn leaves(
    index: &dyn crate::store::tree::refs::LeafIndex,
) -> Vec<crate::store::tree::refs::LeafEntry> {
    let mut leaves = Vec::new();
    let mut add = |first: &[u8], leaf| {
        leaves.push((first.to_vec(), leaf));
        Ok(())
    };
    index.walk(&mut add).unwrap();
    leaves
}

/// A store of any records whatever, that is sound otherwise.
fn made_of(records: impl IntoIterator<Item = (keys::Key, Bytes)>) -> Machine {
    let machine = Machine::default();
    let counters = Counters {
        position: 9,
        seqs: 9,
        ..Counters::default()
    };
    let mut all = RecordChanges::new();
    all.insert(keys::counters(), Some(record::encode_counters(counters)));
    all.extend(records.into_iter().map(|(key, value)| (key, Some(value))));
    let plan = machine.plan();
    open::make_folders(&plan.disk, &plan.layout).unwrap();
    recovery::build::<OpenError>(&plan, [5; 16], &None, |put| {
        put(all).unwrap();
        Ok(9)
    })
    .unwrap();
    machine
}

/// The end of the journal `j`.
fn end(n: u64) -> (keys::Key, Bytes) {
    (keys::journal_end("j"), record::encode_number(n))
}

#[test]
fn records_that_do_not_fit_each_other_are_found() {
    let payload = || record::encode_payload(b"x");
    let journal = |n| (keys::journal("j", n), payload());
    let lane = Priority::Normal;
    let inbox = (
        keys::inbox(&agent(1), lane, 3),
        record::encode_inbox(MessageId::from_bytes([1; 16]), b"x"),
    );
    let delivery = |n| {
        let value = record::encode_delivery(&Delivery::default());
        (keys::delivery(&agent(1), lane, n), value)
    };
    let sound = [journal(3), journal(4), end(5), inbox, delivery(3)];
    let found = examined_on(&made_of(sound)).unwrap();
    assert_eq!(found.verdict(), Verdict::Sound, "{found}");
    assert!(found.findings.is_empty() && found.position == Some(9));
    let trimmed = examined_on(&made_of([end(5)])).unwrap();
    assert!(trimmed.findings.is_empty(), "{trimmed}");

    let place = |key: &[u8]| Place::Record {
        key: keys::describe(key),
    };
    let counters = |position, seqs| {
        let counters = Counters {
            position,
            seqs,
            ..Counters::default()
        };
        (keys::counters(), record::encode_counters(counters))
    };
    let cases = [
        (
            vec![journal(3), journal(4), end(6)],
            Severity::Loss,
            end(0).0,
        ),
        (
            vec![journal(3), journal(5), end(6)],
            Severity::Loss,
            journal(5).0,
        ),
        (vec![journal(3)], Severity::Loss, journal(3).0),
        (vec![delivery(3)], Severity::Harmless, delivery(3).0),
        (vec![counters(8, 9)], Severity::Loss, keys::counters()),
        (
            vec![counters(9, 6), (keys::outbox(&agent(1), 7), payload())],
            Severity::Loss,
            keys::outbox(&agent(1), 7),
        ),
        (
            vec![(keys::timer(&agent(1), 1), Bytes::from_static(&[1, 2]))],
            Severity::Loss,
            keys::timer(&agent(1), 1),
        ),
        (
            vec![(vec![0x77, 1], payload())],
            Severity::Loss,
            vec![0x77, 1],
        ),
    ];
    for (records, severity, key) in cases {
        let found = examined_on(&made_of(records)).unwrap();
        let verdict = match severity {
            Severity::Loss => Verdict::Lossy,
            _ => Verdict::Sound,
        };
        assert_eq!(only(&found), (severity, place(&key), verdict), "{found}");
    }
}

#[test]
fn sealed_values_are_counted_and_findings_are_bounded() {
    let sealed = (keys::timer(&agent(1), 1), Bytes::from_static(&[0xe1, 2]));
    let found = examined_on(&made_of([sealed])).unwrap();
    assert_eq!((found.verdict(), found.totals.sealed), (Verdict::Sound, 1));

    let many =
        (0..STORE_FINDINGS_MAX as u64 + 5).map(|n| (keys::timer(&agent(1), n), Bytes::new()));
    let found = examined_on(&made_of(many)).unwrap();
    assert_eq!(
        (found.findings.len(), found.left_out),
        (STORE_FINDINGS_MAX, 5)
    );
    assert!(
        found.to_string().ends_with("and 5 findings more\n"),
        "{found}"
    );
}

#[test]
fn a_cut_leaves_exactly_the_commits_before() {
    for seed in 0..40 {
        let (machine, mut model) = (Machine::default(), Model::default());
        let last = furnished_on(&machine, seed, &mut model);
        let killed = machine.kill();
        let entropy = Entropy::seeded(seed);
        let snapshot = examined_on(&killed).unwrap().totals.snapshot.unwrap();
        let plan = killed.plan();
        if snapshot > 0 {
            let cut = super::super::doctor::cut(&plan, snapshot);
            assert!(matches!(cut, Err(CutError::Reflected { .. })), "{cut:?}");
        }
        let beyond = super::super::doctor::cut(&plan, last + 2);
        assert!(
            matches!(beyond, Err(CutError::Outside { .. })),
            "{beyond:?}"
        );
        if snapshot == last {
            continue;
        }
        let position = snapshot + 1 + entropy.below(last - snapshot);
        let index = examined_on(&killed).unwrap().totals.index.unwrap();
        let done = super::super::doctor::cut(&plan, position).unwrap();
        assert_eq!((done.from, done.to), (position, Some(last)));
        assert_eq!(done.index_aside.is_some(), index >= position);
        let found = examined_on(&killed).unwrap();
        assert_ne!(found.verdict(), Verdict::Lossy, "{found}");
        let store = killed.open().unwrap();
        assert_eq!(store.recovery.position, position - 1);
        assert!(store.contents().unwrap() == *model.at(position - 1));
    }
}

#[tokio::test]
async fn a_damaged_log_that_is_cut_opens_again() {
    let dir = TempDir::new().unwrap();
    let expected: Contents = furnished(dir.path(), false).await;
    let log = inspect_log(&dir).unwrap();
    assert!(log.is_sound());
    let newest = log.segments.last().unwrap();
    let path = dir.path().join(format!("log/{:016x}.log", newest.number));
    flip(&path, newest.used_bytes - 4000, 1);
    let OpenError::Corrupt { position, .. } = refused(&dir) else {
        panic!("it opens");
    };
    assert!(!inspect_log(&dir).unwrap().is_sound());
    let done = cut_log(&dir, position).unwrap();
    assert_eq!((done.from, done.to), (position, newest.last));
    let engine = open(&dir);
    assert_eq!(engine.recovery().position, position - 1);
    assert!(contents(&*engine.records).unwrap() != expected);
    drop(engine);
    assert_eq!(examined(dir.path()).verdict(), Verdict::Sound);
    let nowhere = cut_log(dir.path().join("no"), 1);
    assert!(matches!(nowhere, Err(CutError::Open(OpenError::Io { .. }))));
}
