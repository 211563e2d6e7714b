//! The embedded engine as a whole.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::store::{Engine, conformance};

fn open(dir: &Path) -> EmbeddedEngine {
    EmbeddedEngine::open(dir, EmbeddedOptions::default()).unwrap()
}

#[tokio::test]
async fn it_conforms() {
    conformance::run(
        || TempDir::new().unwrap(),
        async |dir| Arc::new(open(dir.path())) as Arc<dyn Engine>,
    )
    .await;
}
