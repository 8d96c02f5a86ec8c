//! Systole: a cycle-approximate simulator of systolic-array accelerators that executes what it times, bit for bit.
//!
//! `docs/architecture.md` has the pipeline and the contract of each module.

pub mod baseline;
pub mod cli;
pub mod config;
pub mod dataflow;
pub mod diag;
pub mod engine;
pub mod explore;
pub mod import;
pub mod ir;
pub mod kernels;
pub mod mapping;
pub mod passes;
pub mod pipeline;
pub mod program;
pub mod reference;
pub mod report;
pub mod result;
pub mod rtl;
pub mod scalesim;
pub mod tensor;
pub mod trace;
pub mod units;
pub mod validate;
pub mod verify;
