//! The accelerator's description: the config file's fields, each declared once (`schema`), reading it with every fault at
//! once, presets, overrides, and the resolved machine that all later stages use.

mod check;
mod cross;
mod declare;
pub mod fields;
mod load;
mod modelled;
mod overrides;
mod places;
mod presets;
mod reference;
pub mod resolved;
pub mod scalesim;
pub mod schema;
mod syntax;
#[cfg(test)]
mod tests;

pub use load::{hash, load, load_scalesim, load_source, load_with_warnings, with_overrides};
pub use modelled::not_modelled;
pub use presets::{Preset, presets};
pub use reference::reference_page;
pub use resolved::{Accelerator, BufferId, EngineId, EngineInfo, EngineKind, MemoryId};
pub use schema::*;
