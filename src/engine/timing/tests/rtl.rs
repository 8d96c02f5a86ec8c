//! The array's law against cycles measured by others on register-transfer designs (Verilator).

use super::*;
use crate::{
    config::{DrainPath, LoadPath},
    dataflow::ArrayLaw,
};

/// `arjun0170/Systolic-Tensors`, 8x8, one weight bank, elements of 3 stages and a hop: `(M, tiles, cycles)`.
const WEIGHT_STATIONARY: [(u32, u64, u64); 6] =
    [(16, 4, 256), (64, 64, 7168), (128, 128, 22_528), (50, 171, 16_758), (196, 144, 35_136), (784, 36, 29_952)];

/// `abarajithan11/axis-systolic-array`: `(R, C, K, tiles, cycles, first output)`, first input beat to last output beat, and
/// to the first.
const OUTPUT_STATIONARY: [(u32, u32, u32, u64, u64, u64); 15] = [
    (4, 4, 24, 16, 396, 32),
    (8, 8, 24, 4, 120, 40),
    (4, 4, 64, 64, 4108, 72),
    (8, 8, 64, 16, 1048, 80),
    (4, 4, 64, 256, 16_396, 72),
    (8, 8, 64, 64, 4120, 80),
    (4, 4, 256, 256, 65_548, 264),
    (8, 8, 256, 64, 16_408, 272),
    (4, 4, 147, 234, 34_410, 155),
    (8, 8, 147, 63, 9285, 163),
    (4, 4, 576, 784, 451_596, 584),
    (8, 8, 576, 200, 115_224, 592),
    (8, 16, 64, 32, 2088, 88),
    (8, 16, 256, 32, 8232, 280),
    (8, 16, 147, 35, 5185, 171),
];

fn square(size: u32) -> AcceleratorConfig {
    let mut machine = config();
    [machine.array.rows, machine.array.cols] = [size; 2];
    machine
}

#[test]
fn weight_stationary_cycles_are_those_of_the_rtl() {
    let mut machine = square(8);
    (machine.array.pe_registers, machine.array.port_registers) = (3, 1);
    machine.array.weight_load = WeightLoad { cycles: 8, shadow_depth: 0, path: LoadPath::Chain };
    for (rows, tiles, cycles) in WEIGHT_STATIONARY {
        let mut program = Builder::default();
        program.preload(&[]);
        program.matmul(rows, 0, true, &[]);
        // The bench takes the last result, then begins the next tile.
        assert_eq!((program.run(&machine).cycles.0 + 1) * tiles, cycles, "M = {rows}, {tiles} tiles");
    }
}

#[test]
fn output_stationary_cycles_are_those_of_the_rtl() {
    for (rows, cols, k, tiles, cycles, first) in OUTPUT_STATIONARY {
        let mut machine = config();
        (machine.array.rows, machine.array.cols, machine.array.drain) = (rows, cols, DrainPath::Columns);
        // The multiplier's register.
        machine.array.pe_registers = 1;
        let mut program = Builder::default();
        for _ in 0..tiles {
            program.output_stationary(rows, k, &[]);
        }
        let ours = program.run(&machine).cycles.0;
        // A result is taken in the cycle after which it is out; a tile's columns leave a beat each.
        assert_eq!(ours + 1, cycles, "{rows}x{cols}, K = {k}, {tiles} tiles");
        assert_eq!(ArrayLaw::of(&machine.array).first_out(false, k.into()), first, "{rows}x{cols}, K = {k}");
    }
}

#[test]
fn without_registers_the_pipeline_is_rows_and_columns_less_two() {
    for (rows, cols) in [(1, 1), (4, 4), (16, 4), (3, 32)] {
        let mut machine = config();
        [machine.array.rows, machine.array.cols] = [rows, cols];
        let mut program = Builder::default();
        program.preload(&[]);
        program.matmul(5, 0, false, &[]);
        assert_eq!(program.run(&machine).cycles.0, u64::from(4 + 5 + rows + cols - 2));
    }
}
