//! Measured speed of array tiles; `cargo test --release --lib functional::tests::bench -- --ignored --nocapture`.

use super::*;

/// This thread's time on the processor: what others do on the machine does not count. Linux only.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// A pointwise layer's tiles, `[pixels, channels]` in the buffer.
#[test]
#[ignore = "measures time"]
fn array_tiles_per_second() {
    for (size, pixels) in [(16, 3136), (32, 3136), (32, 196), (32, 49), (256, 784), (256, 196)] {
        let folds = 2048 / size;
        let accelerator = accelerator(|config| {
            config.accumulators.bytes = 16 << 20;
            config.buffers.layout = ron::from_str("Shared((bytes: 16777216))").unwrap();
        });
        let arithmetic = matrix(3, &[0], 0, [-128, 127], AccumulationOrder::Exact);
        let mut machine = Machine::new(&accelerator, &header(arithmetic, Some(Dataflow::WS)), &|_| None).unwrap();
        poke(&mut machine, BUFFER, 0, &Noise(1).bytes(8 << 20));
        let mut program = Vec::new();
        for fold in 0..folds {
            let at = i64::from(fold % 4 * size);
            let depth = 4 * size;
            let weights = Region::matrix(BUFFER, 4_000_000, 1, Dim::new(size, size), Dim::new(size, 1));
            program.push(instruction(0, Operation::Preload { stationary: weights }));
            let stream = Region::matrix(BUFFER, at, 1, Dim::new(pixels, depth), Dim::new(size, 1));
            let accumulators = Region::matrix(Space::Accumulators, 0, 1, Dim::new(pixels, size), Dim::new(size, 1));
            let matmul = Matmul {
                stream,
                stationary: None,
                accumulators,
                accumulate: fold > 0,
                resume: false,
                hold: false,
                macs: 0,
            };
            program.push(instruction(1, Operation::Matmul(matmul)));
        }
        let macs = u64::from(size) * u64::from(size) * u64::from(pixels) * u64::from(folds);
        let repeats = 2_000_000_000 / macs + 1;
        let start = cpu_seconds();
        for _ in 0..repeats {
            for instruction in &program {
                machine.execute(instruction).unwrap();
            }
        }
        let seconds = cpu_seconds() - start;
        println!("{size}x{size} t={pixels}: {:.1} GMAC/s", (macs * repeats) as f64 / seconds / 1e9);
    }
}

/// Vector work on tiles of 3136 x 64.
#[test]
#[ignore = "measures time"]
fn vector_elements_per_second() {
    const ROWS: u32 = 3136;
    const COLS: u32 = 64;
    let measure = |name: &str, arithmetic: Arithmetic, operation: Operation| {
        let mut machine =
            Machine::new(&accelerator(|_| ()), &header(arithmetic, Some(Dataflow::WS)), &|_| None).unwrap();
        // Parameter records of small finite multipliers.
        poke(&mut machine, BUFFER, 900_000, &[0, 0, 0, 0, 0, 0, 0, 0x3c].repeat(COLS as usize));
        let program = instruction(0, operation);
        let start = cpu_seconds();
        for _ in 0..1000 {
            machine.execute(&program).unwrap();
        }
        let elements = f64::from(ROWS * COLS) * 1000.0;
        println!("{name}: {:.2} ns an element", (cpu_seconds() - start) / elements * 1e9);
    };
    let at = |base| Region::matrix(BUFFER, base, 1, Dim::new(ROWS, COLS), Dim::new(COLS, 1));
    let sums = Region { space: Space::Accumulators, dims: at(0).dims, ..at(0) };
    let records = Region::matrix(BUFFER, 900_000, 1, Dim::new(COLS, 8), Dim::new(8, 1));
    let order = AccumulationOrder::Exact;
    let small = Region { row_window: Some((0, 1024)), ..sums };
    let target = Region { row_window: Some((0, 1024)), ..at(0) };
    let matrix = matrix(3, &[0], 0, [-128, 127], order);
    measure("requantize (x 3.06)", matrix, vector(VectorKind::Requantize, &[small, records], target));
    let elementwise = |op| Arithmetic::Elementwise {
        inputs: vec![Quantization::per_tensor(0.5, 3); 2],
        input_types: vec![DType::UInt8; 2],
        output: Quantization::per_tensor(0.7, 5),
        output_type: DType::UInt8,
        clamp: [0, 255],
        op,
    };
    let add = elementwise(crate::ir::Op::Add { activation: crate::ir::Activation::None });
    measure("add", add, vector(VectorKind::Add, &[at(0), at(250_000)], at(500_000)));
    let table = elementwise(crate::ir::Op::HardSwish);
    measure("table", table, vector(VectorKind::Table, &[at(0)], at(500_000)));
    let copy = elementwise(crate::ir::Op::Reshape);
    measure("copy", copy, vector(VectorKind::Copy, &[at(0)], at(500_000)));
}
