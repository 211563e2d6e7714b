//! `kill -9` of a process with a buffered agent: it may lose what was acknowledged last, from the end, and nothing before.
//!
//! A child process books 0, 1, 2 and so on, each once the one before is acknowledged, and says so. It is killed in full swing.
//! What its parent has heard of long before must be there, and what is there has no gap. The next child goes on from there.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mas::prelude::*;

/// Set for the child: its data directory.
const CHILD_DIR: &str = "MAS_KILL_BUFFERED_DIR";
const KILLS: u32 = 5;
/// How long a child books.
const LIFE: Duration = Duration::from_millis(500);
/// What was acknowledged so long before must be kept: much more than 5 ms, for the machine has other things to do.
const LONG_BEFORE: Duration = Duration::from_millis(250);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    next: u32,
    out_of_order: u32,
}

#[agent(id = "ledger", state = Book, durable, durability = "buffered")]
struct Ledger;

#[agent]
impl Ledger {
    #[on("book")]
    async fn book(&mut self, number: u32, ctx: &mut Context<Self>) {
        ctx.update_state(|book| {
            book.out_of_order += u32::from(number != book.next);
            book.next = number + 1;
        });
    }

    /// What is booked next, and how often that was not what came.
    #[on("next")]
    async fn next(&mut self, ctx: &mut Context<Self>) -> (u32, u32) {
        (ctx.state().next, ctx.state().out_of_order)
    }
}

fn on_directory<T>(directory: impl AsRef<Path>, work: impl AsyncFnOnce(Runtime) -> T) -> T {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    tokio.block_on(async {
        let builder = Runtime::builder().data_dir(directory.as_ref());
        work(builder.start().await.unwrap()).await
    })
}

/// Not a test of its own: what the child process runs, until it is killed.
#[test]
fn helper_that_books_until_it_is_killed() {
    let Ok(directory) = std::env::var(CHILD_DIR) else {
        return;
    };
    on_directory(directory, async |runtime| {
        let ledger = runtime.spawn(Ledger).await.unwrap();
        let (first, _) = ledger.next().await.unwrap();
        for number in first.. {
            ledger.book(number).tell().await.unwrap();
            // One line in one write, so that a kill does not tear it.
            let line = format!("kill: acked {number}\n");
            std::io::stdout().write_all(line.as_bytes()).unwrap();
        }
    });
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

/// Lets a child book, kills it, and gives what it has said and when that was heard.
fn run_and_kill(directory: &Path) -> (Vec<(Instant, u32)>, Instant) {
    let mut child = start_child(directory);
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut heard = Vec::new();
    let mut killed = None;
    for line in out.lines().map_while(Result::ok) {
        if let Some((_, number)) = line.split_once("kill: acked ") {
            heard.push((Instant::now(), number.parse().unwrap()));
        }
        let first = heard.first().map(|(at, _)| *at);
        if killed.is_none() && first.is_some_and(|first| first.elapsed() > LIFE) {
            killed = Some(Instant::now());
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    (heard, killed.expect("the child ended before it was killed"))
}

#[test]
fn a_killed_process_loses_only_the_end_of_what_is_buffered() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = 0;
    for kill in 0..KILLS {
        let (heard, killed) = run_and_kill(directory.path());
        let mut old = heard
            .iter()
            .filter(|(at, _)| killed.duration_since(*at) > LONG_BEFORE);
        let (_, old) = old.next_back().expect("it booked from the start");
        let (_, last) = heard.last().unwrap();
        let (next, out_of_order) = on_directory(directory.path(), async |runtime| {
            let ledger = runtime.spawn(Ledger).await.unwrap();
            // Whatever was left is in the inbox ahead of this.
            let next = ledger.next().await.unwrap();
            runtime.shutdown().await.unwrap();
            next
        });
        assert_eq!(out_of_order, 0, "kill {kill}: a gap below {next}");
        assert!(
            next > *old,
            "kill {kill}: {old} was acknowledged long before, and only what is below {next} is kept"
        );
        // One more may have been on its way, and one taken and not said.
        assert!(
            next <= last + 3,
            "kill {kill}: {next} comes after {last}, which was the last"
        );
        assert!(next > first, "kill {kill}: nothing was booked");
        first = next;
    }
}
