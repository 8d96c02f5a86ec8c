//! The array's law against cycles measured by others on register-transfer designs (Verilator).

use super::*;

/// `arjun0170/Systolic-Tensors`, 8x8, one weight bank, elements of 3 stages and a hop: `(M, tiles, cycles)`.
const WEIGHT_STATIONARY: [(u32, u64, u64); 6] =
    [(16, 4, 256), (64, 64, 7168), (128, 128, 22_528), (50, 171, 16_758), (196, 144, 35_136), (784, 36, 29_952)];

/// `abarajithan11/axis-systolic-array`, square arrays: `(R, K, tiles, cycles)`, first input beat to last output beat.
const OUTPUT_STATIONARY: [(u32, u32, u64, u64); 11] = [
    (4, 24, 16, 396),
    (8, 24, 4, 120),
    (4, 64, 64, 4108),
    (8, 64, 16, 1048),
    (4, 64, 256, 16_396),
    (8, 64, 64, 4120),
    (4, 256, 256, 65_548),
    (8, 256, 64, 16_408),
    (4, 147, 234, 34_410),
    (8, 147, 63, 9285),
    (8, 576, 200, 115_224),
];

fn square(size: u32) -> AcceleratorConfig {
    let mut machine = config();
    [machine.array.rows, machine.array.cols] = [size; 2];
    machine
}

#[test]
fn weight_stationary_cycles_are_those_of_the_rtl() {
    let mut machine = square(8);
    machine.array.pe_registers = 3;
    machine.array.overlap_tiles = false;
    // One row a cycle; the design's input and output registers, outside the elements, add two cycles a tile.
    machine.array.weight_load = WeightLoad { cycles: 8 + 2, shadow_depth: 0 };
    for (rows, tiles, cycles) in WEIGHT_STATIONARY {
        let mut program = Builder::default();
        for _ in 0..tiles {
            program.preload(&[]);
            program.matmul(rows, 0, true, &[]);
        }
        assert_eq!(program.run(&machine).cycles.0, cycles, "M = {rows}, {tiles} tiles");
    }
}

#[test]
fn output_stationary_cycles_are_those_of_the_rtl() {
    for (size, k, tiles, cycles) in OUTPUT_STATIONARY {
        let mut machine = square(size);
        // The multiplier's and the accumulator's register.
        machine.array.pe_registers = 2;
        let mut program = Builder::default();
        for _ in 0..tiles {
            program.output_stationary(size, k, &[]);
        }
        assert_eq!(program.run(&machine).cycles.0, cycles, "{size}x{size}, K = {k}, {tiles} tiles");
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
