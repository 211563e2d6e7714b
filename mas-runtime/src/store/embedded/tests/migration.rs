//! A data directory of the engine before is brought over when it is opened.

use super::world::{Model, contents};
use super::*;
use crate::store::tree::refs::{IndexHome, LeafRef};

/// What was committed to the store in `format-1`, before it was closed or killed.
fn batches() -> Vec<Batch> {
    let agent = |n: u8| AgentId::new(format!("agent-{n}")).unwrap();
    let bytes = |n: u8, size: usize| Bytes::from(vec![n; size]);
    let mut batches: Vec<_> = (1..=4u8)
        .map(|n| {
            let id = MessageId::from_bytes([n; 16]);
            Batch::new()
                .state_put(agent(n), 0, 1, 1, bytes(n, usize::from(n) * 3000))
                .inbox_append(agent(n), Priority::Normal, id, bytes(n, 10))
                .inbox_append(agent(n), Priority::High, id, bytes(n, 5000))
                .outbox_put(agent(n), bytes(n, 20))
                .dedup_put(agent(n), id, Some(bytes(n, 30)), 40)
                .timer_put(agent(n), 7, 50, bytes(n, 60))
                .agent_put(agent(n), bytes(n, 70), 80)
                .journal_append("journal".to_owned(), bytes(n, 90), None)
                .secret_put(format!("secret-{n}"), bytes(n, 100))
        })
        .collect();
    batches.push(
        Batch::new()
            .inbox_bury(agent(1), Priority::Normal, 1, "too often".to_owned(), 110)
            .inbox_nack(agent(2), Priority::Normal, 4, 2, 120, "not yet".to_owned())
            .state_put(agent(3), 1, 2, 1, bytes(9, 9))
            .journal_trim("journal".to_owned(), 1),
    );
    batches
}

fn expected() -> world::Contents {
    let mut model = Model::default();
    for batch in batches() {
        model.commit(&batch).unwrap();
    }
    model.now().clone()
}

fn earlier(name: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/embedded/tests/format-1");
    copy_dir(&here.join(name), dir.path());
    dir
}

#[tokio::test]
async fn a_store_of_the_engine_before_is_brought_over() {
    for name in ["closed", "killed"] {
        let dir = earlier(name);
        let engine = open(&dir);
        assert_eq!(engine.recovery().migrated_from, Some(1));
        assert_eq!(engine.recovery().position, 5);
        assert!(contents(&*engine.records).unwrap() == expected(), "{name}");
        assert!(!dir.path().join("index").exists() && !dir.path().join("tip").exists());
        let batch = Batch::new().outbox_put(agent(1), Bytes::new());
        let committed = engine.commit(batch).await.unwrap();
        assert_eq!(
            (committed.position, &committed.seqs[..]),
            (6, &[14][..]),
            "numbers go on"
        );
        drop(engine);
        let engine = open(&dir);
        assert_eq!(engine.recovery().migrated_from, None);
        assert_eq!(engine.recovery().position, 6);
    }
}

#[test]
fn leaves_of_an_interrupted_migration_are_in_nobodys_way() {
    let dir = earlier("closed");
    // It had brought something into the index when it ended, which reflects no commit yet.
    let layout = Layout::of(dir.path());
    let index = SledHome::new(&layout.refs).open().unwrap();
    let leaf = LeafRef {
        pack: 1,
        offset: 36,
        bytes: 100,
        crc: 5,
        records: 1,
    };
    index.apply(&[(vec![0x10], Some(leaf))], 0).unwrap();
    index.close().unwrap();
    drop(index);
    let engine = open(&dir);
    assert!(contents(&*engine.records).unwrap() == expected());
}

#[test]
fn what_an_interrupted_migration_left_is_in_nobodys_way() {
    let dir = earlier("closed");
    drop(open(&dir));
    // The new store is there, the old one still counts.
    let old = earlier("closed");
    copy_dir(&old.path().join("index"), &dir.path().join("index"));
    for name in ["format", "tip"] {
        fs::copy(old.path().join(name), dir.path().join(name)).unwrap();
    }
    let engine = open(&dir);
    assert_eq!(engine.recovery().migrated_from, Some(1));
    assert!(contents(&*engine.records).unwrap() == expected());
}

#[test]
fn a_damaged_store_of_the_engine_before_is_left_as_it_is() {
    let dir = earlier("closed");
    let db = dir.path().join("index/db");
    // In the middle of what it holds.
    let mut bytes = fs::read(&db).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0xa5);
    fs::write(&db, &bytes).unwrap();
    let error = refused(&dir);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_eq!(
        fs::read_to_string(dir.path().join("format")).unwrap(),
        "mas-store 1\n"
    );
}

#[test]
fn an_earlier_store_that_ends_before_what_was_on_disk_is_damage() {
    let dir = earlier("closed");
    // 257 and 258, as the engine wrote them.
    let note = [
        0, 0, 0, 0, 0, 0, 1, 1, 0xf5, 0x17, 0x5a, 0x31, 0x4b, 0xc3, 0x50, 0x44, 0, 0, 0, 0, 0, 0,
        1, 2, 0xa1, 0xb5, 0xd7, 0x5a, 0x96, 0x61, 0xdd, 0x2f,
    ];
    fs::write(dir.path().join("tip"), note).unwrap();
    let error = refused(&dir);
    assert!(
        error
            .to_string()
            .contains("ends at commit 5, but 258 was on disk"),
        "{error}"
    );
}
