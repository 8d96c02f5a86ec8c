//! The array in `SystemVerilog`: the modules under `sv`, a package with the machine's parameters, a testbench, and array
//! programs as its vectors. Knows the machine and arithmetic policies; no layer, no engine. What a program must give, and when,
//! is handed in.

mod design;
mod package;
mod program;
mod simulate;
mod sources;
mod vectors;

pub use design::Design;
pub use program::{Command, Expected, LaneParameters, Load, QuantizedRow, Stream};
pub use simulate::{Observed, Simulation};
pub use sources::{Fault, SourceFile, sources};
pub use vectors::write_vectors;
