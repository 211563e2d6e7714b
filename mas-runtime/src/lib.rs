//! What runs mas.

pub mod model;
pub mod store;
