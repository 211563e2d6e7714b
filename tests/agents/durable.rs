//! Durable agents: an inbox, an outbox, dedup, and effects that happen exactly once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mas::prelude::*;
use mas::store::MemoryEngine;
use mas::testkit::{Fault, FaultyEngine};
use mas::{AskError, FailureCode, SendError};

use crate::process::process;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tally {
    done: Vec<u32>,
}

#[agent(id = "ledger", state = Tally, durable, max_attempts = 3)]
struct Ledger {
    attempts: Arc<AtomicU32>,
    fail_first: u32,
}

#[agent]
impl Ledger {
    #[on("book")]
    async fn book(&mut self, number: u32, ctx: &mut Context<Self>) -> Result<usize> {
        let attempt = self.attempts.fetch_add(1, Ordering::SeqCst);
        ctx.update_state(|tally| tally.done.push(number));
        ctx.tell("copy", "copied", &number).await?;
        if attempt < self.fail_first {
            return Err(Failure::retryable("not this time").into());
        }
        Ok(ctx.state().done.len())
    }

    #[on("book.never")]
    async fn never(&mut self, number: u32, ctx: &mut Context<Self>) -> Result<()> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        ctx.update_state(|tally| tally.done.push(number));
        Err(Failure::permanent("never").into())
    }

    #[on("book.panic")]
    async fn panic(&mut self) {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        panic!("poison");
    }

    #[on("book.slow")]
    async fn slow(&mut self, number: u32, ctx: &mut Context<Self>) {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
        ctx.update_state(|tally| tally.done.push(number));
    }

    #[on("book.shared")]
    async fn shared(&self, number: u32, ctx: &Context<Self>) -> Result<()> {
        ctx.update_state(|tally| tally.done.push(number));
        if self.attempts.fetch_add(1, Ordering::SeqCst) < self.fail_first {
            return Err(Failure::retryable("after the update").into());
        }
        Ok(())
    }

    #[on("total")]
    async fn total(&self, ctx: &Context<Self>) -> Vec<u32> {
        ctx.state().done.clone()
    }
}

/// Keeps the copies that the ledger sends.
#[agent(id = "copy", state = Tally, durable)]
struct Copy;

#[agent]
impl Copy {
    #[on("copied")]
    async fn copied(&mut self, number: u32, ctx: &mut Context<Self>) {
        ctx.update_state(|tally| tally.done.push(number));
    }

    #[on("total")]
    async fn total(&self, ctx: &Context<Self>) -> Vec<u32> {
        ctx.state().done.clone()
    }
}

struct System {
    kit: TestKit,
    ledger: LedgerRef,
    copy: CopyRef,
    attempts: Arc<AtomicU32>,
}

async fn system(engine: impl mas::store::Engine + 'static, fail_first: u32) -> System {
    let kit = TestKit::builder().engine(engine).start().await;
    let attempts: Arc<AtomicU32> = Arc::default();
    let ledger = Ledger {
        attempts: Arc::clone(&attempts),
        fail_first,
    };
    let copy = kit.spawn(Copy).await.unwrap();
    let ledger = kit.spawn(ledger).await.unwrap();
    System {
        kit,
        ledger,
        copy,
        attempts,
    }
}

impl System {
    fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_failed_attempt_leaves_nothing_and_the_asker_is_answered_once() {
    let system = system(MemoryEngine::new(), 2).await;
    assert_eq!(system.ledger.book(7).await.unwrap(), 1);
    assert_eq!(system.attempts(), 3);
    assert_eq!(system.ledger.total().await.unwrap(), [7]);
    system.kit.advance(secs(1)).await;
    assert_eq!(system.copy.total().await.unwrap(), [7], "sent once");
}

#[tokio::test]
async fn after_the_last_attempt_it_is_a_dead_letter_with_its_history() {
    let system = system(MemoryEngine::new(), 100).await;
    let error = system.ledger.book(7).await.unwrap_err();
    assert!(matches!(&error, AskError::Failed(f) if f.message == "not this time"));
    assert_eq!(system.attempts(), 3);
    let letters = system.kit.dead_letters().list(10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].history.len(), 2, "{letters:?}");
    assert!(letters[0].durable);
    assert!(system.copy.total().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_permanent_failure_is_not_tried_again_until_an_operator_says_so() {
    let system = system(MemoryEngine::new(), 0).await;
    assert!(system.ledger.never(1).await.is_err());
    assert_eq!(system.attempts(), 1);
    let letters = system.kit.dead_letters();
    let number = letters.list(10).await.unwrap()[0].number;
    assert!(letters.show(number).await.unwrap().is_some());
    letters.retry(number).await.unwrap();
    system.kit.advance(secs(1)).await;
    assert_eq!(system.attempts(), 2);
    let number = letters.list(10).await.unwrap()[0].number;
    assert!(letters.drop(number).await.unwrap());
    assert!(!letters.drop(number).await.unwrap());
    assert!(letters.list(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_poison_message_ends_in_the_dead_letters_and_not_the_agent() {
    let system = system(MemoryEngine::new(), 0).await;
    let error = system.ledger.panic().await.unwrap_err();
    assert!(matches!(&error, AskError::Failed(f) if f.code == FailureCode::PANIC));
    assert_eq!(system.attempts(), 3);
    let letters = system.kit.dead_letters().list(10).await.unwrap();
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = &letters[0];
    assert_eq!(
        (letter.message_type.as_str(), letter.attempts),
        ("book.panic", 3)
    );
    assert!(letter.reason.contains("poison"), "{letter:?}");
    assert_eq!(system.ledger.book(1).await.unwrap(), 1, "it lives");
}

#[tokio::test]
async fn a_crash_in_the_middle_is_tried_again() {
    let system = system(MemoryEngine::new(), 0).await;
    let slow = tokio::spawn(system.ledger.slow(5));
    system.kit.advance(Duration::from_millis(500)).await;
    system.kit.crash(&system.ledger);
    slow.await.unwrap().unwrap();
    assert_eq!(system.attempts(), 2);
    assert_eq!(system.ledger.total().await.unwrap(), [5]);
}

#[tokio::test]
async fn updates_of_a_shared_handler_happen_once_although_it_runs_again() {
    let system = system(MemoryEngine::new(), 2).await;
    system.ledger.shared(9).await.unwrap();
    assert_eq!(system.attempts(), 3);
    assert_eq!(system.ledger.total().await.unwrap(), [9]);
}

#[test]
fn what_was_accepted_survives_the_end_of_its_process() {
    let engine = MemoryEngine::new();
    process(async {
        let first = system(engine.clone(), 0).await;
        first.ledger.slow(1).tell().await.unwrap();
        for number in 2..=50 {
            first.ledger.book(number).tell().await.unwrap();
        }
        first.kit.advance(Duration::from_millis(500)).await;
        assert_eq!(first.attempts(), 1, "one in hand, the others wait");
    });
    process(async {
        let second = system(engine, 0).await;
        second.kit.advance(secs(60)).await;
        let total = second.ledger.total().await.unwrap();
        assert_eq!(total, (1..=50).collect::<Vec<_>>());
        let copied = second.copy.total().await.unwrap();
        assert_eq!(copied, (2..=50).collect::<Vec<_>>());
    });
}

#[tokio::test]
async fn a_message_to_a_durable_agent_that_does_not_run_waits_for_it() {
    let engine = MemoryEngine::new();
    let first = system(engine.clone(), 0).await;
    first.kit.shutdown().await.unwrap();
    let kit = TestKit::builder().engine(engine).start().await;
    kit.agent("copy").unwrap().tell("copied", &3).await.unwrap();
    let error = kit
        .agent("copy")
        .unwrap()
        .ask::<()>("copied", &4)
        .await
        .unwrap_err();
    assert!(matches!(error, AskError::Send(SendError::Stopped { .. })));
    let copy = kit.spawn(Copy).await.unwrap();
    kit.advance(secs(1)).await;
    assert_eq!(copy.total().await.unwrap(), [3]);
}

#[tokio::test]
async fn an_outbox_waits_for_a_target_that_comes_later() {
    let kit = TestKit::start().await;
    let attempts: Arc<AtomicU32> = Arc::default();
    let ledger = kit
        .spawn(Ledger {
            attempts,
            fail_first: 0,
        })
        .await
        .unwrap();
    for number in 0..5 {
        ledger.book(number).await.unwrap();
    }
    kit.advance(secs(30)).await;
    let copy = kit.spawn(Copy).await.unwrap();
    kit.advance(secs(10)).await;
    assert_eq!(copy.total().await.unwrap(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn an_outbox_gives_up_on_a_target_that_never_comes() {
    let kit = TestKit::start().await;
    let attempts: Arc<AtomicU32> = Arc::default();
    let ledger = kit
        .spawn(Ledger {
            attempts,
            fail_first: 0,
        })
        .await
        .unwrap();
    ledger.book(1).await.unwrap();
    kit.advance(secs(400)).await;
    let letters = kit.dead_letters().list(10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].target, "copy");
}

#[tokio::test]
async fn engine_faults_give_errors_and_service_resumes() {
    for fault in [Fault::Errors, Fault::DiskFull] {
        let engine = FaultyEngine::new(MemoryEngine::new());
        let system = system(engine.clone(), 0).await;
        system.ledger.book(1).await.unwrap();
        engine.suffer(fault);
        let before = system.kit.now();
        let error = system.ledger.book(2).tell().await.unwrap_err();
        assert!(matches!(error, SendError::Commit(_)), "{error:?}");
        assert_eq!(system.kit.now(), before, "it is told at once");
        engine.heal();
        assert_eq!(system.ledger.book(3).await.unwrap(), 2);
        assert_eq!(system.ledger.total().await.unwrap(), [1, 3]);
    }
}

#[tokio::test]
async fn a_slow_engine_holds_its_senders_and_nothing_is_lost() {
    let engine = FaultyEngine::new(MemoryEngine::new());
    let system = system(engine.clone(), 0).await;
    engine.suffer(Fault::Slow(secs(3)));
    let before = system.kit.now();
    system.ledger.book(1).tell().await.unwrap();
    let took = system.kit.now().since(before);
    assert!(took >= secs(3), "{took:?}: until it is durable");
    let impatient = system.ledger.book(2).tell().timeout(secs(1));
    let error = impatient.await.unwrap_err();
    assert!(matches!(error, SendError::Expired), "{error:?}");
    engine.heal();
    system.kit.advance(secs(10)).await;
    assert_eq!(system.ledger.total().await.unwrap(), [1, 2]);
    assert_eq!(system.copy.total().await.unwrap(), [1, 2]);
}

#[tokio::test]
async fn a_message_in_hand_survives_a_fault_of_the_engine() {
    let engine = FaultyEngine::new(MemoryEngine::new());
    let system = system(engine.clone(), 0).await;
    let slow = tokio::spawn(system.ledger.slow(5));
    system.kit.advance(Duration::from_millis(500)).await;
    engine.suffer(Fault::Errors);
    system.kit.advance(secs(2)).await;
    engine.heal();
    slow.await.unwrap().unwrap();
    assert_eq!(system.ledger.total().await.unwrap(), [5]);
    assert!(system.attempts() >= 2);
}

#[tokio::test]
async fn a_backlog_larger_than_the_mailbox_is_worked_off_in_order() {
    #[agent(id = "narrow", state = Tally, durable, mailbox = 4)]
    struct Narrow;

    #[agent]
    impl Narrow {
        #[on("take")]
        async fn take(&mut self, number: u32, ctx: &mut Context<Self>) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            ctx.update_state(|tally| tally.done.push(number));
        }

        #[on("total")]
        async fn total(&self, ctx: &Context<Self>) -> Vec<u32> {
            ctx.state().done.clone()
        }
    }

    let kit = TestKit::start().await;
    let narrow = kit.spawn(Narrow).await.unwrap();
    for number in 0..500 {
        narrow.take(number).tell().await.unwrap();
    }
    kit.advance(secs(60)).await;
    assert_eq!(narrow.total().await.unwrap(), (0..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_removed_agent_keeps_its_state_unless_told_otherwise() {
    let engine = MemoryEngine::new();
    let system = system(engine, 0).await;
    system.ledger.book(1).await.unwrap();
    system.kit.remove("ledger").await.unwrap();
    assert!(matches!(
        system.ledger.total().await,
        Err(AskError::Send(_))
    ));
    let again = |attempts: &Arc<AtomicU32>| Ledger {
        attempts: Arc::clone(attempts),
        fail_first: 0,
    };
    let ledger = system.kit.spawn(again(&system.attempts)).await.unwrap();
    assert_eq!(ledger.total().await.unwrap(), [1]);
    system.kit.remove_with_data("ledger").await.unwrap();
    let ledger = system.kit.spawn(again(&system.attempts)).await.unwrap();
    assert!(ledger.total().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_repeated_ask_of_a_rerun_handler_is_answered_from_what_was_kept() {
    #[agent(id = "asker", durable)]
    struct Asker {
        attempts: Arc<AtomicU32>,
    }

    #[agent]
    impl Asker {
        #[on("go")]
        async fn go(&mut self, ctx: &mut Context<Self>) -> Result<usize> {
            let booked: usize = ctx.ask("ledger", "book", &1_u32).await?;
            if self.attempts.fetch_add(1, Ordering::SeqCst) == 0 {
                return Err(Failure::retryable("once more").into());
            }
            Ok(booked)
        }
    }

    let system = system(MemoryEngine::new(), 0).await;
    let asker = Asker {
        attempts: Arc::default(),
    };
    let asker = system.kit.spawn(asker).await.unwrap();
    assert_eq!(asker.go().await.unwrap(), 1);
    assert_eq!(system.ledger.total().await.unwrap(), [1], "booked once");
    assert_eq!(system.attempts(), 1);
}

#[tokio::test]
async fn an_ask_that_waits_in_the_inbox_of_an_agent_that_stops_is_told() {
    let system = system(MemoryEngine::new(), 0).await;
    let slow = tokio::spawn(system.ledger.slow(1));
    let waiting = tokio::spawn(system.ledger.book(2));
    system.kit.advance(Duration::from_millis(100)).await;
    let before = system.kit.now();
    system.ledger.stop().await.unwrap();
    slow.await.unwrap().unwrap();
    let error = waiting.await.unwrap().unwrap_err();
    assert!(
        matches!(&error, AskError::Failed(f) if f.code == FailureCode::STOPPED),
        "{error:?}"
    );
    assert!(system.kit.now().since(before) < secs(5));
}

#[tokio::test]
async fn a_message_that_nobody_handles_does_not_block_the_outbox() {
    #[agent(id = "speaker", durable)]
    struct Speaker;

    #[agent]
    impl Speaker {
        #[on("speak")]
        async fn speak(&mut self, ctx: &mut Context<Self>) -> Result<()> {
            ctx.tell("copy", "no.such.type", &1).await?;
            ctx.tell("copy", "copied", &2_u32).await?;
            Ok(())
        }
    }

    let kit = TestKit::start().await;
    let speaker = kit.spawn(Speaker).await.unwrap();
    speaker.speak().await.unwrap();
    kit.advance(secs(5)).await;
    let copy = kit.spawn(Copy).await.unwrap();
    kit.advance(secs(5)).await;
    assert_eq!(copy.total().await.unwrap(), [2]);
    let letters = kit.dead_letters().list(10).await.unwrap();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0].reason.contains("no handler"), "{letters:?}");
    // Once the target is known here, the handler hears of it at once.
    assert!(speaker.speak().timeout(secs(30)).await.is_err());
}

#[tokio::test]
async fn two_poison_messages_do_not_end_the_agent() {
    let system = system(MemoryEngine::new(), 0).await;
    let (one, other) = futures_util::join!(system.ledger.panic(), system.ledger.panic());
    assert!(one.is_err() && other.is_err());
    assert_eq!(system.attempts(), 6);
    assert_eq!(system.ledger.book(1).await.unwrap(), 1, "it lives");
}

#[tokio::test]
async fn a_durable_handler_hears_at_once_of_a_payload_that_is_too_large() {
    #[agent(id = "hoarder", durable)]
    struct Hoarder;

    #[agent]
    impl Hoarder {
        #[on("send")]
        async fn send(&mut self, bytes: usize, ctx: &mut Context<Self>) -> String {
            let sent = ctx.tell("copy", "copied", &"x".repeat(bytes)).await;
            sent.map_or_else(|error| error.to_string(), |()| "sent".to_owned())
        }
    }

    let kit = TestKit::start().await;
    let hoarder = kit.spawn(Hoarder).await.unwrap();
    assert_eq!(hoarder.send(10).await.unwrap(), "sent");
    let told = hoarder.send(2_000_000).await.unwrap();
    assert!(told.contains("the limit is 1048576"), "{told}");
}

/// Sends more than is allowed, and says what it heard.
#[agent(id = "sender", durable)]
struct Sender {
    keeper: KeeperRef,
}

#[derive(Debug, Serialize, Deserialize)]
struct Large {
    #[serde(with = "serde_bytes_like")]
    bytes: Vec<u8>,
}

mod serde_bytes_like {
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        serde::Deserialize::deserialize(from)
    }
}

fn large(bytes: usize) -> Large {
    Large {
        bytes: vec![7; bytes],
    }
}

#[agent]
impl Sender {
    #[on("too.large")]
    async fn too_large(&mut self, ctx: &mut Context<Self>) -> String {
        let typed = self.keeper.keep(large(2 << 20)).tell().await;
        let by_type = ctx.tell("keeper", "keep", &large(2 << 20)).await;
        format!("{} | {}", typed.unwrap_err(), by_type.unwrap_err())
    }

    #[on("too.much")]
    async fn too_much(&mut self, ctx: &mut Context<Self>) -> (u32, String) {
        let mut sent = 0;
        loop {
            match ctx.tell("keeper", "keep", &large(1 << 20 >> 1)).await {
                Ok(()) => sent += 1,
                Err(error) => return (sent, error.to_string()),
            }
        }
    }

    #[on("reply.large")]
    async fn reply_large(&mut self, ctx: &mut Context<Self>) -> Result<Large> {
        ctx.tell("keeper", "keep", &large(1)).await?;
        Ok(large(2 << 20))
    }
}

#[agent(id = "keeper", durable)]
struct Keeper {
    got: Arc<AtomicU32>,
}

#[agent]
impl Keeper {
    #[on("keep")]
    async fn keep(&mut self, _what: Large) {
        self.got.fetch_add(1, Ordering::SeqCst);
    }
}

async fn senders() -> (TestKit, SenderRef, KeeperRef, Arc<AtomicU32>) {
    let kit = TestKit::start().await;
    let got: Arc<AtomicU32> = Arc::default();
    let keeper = kit
        .spawn(Keeper {
            got: Arc::clone(&got),
        })
        .await
        .unwrap();
    let sender = Sender {
        keeper: keeper.clone(),
    };
    let sender = kit.spawn(sender).await.unwrap();
    (kit, sender, keeper, got)
}

#[tokio::test]
async fn a_durable_handler_hears_at_once_of_what_is_too_large() {
    let (kit, sender, _keeper, got) = senders().await;
    let heard = sender.too_large().await.unwrap();
    assert_eq!(heard.matches("the limit is 1048576").count(), 2, "{heard}");
    assert_eq!(got.load(Ordering::SeqCst), 0);
    assert!(kit.dead_letters().list(1).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_durable_handler_that_sends_too_much_is_told_and_keeps_what_it_sent() {
    let (kit, sender, _keeper, got) = senders().await;
    let (sent, error) = sender.too_much().await.unwrap();
    assert!(error.contains("split the work"), "{error}");
    assert!((32..=64).contains(&sent), "{sent}");
    kit.advance(secs(1)).await;
    assert_eq!(got.load(Ordering::SeqCst), sent);
}

#[tokio::test]
async fn a_reply_that_cant_be_kept_fails_its_message_and_undoes_it() {
    let (kit, sender, _keeper, got) = senders().await;
    let error = sender.reply_large().await.unwrap_err();
    let AskError::Failed(failure) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(failure.code, FailureCode::BAD_REPLY);
    assert!(
        error.to_string().contains("the limit is 1048576"),
        "{error}"
    );
    kit.advance(secs(1)).await;
    assert_eq!(got.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_clock_that_is_set_back_delays_no_attempt_for_long() {
    let (kit, runtime_of_the_past) = (MemoryEngine::new(), secs(3_600));
    let first = TestKit::builder().engine(kit.clone()).start().await;
    first.advance(runtime_of_the_past).await;
    let attempts: Arc<AtomicU32> = Arc::default();
    let ledger = Ledger {
        attempts: Arc::clone(&attempts),
        fail_first: 1,
    };
    let ledger = first.spawn(ledger).await.unwrap();
    ledger.book(1).tell().await.unwrap();
    first.advance(Duration::from_millis(10)).await;
    first.shutdown().await.unwrap();
    assert_eq!(attempts.load(Ordering::SeqCst), 1);

    // This kit's wall clock begins an hour before.
    let second = TestKit::builder().engine(kit).seed(2).start().await;
    let ledger = Ledger {
        attempts: Arc::clone(&attempts),
        fail_first: 0,
    };
    second.spawn(ledger).await.unwrap();
    second.advance(secs(15)).await;
    assert_eq!(attempts.load(Ordering::SeqCst), 2);
}

#[agent(id = "teller", durable)]
struct Teller;

#[agent]
impl Teller {
    #[on("pass")]
    async fn pass(&mut self, on: (String, u32), ctx: &mut Context<Self>) -> Result<()> {
        let (target, number) = on;
        ctx.tell(&target, "take", &number).await?;
        Ok(())
    }
}

/// It takes one message at a time, and waits until it is opened.
#[agent(id = "gate", mailbox = 1, timeout = "1000s")]
struct Gate {
    open: Arc<tokio::sync::Semaphore>,
    seen: Arc<Mutex<Vec<u32>>>,
}

#[agent]
impl Gate {
    #[on("take")]
    async fn take(&mut self, number: u32) -> Result<()> {
        let _open = self.open.acquire().await?;
        self.seen.lock().unwrap().push(number);
        Ok(())
    }
}

#[tokio::test]
async fn a_sender_that_goes_on_sending_does_not_hold_up_what_waits_for_room() {
    let kit = TestKit::start().await;
    let _log = kit.probe("log").await.unwrap();
    let open = Arc::new(tokio::sync::Semaphore::new(0));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let gate = Gate {
        open: Arc::clone(&open),
        seen: Arc::clone(&seen),
    };
    kit.spawn(gate).await.unwrap();
    let teller = kit.spawn(Teller).await.unwrap();
    for number in 0..5 {
        teller.pass(("gate".to_owned(), number)).await.unwrap();
    }
    kit.advance(Duration::from_millis(10)).await;
    open.add_permits(1);
    for number in 0..40 {
        teller.pass(("log".to_owned(), number)).await.unwrap();
        kit.advance(Duration::from_millis(100)).await;
    }
    assert_eq!(
        *seen.lock().unwrap(),
        [0, 1, 2, 3, 4],
        "all, in their order"
    );
}
