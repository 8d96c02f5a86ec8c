//! The accelerator's description: the config file's fields (`schema`), reading it with every fault at once, presets,
//! overrides, and the resolved machine that all later stages use.

pub mod resolved;
pub mod schema;

pub use resolved::{Accelerator, BufferId, EngineId, EngineInfo, EngineKind, MemoryId};
pub use schema::*;
