//! Decides how each layer runs: on which engine, with which dataflow, tiles, loop order and slots, where its tensors
//! lie, and says why. The choice minimizes the closed form of `cost`, deterministically.
//!
//! Uses the graph and the machine only; `program` turns the plan into instructions.

pub mod cache;
mod classify;
pub mod cost;
pub mod describe;
pub mod layout;
pub mod matrix;
pub mod order;
pub mod place;
pub mod plan;
pub mod search;
pub mod shape;
pub mod tiling;
pub mod vector;

pub use cache::MappingCache;
pub use layout::Layout;
pub use matrix::{BufferTile, LoopOrder, MatrixMapping, Slots};
pub use place::Place;
pub use plan::{LayerMapping, LayerPlan, Plan, PlanOptions, plan, plan_cached};
pub use shape::{MatrixShape, Second};
pub use vector::{VectorMapping, VectorShape};
