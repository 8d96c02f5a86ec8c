//! The cross-cutting tests, in one binary: what no single room can promise on its own.

mod additions;
mod architecture;
mod cli;
mod divergence;
mod edges;
mod effects;
mod engine;
mod facade;
mod invariants;
mod ladder;
mod layers;
mod mappings;
mod metrics;
mod mutants;
mod networks;
mod programs;
mod registers;
mod scalesim;
mod strides;
mod support;
mod types;
mod validation;
