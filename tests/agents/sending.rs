//! tell, ask and typed calls, and every way in which they fail.

use std::time::Duration;

use futures_util::future::join_all;
use mas::prelude::*;
use mas::{AskError, FailureCode, SendError, SpawnError};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Task {
    id: String,
    #[serde(default)]
    weight: u8,
}

fn task(id: &str) -> Task {
    Task {
        id: id.into(),
        weight: 3,
    }
}

#[agent(id = "worker", capabilities = ["nlp", "text"], metadata = { region = "eu" })]
struct Worker {
    suffix: String,
}

#[agent]
impl Worker {
    #[on("task.process")]
    async fn process(&mut self, task: Task) -> Result<Task> {
        Ok(Task {
            id: task.id + &self.suffix,
            ..task
        })
    }

    #[on("task.refuse")]
    async fn refuse(&mut self) -> Result<()> {
        Err(Failure::permanent("not today").with_code("refused").into())
    }

    #[on("task.parse")]
    async fn parse(&mut self, text: String) -> Result<u8> {
        Ok(text.parse()?)
    }

    #[on("status.check")]
    async fn status(&self) -> &'static str {
        "healthy"
    }

    #[on("task.slow")]
    async fn slow(&self, millis: u64) -> u64 {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        millis
    }

    #[on("task.forward")]
    async fn forward(&mut self, ctx: &mut Context<Self>) -> Result<()> {
        ctx.tell("auditor", "task.seen", "forwarded").await?;
        Ok(())
    }
}

async fn kit() -> (TestKit, WorkerRef) {
    let kit = TestKit::start().await;
    let worker = kit.spawn(Worker { suffix: "!".into() }).await.unwrap();
    (kit, worker)
}

#[tokio::test]
async fn an_ask_by_type_and_a_typed_call_give_the_same() {
    let (_kit, worker) = kit().await;
    let by_type: Task = worker.ask("task.process", &task("a")).await.unwrap();
    let typed = worker.process(task("a")).await.unwrap();
    assert_eq!(by_type, typed);
    assert_eq!(typed.id, "a!");
    let status: String = worker.status().await.unwrap();
    assert_eq!(status, "healthy");
    let status: String = worker.ask("status.check", &()).await.unwrap();
    assert_eq!(status, "healthy");
}

#[tokio::test]
async fn refs_by_id_and_attached_ones_lead_to_the_same_agent() {
    let (kit, _worker) = kit().await;
    let by_id: Task = kit
        .agent("worker")
        .unwrap()
        .ask("task.process", &task("b"))
        .await
        .unwrap();
    let attached = WorkerRef::attach(kit.runtime(), "worker").unwrap();
    assert_eq!(attached.process(task("b")).await.unwrap(), by_id);
}

#[tokio::test]
async fn a_handlers_error_reaches_the_asker_as_a_failure() {
    let (_kit, worker) = kit().await;
    let Err(AskError::Failed(failure)) = worker.refuse().await else {
        panic!("it refuses")
    };
    assert_eq!(failure.code.as_str(), "refused");
    assert_eq!(failure.message, "not today");
    assert!(!failure.retryable);
    let Err(AskError::Failed(failure)) = worker.parse("x".to_owned()).await else {
        panic!("it can't be parsed")
    };
    assert_eq!(failure.code, FailureCode::HANDLER);
    assert!(failure.retryable);
}

#[tokio::test]
async fn a_payload_of_the_wrong_shape_names_the_field() {
    let (_kit, worker) = kit().await;
    #[derive(Serialize)]
    struct Wrong {
        id: u8,
    }
    let Err(AskError::Failed(failure)) = worker.ask::<Task>("task.process", &Wrong { id: 1 }).await
    else {
        panic!("it has the wrong shape")
    };
    assert_eq!(failure.code, FailureCode::BAD_PAYLOAD);
    assert!(failure.message.contains("field `id`"), "{failure}");
    assert!(failure.message.contains("expected a string"), "{failure}");
    assert!(!failure.retryable);
}

#[tokio::test]
async fn a_reply_of_another_shape_is_an_error_of_the_asker() {
    let (_kit, worker) = kit().await;
    let error = worker.ask::<u64>("status.check", &()).await.unwrap_err();
    assert!(matches!(error, AskError::Reply { .. }), "{error:?}");
}

#[tokio::test]
async fn an_unknown_message_type_lists_those_that_are_handled() {
    let (_kit, worker) = kit().await;
    let error = worker.tell("task.proces", &1).await.unwrap_err();
    let SendError::UnknownMessageType { handled, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(handled.contains(&"task.process".to_owned()));
    assert!(error.to_string().contains("`task.process`"), "{error}");
}

#[tokio::test]
async fn nobody_is_an_error_for_an_ask_and_a_dead_letter_for_a_tell() {
    let (kit, _worker) = kit().await;
    let ghost = kit.agent("ghost").unwrap();
    let error = ghost.ask::<()>("x", &1).await.unwrap_err();
    assert!(matches!(
        error,
        AskError::Send(SendError::UnknownAgent { .. })
    ));
    ghost.tell("x", &1).await.unwrap();
    let letters = kit.dead_letters().list(10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].target, "ghost");
    assert!(letters[0].reason.contains("no agent `ghost`"));
}

#[tokio::test]
async fn ids_and_message_types_are_checked() {
    let (kit, worker) = kit().await;
    assert!(kit.agent("no spaces").is_err());
    assert!(kit.agent("").is_err());
    let error = worker.tell("no spaces", &1).await.unwrap_err();
    assert!(matches!(error, SendError::Id(_)), "{error:?}");
    let error = kit
        .spawn_as(
            "bad id",
            Worker {
                suffix: String::new(),
            },
        )
        .await
        .unwrap_err();
    assert!(matches!(error, SpawnError::Id(_)), "{error:?}");
    let error = kit
        .spawn_as(
            "worker",
            Worker {
                suffix: String::new(),
            },
        )
        .await
        .unwrap_err();
    assert!(matches!(error, SpawnError::Duplicate { .. }), "{error:?}");
    let error = kit
        .spawn_as(
            "runtime",
            Worker {
                suffix: String::new(),
            },
        )
        .await
        .unwrap_err();
    assert!(matches!(error, SpawnError::Reserved { .. }), "{error:?}");
}

#[tokio::test]
async fn a_payload_over_the_limit_is_refused() {
    let kit = TestKit::builder()
        .configure(|builder| builder.payload_bytes_max(100))
        .start()
        .await;
    let worker = kit
        .spawn(Worker {
            suffix: String::new(),
        })
        .await
        .unwrap();
    let error = worker
        .tell("task.parse", &"x".repeat(101))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the payload has 103 bytes: the limit is 100"
    );
}

#[tokio::test]
async fn an_ask_times_out_and_its_late_reply_is_counted() {
    let (kit, worker) = kit().await;
    let error = worker.slow(5_000).timeout(secs(2)).await.unwrap_err();
    assert!(matches!(error, AskError::TimedOut { .. }), "{error:?}");
    kit.advance(secs(10)).await;
    assert_eq!(kit.late_replies(), 1);
}

#[tokio::test]
async fn shared_handlers_run_side_by_side() {
    let (kit, worker) = kit().await;
    let before = kit.now();
    let slow = (0..10).map(|_| worker.slow(1_000));
    assert!(join_all(slow).await.into_iter().all(|r| r.is_ok()));
    assert!(kit.now().since(before) < Duration::from_millis(1_100));
}

#[tokio::test]
async fn nothing_is_sent_before_the_first_poll() {
    let (kit, worker) = kit().await;
    let auditor = kit.probe("auditor").await.unwrap();
    drop(worker.forward().tell());
    kit.advance(secs(1)).await;
    assert_eq!(auditor.count(), 0);
    worker.forward().tell().await.unwrap();
    assert_eq!(
        auditor.next::<String>("task.seen").await.unwrap(),
        "forwarded"
    );
}

#[tokio::test]
async fn builders_can_be_spawned_and_joined() {
    let (_kit, worker) = kit().await;
    let spawned = tokio::spawn(worker.process(task("s")));
    assert_eq!(spawned.await.unwrap().unwrap().id, "s!");
}

#[tokio::test]
async fn a_stopped_agent_fails_its_asks_at_once() {
    let (kit, worker) = kit().await;
    worker.stop().await.unwrap();
    let error = worker.status().await.unwrap_err();
    assert!(
        matches!(error, AskError::Send(SendError::Stopped { .. })),
        "{error:?}"
    );
    let worker = kit.spawn(Worker { suffix: "?".into() }).await.unwrap();
    assert_eq!(worker.process(task("x")).await.unwrap().id, "x?");
}

#[tokio::test]
async fn a_ref_stays_good_across_a_stop_and_a_new_spawn() {
    let (kit, old) = kit().await;
    old.stop().await.unwrap();
    kit.spawn(Worker { suffix: "2".into() }).await.unwrap();
    assert_eq!(old.process(task("x")).await.unwrap().id, "x2");
}

#[tokio::test]
async fn waiting_asks_hear_of_a_stop() {
    let (_kit, worker) = kit().await;
    let waiting = tokio::spawn(worker.slow(600_000).timeout(secs(1_000)));
    tokio::task::yield_now().await;
    worker.stop().await.unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    let AskError::Failed(failure) = error else {
        panic!("{error:?}")
    };
    assert_eq!(failure.code, FailureCode::STOPPED);
}

#[tokio::test]
async fn after_a_shutdown_every_call_fails() {
    let (kit, worker) = kit().await;
    kit.shutdown().await.unwrap();
    let error = worker.status().await.unwrap_err();
    assert!(
        matches!(error, AskError::Send(SendError::ShutDown)),
        "{error:?}"
    );
    let error = kit
        .spawn(Worker {
            suffix: String::new(),
        })
        .await
        .unwrap_err();
    assert!(matches!(error, SpawnError::ShutDown), "{error:?}");
    kit.shutdown().await.unwrap();
}

#[tokio::test]
async fn agents_are_found_by_what_they_declare() {
    use mas::Query;
    let (kit, _worker) = kit().await;
    let ids = |records: Vec<mas::AgentRecord>| -> Vec<String> {
        records.into_iter().map(|r| r.id.to_string()).collect()
    };
    assert_eq!(ids(kit.discover(["nlp"]).await.unwrap()), ["worker"]);
    assert_eq!(
        ids(kit.discover(["nlp", "text"]).await.unwrap()),
        ["worker"]
    );
    assert!(kit.discover(["nlp", "audio"]).await.unwrap().is_empty());
    assert_eq!(
        ids(kit.discover(Query::any(["nlp", "audio"])).await.unwrap()),
        ["worker"]
    );
    let eu = Query::all(["nlp"]).with("region", "eu");
    assert_eq!(ids(kit.discover(eu).await.unwrap()), ["worker"]);
    let us = Query::all(["nlp"]).with("region", "us");
    assert!(kit.discover(us).await.unwrap().is_empty());
}

#[agent(id = "tight", mailbox = 2)]
struct Tight;

#[agent]
impl Tight {
    #[on("work")]
    async fn work(&mut self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}

#[tokio::test]
async fn a_full_mailbox_makes_senders_wait_and_try_now_gives_the_message_back() {
    let kit = TestKit::start().await;
    let tight = kit.spawn(Tight).await.unwrap();
    tight.work(1_000).tell().await.unwrap();
    tokio::task::yield_now().await;
    tight.work(1).tell().await.unwrap();
    tight.work(2).tell().await.unwrap();
    let error = tight.work(3).tell().try_now().await.unwrap_err();
    let envelope = error.into_envelope().expect("the message comes back");
    assert_eq!(envelope.payload.decode::<u64>().unwrap(), 3);
    let before = kit.now();
    tight.work(4).tell().await.unwrap();
    assert!(
        kit.now().since(before) > Duration::from_millis(900),
        "it waited"
    );
}

#[tokio::test]
async fn an_expired_message_is_not_handled() {
    let kit = TestKit::start().await;
    let tight = kit.spawn(Tight).await.unwrap();
    tight.work(2_000).tell().await.unwrap();
    let error = tight.work(1).timeout(secs(1)).await.unwrap_err();
    assert!(matches!(error, AskError::TimedOut { .. }));
    tight
        .work(1)
        .tell()
        .deadline(Duration::from_millis(500))
        .await
        .unwrap();
    kit.advance(secs(5)).await;
    let letters = kit.dead_letters().list(10).await.unwrap();
    assert!(
        letters.iter().any(|l| l.reason.contains("deadline")),
        "{letters:?}"
    );
}
