//! Each operator alone on random elements and parameters: its kernel must equal the reference in every bit.

use proptest::prelude::*;

use super::super::{network::CpuNetwork, operator::Kernel};
use crate::{
    ir::{Activation, Constant, Graph, Node, Op, Quantized, Value, ValueId, Window},
    reference::{self, Keep, Settings},
    tensor::{DType, Quantization, Tensor},
};

const TYPES: [DType; 4] = [DType::UInt8, DType::Int8, DType::UInt16, DType::Int16];

/// Elements from a seed, over the whole range of a type.
fn random(dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    let (low, high) = dtype.int_range().unwrap();
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        low + i64::from(u32::try_from(state >> 33).unwrap()) % (high - low + 1)
    };
    let elements: Vec<i64> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::from_integers(dtype, shape, &elements).unwrap()
}

/// Scales and zero points of one value after the other.
struct Draw {
    seed: u64,
}

impl Draw {
    fn next(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.seed >> 33
    }

    fn below(&mut self, end: u64) -> usize {
        usize::try_from(self.next() % end).unwrap()
    }

    /// Some scales are powers of two, for ties.
    fn quantization(&mut self, dtype: DType) -> Quantization {
        let (low, high) = dtype.int_range().unwrap();
        let unit = if dtype.int_range().unwrap().1 > 255 { 0.000_1 } else { 0.02 };
        let scale = if self.below(3) == 0 { 0.5_f32.powi(6) } else { unit * (1 + self.below(100)) as f32 / 50.0 };
        let room = u64::try_from(high - low + 1).unwrap();
        let zero = low + i64::try_from(self.next() % room).unwrap();
        Quantization::per_tensor(scale, i32::try_from(zero).unwrap())
    }
}

/// A graph of one node: the first operand is fed, others are fed or constant.
struct Case {
    graph: Graph<Quantized>,
    inputs: Vec<Tensor>,
    operands: Vec<ValueId>,
    draw: Draw,
}

impl Case {
    fn new(seed: u64) -> Self {
        Self { graph: Graph::new("one"), inputs: Vec::new(), operands: Vec::new(), draw: Draw { seed } }
    }

    fn fed(&mut self, dtype: DType, shape: &[usize]) -> &mut Self {
        let quant = self.draw.quantization(dtype);
        self.operand(dtype, shape, quant, false)
    }

    fn operand(&mut self, dtype: DType, shape: &[usize], quant: Quantization, constant: bool) -> &mut Self {
        let seed = self.draw.next();
        let tensor = random(dtype, shape, seed);
        let name = format!("operand{}", self.operands.len());
        let held = constant.then(|| Constant::Dense(tensor.clone().into()));
        let value = Value { name, shape: shape.to_vec(), dtype, quant: Some(quant), constant: held };
        let id = self.graph.add_value(value);
        self.operands.push(id);
        if !constant {
            self.graph.inputs.push(id);
            self.inputs.push(tensor);
        }
        self
    }

    /// The reference's result, and the kernel's.
    fn run(&mut self, op: &Op, dtype: DType, shape: &[usize], quant: Quantization) -> (Tensor, Tensor) {
        let value = Value { name: "y".into(), shape: shape.to_vec(), dtype, quant: Some(quant), constant: None };
        let y = self.graph.add_value(value);
        self.graph.outputs.push(y);
        let inputs = self.operands.clone();
        self.graph.add_node(Node { name: "node".into(), op: op.clone(), inputs, outputs: vec![y] });
        let graph = &self.graph;
        let constants = |id: ValueId| match graph.value(id).constant.as_ref()? {
            Constant::Dense(tensor) => Some(Tensor::clone(tensor)),
            Constant::Synthetic(_) => None,
        };
        let kernel = Kernel::choose(graph, &graph.nodes[0], &constants);
        assert!(!matches!(kernel, Kernel::Reference), "{op:?} {dtype:?} has no kernel");
        let expected = reference::run(graph, &self.inputs, &Settings::default(), Keep::All, &constants).unwrap();
        let mut network = CpuNetwork::new(graph, &constants, &|_| false).unwrap();
        assert!(network.reference_ops().is_empty());
        network.run_all(&self.inputs).unwrap();
        network.run_counted().unwrap();
        (expected.value(y).unwrap().clone(), network.value(y).unwrap())
    }

    fn drawn(&mut self, op: &Op, dtype: DType, shape: &[usize]) -> (Tensor, Tensor) {
        let quant = self.draw.quantization(dtype);
        self.run(op, dtype, shape, quant)
    }
}

macro_rules! prop_assert_same {
    ($pair:expr) => {
        let (expected, found) = $pair;
        prop_assert_eq!(expected, found);
    };
}

fn types() -> impl Strategy<Value = DType> {
    prop::sample::select(TYPES.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn sums_and_products_broadcast(
        seed: u64, a in types(), b in types(), y in types(), rank in 1_usize..5,
        extents in prop::array::uniform4(1_usize..9), mut ones in prop::array::uniform4(any::<[bool; 2]>()),
        fewer in 0_usize..3, constant: bool, product: bool, which in 0_usize..3,
    ) {
        let activation = [Activation::None, Activation::Relu, Activation::Clip { low: -0.5, high: 0.7 }][which];
        let op = if product { Op::Mul } else { Op::Add { activation } };
        if !ones.iter().any(|ones| ones[0]) {
            ones[3] = [false, true];
        }
        let shape = &extents[4 - rank..];
        let side = |which: usize| -> Vec<usize> {
            let pairs = shape.iter().zip(&ones[4 - rank..]);
            pairs.map(|(&extent, ones)| if ones[which] && !ones[1 - which] { 1 } else { extent }).collect()
        };
        let (first, second) = (side(0), side(1));
        let leading = (0..rank).find(|&axis| second[axis] != 1).unwrap_or(rank);
        let second = second[fewer.min(leading)..].to_vec();
        let mut case = Case::new(seed);
        let quant = case.draw.quantization(b);
        case.fed(a, &first).operand(b, &second, quant, constant);
        prop_assert_same!(case.drawn(&op, y, shape));
    }

    #[test]
    fn functions_of_one_element(seed: u64, x in types(), y in types(), which in 0_usize..7, c in 1_usize..9) {
        let op = [
            Op::Relu,
            Op::LeakyRelu { alpha: 0.1 },
            Op::Clip { low: -0.3, high: 0.9 },
            Op::Sigmoid,
            Op::Tanh,
            Op::HardSigmoid { alpha: 0.2, beta: 0.5 },
            Op::HardSwish,
            Op::Affine { alpha: -0.7, beta: 0.3 },
        ][which].clone();
        prop_assert_same!(Case::new(seed).fed(x, &[2, c, 5, 7]).drawn(&op, y, &[2, c, 5, 7]));
    }

    #[test]
    fn softmax_along_each_axis(
        seed: u64, x in types(), y in types(), extents in prop::array::uniform4(1_usize..12), rank in 1_usize..5, axis in 0_usize..4,
    ) {
        let shape = &extents[..rank];
        prop_assert_same!(Case::new(seed).fed(x, shape).drawn(&Op::Softmax { axis: axis % rank }, y, shape));
    }

    #[test]
    fn transpositions_and_paddings(
        seed: u64, x in types(), extents in prop::array::uniform4(1_usize..9), rank in 1_usize..5,
        perm in Just(vec![0_usize, 1, 2, 3]).prop_shuffle(), around in prop::array::uniform8(0_usize..3), value in -2.0_f32..2.0,
    ) {
        let shape = &extents[..rank];
        let mut case = Case::new(seed);
        let quant = case.draw.quantization(x);
        let perm: Vec<usize> = perm.into_iter().filter(|&axis| axis < rank).collect();
        let moved: Vec<usize> = perm.iter().map(|&axis| shape[axis]).collect();
        prop_assert_same!(case.operand(x, shape, quant.clone(), false).run(&Op::Transpose { perm }, x, &moved, quant));
        let mut case = Case::new(seed);
        let quant = case.draw.quantization(x);
        let (before, after) = (around[..rank].to_vec(), around[4..4 + rank].to_vec());
        let padded: Vec<usize> = (0..rank).map(|axis| shape[axis] + before[axis] + after[axis]).collect();
        let op = Op::Pad { before, after, value };
        prop_assert_same!(case.operand(x, shape, quant.clone(), false).run(&op, x, &padded, quant));
    }

    #[test]
    fn reshapes_between_ranks(seed: u64, x in types(), [n, c, h, w] in prop::array::uniform4(1_usize..7), which in 0_usize..5) {
        let shapes = [vec![n, c * h * w], vec![n, h, w, c], vec![n * c, h * w], vec![n, c * h, w, 1], vec![n * c * h * w]];
        let mut case = Case::new(seed);
        let quant = case.draw.quantization(x);
        prop_assert_same!(
            case.operand(x, &[n, c, h, w], quant.clone(), false).run(&Op::Reshape, x, &shapes[which], quant.clone())
        );
        let mut case = Case::new(seed);
        prop_assert_same!(
            case.operand(x, &shapes[which], quant.clone(), false).run(&Op::Reshape, x, &[n, c, h, w], quant)
        );
    }

    #[test]
    fn concatenations_requantize_each_part(
        seed: u64, x in types(), y in types(), extents in prop::array::uniform4(1_usize..6), rank in 1_usize..5,
        axis in 0_usize..4, parts in prop::collection::vec(1_usize..6, 1..4),
    ) {
        let axis = axis % rank;
        let with = |extent: usize| {
            let mut shape = extents[..rank].to_vec();
            shape[axis] = extent;
            shape
        };
        let mut case = Case::new(seed);
        for (index, &part) in parts.iter().enumerate() {
            case.fed(if index == 1 { y } else { x }, &with(part));
        }
        prop_assert_same!(case.drawn(&Op::Concat { axis }, y, &with(parts.iter().sum())));
    }

    #[test]
    fn pools_and_means(
        seed: u64, x in types(), y in types(), n in 1_usize..3, c in 1_usize..20, [h, w] in prop::array::uniform2(3_usize..9),
        stride in prop::array::uniform2(1_usize..3), pad in prop::array::uniform4(0_usize..2), count_include_pad: bool,
        axes in prop::collection::btree_set(0_usize..4, 1..5), keep_dims: bool,
    ) {
        let window = Window { kernel: [3, 2], stride, dilation: [1, 1], pad };
        let (p, q) = (window.output(0, h).unwrap(), window.output(1, w).unwrap());
        let shape = [n, c, h, w];
        let mut case = Case::new(seed);
        let quant = case.draw.quantization(x);
        let op = Op::MaxPool { window };
        prop_assert_same!(case.operand(x, &shape, quant.clone(), false).run(&op, x, &[n, c, p, q], quant));
        let op = Op::AvgPool { window, count_include_pad };
        prop_assert_same!(Case::new(seed).fed(x, &shape).drawn(&op, y, &[n, c, p, q]));
        prop_assert_same!(Case::new(seed).fed(x, &shape).drawn(&Op::GlobalAvgPool, y, &[n, c, 1, 1]));
        let axes: Vec<usize> = axes.into_iter().collect();
        let reduced = (0..4).filter(|axis| keep_dims || !axes.contains(axis));
        let reduced: Vec<usize> = reduced.map(|axis| if axes.contains(&axis) { 1 } else { shape[axis] }).collect();
        prop_assert_same!(Case::new(seed).fed(x, &shape).drawn(&Op::ReduceMean { axes, keep_dims }, y, &reduced));
    }

    #[test]
    fn convolutions_and_matrix_products_of_all_types(
        seed: u64, x in types(), wide: bool, y in types(), groups in 1_usize..4, [c, o] in prop::array::uniform2(1_usize..5),
        [h, w] in prop::array::uniform2(3_usize..7), pad in prop::array::uniform4(0_usize..2), transposed: bool, rank in 2_usize..5,
    ) {
        let weight = if wide { DType::Int16 } else { DType::Int8 };
        let window = Window { kernel: [3, 2], stride: [2, 1], dilation: [1, 1], pad };
        let (p, q) = (window.output(0, h).unwrap(), window.output(1, w).unwrap());
        let scales = |outputs: usize, axis| Quantization {
            scale: (0..outputs).map(|output| 0.000_2 * (1 + output % 5) as f32).collect(),
            zero_point: (0..outputs).map(|output| i32::try_from(output % 3).unwrap()).collect(),
            axis: Some(axis),
        };
        let (channels, outputs) = (c * groups, o * groups);
        let mut case = Case::new(seed);
        case.fed(x, &[2, channels, h, w]).operand(weight, &[outputs, c, 3, 2], scales(outputs, 0), true);
        case.operand(DType::Int32, &[outputs], Quantization::per_tensor(1.0, 0), true);
        let op = Op::Conv { window, groups, activation: Activation::Relu };
        prop_assert_same!(case.drawn(&op, y, &[2, outputs, p, q]));
        let shape = [2, 3, h, channels];
        let (input, mut output) = (&shape[4 - rank..], shape[4 - rank..].to_vec());
        output[rank - 1] = outputs;
        let weights = if transposed { [outputs, channels] } else { [channels, outputs] };
        let mut case = Case::new(seed);
        case.fed(x, input).operand(weight, &weights, scales(outputs, usize::from(!transposed)), true);
        let op = Op::MatMul { transposed, activation: Activation::None };
        prop_assert_same!(case.drawn(&op, y, &output));
    }
}

#[test]
fn an_operator_without_a_kernel_is_named_and_still_right() {
    let mut graph = Graph::<Quantized>::new("floats");
    let mut value = |name: &str| {
        let shape = vec![1, 2, 2, 1];
        graph.add_value(Value { name: name.into(), shape, dtype: DType::Fp32, quant: None, constant: None })
    };
    let [a, b, y, z] = ["a", "b", "y", "z"].map(&mut value);
    graph.add_node(Node { name: "first".into(), op: Op::Sub, inputs: vec![a, b], outputs: vec![y] });
    graph.add_node(Node { name: "second".into(), op: Op::Sub, inputs: vec![y, a], outputs: vec![z] });
    (graph.inputs, graph.outputs) = (vec![a, b], vec![z]);
    let floats = |values: [f32; 4]| Tensor::from_f32(&[1, 2, 2, 1], values.to_vec()).unwrap();
    let mut network = CpuNetwork::new(&graph, &|_| None, &|_| false).unwrap();
    network.run_all(&[floats([1.0, 2.0, 3.0, 4.0]), floats([0.5, 1.0, 2.0, 4.0])]).unwrap();
    assert_eq!(network.reference_ops(), ["Sub"]);
    assert_eq!(network.value(z).unwrap(), floats([-0.5, -1.0, -2.0, -4.0]));
}
