//! Exports and imports: what comes back, and what is refused.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::world::{self, Contents, Driven, Machine, Model, contents};
use super::*;
use crate::store::Journal;
use crate::store::index::Index;

fn goes_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn exported(index: &dyn Index) -> Vec<u8> {
    let mut bytes = Vec::new();
    let unix = Duration::from_millis(1234);
    portable::write(index, unix, &mut bytes, &mut goes_on).unwrap();
    bytes
}

fn imported(machine: &Machine, export: &[u8]) -> Result<Imported, ImportError> {
    let entropy = Entropy::seeded(3);
    portable::import_into(&machine.plan(), &entropy, &mut &export[..], &mut goes_on)
}

/// A store that has seen some batches, with what it must hold.
fn furnished(seed: u64, batches: u64, model: &mut Model) -> Driven {
    let mut store = Machine::default().open().unwrap();
    let entropy = Entropy::seeded(seed);
    for _ in 0..batches {
        let batch = world::batch(&entropy, model.now());
        let answer = model.commit(&batch);
        assert_eq!(store.group([batch])[0].is_ok(), answer.is_ok());
        if entropy.below(9) == 0 {
            store.flush().unwrap();
        }
    }
    store
}

/// As an engine's records are found by their readers.
fn found(machine: &Machine) -> (u64, Contents) {
    let store = machine.open().unwrap();
    let found = (store.recovery.position, store.contents().unwrap());
    store.close().unwrap();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_was_exported_is_imported_and_goes_on(seed: u64, batches in 0..120_u64) {
        let mut model = Model::default();
        let mut store = furnished(seed, batches, &mut model);
        let view = store.flusher.view().unwrap();
        let export = exported(&view);
        let machine = Machine::default();
        let done = imported(&machine, &export).unwrap();
        let position = store.recovery.position.max(crate::store::apply::counters(model.now()).unwrap().position);
        prop_assert_eq!((done.position, done.records), (position, model.now().len() as u64));
        prop_assert_eq!((done.bytes, done.exported_unix_ms), (export.len() as u64, 1234));
        prop_assert!(found(&machine) == (position, model.now().clone()));
        let mut other = machine.open().unwrap();
        let entropy = Entropy::seeded(!seed);
        for _ in 0..20 {
            let batch = world::batch(&entropy, model.now());
            let expected = model.commit(&batch).ok().map(|done| (done.position, done.seqs));
            let answer = other.group([batch]).remove(0).ok().map(|done| (done.position, done.seqs));
            prop_assert_eq!(answer, expected);
        }
        prop_assert!(other.contents().unwrap() == *model.now());
        let killed = machine.kill();
        prop_assert!(found(&killed).1 == *model.now());
    }

    #[test]
    fn a_view_stays_as_it_was_while_the_store_goes_on(seed: u64) {
        let mut model = Model::default();
        let mut store = furnished(seed, 60, &mut model);
        let view = store.flusher.view().unwrap();
        let expected = model.now().clone();
        let entropy = Entropy::seeded(!seed);
        for _ in 0..150 {
            let batch = world::batch(&entropy, model.now());
            let _ = model.commit(&batch);
            store.group([batch]);
            if entropy.below(5) == 0 {
                store.flush().unwrap();
                store.flusher.snapshot().unwrap();
            }
        }
        prop_assert!(contents(&view).unwrap() == expected);
    }
}

#[test]
fn a_cut_or_changed_export_is_refused() {
    let mut model = Model::default();
    let mut store = Machine::default().open().unwrap();
    for batch in [
        Batch::new().state_put(agent(1), 0, 1, 1, Bytes::from_static(b"state")),
        Batch::new().journal_append("j".to_owned(), Bytes::from_static(b"record"), None),
    ] {
        model.commit(&batch).unwrap();
        store.one(batch);
    }
    let export = exported(&store.flusher.view().unwrap());
    for end in 0..export.len() {
        let error = imported(&Machine::default(), &export[..end]).unwrap_err();
        assert!(
            matches!(error, ImportError::Damaged { .. }),
            "{end}: {error}"
        );
    }
    for at in 0..export.len() {
        for with in [1, 0x20, 0x80] {
            let mut changed = export.clone();
            changed[at] ^= with;
            let machine = Machine::default();
            let error = imported(&machine, &changed).unwrap_err();
            // Its first line may claim another format before any sum is over it.
            let is_named = matches!(
                error,
                ImportError::Damaged { .. } | ImportError::NewerFormat { .. }
            );
            assert!(is_named, "{at} with {with}: {error}");
            assert!(machine.open().is_err() || found(&machine).1.is_empty());
        }
    }
    let longer = [&export[..], b"\n"].concat();
    let error = imported(&Machine::default(), &longer).unwrap_err();
    assert!(error.to_string().contains("something follows"), "{error}");
    let text = String::from_utf8(export).unwrap();
    assert!(text.contains("\"mas_export\":{\"format\":1,") && text.contains("\"journal\":"));
}

#[test]
fn records_twice_or_out_of_order_are_refused() {
    /// An export of these lines, with sums that are right.
    fn export(lines: &[&str]) -> Vec<u8> {
        let mut text = String::new();
        let mut begin = 0;
        let mut check = |text: &mut String, records: usize| {
            let crc = crc32c::crc32c(&text.as_bytes()[begin..]);
            *text += &format!("{{\"check\":{{\"records\":{records},\"crc32c\":\"{crc:08x}\"}}}}\n");
            begin = text.len();
        };
        text += "{\"mas_export\":{\"format\":1,\"mas\":\"0\",\"unix_ms\":0,\"position\":1}}\n";
        check(&mut text, 0);
        lines.iter().for_each(|line| text += &format!("{line}\n"));
        check(&mut text, lines.len());
        let (crc, records) = (crc32c::crc32c(text.as_bytes()), lines.len());
        text += &format!("{{\"end\":{{\"records\":{records},\"crc32c\":\"{crc:08x}\"}}}}\n");
        text.into_bytes()
    }
    let counters = r#"{"counters":{"position":1,"seqs":4}}"#;
    let a = r#"{"outbox":{"agent":"a","seq":1,"envelope":""}}"#;
    let b = r#"{"outbox":{"agent":"b","seq":2,"envelope":""}}"#;
    imported(&Machine::default(), &export(&[counters, a, b])).unwrap();
    let other = r#"{"counters":{"position":2,"seqs":4}}"#;
    for lines in [
        &[counters, a, a][..],
        &[counters, b, a],
        &[a, b],
        &[other, a],
        &[],
    ] {
        let error = imported(&Machine::default(), &export(lines)).unwrap_err();
        assert!(matches!(error, ImportError::Damaged { .. }), "{error}");
    }
    let newer = b"{\"mas_export\":{\"format\":2,\"other\":[]}}\n";
    let error = imported(&Machine::default(), newer).unwrap_err();
    assert!(matches!(
        error,
        ImportError::NewerFormat { found: 2, known: 1 }
    ));
}

#[test]
fn an_import_that_fails_leaves_nothing_and_one_into_a_store_changes_nothing() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let options = EmbeddedOptions::default();
    let engine = open(&from);
    for n in 0..40 {
        let bytes = Bytes::from(vec![n as u8; 100_000]);
        engine
            .commit(Batch::new().outbox_put(agent(n), bytes))
            .now_or_never();
    }
    drop(engine);
    let mut export = Vec::new();
    let done = super::super::export(&from, options.clone(), &mut export, &mut goes_on).unwrap();
    assert_eq!((done.position, done.records), (40, 41));
    assert_eq!(done.bytes, export.len() as u64);

    let names = |dir: &TempDir| -> Vec<_> {
        let entries = fs::read_dir(dir.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    };
    let mut stops = |progress: Progress| match progress.records > 20 {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    };
    let stopped = import(&to, options.clone(), &mut &export[..], &mut stops);
    assert!(matches!(stopped, Err(ImportError::Stopped)));
    assert_eq!(names(&to), ["lock"]);
    let mut stopped = Vec::new();
    let stopped = super::super::export(&from, options.clone(), &mut stopped, &mut stops);
    assert!(matches!(stopped, Err(ExportError::Stopped)));

    let done = import(&to, options.clone(), &mut &export[..], &mut goes_on).unwrap();
    assert_eq!((done.position, done.records), (40, 41));
    let again = import(&to, options.clone(), &mut &export[..], &mut goes_on);
    assert!(
        matches!(again, Err(ImportError::NotEmpty { .. })),
        "{again:?}"
    );
    let stored = contents(&*open(&to).records).unwrap();
    assert!(stored == contents(&*open(&from).records).unwrap());
}

#[tokio::test]
async fn an_export_while_commits_run_is_a_state_that_was() {
    let dir = TempDir::new().unwrap();
    let engine = Arc::new(open(&dir));
    let ends = Arc::new(AtomicBool::new(false));
    let commits: Vec<_> = (0..3)
        .map(|n| {
            let (engine, ends) = (Arc::clone(&engine), Arc::clone(&ends));
            thread::spawn(move || {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.build().unwrap();
                let mut done = 0;
                while !ends.load(Ordering::Relaxed) {
                    let bytes = Bytes::from(vec![n as u8; 30_000]);
                    // Each commit leaves one record more, and takes one away.
                    let batch = Batch::new()
                        .journal_append("all".to_owned(), Bytes::new(), None)
                        .state_put(agent(n), done, done + 1, 1, bytes.clone())
                        .journal_append(format!("of-{n}"), bytes, None)
                        .journal_trim(format!("of-{n}"), done);
                    runtime.block_on(engine.commit(batch)).unwrap();
                    done += 1;
                }
                done
            })
        })
        .collect();
    for _ in 0..6 {
        let mut export = Vec::new();
        let done = engine.export(&mut export, &mut goes_on).unwrap();
        let copy = TempDir::new().unwrap();
        let options = EmbeddedOptions::default();
        let back = import(&copy, options, &mut &export[..], &mut goes_on).unwrap();
        assert_eq!(back.position, done.position);
        let other = open(&copy);
        let mut versions = 0;
        for n in 0..3 {
            let state = other.load_state(&agent(n)).await.unwrap();
            let version = state.map_or(0, |state| state.version);
            let of = other.journal_end(&format!("of-{n}")).await.unwrap();
            assert_eq!(of, version, "a commit is there in part");
            versions += version;
        }
        assert_eq!(other.journal_end("all").await.unwrap(), versions);
    }
    ends.store(true, Ordering::Relaxed);
    for thread in commits {
        assert!(thread.join().unwrap() > 0);
    }
    engine.close().await.unwrap();
    let closed = engine.export(&mut Vec::new(), &mut goes_on);
    assert!(matches!(
        closed,
        Err(ExportError::Store(StoreError::Closed))
    ));
}
