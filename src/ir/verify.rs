//! The invariants of a graph at each stage.
