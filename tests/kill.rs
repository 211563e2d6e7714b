//! `kill -9` under durable load: every acknowledged message takes effect exactly once, on state and on what it sent on.
//!
//! Each round is a child process that books numbers as fast as it can and prints which it has begun and which were
//! acknowledged. It is killed at a random instant; the parent opens the same directory and looks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mas::prelude::*;

/// Set for the child: its data directory.
const CHILD_DIR: &str = "MAS_KILL_DIR";
/// How many rounds count, 200 unless set.
const ROUNDS: &str = "MAS_KILL_ROUNDS";
const SENDERS: u32 = 8;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    numbers: Vec<u32>,
}

#[agent(id = "ledger", state = Book, durable)]
struct Ledger;

#[agent]
impl Ledger {
    #[on("book")]
    async fn book(&mut self, number: u32, ctx: &mut Context<Self>) -> Result<()> {
        ctx.update_state(|book| book.numbers.push(number));
        ctx.tell("copy", "copied", &number).await?;
        Ok(())
    }

    #[on("numbers")]
    async fn numbers(&self, ctx: &Context<Self>) -> Vec<u32> {
        ctx.state().numbers.clone()
    }
}

#[agent(id = "copy", state = Book, durable)]
struct Copy;

#[agent]
impl Copy {
    #[on("copied")]
    async fn copied(&mut self, number: u32, ctx: &mut Context<Self>) {
        ctx.update_state(|book| book.numbers.push(number));
    }

    #[on("numbers")]
    async fn numbers(&self, ctx: &Context<Self>) -> Vec<u32> {
        ctx.state().numbers.clone()
    }
}

fn tokio_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Not a test of its own: what the child process runs, until it is killed.
#[test]
fn helper_that_books_until_it_is_killed() {
    let Ok(directory) = std::env::var(CHILD_DIR) else {
        return;
    };
    tokio_runtime().block_on(async {
        let runtime = Runtime::builder()
            .data_dir(directory)
            .start()
            .await
            .unwrap();
        runtime.spawn(Copy).await.unwrap();
        let ledger = runtime.spawn(Ledger).await.unwrap();
        let senders = (0..SENDERS).map(|sender| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                for number in (sender..).step_by(SENDERS as usize) {
                    say(&format!("begin {number}"));
                    ledger.book(number).tell().await.unwrap();
                    say(&format!("acked {number}"));
                }
            })
        });
        futures_util::future::join_all(senders).await;
    });
}

/// One line in one write, so that a kill does not tear it.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("kill: {line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn start_child(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "helper_that_books_until_it_is_killed",
            "--nocapture",
        ])
        .env(CHILD_DIR, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What a child said before it was killed.
#[derive(Default)]
struct Said {
    begun: BTreeSet<u32>,
    acked: BTreeSet<u32>,
}

/// Lets a child work for `life` after its first acknowledgement, kills it, and gives what it said.
fn run_and_kill(directory: &Path, life: Duration) -> Said {
    let mut child = start_child(directory);
    let out = BufReader::new(child.stdout.take().unwrap());
    let (line_in, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if let Some((_, said)) = line.split_once("kill: ")
                && line_in.send(said.to_owned()).is_err()
            {
                return;
            }
        }
    });
    let mut said = Said::default();
    let mut end = None;
    loop {
        let wait = end.map_or(Duration::from_secs(30), |end: Instant| {
            end.saturating_duration_since(Instant::now())
        });
        match lines.recv_timeout(wait) {
            Ok(line) => said.note(&line),
            Err(_) => break,
        }
        if end.is_none() && !said.acked.is_empty() {
            end = Some(Instant::now() + life);
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    for line in lines.try_iter() {
        said.note(&line);
    }
    said
}

impl Said {
    fn note(&mut self, line: &str) {
        let (what, number) = line.split_once(' ').unwrap();
        let number = number.parse().unwrap();
        match what {
            "begin" => self.begun.insert(number),
            _ => self.acked.insert(number),
        };
    }
}

/// Opens the directory again, waits until everything is worked off, and gives what both agents hold.
fn look(directory: &Path) -> (Vec<u32>, Vec<u32>) {
    tokio_runtime().block_on(async {
        let runtime = Runtime::builder()
            .data_dir(directory)
            .start()
            .await
            .unwrap();
        let copy = runtime.spawn(Copy).await.unwrap();
        let ledger = runtime.spawn(Ledger).await.unwrap();
        // Whatever was left is in the inbox ahead of these: when they are answered twice alike, it is worked off.
        let mut before = (usize::MAX, usize::MAX);
        loop {
            let numbers: Vec<u32> = ledger.numbers().await.unwrap();
            let copied: Vec<u32> = copy.numbers().await.unwrap();
            let now = (numbers.len(), copied.len());
            if now == before && now.0 == now.1 {
                runtime.shutdown().await.unwrap();
                return (numbers, copied);
            }
            before = now;
        }
    })
}

fn check(round: u64, said: &Said, numbers: &[u32], what: &str) {
    let mut times: BTreeMap<u32, u32> = BTreeMap::new();
    for number in numbers {
        *times.entry(*number).or_default() += 1;
    }
    for number in &said.acked {
        assert_eq!(
            times.get(number),
            Some(&1),
            "round {round}: {what} holds acknowledged {number} so often"
        );
    }
    for (number, count) in times {
        assert_eq!(count, 1, "round {round}: {what} holds {number} so often");
        assert!(
            said.begun.contains(&number),
            "round {round}: {what} holds {number}, which nobody sent"
        );
    }
}

#[test]
fn every_acknowledged_message_takes_effect_exactly_once() {
    let rounds: u64 = std::env::var(ROUNDS).map_or(200, |text| text.parse().unwrap());
    let mut counted = 0;
    let mut round = 0;
    while counted < rounds {
        round += 1;
        assert!(
            round < rounds * 2 + 20,
            "too few rounds had work in flight: {counted}"
        );
        let directory = tempfile::tempdir().unwrap();
        // The rounds' lives are spread evenly over 0 to 80 ms, in an order that looks random and is always the same.
        let life = Duration::from_micros(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 80_000);
        let said = run_and_kill(directory.path(), life);
        let (numbers, copied) = look(directory.path());
        check(round, &said, &numbers, "the ledger");
        check(round, &said, &copied, "the copy");
        let in_flight = said.begun.difference(&said.acked).count();
        counted += u64::from(in_flight > 0 && !said.acked.is_empty());
    }
}
