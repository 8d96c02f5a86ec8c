//! What is emitted: one array with the wires of one dataflow, taken from a machine.

use crate::{
    config::{Accelerator, Accumulate, Array, Dataflow, DrainPath, OutputSkew},
    dataflow::{Operand, schedule},
    diag::{Diagnostic, Faults},
    tensor::{DType, Requantizer},
};

/// An array in hardware. Weight and input stationary arrays are the same, with the operands exchanged.
#[derive(Clone, Debug)]
pub struct Design {
    /// The machine's name.
    pub name: String,
    /// Its array.
    pub array: Array,
    /// Which operand stays.
    pub dataflow: Dataflow,
    /// Width of an accumulator.
    pub accumulator_bits: u8,
    /// Rows of accumulators, a lane each in a row.
    pub depth: u32,
    /// What makes outputs of accumulators, where it is in fixed point.
    pub requantizer: Option<Requantizer>,
}

impl Design {
    /// The hardware of a machine in one of its dataflows.
    ///
    /// # Errors
    /// Operands that are not integers; a dataflow that the machine does not have.
    pub fn of(accelerator: &Accelerator, dataflow: Dataflow) -> Result<Self, Faults> {
        let config = &accelerator.config;
        let array = &config.array;
        let mut faults = Vec::new();
        for (path, dtype) in [("array.input_type", array.input_type), ("array.weight_type", array.weight_type)] {
            if !dtype.is_integer() {
                let message = format!("`{dtype:?}` operands are timed only: the hardware has integer multipliers");
                let help = "set it to an integer type: `Int4`, `Int8`, `UInt8` or `Int16`";
                faults.push(Diagnostic::error(message).with_path(path).with_help(help));
            }
        }
        if array.flush_idle {
            let message = "the hardware's sequencer does not flush an idle array";
            faults.push(Diagnostic::error(message).with_path("array.flush_idle").with_help("set it to `false`"));
        }
        if !array.dataflows.contains(&dataflow) {
            let message = format!("`{dataflow:?}` is not one of the machine's dataflows");
            let help = format!("choose one of {:?}", array.dataflows);
            faults.push(Diagnostic::error(message).with_path("array.dataflows").with_help(help));
        }
        Faults::check(faults)?;
        let mut design = Self {
            name: config.name.clone(),
            array: array.clone(),
            dataflow,
            accumulator_bits: config.accumulators.bits,
            depth: 0,
            requantizer: Some(config.vector.requantizer).filter(|requantizer| *requantizer != Requantizer::F32Rne),
        };
        let words = config.accumulators.bytes / accelerator.accumulator_bytes() / u64::from(design.lanes());
        design.depth = u32::try_from(words).unwrap_or(u32::MAX).max(1);
        Ok(design)
    }

    /// Whether an operand stays, and not the sums.
    pub fn is_stationary(&self) -> bool {
        schedule(self.dataflow).stationary().is_some()
    }

    /// Whether sums leave along the rows: a lane is then a row.
    pub fn along_rows(&self) -> bool {
        !self.is_stationary() && self.array.drain == DrainPath::Columns
    }

    /// Lanes of results.
    pub fn lanes(&self) -> u32 {
        if self.along_rows() { self.array.rows } else { self.array.cols }
    }

    /// Sums of a lane that leave the chain of an output stationary array.
    pub fn indices(&self) -> u32 {
        if self.along_rows() { self.array.cols } else { self.array.rows }
    }

    /// Whether sums that go on are injected into the array.
    pub fn injects(&self) -> bool {
        self.is_stationary() && self.array.accumulate != Accumulate::AtOutput
    }

    /// Whether results leave in whole rows.
    pub fn is_deskewed(&self) -> bool {
        self.array.output == OutputSkew::Deskewed
    }

    /// Rows that a step of a load writes side by side, and steps of a load.
    pub fn load_steps(&self) -> [u32; 2] {
        let side = self.array.rows.div_ceil(self.array.weight_load.cycles.max(1)).max(1);
        [side, self.array.rows.div_ceil(side)]
    }

    /// The operand that enters at the left, streaming.
    pub fn left(&self) -> DType {
        if self.keeps_inputs() { self.array.weight_type } else { self.array.input_type }
    }

    /// The operand that enters at the top: it stays, or streams as well.
    pub fn top(&self) -> DType {
        if self.keeps_inputs() { self.array.input_type } else { self.array.weight_type }
    }

    /// Bits of an operand's values in the array: one more takes the sign of an unsigned one, or the difference from a zero
    /// point.
    pub fn value_bits(&self, operand: DType) -> u32 {
        operand.bits() + u32::from(!is_signed(operand) || self.array.zero_points)
    }

    fn keeps_inputs(&self) -> bool {
        schedule(self.dataflow).stationary() == Some(Operand::Input)
    }
}

/// Whether an integer type has a sign.
pub(super) fn is_signed(dtype: DType) -> bool {
    dtype.int_range().is_some_and(|(low, _)| low < 0)
}
