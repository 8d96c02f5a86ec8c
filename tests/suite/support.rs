//! Random machines and random layers for the property tests, as proptest strategies, and the short way from both to
//! a mapped program.

use std::sync::Arc;

use proptest::prelude::*;
use systole::{
    config::{
        Accelerator, AcceleratorConfig, Accumulate, Buffer, BufferLayout, Dataflow, DepthwisePolicy, Dma, DrainPath,
        KPacking, LoadPath, MemoryModel, MemorySpace, OutputSkew, Placement, RowEnds, VectorPlacement, WeightLoad,
        load_source,
    },
    diag::Source,
    ir::{Activation, Constant, Graph, Node, Op, Quantized, Value, ValueId, Window},
    tensor::{DType, Overflow, Quantization, Requantizer, Rounding, Tensor},
};

/// Cases of a property test: `default`, times `SYSTOLE_CASES` where that is set, for a long run by hand.
pub fn cases(default: u32) -> ProptestConfig {
    let factor: u32 = std::env::var("SYSTOLE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let cases = default.saturating_mul(factor);
    ProptestConfig { cases, max_global_rejects: cases.saturating_mul(100), ..ProptestConfig::default() }
}

/// A machine without surprises, for tests that change one thing.
pub fn plain_config() -> AcceleratorConfig {
    let text = r#"(
        name: "plain",
        array: (rows: 8, cols: 8, clock_mhz: 1000, dataflows: [WS], input_type: Int8, weight_type: Int8,
                weight_load: (cycles: 8, shadow_depth: 1)),
        buffers: (layout: Shared((bytes: 65536, banks: 8, word_bytes: 64, ports: 2))),
        accumulators: (bytes: 65536, banks: 2),
        dma: (bytes_per_cycle: 16, burst_bytes: 64, bursts_in_flight: 16),
        memories: [(name: "dram", model: Ideal(bandwidth_gb_per_s: 16, latency_ns: 60))],
        placement: (weights: "dram", activations: "dram"),
        vector: (lanes: 8, cycles: [(Requantize, 1), (Add, 1), (Mul, 1), (MaxPool, 1), (AvgPool, 1), (Table, 1),
                                    (Softmax, 1), (Copy, 1), (Depthwise, 1)]),
    )"#;
    load_source(&Source { name: "plain".into(), text: text.into() }, &[]).unwrap().config
}

/// Any requantizer.
pub fn requantizers() -> impl Strategy<Value = Requantizer> {
    let rounding =
        prop_oneof![Just(Rounding::HalfEven), Just(Rounding::HalfAway), Just(Rounding::HalfUp), Just(Rounding::Floor)];
    prop_oneof![
        3 => Just(Requantizer::F32Rne),
        1 => Just(Requantizer::FixedDouble31),
        1 => Just(Requantizer::FixedSingle31),
        1 => (8_u8..=32, 31_u8..=62, rounding)
            .prop_map(|(bits, max_shift, rounding)| Requantizer::FixedMul { bits, max_shift, rounding }),
    ]
}

/// Sizes from `2^low` to `2^high`, not only powers of two.
fn sizes(low: u32, high: u32) -> impl Strategy<Value = u64> {
    (low..high, 0.0..1.0_f64).prop_map(|(exponent, part)| {
        let base = 2_f64.powi(i32::try_from(exponent).unwrap());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 2^high")]
        let size = (base * (1.0 + part)) as u64;
        size
    })
}

/// The machine of a drawn config. Its memories on chip are raised to the least that is legal, one array tile in every
/// dataflow, so that drawing little room gives that and not no machine.
fn with_least_room(mut config: AcceleratorConfig) -> Accelerator {
    let [rows, cols] = [config.array.rows, config.array.cols].map(u64::from);
    let (mut input, mut weight, mut sums) = (0, 0, 0);
    for dataflow in &config.array.dataflows {
        let (streamed, stationary, results) = match dataflow {
            Dataflow::WS => (rows, rows * cols, cols),
            Dataflow::OS => (rows, cols, rows * cols),
            Dataflow::IS => (rows * cols, rows, cols),
        };
        (input, weight, sums) = (streamed.max(input), (stationary + 12 * cols).max(weight), results.max(sums));
    }
    match &mut config.buffers.layout {
        BufferLayout::Shared(pool) => pool.bytes = pool.bytes.max(input + weight + cols),
        BufferLayout::Split { input: inputs, weight: weights, output: outputs } => {
            inputs.bytes = inputs.bytes.max(input);
            weights.bytes = weights.bytes.max(weight);
            outputs.bytes = outputs.bytes.max(cols);
        }
    }
    let each = u64::from(config.accumulators.bits).div_ceil(8);
    config.accumulators.bytes = config.accumulators.bytes.max(sums * each);
    Accelerator::from_valid(config)
}

/// Any wires of the array. Which of them go together is the caller's business.
fn structures() -> impl Strategy<Value = (LoadPath, Accumulate, DrainPath, OutputSkew, u32)> {
    (
        prop_oneof![Just(LoadPath::Skewed), Just(LoadPath::Chain), Just(LoadPath::Rows)],
        prop_oneof![3 => Just(Accumulate::AtOutput), 1 => Just(Accumulate::InjectSkewed), 1 => Just(Accumulate::InjectRows)],
        prop_oneof![Just(DrainPath::Rows), Just(DrainPath::Columns)],
        prop_oneof![Just(OutputSkew::Deskewed), Just(OutputSkew::Skewed)],
        0_u32..=2,
    )
}

/// Any machine that executes: one to five arrays from 1x1 to 40x40, every dataflow, buffers from one array tile up.
pub fn machines() -> impl Strategy<Value = Accelerator> {
    let array = (
        1_u32..=40,
        1_u32..=40,
        prop::sample::subsequence(vec![Dataflow::WS, Dataflow::OS, Dataflow::IS], 1..=3),
        (1_u32..=40, 0_u8..=3),
        prop_oneof![3 => Just(0_u32), 1 => 1_u32..=64],
        1_u32..=8,
        any::<bool>(),
        prop_oneof![Just(KPacking::KernelAndChannels), Just(KPacking::Channels)],
        (0_u32..=3, 0_u32..=2, 0_u32..=20),
        structures(),
        (
            prop::sample::select(vec![RowEnds::Cross, RowEnds::StopWindows, RowEnds::Stop]),
            prop::bool::weighted(0.25),
            prop_oneof![2 => Just(1_u32), 1 => 2_u32..=5],
        ),
    );
    let numbers = (
        prop_oneof![2 => Just((32_u8, 32_u8)), 1 => (8_u8..=64, 8_u8..=64)],
        prop_oneof![Just(Overflow::Wrap), Just(Overflow::Saturate)],
        requantizers(),
    );
    let memory = (
        prop_oneof![
            sizes(6, 17).prop_map(|bytes| [bytes, 0, 0]),
            (sizes(5, 15), sizes(5, 15), sizes(4, 14)).prop_map(|(a, b, c)| [a, b, c])
        ],
        sizes(4, 15),
        any::<bool>(),
        any::<bool>(),
        prop_oneof![2 => Just(0_u32), 1 => 1_u32..=4],
    );
    let dma = (1_u32..=3, 1_u32..=2, 1_u32..=32, 3_u32..=8, 1_u32..=32, 0_u32..=20);
    let space = (0.1_f64..100.0, 0.0_f64..500.0);
    let rest = (
        prop_oneof![
            Just(DepthwisePolicy::PerGroup),
            Just(DepthwisePolicy::BlockDiagonal),
            (1_u32..64).prop_map(|macs_per_cycle| DepthwisePolicy::Vector { macs_per_cycle }),
            Just(DepthwisePolicy::Host)
        ],
        prop_oneof![2 => Just(VectorPlacement::Separate), 1 => Just(VectorPlacement::InStorePath)],
        (1_u32..=32, 0_u32..=10, prop_oneof![Just(0.0_f64), 100.0..2000.0]),
        (0_u32..=20, 1_u32..=8, any::<bool>(), 0_u32..=100, any::<bool>(), 0_u32..=50),
        (0_u32..=2, 1_u32..=3, 0_u32..=20, 0_u32..=80),
    );
    (array, numbers, memory, dma, space, rest).prop_map(|(array, numbers, memory, dma, space, rest)| {
        let mut config = plain_config();
        let (rows, cols, dataflows, load, max_stream, min_stream, overlap, packing, registers, structure, ends) = array;
        config.array.rows = rows;
        config.array.cols = cols;
        config.array.dataflows = dataflows;
        let (path, accumulate, drain, output, port_registers) = structure;
        // A chain holds one operand.
        let shadow_depth = if path == LoadPath::Chain { load.1.min(1) } else { load.1 };
        config.array.weight_load = WeightLoad { cycles: load.0, shadow_depth, path };
        (config.array.accumulate, config.array.drain, config.array.output) = (accumulate, drain, output);
        config.array.port_registers = port_registers;
        config.array.max_stream = max_stream;
        config.array.min_stream = if max_stream == 0 { min_stream } else { min_stream.min(max_stream) };
        config.array.overlap_tiles = overlap;
        config.array.k_packing = packing;
        (config.array.row_ends, config.array.flush_idle, config.array.count) = ends;
        config.array.pe_registers = registers.0;
        config.array.hop_registers = registers.1;
        config.array.dataflow_switch_cycles = registers.2;
        let ((column_bits, bits), overflow, requantizer) = numbers;
        config.array.column_bits = column_bits;
        config.accumulators.bits = bits;
        config.array.overflow = overflow;
        if accumulate != Accumulate::AtOutput {
            // Sums that are injected begin in accumulators that hold them, and never in the elements.
            config.array.output =
                if accumulate == Accumulate::InjectRows { OutputSkew::Deskewed } else { OutputSkew::Skewed };
            config.accumulators.bits = bits.max(column_bits);
            config.array.dataflows.retain(|&dataflow| dataflow != Dataflow::OS);
            if config.array.dataflows.is_empty() {
                config.array.dataflows.push(Dataflow::WS);
            }
        }
        config.vector.requantizer = requantizer;
        let (buffers, accumulators, double_buffering, residency, weight_fifo_tiles) = memory;
        let buffer = |bytes| Buffer { bytes, banks: 2, word_bytes: 16, ports: 1, latency: 1 };
        config.buffers.layout = if buffers[1] == 0 {
            BufferLayout::Shared(buffer(buffers[0]))
        } else {
            BufferLayout::Split { input: buffer(buffers[0]), weight: buffer(buffers[1]), output: buffer(buffers[2]) }
        };
        config.buffers.double_buffering = double_buffering;
        // Several arrays have no FIFOs.
        config.buffers.weight_fifo_tiles = if config.array.count == 1 { weight_fifo_tiles } else { 0 };
        config.residency = residency;
        config.accumulators.bytes = accumulators;
        config.dma = Dma {
            load_engines: dma.0,
            store_engines: dma.1,
            bytes_per_cycle: dma.2,
            burst_bytes: 1 << dma.3,
            bursts_in_flight: dma.4,
            descriptor_cycles: dma.5,
            ..config.dma
        };
        config.memories[0].model =
            MemoryModel::Ideal { bandwidth_gb_per_s: space.0, latency_ns: space.1, turnaround_ns: 0.0 };
        let (depthwise, placement, vector, control, commands) = rest;
        config.depthwise = depthwise;
        config.vector.placement = placement;
        config.vector.lanes = vector.0;
        config.vector.startup_cycles = vector.1;
        config.vector.clock_mhz = vector.2;
        config.control.issue_cycles = control.0;
        config.control.queue_depth = control.1;
        config.control.hardware_loops = control.2;
        config.control.launch_cycles = control.3;
        config.control.fence_layers = control.4;
        config.control.fence_cycles = control.5;
        (config.control.preload_commands, config.control.stream_commands) = (commands.0, commands.1);
        (config.control.move_rows, config.control.move_bytes) = (commands.2, commands.3);
        with_least_room(config)
    })
}

/// Output stationary machines with so little room for operands that K is cut, often to one step.
pub fn tight_output_stationary() -> impl Strategy<Value = Accelerator> {
    let dma = (any::<bool>(), 0_u32..=9);
    (machines(), prop::array::uniform3(5_u32..10), dma).prop_map(|(machine, sizes, dma)| {
        let mut config = machine.config;
        (config.dma.strides, config.dma.alignment_bytes) = (dma.0, 1 << dma.1);
        config.array.dataflows = vec![Dataflow::OS];
        config.array.accumulate = Accumulate::AtOutput;
        let [input, weight, output] =
            sizes.map(|power| Buffer { bytes: 1 << power, banks: 2, word_bytes: 16, ports: 1, latency: 1 });
        config.buffers.layout = BufferLayout::Split { input, weight, output };
        with_least_room(config)
    })
}

/// Machines whose inputs, outputs, weights and activations lie in memories of different speed, moved by DMA engines with
/// and without strides and alignment.
pub fn spread_machines() -> impl Strategy<Value = Accelerator> {
    let space = || (0.1_f64..100.0, 0.0_f64..500.0);
    let dma = (any::<bool>(), 0_u32..=9);
    (machines(), space(), space(), prop::array::uniform4(0_usize..3), dma).prop_map(
        |(machine, second, third, places, dma)| {
            let mut config = machine.config;
            (config.dma.strides, config.dma.alignment_bytes) = (dma.0, 1 << dma.1);
            for (name, (bandwidth_gb_per_s, latency_ns)) in [("sram", second), ("link", third)] {
                let model = MemoryModel::Ideal { bandwidth_gb_per_s, latency_ns, turnaround_ns: 0.0 };
                config.memories.push(MemorySpace { name: name.into(), model, bytes: 0 });
            }
            let [weights, activations, inputs, outputs] = places.map(|index| config.memories[index].name.clone());
            config.placement = Placement { weights, activations, inputs, outputs };
            Accelerator::from_valid(config)
        },
    )
}

/// Element types that a drawn network has.
#[derive(Clone, Copy, Debug)]
pub struct OperandTypes {
    /// Of activations and of constants that are read like them.
    pub activations: &'static [DType],
    /// Of weights.
    pub weights: &'static [DType],
}

impl OperandTypes {
    /// 8 bits.
    pub const BYTES: Self = Self { activations: &[DType::UInt8, DType::Int8], weights: &[DType::Int8] };
}

/// Any types that a machine executes, in networks of one type and in mixed ones.
pub fn operand_types() -> impl Strategy<Value = OperandTypes> {
    use DType::{Int4, Int8, Int16, UInt8, UInt16};
    const ALL: [OperandTypes; 12] = {
        const fn of(activations: &'static [DType], weights: &'static [DType]) -> OperandTypes {
            OperandTypes { activations, weights }
        }
        [
            of(&[Int16], &[Int16]),
            of(&[Int16], &[Int8]),
            of(&[Int16], &[Int4]),
            of(&[UInt16, Int16], &[UInt16]),
            of(&[UInt16], &[UInt8, Int8]),
            of(&[UInt8, Int8], &[Int16]),
            of(&[UInt8, Int8], &[Int4]),
            of(&[Int4], &[Int4]),
            of(&[Int4], &[Int4]),
            of(&[Int4], &[Int8]),
            of(&[Int4, UInt8], &[Int4, Int8]),
            of(&[Int4, UInt8, Int16], &[Int4, Int8, Int16]),
        ]
    };
    prop::sample::select(ALL.to_vec())
}

/// A graph under construction with a stream of pseudo-random numbers, so that one seed is one network.
pub struct Builder {
    /// The graph so far.
    pub graph: Graph<Quantized>,
    /// Types to draw from.
    pub types: OperandTypes,
    state: u64,
}

impl Builder {
    /// An empty graph.
    pub fn new(seed: u64) -> Self {
        Self::of(seed, OperandTypes::BYTES)
    }

    /// An empty graph for elements of these types.
    pub fn of(seed: u64, types: OperandTypes) -> Self {
        Self { graph: Graph::new("random"), types, state: seed ^ 0x9e37_79b9_7f4a_7c15 }
    }

    /// The next number of `low..=high`.
    pub fn pick(&mut self, low: i64, high: i64) -> i64 {
        // splitmix64
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        low + i64::try_from(z % u64::try_from(high - low + 1).unwrap()).unwrap()
    }

    /// One of some types; a number is drawn only where there is a choice.
    fn one_of(&mut self, types: &[DType]) -> DType {
        match *types {
            [one] => one,
            _ => types[usize::try_from(self.pick(0, i64::try_from(types.len()).unwrap() - 1)).unwrap()],
        }
    }

    /// An activation type with a zero point of it.
    pub fn activation(&mut self) -> (DType, Quantization) {
        let dtype = self.one_of(self.types.activations);
        let (low, high) = dtype.int_range().unwrap();
        let zero = match self.pick(0, 3) {
            0 => 0_i64.clamp(low, high),
            1 => low,
            _ => self.pick(low, high),
        };
        let scale = self.scale();
        (dtype, Quantization::per_tensor(scale, i32::try_from(zero).unwrap()))
    }

    /// A scale; a third of them powers of two, where ties are.
    pub fn scale(&mut self) -> f32 {
        if self.pick(0, 2) == 0 {
            2_f32.powi(i32::try_from(self.pick(-8, -2)).unwrap())
        } else {
            self.pick(10, 4000) as f32 / 20_000.0
        }
    }

    /// A value.
    pub fn value(&mut self, name: &str, shape: &[usize], dtype: DType, quant: Option<Quantization>) -> ValueId {
        let name = format!("{name}{}", self.graph.values.len());
        self.graph.add_value(Value { name, shape: shape.to_vec(), dtype, quant, constant: None })
    }

    /// A network input.
    pub fn input(&mut self, shape: &[usize]) -> ValueId {
        let (dtype, quant) = self.activation();
        let id = self.value("x", shape, dtype, Some(quant));
        self.graph.inputs.push(id);
        id
    }

    /// A constant of random integers of `low..=high`.
    pub fn constant(
        &mut self,
        shape: &[usize],
        dtype: DType,
        quant: Option<Quantization>,
        low: i64,
        high: i64,
    ) -> ValueId {
        let count: usize = shape.iter().product();
        let values: Vec<i64> = (0..count).map(|_| self.pick(low, high)).collect();
        let tensor = Tensor::from_integers(dtype, shape, &values).unwrap();
        let id = self.value("w", shape, dtype, quant);
        self.graph.value_mut(id).constant = Some(Constant::Dense(Arc::new(tensor)));
        id
    }

    /// The type of constants that are read like activations.
    pub fn data_type(&self) -> DType {
        if self.types.activations.contains(&DType::UInt8) { DType::Int8 } else { self.types.activations[0] }
    }

    /// A constant that is read like an activation, of values from a type's whole range.
    pub fn data(&mut self, shape: &[usize], scale: f32, zero: i32) -> ValueId {
        let dtype = self.data_type();
        let (low, high) = dtype.int_range().unwrap();
        let zero = zero.max(i32::try_from(low).unwrap());
        self.constant(shape, dtype, Some(Quantization::per_tensor(scale, zero)), low, high)
    }

    /// By how much sums of products of two types are larger in steps of a result's than those of bytes.
    pub fn widening(&self, operands: [ValueId; 2], result: DType) -> f32 {
        let bits = operands.map(|id| i32::try_from(self.graph.value(id).dtype.bits()).unwrap() - 8);
        2_f32.powi(bits[0] + bits[1] - (i32::try_from(result.bits()).unwrap() - 8))
    }

    /// Adds a node whose result has `shape` and the given type.
    pub fn node(
        &mut self,
        op: Op,
        inputs: &[ValueId],
        shape: &[usize],
        dtype: DType,
        quant: Option<Quantization>,
    ) -> ValueId {
        let output = self.value("y", shape, dtype, quant);
        let name = format!("{}_{}", op.name(), self.graph.nodes.len());
        self.graph.add_node(Node { name, op, inputs: inputs.to_vec(), outputs: vec![output] });
        output
    }

    /// A convolution of `x` with `outputs` channels.
    pub fn conv(&mut self, x: ValueId, outputs: usize, groups: usize, window: Window) -> ValueId {
        let input = self.graph.value(x).clone();
        let &[n, c, h, w] = input.shape.as_slice() else { panic!("a convolution needs rank 4") };
        let (weight, bias) = self.weights(&input, &[outputs, c / groups, window.kernel[0], window.kernel[1]], outputs);
        let shape = [n, outputs, window.output(0, h).unwrap(), window.output(1, w).unwrap()];
        let (dtype, quant) = self.output_for(x, weight);
        let activation = self.fused();
        let op = Op::Conv { window, groups, activation };
        self.node(op, &[x, weight, bias], &shape, dtype, Some(quant))
    }

    /// A matrix product of `x` with `outputs` columns.
    pub fn matmul(&mut self, x: ValueId, outputs: usize) -> ValueId {
        let input = self.graph.value(x).clone();
        let depth = *input.shape.last().unwrap();
        let (weight, bias) = self.weights(&input, &[outputs, depth], outputs);
        let mut shape = input.shape.clone();
        *shape.last_mut().unwrap() = outputs;
        let (dtype, quant) = self.output_for(x, weight);
        let activation = self.fused();
        self.node(Op::MatMul { transposed: true, activation }, &[x, weight, bias], &shape, dtype, Some(quant))
    }

    fn fused(&mut self) -> Activation {
        match self.pick(0, 3) {
            0 => Activation::Relu,
            1 => Activation::Clip { low: 0.0, high: self.pick(1, 8) as f32 },
            _ => Activation::None,
        }
    }

    fn weights(&mut self, input: &Value, shape: &[usize], outputs: usize) -> (ValueId, ValueId) {
        let per_channel = self.pick(0, 1) == 1;
        let count = if per_channel { outputs } else { 1 };
        let scales: Vec<f32> = (0..count).map(|_| self.scale()).collect();
        let asymmetric = self.pick(0, 3) == 0;
        let dtype = self.one_of(self.types.weights);
        let (low, high) = dtype.int_range().unwrap();
        let zeros: Vec<i32> = (0..count)
            .map(|_| if asymmetric { i32::try_from(self.pick(-20, 20).clamp(low, high)).unwrap() } else { 0 })
            .collect();
        let quant = Quantization { scale: scales.clone(), zero_point: zeros, axis: per_channel.then_some(0) };
        let weight = self.constant(shape, dtype, Some(quant), low, high);
        let input_scale = input.quant.as_ref().unwrap().scale_of(0);
        let bias_quant = Quantization {
            scale: scales.iter().map(|scale| input_scale * scale).collect(),
            zero_point: vec![0; count],
            axis: per_channel.then_some(0),
        };
        // Now and then large enough that the accumulator passes 2^24 and its float is rounded.
        let limit = if self.pick(0, 4) == 0 { 1 << 27 } else { 3000 };
        let bias = self.constant(&[outputs], DType::Int32, Some(bias_quant), -limit, limit);
        (weight, bias)
    }

    /// An output quantization under which results neither all saturate nor vanish.
    fn output_for(&mut self, input: ValueId, weight: ValueId) -> (DType, Quantization) {
        let (dtype, mut quant) = self.activation();
        let [x, w] = [input, weight].map(|id| self.graph.value(id));
        let depth: usize = w.shape[1..].iter().product();
        let steps = x.quant.as_ref().unwrap().scale_of(0) * w.quant.as_ref().unwrap().scale_of(0);
        let real = steps * self.widening([input, weight], dtype);
        if quant.scale[0].log2().fract() != 0.0 || self.pick(0, 1) == 0 {
            quant.scale[0] = real * (depth as f32).sqrt() * self.pick(20, 200) as f32;
        } else {
            #[allow(clippy::cast_possible_truncation, reason = "an exponent of float32")]
            let exponent = real.log2().round() as i32;
            quant.scale[0] = 2_f32.powi(exponent + i32::try_from(self.pick(4, 10)).unwrap());
        }
        (dtype, quant)
    }

    /// Ends the graph with these outputs.
    pub fn finish(mut self, outputs: &[ValueId]) -> Graph<Quantized> {
        self.graph.outputs = outputs.to_vec();
        self.graph
    }
}

/// Random values for a graph's inputs.
pub fn inputs_of(graph: &Graph<Quantized>, seed: u64) -> Vec<Tensor> {
    let mut numbers = Builder::new(seed);
    graph
        .inputs
        .iter()
        .map(|&id| {
            let value = graph.value(id);
            let (low, high) = value.dtype.int_range().unwrap();
            let count: usize = value.shape.iter().product();
            let values: Vec<i64> = (0..count).map(|_| numbers.pick(low, high)).collect();
            Tensor::from_integers(value.dtype, &value.shape, &values).unwrap()
        })
        .collect()
}
