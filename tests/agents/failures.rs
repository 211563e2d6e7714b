//! The record of agents that were given up on.

use mas::prelude::*;
use mas::store::MemoryEngine;
use mas::testkit::{Fault, FaultyEngine};

#[agent(restart = "never")]
struct Mayfly;

#[agent]
impl Mayfly {
    #[on("panic")]
    async fn panic(&mut self, with: String) {
        panic!("{with}");
    }
}

/// Spawns one, and has it given up on.
async fn fail(kit: &TestKit, id: &str, with: &str) {
    let mayfly = kit.spawn_as(id, Mayfly).await.unwrap();
    mayfly.panic(with.into()).await.unwrap_err();
    kit.advance(secs(1)).await;
}

#[tokio::test]
async fn a_failed_agent_is_recorded_for_later_processes_too() {
    let engine = MemoryEngine::new();
    let first = TestKit::builder().engine(engine.clone()).start().await;
    assert!(first.failures(10).await.unwrap().is_empty());
    fail(&first, "one", "too hot").await;
    fail(&first, "two", &"long ".repeat(10_000)).await;
    first.shutdown().await.unwrap();

    let second = TestKit::builder().engine(engine).start().await;
    fail(&second, "three", "too cold").await;
    let failures = second.failures(10).await.unwrap();
    let agents: Vec<&str> = failures.iter().map(|own| own.agent.as_str()).collect();
    assert_eq!(agents, ["one", "two", "three"]);
    assert!(failures[0].reason.contains("too hot"), "{:?}", failures[0]);
    assert_eq!(failures[0].instance, 0);
    assert!(failures[1].reason.len() <= 4096);
    assert!(failures[0].at < failures[1].at);
    let last = second.failures(1).await.unwrap();
    assert_eq!(last, failures[2..]);
}

#[tokio::test]
async fn a_restart_and_a_stop_are_no_failures() {
    #[agent]
    struct Tough;

    #[agent]
    impl Tough {
        #[on("panic")]
        async fn panic(&mut self) {
            panic!("once");
        }
    }

    let kit = TestKit::start().await;
    let tough = kit.spawn(Tough).await.unwrap();
    tough.panic().await.unwrap_err();
    kit.advance(secs(1)).await;
    tough.stop().await.unwrap();
    assert!(kit.failures(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_engine_that_fails_keeps_nobody_alive() {
    let engine = FaultyEngine::new(MemoryEngine::new());
    let kit = TestKit::builder().engine(engine.clone()).start().await;
    engine.suffer(Fault::Errors);
    fail(&kit, "one", "too hot").await;
    engine.heal();
    assert!(kit.failures(10).await.unwrap().is_empty());
    kit.spawn_as("one", Mayfly).await.unwrap();
    kit.shutdown().await.unwrap();
}
