//! A process that ends as a killed one does.

use std::future::Future;

/// Runs a life in a process of its own, which is killed when it is over: nothing is shut down, what runs ends where it is.
pub(crate) fn process<F: Future>(life: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(life)
}
