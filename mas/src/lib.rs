//! The face of mas.
