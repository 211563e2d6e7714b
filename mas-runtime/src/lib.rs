//! What runs mas.

pub mod actor;
pub mod model;
pub mod runtime;
pub mod store;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
