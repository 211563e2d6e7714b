//! One seed, one trace: two runs do the same things at the same virtual times, also in two processes.

use std::future::Future;
use std::process::{Command, Stdio};
use std::time::Duration;

use mas::prelude::*;
use mas::store::MemoryEngine;
use mas::testkit::{Fault, FaultyEngine};

/// Set for the process that only prints its trace.
const CHILD_SEED: &str = "MAS_DETERMINISM_SEED";
const AGENTS: u64 = 200;
/// Every so many agents there is one that has children.
const PARENTS_EVERY: u64 = 10;
const ROOTS: u64 = 600;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    done: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Work {
    /// How many more agents it goes through.
    left: u8,
}

#[agent(state = Tally, durable, strategy = "one_for_all", max_restarts = 1000000)]
struct Durable {
    children: u64,
}

#[agent(max_restarts = 1000000)]
struct Volatile {
    children: u64,
}

/// What both kinds of agents do: wait, count, crash now and then, ask, publish, and pass the work on.
macro_rules! works {
    ($agent:ident) => {
        #[agent]
        impl $agent {
            #[on_start]
            async fn starting(&mut self, ctx: &mut Context<Self>) -> Result<()> {
                for number in 0..self.children {
                    let id = format!("{}-child-{number}", ctx.id());
                    ctx.spawn_as(id, Volatile { children: 0 }).await?;
                }
                Ok(())
            }

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
                    4 => {
                        let asked = ctx.ask::<u64>(someone(chance >> 8), "look", &());
                        // One that waits for this one, or hangs, is an error like any other.
                        let _ = asked.timeout(secs(1)).await;
                    }
                    5 => {
                        ctx.publish("news.all", &()).await?;
                    }
                    _ => {}
                }
                if work.left > 0 {
                    let work = Work {
                        left: work.left - 1,
                    };
                    ctx.tell(someone(chance >> 16), "work", &work).await?;
                }
                Ok(())
            }

            #[on("look")]
            async fn look(&mut self, ctx: &mut Context<Self>) -> u64 {
                ctx.random()
            }

            #[on("note")]
            async fn note(&self) {}

            #[on("news.all")]
            async fn news(&self) {}
        }
    };
}

/// One of the agents, the pool, or a child of one.
fn someone(chance: u64) -> String {
    let number = chance % AGENTS;
    match chance >> 24 & 0xf {
        0 => "pool".to_owned(),
        1 => format!("agent-{}-child-0", number / PARENTS_EVERY * PARENTS_EVERY),
        _ => format!("agent-{number}"),
    }
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
    let engine = FaultyEngine::new(MemoryEngine::new());
    on_a_thread(scenario(seed, engine, &[]))
}

fn on_a_thread<F: Future>(scenario: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(scenario)
}

/// Agents of all kinds that work, crash and start again, on an engine that suffers from each of `faults` for a while.
async fn scenario(seed: u64, engine: FaultyEngine, faults: &[Fault]) -> Vec<String> {
    let builder = TestKit::builder().seed(seed).engine(engine.clone());
    let kit = builder.start().await;
    for number in 0..AGENTS {
        let id = format!("agent-{number}");
        let children = if number % PARENTS_EVERY == 0 { 2 } else { 0 };
        if number % 2 == 0 {
            kit.spawn_as(&id, Durable { children }).await.unwrap();
        } else {
            kit.spawn_as(&id, Volatile { children }).await.unwrap();
        }
        if number % 50 < 2 {
            kit.subscribe(&id, "news.*").unwrap();
        }
    }
    let make = || Durable { children: 0 };
    kit.spawn_pool("pool", 3, make).await.unwrap();
    for number in 0..ROOTS {
        let agent = kit.agent(format!("agent-{}", number % AGENTS)).unwrap();
        agent.tell("work", &Work { left: 12 }).await.unwrap();
        if number % 100 == 0 {
            kit.advance(Duration::from_millis(20)).await;
            kit.crash(&agent);
        }
    }
    for fault in faults {
        kit.advance(secs(1)).await;
        engine.suffer(*fault);
        kit.advance(secs(1)).await;
        engine.heal();
    }
    kit.advance(secs(120)).await;
    kit.shutdown().await.unwrap();
    kit.trace()
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
    for what in [
        "dispatch",
        "commit",
        "restart",
        "reply look to agent-",
        "timer",
        "failure",
        "dispatch 0 news.all",
        "pool dispatch 2 work",
        "child-0 dispatch",
    ] {
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
fn two_runs_on_an_engine_that_fails_are_the_same_line_by_line() {
    let seed = 20_261_122;
    let faults = [
        Fault::Errors,
        Fault::Slow(Duration::from_millis(30)),
        Fault::StoredThenError,
        Fault::Reads,
    ];
    let run = || {
        let engine = FaultyEngine::new(MemoryEngine::new());
        on_a_thread(scenario(seed, engine, &faults))
    };
    let first = run();
    assert!(first_difference(&first, &trace(seed)).is_some(), "it fails");
    assert_eq!(first_difference(&first, &run()), None, "seed {seed}");
}

#[test]
fn another_seed_gives_another_trace() {
    assert!(first_difference(&trace(1), &trace(2)).is_some());
}

/// Two kits in turn on one engine, both with the same seed. Gives how much the agent had done after each, and what both
/// traces say.
fn restarted(seed: u64) -> (Vec<u64>, Vec<String>) {
    on_a_thread(async {
        let engine = MemoryEngine::new();
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
