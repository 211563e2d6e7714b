//! Flipped bits and cut files: found, or without effect.

use super::world::{Contents, contents};
use super::*;
use crate::model::Entropy;

/// Rounds of the bit-flip test on a real disk.
const FLIP_ROUNDS: u64 = 100;

/// A small store with everything that has a shape of its own: many entries, large ones, some replaced, some removed. Most of
/// it is in the tree, the rest in the log.
pub(super) async fn furnished(dir: &Path, closes: bool) -> Contents {
    for part in 0..2 {
        let engine = open(dir);
        for n in part * 100..part * 100 + 100 {
            let size = if n % 10 == 0 { 20_000 } else { 100 };
            let bytes = Bytes::from(vec![n as u8; size]);
            let batch = Batch::new()
                .state_put(agent(n), 0, 1, 1, bytes.clone())
                .outbox_put(agent(n % 7), bytes)
                .journal_append("audit".into(), Bytes::from_static(b"record"), None);
            engine.commit(batch).await.unwrap();
            if n % 3 == 0 {
                let batch =
                    Batch::new().state_put(agent(n), 1, 2, 1, Bytes::from(vec![1; size / 2]));
                engine.commit(batch).await.unwrap();
            }
            if n % 5 == 4 {
                engine
                    .commit(Batch::new().agent_erase(agent(n)))
                    .await
                    .unwrap();
            }
        }
        if part == 1 {
            let found = contents(&*engine.records).unwrap();
            if closes {
                engine.close().await.unwrap();
            } else {
                // As a killed process leaves it: what it holds in memory is not brought into the tree.
                let copy = TempDir::new().unwrap();
                copy_dir(dir, copy.path());
                drop(engine);
                fs::remove_dir_all(dir).unwrap();
                copy_dir(copy.path(), dir);
            }
            return found;
        }
        engine.close().await.unwrap();
    }
    unreachable!()
}

/// All files of a store, with their sizes.
pub(super) fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(self::files(&entry.path()));
        } else {
            files.push((entry.path(), entry.metadata().unwrap().len()));
        }
    }
    files.sort();
    files
}

pub(super) fn flip(path: &Path, at: u64, with: u8) {
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ with]).unwrap();
}

/// Whether damage was named, or did no harm.
fn is_named(dir: &TempDir, expected: &Contents, what: &str) -> bool {
    let opened = EmbeddedEngine::open(dir, EmbeddedOptions::default());
    match opened.map(|engine| contents(&*engine.records)) {
        Err(
            OpenError::Damaged { .. } | OpenError::Corrupt { .. } | OpenError::NewerFormat { .. },
        ) => true,
        Ok(Err(StoreError::Corrupt(_))) => true,
        Ok(Ok(found)) => {
            assert!(
                found == *expected,
                "{what}: something is lost, and nobody says so"
            );
            false
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[tokio::test]
async fn a_flipped_bit_is_named_or_does_not_matter() {
    let (closed, killed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let expected = [
        furnished(closed.path(), true).await,
        furnished(killed.path(), false).await,
    ];
    assert!(expected[0] == expected[1]);
    let entropy = Entropy::seeded(7);
    let (mut named, mut harmless) = (0, 0);
    for round in 0..FLIP_ROUNDS {
        let dir = TempDir::new().unwrap();
        let original = if round % 2 == 0 { &closed } else { &killed };
        copy_dir(original.path(), dir.path());
        let mut files = files(dir.path());
        // Every file has its turn, whatever its size.
        files.retain(|(_, size)| *size > 0);
        let (path, size) = &files[round as usize / 2 % files.len()];
        let (at, with) = (entropy.below(*size), 1 << entropy.below(8));
        flip(path, at, with);
        match is_named(
            &dir,
            &expected[0],
            &format!("round {round}: {} at {at} with {with}", path.display()),
        ) {
            true => named += 1,
            false => harmless += 1,
        }
    }
    assert!(
        named > 0 && harmless > 0,
        "{named} named, {harmless} harmless"
    );
}

#[tokio::test]
async fn a_file_that_was_cut_short_or_removed_is_named_or_does_not_matter() {
    let original = TempDir::new().unwrap();
    let expected = furnished(original.path(), true).await;
    let (mut named, mut harmless) = (0, 0);
    for (path, size) in files(original.path()) {
        let name = path.strip_prefix(original.path()).unwrap();
        for eighths in 0..9 {
            let dir = TempDir::new().unwrap();
            copy_dir(original.path(), dir.path());
            if eighths == 8 {
                fs::remove_file(dir.path().join(name)).unwrap();
            } else {
                let file = File::options().write(true).open(dir.path().join(name));
                file.unwrap().set_len(size * eighths / 8).unwrap();
            }
            match is_named(
                &dir,
                &expected,
                &format!("{} cut to {eighths} eighths", name.display()),
            ) {
                true => named += 1,
                false => harmless += 1,
            }
        }
    }
    assert!(
        named > 0 && harmless > 0,
        "{named} named, {harmless} harmless"
    );
}
