//! Senders that are faster than their receivers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use mas::model::limits::{BATCH_MAX, TURNS_BEFORE_YIELD};
use mas::prelude::*;
use mas::{AgentRef, Moment, Priority, SendError};

#[agent(id = "slow", mailbox = 16)]
struct Slow;

#[agent]
impl Slow {
    #[on("take")]
    async fn take(&mut self, number: u64, ctx: &mut Context<Self>) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        ctx.tell("log", "took", &number).await?;
        Ok(())
    }

    #[on("flood")]
    async fn flood(&mut self, count: u64, ctx: &mut Context<Self>) -> Result<u64> {
        for number in 0..count {
            match ctx.tell("slow", "take", &number).await {
                Ok(()) => {}
                Err(SendError::MailboxFull(_)) => return Ok(number),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(count)
    }
}

#[tokio::test]
async fn a_fast_sender_waits_for_room() {
    let kit = TestKit::start().await;
    let log = kit.probe("log").await.unwrap();
    let slow = kit.spawn(Slow).await.unwrap();
    let end: Moment = kit.now() + secs(60);
    let mut sent = 0;
    while kit.now() < end {
        slow.take(sent).tell().await.unwrap();
        sent += 1;
    }
    let taken = log.count() as u64;
    // What waits: a full lane, a batch in hand, and the one that is being handled.
    assert!(sent - taken <= 16 + 64 + 1, "{sent} sent, {taken} taken");
    assert!(taken > 4_000, "only {taken} in a minute");
    log.arrives(sent as usize).await;
}

/// Who sent it, which of the sender's priorities it has, and which of these it is.
type Numbered = (u8, Priority, u32);
type Seen = Arc<Mutex<Vec<Numbered>>>;

#[agent(mailbox = 16)]
struct Volatile {
    seen: Seen,
}

#[agent(mailbox = 16, durable)]
struct Durable {
    seen: Seen,
}

macro_rules! sees {
    ($agent:ident) => {
        #[agent]
        impl $agent {
            #[on("see")]
            async fn see(&mut self, numbered: Numbered) {
                tokio::time::sleep(Duration::from_millis(10)).await;
                self.seen.lock().unwrap().push(numbered);
            }
        }
    };
}
sees!(Volatile);
sees!(Durable);

/// Several senders, each with messages of all priorities, send faster than the agent handles, for a minute. Gives how many
/// each has sent of each.
async fn flood(kit: &TestKit, agent: &AgentRef) -> BTreeMap<(u8, Priority), u32> {
    let mut senders = Vec::new();
    for (sender, priority) in (0..3).flat_map(|s| Priority::ALL.map(|p| (s, p))) {
        let (agent, end) = (agent.clone(), secs(60));
        senders.push(async move {
            let mut sent = 0;
            let before = tokio::time::Instant::now();
            while before.elapsed() < end {
                let numbered: Numbered = (sender, priority, sent);
                agent
                    .tell("see", &numbered)
                    .priority(priority)
                    .await
                    .unwrap();
                sent += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            ((sender, priority), sent)
        });
    }
    let sent = join_all(senders).await.into_iter().collect();
    kit.advance(secs(60)).await;
    sent
}

#[tokio::test]
async fn nothing_of_one_sender_and_priority_is_reordered_in_a_flood() {
    for durable in [false, true] {
        let kit = TestKit::start().await;
        let seen = Seen::default();
        let own = Arc::clone(&seen);
        let agent = match durable {
            true => kit.spawn(Durable { seen: own }).await.unwrap().untyped(),
            false => kit.spawn(Volatile { seen: own }).await.unwrap().untyped(),
        };
        let sent = flood(&kit, &agent).await;
        let mut next: BTreeMap<(u8, Priority), u32> = BTreeMap::new();
        for &(sender, priority, number) in seen.lock().unwrap().iter() {
            let want = next.entry((sender, priority)).or_default();
            assert_eq!(number, *want, "{sender} {priority:?}, durable: {durable}");
            *want += 1;
        }
        assert_eq!(next, sent, "durable: {durable}");
        let all: u32 = sent.values().sum();
        assert!(all > 5_000, "only {all} sent");
    }
}

#[tokio::test]
async fn an_agent_that_floods_its_own_mailbox_is_told_at_once() {
    let kit = TestKit::start().await;
    let log = kit.probe("log").await.unwrap();
    let slow = kit.spawn(Slow).await.unwrap();
    let before = kit.now();
    let sent = slow.flood(1_000).await.unwrap();
    assert_eq!(sent, 16, "as many as there is room for");
    assert!(
        kit.now().since(before) < secs(1),
        "it does not wait for itself"
    );
    log.arrives(16).await;
}

#[tokio::test]
async fn overflow_is_what_the_agent_declares() {
    #[agent(id = "refuses", mailbox = 1, overflow = "refuse")]
    struct Refuses;

    #[agent(id = "drops-newest", mailbox = 1, overflow = "drop_newest")]
    struct DropsNewest;

    #[agent(id = "drops-oldest", mailbox = 1, overflow = "drop_oldest")]
    struct DropsOldest;

    macro_rules! takes {
        ($agent:ident) => {
            #[agent]
            impl $agent {
                #[on("take")]
                async fn take(&mut self, number: u64, ctx: &mut Context<Self>) -> Result<()> {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    ctx.tell("log", "took", &number).await?;
                    Ok(())
                }
            }
        };
    }
    takes!(Refuses);
    takes!(DropsNewest);
    takes!(DropsOldest);

    let kit = TestKit::start().await;
    let log = kit.probe("log").await.unwrap();
    let refuses = kit.spawn(Refuses).await.unwrap();
    let newest = kit.spawn(DropsNewest).await.unwrap();
    let oldest = kit.spawn(DropsOldest).await.unwrap();
    refuses.take(0).tell().await.unwrap();
    newest.take(10).tell().await.unwrap();
    oldest.take(20).tell().await.unwrap();
    kit.advance(Duration::from_millis(1)).await;
    refuses.take(1).tell().await.unwrap();
    let error = refuses.take(2).tell().await.unwrap_err();
    assert!(matches!(error, SendError::MailboxFull(_)), "{error:?}");
    newest.take(11).tell().await.unwrap();
    newest.take(12).tell().await.unwrap();
    oldest.take(21).tell().await.unwrap();
    oldest.take(22).tell().await.unwrap();
    kit.advance(secs(1)).await;
    let mut took: Vec<u64> = log.with(|seen| {
        seen.iter()
            .map(|envelope| envelope.payload.decode().unwrap())
            .collect()
    });
    took.sort_unstable();
    assert_eq!(took, [0, 1, 10, 11, 20, 22]);
    assert_eq!(kit.dead_letters().list(10).await.unwrap().len(), 2);
}

/// It counts, and never waits.
#[agent(id = "busy", mailbox = 8192)]
struct Busy {
    count: Arc<AtomicU32>,
}

#[agent]
impl Busy {
    #[on("alone")]
    async fn alone(&mut self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    #[on("shared")]
    async fn shared(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    #[on("waits")]
    async fn waits(&self) {
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
async fn a_flooded_agent_lets_other_tasks_of_its_thread_run() {
    for (first, message_type) in [
        ("alone", "alone"),
        ("shared", "shared"),
        ("waits", "shared"),
    ] {
        let kit = TestKit::start().await;
        let count = Arc::new(AtomicU32::new(0));
        let own = Arc::clone(&count);
        let busy = kit.spawn(Busy { count: own }).await.unwrap();
        busy.tell(first, &()).await.unwrap();
        for _ in 0..8_000 {
            busy.tell(message_type, &()).await.unwrap();
        }
        // It stands behind the agent in its thread's queue.
        let other = tokio::spawn(async move { count.load(Ordering::Relaxed) });
        let seen = other.await.unwrap();
        assert!(seen > 0, "the agent ran first");
        let most = TURNS_BEFORE_YIELD + BATCH_MAX as u32;
        assert!(seen <= most, "{seen} of `{message_type}` after `{first}`");
    }
}
