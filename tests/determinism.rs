//! One seed, one trace: two runs do the same things at the same virtual times, also in two processes.

use std::process::{Command, Stdio};
use std::time::Duration;

use mas::prelude::*;

/// Set for the process that only prints its trace.
const CHILD_SEED: &str = "MAS_DETERMINISM_SEED";
const AGENTS: u64 = 200;
const ROOTS: u64 = 400;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    done: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Work {
    /// How many more agents it goes through.
    left: u8,
}

#[agent(state = Tally, durable, max_restarts = 1000000)]
struct Durable;

#[agent(max_restarts = 1000000)]
struct Volatile;

/// What both kinds of agents do: wait, count, crash now and then, and pass the work on.
macro_rules! works {
    ($agent:ident) => {
        #[agent]
        impl $agent {
            #[on("work")]
            async fn work(&mut self, work: Work, ctx: &mut Context<Self>) -> Result<()> {
                let chance = ctx.random();
                tokio::time::sleep(Duration::from_millis(chance % 50)).await;
                ctx.update_state(&mut count);
                match chance >> 32 & 0x3f {
                    0 => panic!("as chance has it"),
                    1 => ctx.fail("as chance has it"),
                    2 => return Err(Failure::retryable("as chance has it").into()),
                    3 => {
                        ctx.schedule(Duration::from_millis(chance % 200), "note", &())?;
                    }
                    _ => {}
                }
                if work.left > 0 {
                    let next = format!("agent-{}", (chance >> 16) % AGENTS);
                    let work = Work {
                        left: work.left - 1,
                    };
                    ctx.tell(next, "work", &work).await?;
                }
                Ok(())
            }

            #[on("note")]
            async fn note(&self) {}
        }
    };
}

trait Counts {
    fn count(&mut self);
}

impl Counts for Tally {
    fn count(&mut self) {
        self.done += 1;
    }
}

impl Counts for () {
    fn count(&mut self) {}
}

fn count<S: Counts>(state: &mut S) {
    state.count();
}

works!(Durable);
works!(Volatile);

/// Runs the scenario on a thread of its own, and gives its trace.
fn trace(seed: u64) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let kit = TestKit::builder().seed(seed).start().await;
        for number in 0..AGENTS {
            let id = format!("agent-{number}");
            if number % 2 == 0 {
                kit.spawn_as(id, Durable).await.unwrap();
            } else {
                kit.spawn_as(id, Volatile).await.unwrap();
            }
        }
        for number in 0..ROOTS {
            let agent = kit.agent(format!("agent-{}", number % AGENTS)).unwrap();
            agent.tell("work", &Work { left: 12 }).await.unwrap();
            if number % 100 == 0 {
                kit.advance(Duration::from_millis(20)).await;
                kit.crash(&agent);
            }
        }
        kit.advance(secs(120)).await;
        kit.shutdown().await.unwrap();
        kit.trace()
    })
}

/// Not a test of its own: what the child process runs.
#[test]
fn helper_that_prints_a_trace_when_asked() {
    if let Ok(seed) = std::env::var(CHILD_SEED) {
        for line in trace(seed.parse().unwrap()) {
            println!("trace: {line}");
        }
    }
}

fn trace_of_another_process(seed: u64) -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "helper_that_prints_a_trace_when_asked",
            "--nocapture",
        ])
        .env(CHILD_SEED, seed.to_string())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split_once("trace: "))
        .map(|(_, line)| line.to_owned())
        .collect()
}

/// Where two traces part: far easier to read than both of them.
fn first_difference(one: &[String], other: &[String]) -> Option<String> {
    let at = (0..one.len().max(other.len())).find(|&n| one.get(n) != other.get(n))?;
    Some(format!(
        "line {at}: {:?} and {:?}",
        one.get(at),
        other.get(at)
    ))
}

#[test]
fn two_runs_of_one_seed_are_the_same_line_by_line() {
    let seed = 20_261_121;
    let first = trace(seed);
    assert!(first.len() > 10_000, "only {} lines", first.len());
    for what in ["dispatch", "commit", "restart", "reply", "timer", "failure"] {
        assert!(first.iter().any(|line| line.contains(what)), "no {what}");
    }
    assert_eq!(first_difference(&first, &trace(seed)), None, "seed {seed}");
    let other = trace_of_another_process(seed);
    assert_eq!(
        first_difference(&first, &other),
        None,
        "seed {seed}, in another process"
    );
}

#[test]
fn another_seed_gives_another_trace() {
    assert!(first_difference(&trace(1), &trace(2)).is_some());
}

/// Two kits in turn on one engine, both with the same seed. Gives how much the agent had done after each, and what both
/// traces say.
fn restarted(seed: u64) -> (Vec<u64>, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let engine = mas::store::MemoryEngine::new();
        let mut done = Vec::new();
        let mut lines = Vec::new();
        for _ in 0..2 {
            let builder = TestKit::builder().seed(seed).engine(engine.clone());
            let kit = builder.start().await;
            let counter = kit.spawn(Counter).await.unwrap();
            done.push(counter.add().await.unwrap());
            done.push(counter.add().await.unwrap());
            kit.shutdown().await.unwrap();
            lines.extend(kit.trace());
        }
        (done, lines)
    })
}

#[agent(state = Tally, durable)]
struct Counter;

#[agent]
impl Counter {
    #[on("add")]
    async fn add(&mut self, ctx: &mut Context<Self>) -> u64 {
        tokio::time::sleep(Duration::from_millis(ctx.random() % 50)).await;
        ctx.update_state(|tally| tally.done += 1);
        ctx.state().done
    }
}

#[test]
fn a_second_kit_on_an_engine_makes_ids_of_its_own() {
    let (done, lines) = restarted(0);
    assert_eq!(
        done,
        [1, 2, 3, 4],
        "no message was taken for an earlier one"
    );
    let again = restarted(0);
    assert_eq!(again.0, done);
    assert_eq!(first_difference(&lines, &again.1), None);
}
