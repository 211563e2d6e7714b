//! `kill -9` under durable load: every acknowledged message takes effect exactly once, on state and on what it sent on.
//!
//! A child process books numbers as fast as it can and says which it has begun, which are on their way and which were
//! acknowledged. It is killed at a random instant: while it opens the directory, at its first commits, or in full swing.
//! The next child opens the same directory, with whatever the last one left there. After some of them the parent looks.
//!
//! A kill counts only if it hit work: a tell that was polled and not acknowledged, or what waits in an inbox or outbox.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, poll};
use mas::AgentId;
use mas::prelude::*;
use mas::store::{EmbeddedEngine, EmbeddedOptions, Inbox};

/// Set for the child: its data directory.
const CHILD_DIR: &str = "MAS_KILL_DIR";
/// Set for the child: the first number that it books.
const CHILD_FIRST: &str = "MAS_KILL_FIRST";
/// How many kills must hit work, 200 unless set.
const ROUNDS: &str = "MAS_KILL_ROUNDS";
const SENDERS: u32 = 8;
/// Kills on the same directory.
const KILLS_A_DIRECTORY: u32 = 10;
/// Numbers that each child has for itself.
const NUMBERS_A_CHILD: u32 = 1_000_000;
/// How long the last process may take to work off what is left.
const WORKED_OFF_IN: Duration = Duration::from_secs(60);

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
    let first: u32 = std::env::var(CHILD_FIRST).unwrap().parse().unwrap();
    say("opens 0");
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
                for number in (first + sender..).step_by(SENDERS as usize) {
                    say(&format!("begins {number}"));
                    let mut told = pin!(ledger.book(number).tell());
                    match poll!(&mut told) {
                        Poll::Ready(told) => told.unwrap(),
                        Poll::Pending => {
                            say(&format!("sends {number}"));
                            told.await.unwrap();
                        }
                    }
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

fn start_child(directory: &Path, first: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "helper_that_books_until_it_is_killed",
            "--nocapture",
        ])
        .env(CHILD_DIR, directory)
        .env(CHILD_FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// From when on the life of a child is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Opening,
    FirstAck,
}

/// What the children on one directory said before they were killed.
#[derive(Default)]
struct Said {
    begun: BTreeSet<u32>,
    sent: BTreeSet<u32>,
    acked: BTreeSet<u32>,
}

impl Said {
    fn note(&mut self, line: &str) {
        let (what, number) = line.split_once(' ').unwrap();
        let number = number.parse().unwrap();
        match what {
            "begins" => self.begun.insert(number),
            "sends" => self.sent.insert(number),
            "acked" => self.acked.insert(number),
            _ => true,
        };
    }

    fn add(&mut self, other: Self) {
        self.begun.extend(other.begun);
        self.sent.extend(other.sent);
        self.acked.extend(other.acked);
    }
}

/// Lets a child work for `life`, kills it, and gives what it said.
fn run_and_kill(directory: &Path, first: u32, (since, life): (Since, Duration)) -> Said {
    let mut child = start_child(directory, first);
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
    while end.is_none_or(|end| Instant::now() < end) {
        let wait = end.map_or(Duration::from_secs(30), |end: Instant| {
            end.saturating_duration_since(Instant::now())
        });
        match lines.recv_timeout(wait) {
            Ok(line) => said.note(&line),
            Err(mpsc::RecvTimeoutError::Timeout) if end.is_some() => break,
            Err(_) => panic!("child {first} ended, or did nothing for long"),
        }
        if end.is_none() && (since == Since::Opening || !said.acked.is_empty()) {
            end = Some(Instant::now() + life);
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

/// Whether a killed process has left something in an inbox or outbox.
fn left_work(directory: &Path) -> bool {
    let engine = EmbeddedEngine::open(directory, EmbeddedOptions::default()).unwrap();
    ["ledger", "copy"].into_iter().any(|id| {
        let id = AgentId::new(id).unwrap();
        // Without tokio reads are ready at once.
        let inbox = engine.inbox_counts(&id).now_or_never().unwrap();
        let outbox = engine.outbox_page(&id, 0, 1).now_or_never().unwrap();
        inbox.unwrap().iter().sum::<u64>() > 0 || !outbox.unwrap().is_empty()
    })
}

/// Opens the directory again, waits until everything is worked off, but not for ever, and gives what both agents hold.
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
        let deadline = Instant::now() + WORKED_OFF_IN;
        loop {
            let numbers: Vec<u32> = ledger.numbers().await.unwrap();
            let copied: Vec<u32> = copy.numbers().await.unwrap();
            let now = (numbers.len(), copied.len());
            if (now == before && now.0 == now.1) || Instant::now() > deadline {
                runtime.shutdown().await.unwrap();
                return (numbers, copied);
            }
            before = now;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}

fn check(lives: &str, said: &Said, numbers: &[u32], what: &str) {
    let mut times: BTreeMap<u32, u32> = BTreeMap::new();
    for number in numbers {
        *times.entry(*number).or_default() += 1;
    }
    for number in &said.acked {
        assert_eq!(
            times.get(number),
            Some(&1),
            "{lives}: {what} holds acknowledged {number} so often"
        );
    }
    for (number, count) in times {
        assert_eq!(count, 1, "{lives}: {what} holds {number} so often");
        assert!(
            said.begun.contains(&number),
            "{lives}: {what} holds {number}, which nobody sent"
        );
    }
}

/// How long the child of a round lives: every third one only as long as opening and the first commits may take. Rounds
/// differ in an order that looks random and is always the same.
fn life(round: u32) -> (Since, Duration) {
    let (since, longest_us) = if round.is_multiple_of(3) {
        (Since::Opening, 150_000)
    } else {
        (Since::FirstAck, 60_000)
    };
    let random = round.wrapping_mul(0x9e37_79b9) >> 8;
    (since, Duration::from_micros(u64::from(random % longest_us)))
}

#[test]
fn every_acknowledged_message_takes_effect_exactly_once() {
    let rounds: u32 = std::env::var(ROUNDS).map_or(200, |text| text.parse().unwrap());
    assert!(rounds > 0, "{ROUNDS}=0 would test nothing");
    let (mut counted, mut round) = (0, 0);
    while counted < rounds {
        let directory = tempfile::tempdir().unwrap();
        let mut said = Said::default();
        let mut lives = String::new();
        for child in 0..KILLS_A_DIRECTORY.min(rounds - counted) {
            round += 1;
            let life = life(round);
            lives += &format!("{life:?} ");
            let heard = run_and_kill(directory.path(), child * NUMBERS_A_CHILD, life);
            let in_flight = heard.sent.difference(&heard.acked).next().is_some();
            said.add(heard);
            counted += u32::from(left_work(directory.path()) || in_flight);
        }
        let (numbers, copied) = look(directory.path());
        check(&lives, &said, &numbers, "the ledger");
        check(&lives, &said, &copied, "the copy");
        let sorted = |mut all: Vec<u32>| {
            all.sort_unstable();
            all
        };
        assert_eq!(sorted(numbers), sorted(copied), "{lives}: they differ");
        assert!(
            round < rounds * 2 + 20,
            "too few kills hit work: {counted} of {round}"
        );
    }
}
