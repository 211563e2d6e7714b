//! Asks of agents without an inbox that a durable handler repeats when it runs again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use mas::prelude::*;

/// Takes a while, and answers how often it was asked.
#[agent]
struct Oracle {
    asked: Arc<AtomicU32>,
}

#[agent]
impl Oracle {
    #[on("ask")]
    async fn answer(&mut self, seconds: u64) -> u32 {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(secs(seconds)).await;
        asked + 1
    }

    #[on("fail.first")]
    async fn fail_first(&mut self, may_pass: bool) -> Result<u32> {
        match self.asked.fetch_add(1, Ordering::SeqCst) {
            0 if may_pass => Err(Failure::retryable("the stars are hidden").into()),
            0 => Err(Failure::permanent("there is no answer").into()),
            before => Ok(before + 1),
        }
    }
}

/// Asks the oracle for its message type, and notes the answer. Its first run then fails or hangs, as it is told.
#[agent(durable, timeout = "2000s")]
struct Asker {
    heard: Arc<Mutex<Vec<Result<u32, String>>>>,
}

impl Asker {
    fn hear(&self, heard: Result<u32, String>) -> usize {
        let mut all = self.heard.lock().unwrap();
        all.push(heard);
        all.len()
    }
}

#[agent]
impl Asker {
    #[on("then.fail")]
    async fn then_fail(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        let heard = ctx.ask("oracle", "ask", &0_u64).await;
        match self.hear(heard.map_err(|error| error.to_string())) {
            1 => Err(Failure::retryable("once more").into()),
            _ => Ok(()),
        }
    }

    #[on("then.hang")]
    async fn then_hang(&mut self, seconds: u64, ctx: &mut Context<Self>) {
        let heard = ctx.ask("oracle", "ask", &seconds).await;
        if self.hear(heard.map_err(|error| error.to_string())) == 1 {
            std::future::pending::<()>().await;
        }
    }

    #[on("until.it.works")]
    async fn until_it_works(&mut self, may_pass: bool, ctx: &mut Context<Self>) -> Result<u32> {
        let heard = ctx.ask("oracle", "fail.first", &may_pass).await;
        let own = heard.as_ref().map(|heard| *heard);
        self.hear(own.map_err(|error| error.to_string()));
        heard.map_err(|_| Failure::retryable("once more").into())
    }
}

struct Scene {
    kit: TestKit,
    oracle: OracleRef,
    asker: AskerRef,
    asked: Arc<AtomicU32>,
    heard: Arc<Mutex<Vec<Result<u32, String>>>>,
}

impl Scene {
    async fn set() -> Self {
        let kit = TestKit::start().await;
        let asked: Arc<AtomicU32> = Arc::default();
        let own = Arc::clone(&asked);
        let oracle = kit.spawn(Oracle { asked: own }).await.unwrap();
        let heard: Arc<Mutex<_>> = Arc::default();
        let own = Arc::clone(&heard);
        let asker = kit.spawn(Asker { heard: own }).await.unwrap();
        Self {
            kit,
            oracle,
            asker,
            asked,
            heard,
        }
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    fn heard(&self) -> Vec<Result<u32, String>> {
        self.heard.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_handler_that_failed_gets_the_same_reply_when_it_runs_again() {
    let scene = Scene::set().await;
    scene.asker.then_fail().await.unwrap();
    assert_eq!(scene.heard(), [Ok(1), Ok(1)]);
    assert_eq!(scene.asked(), 1);
    scene.asker.then_fail().await.unwrap();
    assert_eq!(scene.heard()[2..], [Ok(2)], "another message asks anew");
}

#[tokio::test]
async fn a_handler_that_crashed_gets_the_same_reply_when_it_runs_again() {
    let scene = Scene::set().await;
    let asks = tokio::spawn(scene.asker.then_hang(0).into_future());
    scene.kit.advance(secs(1)).await;
    scene.kit.crash(&scene.asker);
    asks.await.unwrap().unwrap();
    assert_eq!(scene.heard(), [Ok(1), Ok(1)]);
    assert_eq!(scene.asked(), 1);
    assert_eq!(scene.kit.late_replies(), 0);
}

#[tokio::test]
async fn a_handler_that_crashed_while_it_waited_gets_the_reply_of_its_first_ask() {
    let scene = Scene::set().await;
    let asks = tokio::spawn(scene.asker.then_hang(10).into_future());
    for _ in 0..2 {
        scene.kit.advance(secs(1)).await;
        scene.kit.crash(&scene.asker);
    }
    scene.kit.advance(secs(10)).await;
    assert_eq!(scene.heard(), [Ok(1)]);
    assert_eq!(scene.asked(), 1);
    scene.kit.crash(&scene.asker);
    asks.await.unwrap().unwrap();
    assert_eq!(scene.heard(), [Ok(1), Ok(1)]);
    assert_eq!(scene.kit.late_replies(), 0, "somebody heard it");
}

#[tokio::test]
async fn a_failure_that_may_pass_is_asked_again_and_another_is_not() {
    let scene = Scene::set().await;
    assert_eq!(scene.asker.until_it_works(true).await.unwrap(), 2);
    let scene = Scene::set().await;
    assert!(scene.asker.until_it_works(false).await.is_err());
    assert_eq!(scene.asked(), 1);
    let heard = scene.heard();
    assert_eq!(heard.len(), 5, "each attempt heard");
    assert!(heard.iter().all(|one| one == &heard[0]), "{heard:?}");
}

#[tokio::test]
async fn an_agent_that_crashed_before_it_answered_is_asked_again() {
    let scene = Scene::set().await;
    let asks = tokio::spawn(scene.asker.then_hang(10).into_future());
    scene.kit.advance(secs(1)).await;
    scene.kit.crash(&scene.oracle);
    scene.kit.advance(secs(1)).await;
    let heard = scene.heard();
    assert!(heard[0].is_err(), "{heard:?}");
    scene.kit.crash(&scene.asker);
    asks.await.unwrap().unwrap();
    assert_eq!(scene.heard()[1..], [Ok(2)]);
}

#[tokio::test]
async fn a_reply_is_kept_as_long_as_those_of_durable_agents() {
    let scene = Scene::set().await;
    scene.asker.then_hang(0).tell().await.unwrap();
    scene.kit.advance(secs(601)).await;
    scene.kit.crash(&scene.asker);
    scene.kit.advance(secs(1)).await;
    assert_eq!(scene.heard(), [Ok(1), Ok(2)]);
}
