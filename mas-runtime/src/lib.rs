//! What runs mas.
