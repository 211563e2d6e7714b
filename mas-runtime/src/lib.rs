//! What runs mas.

pub mod model;
