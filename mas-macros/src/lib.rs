//! The attribute macros of mas.
