//! The cross-cutting tests, in one binary: what no single room can promise on its own.

mod architecture;
mod edges;
mod engine;
mod layers;
mod mappings;
mod programs;
mod support;
