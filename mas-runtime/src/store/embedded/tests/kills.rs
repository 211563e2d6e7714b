//! `kill -9` on the engine with its real index: what was acknowledged is there, batches are whole, none counts twice.
//!
//! A child process commits from several threads and says what was acknowledged. It is killed at a random instant: while it
//! opens the directory, commits, or brings commits into the tree. The next child opens what the last one left.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};

use super::*;

/// Set for the child: its data directory.
const CHILD_DIR: &str = "MAS_ENGINE_KILL_DIR";
/// How many kills, 100 unless set.
const ROUNDS: &str = "MAS_ENGINE_KILL_ROUNDS";
const CHILD: &str = "store::embedded::tests::kills::helper_that_commits_until_it_is_killed";
const SENDERS: u64 = 4;
/// Kills on the same directory.
const KILLS_A_DIRECTORY: u32 = 10;
/// A value that fills what is gathered before a flush after a few commits.
const LARGE_BYTES: usize = 1024 * 1024;

fn journal(sender: u64) -> String {
    format!("sender-{sender}")
}

/// Batch `number` of a sender, which counts up its state and notes the number in a journal. What was there before goes.
fn batch(sender: u64, number: u64) -> Batch {
    let bytes = match number % 4 {
        0 => vec![number as u8; LARGE_BYTES],
        _ => vec![number as u8; 200],
    };
    let batch = Batch::new()
        .state_put(agent(sender), number - 1, number, 1, bytes.into())
        .journal_append(journal(sender), number.to_string().into(), None);
    match number.is_multiple_of(16) {
        true => batch.journal_trim(journal(sender), number - 8),
        false => batch,
    }
}

fn version(engine: &EmbeddedEngine, sender: u64) -> u64 {
    let state = engine.load_state(&agent(sender)).now_or_never().unwrap();
    state.unwrap().map_or(0, |state| state.version)
}

/// Not a test of its own: what the child process runs, until it is killed.
#[test]
fn helper_that_commits_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    say("opens");
    let engine = open(&dir);
    say("opened");
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let (engine, runtime) = (&engine, runtime.unwrap());
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let handle = runtime.handle().clone();
            let first = version(engine, sender) + 1;
            scope.spawn(move || {
                for number in first.. {
                    handle
                        .block_on(engine.commit(batch(sender, number)))
                        .unwrap();
                    say(&format!("acked {sender} {number}"));
                }
            });
        }
    });
}

/// One line in one write, so that a kill does not tear it.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("kill: {line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn start(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// From when on the life of a child is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Opening,
    Opened,
}

/// How long the child of a round lives. Rounds differ in an order that looks random and is always the same.
fn life(round: u32) -> (Since, Duration) {
    let (since, longest_us) = match round % 3 {
        0 => (Since::Opening, 60_000),
        _ => (Since::Opened, 150_000),
    };
    let random = round.wrapping_mul(0x9e37_79b9) >> 8;
    (since, Duration::from_micros(u64::from(random % longest_us)))
}

/// Lets a child work for its life, kills it, and notes the last number of each sender that was acknowledged.
fn run_and_kill(dir: &Path, (since, life): (Since, Duration), acked: &mut BTreeMap<u64, u64>) {
    let mut child = start(dir);
    let out = BufReader::new(child.stdout.take().unwrap());
    let (line_in, lines) = mpsc::channel();
    let (is_running, ended) = mpsc::channel::<()>();
    let reader = thread::spawn(move || {
        let _is_running = is_running;
        for line in out.lines().map_while(Result::ok) {
            if let Some((_, said)) = line.split_once("kill: ")
                && line_in.send(said.to_owned()).is_err()
            {
                return;
            }
        }
    });
    let awaited = match since {
        Since::Opening => "opens",
        Since::Opened => "opened",
    };
    loop {
        let line = lines.recv_timeout(Duration::from_secs(60));
        if line.expect("the child does what it should") == awaited {
            break;
        }
    }
    let lived = ended.recv_timeout(life);
    assert_eq!(
        lived,
        Err(RecvTimeoutError::Timeout),
        "the child ended by itself"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    for line in lines.try_iter() {
        let words: Vec<_> = line.split(' ').collect();
        if let ["acked", sender, number] = words[..] {
            acked.insert(sender.parse().unwrap(), number.parse().unwrap());
        }
    }
}

/// Holds what is there against what was acknowledged. Gives the commits that were replayed and those that were flushed.
fn check(dir: &Path, acked: &BTreeMap<u64, u64>, what: &str) -> (u64, u64) {
    let engine = open(dir);
    let mut commits = 0;
    for sender in 0..SENDERS {
        let version = version(&engine, sender);
        commits += version;
        let promised = acked.get(&sender).copied().unwrap_or(0);
        assert!(
            version >= promised,
            "{what}: {promised} of sender {sender} was acknowledged, {version} is there"
        );
        let page = engine.journal_page(&journal(sender), 0, 100).now_or_never();
        let noted: Vec<_> = page.unwrap().unwrap().into_iter().collect();
        let noted: Vec<String> = noted
            .iter()
            .map(|record| String::from_utf8_lossy(&record.bytes).into_owned())
            .collect();
        let trimmed = noted.first().map_or(1, |first| first.parse().unwrap());
        let expected: Vec<String> = (trimmed..=version).map(|n| n.to_string()).collect();
        assert_eq!(noted, expected, "{what}: the journal of sender {sender}");
    }
    assert_eq!(
        engine.recovery().position,
        commits,
        "{what}: nothing counts twice"
    );
    assert_eq!(engine.recovery().snapshot, None, "{what}");
    let flushed = engine.records.tree().index().position();
    (engine.recovery().replayed, flushed)
}

#[test]
fn a_killed_engine_keeps_what_it_acknowledged() {
    let rounds: u32 = std::env::var(ROUNDS).map_or(100, |text| text.parse().unwrap());
    let (mut replayed, mut flushed, mut round) = (0, 0, 0);
    while round < rounds {
        let dir = TempDir::new().unwrap();
        let mut acked = BTreeMap::new();
        for _ in 0..KILLS_A_DIRECTORY.min(rounds - round) {
            round += 1;
            let life = life(round);
            run_and_kill(dir.path(), life, &mut acked);
            if round % 5 != 0 {
                // The next child finds it as it was left.
                continue;
            }
            let seen = check(dir.path(), &acked, &format!("round {round}, {life:?}"));
            replayed += seen.0;
            flushed += seen.1;
        }
    }
    println!("{replayed} replayed, {flushed} in the tree");
    assert!(replayed > 0 && flushed > 0, "{replayed} and {flushed}");
}
