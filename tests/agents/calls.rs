//! Typed calls that are told: sent, and not waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::stream;
use mas::SendError;
use mas::prelude::*;

#[agent(id = "clerk", mailbox = 1)]
struct Clerk {
    lists: Arc<AtomicUsize>,
}

#[agent]
impl Clerk {
    #[on("file")]
    async fn file(&mut self, paper: u32) -> u32 {
        tokio::time::sleep(secs(10)).await;
        paper
    }

    #[on("list")]
    fn list(&self, lists: usize) -> impl Stream<Item = u32> + use<> {
        self.lists.fetch_add(lists, Ordering::SeqCst);
        stream::iter([1, 2, 3])
    }
}

#[tokio::test]
async fn a_told_call_keeps_its_timeout() {
    let kit = TestKit::start().await;
    let clerk = kit
        .spawn(Clerk {
            lists: Arc::default(),
        })
        .await
        .unwrap();
    loop {
        match clerk.file(1).try_now().tell().await {
            Ok(()) => kit.advance(secs(0)).await,
            Err(SendError::MailboxFull(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    let before = kit.now();
    let error = clerk.file(2).timeout(secs(1)).tell().await.unwrap_err();
    assert!(matches!(error, SendError::Expired), "{error}");
    assert!(kit.now().since(before) < secs(2), "it gives up in time");
    // Without one it waits for room, longer than an ask would be worth.
    clerk.file(3).tell().await.unwrap();
    assert!(kit.now().since(before) > secs(5));
}

#[tokio::test]
async fn a_streaming_handler_is_told_as_well() {
    let kit = TestKit::start().await;
    let lists = Arc::new(AtomicUsize::new(0));
    let clerk = kit
        .spawn(Clerk {
            lists: Arc::clone(&lists),
        })
        .await
        .unwrap();
    clerk.list(7).tell().await.unwrap();
    kit.advance(secs(1)).await;
    assert_eq!(lists.load(Ordering::SeqCst), 7);
}
