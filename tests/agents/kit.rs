//! The test kit itself: its clock, its probes and its faults.

use mas::prelude::*;

#[test]
fn a_runtime_of_several_threads_is_refused() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let started = runtime.block_on(async { tokio::spawn(TestKit::start()).await });
    let panic = started.unwrap_err().into_panic();
    let said = panic.downcast_ref::<&str>().unwrap();
    assert!(said.contains("a runtime of several threads"), "{said}");
}

#[tokio::test]
async fn a_probe_that_waited_in_vain_reads_what_comes_later() {
    let kit = TestKit::start().await;
    let probe = kit.probe("probe").await.unwrap();
    assert!(probe.next::<u32>("number").await.is_err(), "nothing came");
    let cancelled = tokio::time::timeout(secs(1), probe.next::<u32>("number"));
    assert!(cancelled.await.is_err());
    for number in [1, 2] {
        probe.tell("number", &number).await.unwrap();
    }
    assert_eq!(probe.next::<u32>("number").await.unwrap(), 1);
    assert!(probe.next::<u32>("other").await.is_err(), "it is no other");
    probe.tell("number", &3).await.unwrap();
    assert_eq!(probe.next::<u32>("number").await.unwrap(), 3);
}
