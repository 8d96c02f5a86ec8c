//! Small graphs with unusual connections: values used twice, aliases, concatenations of concatenations, outputs that
//! are inputs, boundaries that are none. Each is mapped, checked for races and executed against the reference on
//! machines with and without residency, with one buffer and with three; and each goes through the facade.

use systole::{
    config::{Accelerator, Buffer, BufferLayout, Dataflow, DepthwisePolicy},
    diag::Silent,
    ir::{Activation, Constant, Distribution, Graph, Op, Quantized, Synthetic, ValueId, Window},
    passes::Arithmetic,
    pipeline::{self, LayerKind, Network},
    result::Status,
    tensor::{DType, Quantization},
};

use crate::{
    engine::bit_exact,
    programs::race_free,
    support::{Builder, plain_config},
};

const THREE: Window = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad: [1; 4] };

/// Machines that differ in what the planner may do.
fn variety() -> Vec<(&'static str, Accelerator)> {
    let plain = Accelerator::from_valid(plain_config());
    let mut resident = plain_config();
    resident.residency = true;
    resident.array.dataflows = vec![Dataflow::WS, Dataflow::OS, Dataflow::IS];
    let mut tight = plain_config();
    tight.residency = true;
    tight.control.fence_layers = true;
    tight.depthwise = DepthwisePolicy::Host;
    tight.buffers.layout = BufferLayout::Shared(Buffer { bytes: 1024, banks: 1, word_bytes: 8, ports: 1, latency: 1 });
    tight.accumulators.bytes = 256;
    let mut split = plain_config();
    let buffer = Buffer { bytes: 2048, banks: 1, word_bytes: 8, ports: 1, latency: 1 };
    split.buffers.layout = BufferLayout::Split { input: buffer, weight: buffer, output: buffer };
    split.dma.load_engines = 2;
    split.depthwise = DepthwisePolicy::BlockDiagonal;
    vec![
        ("plain", plain),
        ("resident", Accelerator::from_valid(resident)),
        ("tight", Accelerator::from_valid(tight)),
        ("split", Accelerator::from_valid(split)),
    ]
}

fn network(graph: &Graph<Quantized>) -> Network {
    Network {
        float: Graph::new("none"),
        was_float: false,
        quantized: graph.clone(),
        arithmetic: Arithmetic::AsModel,
        log: Vec::new(),
    }
}

/// Through the facade: random inputs, boundary conversions included.
fn through_the_facade(graph: &Graph<Quantized>) {
    let network = network(graph);
    for (name, accelerator) in variety() {
        let mapped = pipeline::map(&network, &accelerator).unwrap_or_else(|faults| panic!("on {name}: {faults}"));
        pipeline::time(&mapped, systole::engine::timing::Options::default())
            .unwrap_or_else(|failure| panic!("on {name}: {failure}"));
        let executed =
            pipeline::execute(&mapped, None, &mut Silent).unwrap_or_else(|failure| panic!("on {name}: {failure}"));
        let (status, compared) = (executed.verification.status, executed.verification.compared);
        let works = mapped.program.header.layers.iter().any(|layer| layer.kind != LayerKind::Free);
        let expected: &[Status] =
            if works { &[Status::BitExact, Status::SameImplementation] } else { &[Status::NotExecuted] };
        assert!(expected.contains(&status), "on {name}: {:?}", executed.verification);
        assert_eq!(works, compared > 0, "on {name}: what works is compared");
        assert_eq!(executed.outputs, executed.reference, "on {name}");
        assert_eq!(executed.outputs.len(), graph.outputs.len(), "on {name}");
    }
}

/// Everything, for graphs of integers alone.
fn everything(graph: &Graph<Quantized>) {
    for (name, accelerator) in variety() {
        race_free(graph, &accelerator).unwrap_or_else(|error| panic!("on {name}: {error}"));
        bit_exact(graph, &accelerator, 3).unwrap_or_else(|error| panic!("on {name}: {error}"));
    }
    through_the_facade(graph);
}

/// Adds a node with the numbers of `like`.
fn same(b: &mut Builder, op: Op, inputs: &[ValueId], shape: &[usize], like: ValueId) -> ValueId {
    let value = b.graph.value(like).clone();
    b.node(op, inputs, shape, value.dtype, value.quant)
}

fn own(b: &mut Builder, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
    let (dtype, quant) = b.activation();
    b.node(op, inputs, shape, dtype, Some(quant))
}

fn add() -> Op {
    Op::Add { activation: Activation::None }
}

/// A convolution whose result has the numbers of `like`.
fn conv_like(b: &mut Builder, x: ValueId, outputs: usize, like: ValueId) -> ValueId {
    let y = b.conv(x, outputs, 1, THREE);
    let value = b.graph.value(like).clone();
    b.graph.value_mut(y).dtype = value.dtype;
    b.graph.value_mut(y).quant = value.quant;
    y
}

fn float(b: &mut Builder, name: &str, shape: &[usize]) -> ValueId {
    b.value(name, shape, DType::Fp32, None)
}

#[test]
fn an_output_may_be_an_input() {
    let mut b = Builder::new(1);
    let x = b.input(&[1, 3, 4, 4]);
    let y = b.conv(x, 4, 1, THREE);
    everything(&b.finish(&[x, y]));
}

#[test]
fn a_network_may_have_no_layers() {
    let mut b = Builder::new(2);
    let x = b.input(&[1, 3, 4, 4]);
    everything(&b.finish(&[x]));
}

#[test]
fn an_output_may_be_listed_twice_and_an_input_unused() {
    let mut b = Builder::new(3);
    let x = b.input(&[2, 3, 4, 4]);
    b.input(&[2, 5]);
    let y = b.conv(x, 4, 1, THREE);
    b.conv(x, 2, 1, THREE);
    everything(&b.finish(&[y, y]));
}

#[test]
fn an_input_may_feed_two_layers() {
    let mut b = Builder::new(4);
    let x = b.input(&[1, 3, 5, 4]);
    let left = b.conv(x, 4, 1, THREE);
    let right = b.conv(x, 4, 1, THREE);
    let y = own(&mut b, add(), &[left, right], &[1, 4, 5, 4]);
    everything(&b.finish(&[y]));
}

#[test]
fn inputs_may_differ_in_their_first_dimension() {
    let mut b = Builder::new(5);
    let x = b.input(&[3, 4, 2, 2]);
    let other = b.input(&[1, 4, 1, 1]);
    let y = own(&mut b, Op::Mul, &[x, other], &[3, 4, 2, 2]);
    everything(&b.finish(&[y]));
}

#[test]
fn a_value_may_be_added_to_itself() {
    let mut b = Builder::new(6);
    let x = b.input(&[1, 3, 4, 4]);
    let twice = own(&mut b, add(), &[x, x], &[1, 3, 4, 4]);
    let made = b.conv(twice, 4, 1, THREE);
    let y = own(&mut b, add(), &[made, made], &[1, 4, 4, 4]);
    everything(&b.finish(&[y]));
}

#[test]
fn a_value_may_meet_its_own_alias() {
    let mut b = Builder::new(7);
    let x = b.input(&[4, 6]);
    let made = b.matmul(x, 6);
    let alias = same(&mut b, Op::Reshape, &[made], &[1, 4, 6], made);
    let sum = own(&mut b, add(), &[alias, made], &[1, 4, 6]);
    let y = same(&mut b, Op::Reshape, &[sum], &[24], sum);
    everything(&b.finish(&[y, alias]));
}

#[test]
fn an_output_may_be_an_alias_of_an_input() {
    let mut b = Builder::new(8);
    let x = b.input(&[2, 6, 1, 1]);
    let y = same(&mut b, Op::Reshape, &[x], &[3, 4], x);
    let z = same(&mut b, Op::Reshape, &[y], &[12], y);
    everything(&b.finish(&[y, z]));
}

#[test]
fn a_part_of_a_concatenation_may_be_an_output() {
    let mut b = Builder::new(9);
    let x = b.input(&[1, 3, 4, 4]);
    let left = b.conv(x, 4, 1, THREE);
    let right = conv_like(&mut b, x, 3, left);
    let y = same(&mut b, Op::Concat { axis: 1 }, &[left, right], &[1, 7, 4, 4], left);
    everything(&b.finish(&[y, left]));
}

#[test]
fn a_part_of_a_concatenation_may_be_read_on_its_own() {
    let mut b = Builder::new(10);
    let x = b.input(&[1, 3, 4, 4]);
    let left = b.conv(x, 4, 1, THREE);
    let right = conv_like(&mut b, left, 3, left);
    let both = same(&mut b, Op::Concat { axis: 1 }, &[left, right], &[1, 7, 4, 4], left);
    let after = b.conv(right, 4, 1, THREE);
    let y = b.conv(both, 4, 1, THREE);
    let sum = own(&mut b, add(), &[after, y], &[1, 4, 4, 4]);
    everything(&b.finish(&[sum, both]));
}

#[test]
fn a_concatenation_may_hold_a_value_twice() {
    let mut b = Builder::new(11);
    let x = b.input(&[1, 3, 4, 4]);
    let made = b.conv(x, 4, 1, THREE);
    let kept = same(&mut b, Op::Concat { axis: 1 }, &[made, made], &[1, 8, 4, 4], made);
    let scaled = own(&mut b, Op::Concat { axis: 1 }, &[kept, made, kept], &[1, 20, 4, 4]);
    everything(&b.finish(&[scaled]));
}

#[test]
fn concatenations_may_be_nested() {
    let mut b = Builder::new(12);
    let x = b.input(&[2, 3, 3, 3]);
    let a = b.conv(x, 4, 1, THREE);
    let c = conv_like(&mut b, x, 3, a);
    let inner = same(&mut b, Op::Concat { axis: 1 }, &[a, c], &[2, 7, 3, 3], a);
    let d = conv_like(&mut b, inner, 2, a);
    let outer = same(&mut b, Op::Concat { axis: 1 }, &[d, inner, x], &[2, 12, 3, 3], a);
    // The same part in a second concatenation is a copy.
    let second = same(&mut b, Op::Concat { axis: 1 }, &[c, outer], &[2, 15, 3, 3], a);
    let y = b.conv(second, 5, 1, THREE);
    everything(&b.finish(&[y, inner]));
}

#[test]
fn a_dense_part_of_a_concatenation_may_be_reshaped() {
    for to in [[3, 4], [1, 12], [4, 3]] {
        let mut b = Builder::new(13);
        let x = b.input(&[2, 5]);
        let left = b.matmul(x, 6);
        let right = b.matmul(x, 3);
        let like = b.graph.value(left).clone();
        b.graph.value_mut(right).dtype = like.dtype;
        b.graph.value_mut(right).quant = like.quant;
        let both = same(&mut b, Op::Concat { axis: 1 }, &[left, right], &[2, 9], left);
        let flat = same(&mut b, Op::Reshape, &[left], &to, left);
        let y = b.matmul(flat, 4);
        everything(&b.finish(&[y, both]));
    }
}

#[test]
fn a_pooled_part_of_a_concatenation_may_be_flattened() {
    let mut b = Builder::new(14);
    let x = b.input(&[2, 5, 3, 3]);
    let like = x;
    let left = same(&mut b, Op::GlobalAvgPool, &[x], &[2, 5, 1, 1], like);
    let right = same(&mut b, Op::GlobalAvgPool, &[x], &[2, 5, 1, 1], like);
    let both = same(&mut b, Op::Concat { axis: 1 }, &[left, right], &[2, 10, 1, 1], like);
    let flat = same(&mut b, Op::Reshape, &[left], &[2, 5], like);
    let whole = same(&mut b, Op::Reshape, &[both], &[1, 20], like);
    let y = b.matmul(flat, 4);
    let z = b.matmul(whole, 4);
    everything(&b.finish(&[y, z]));
}

#[test]
fn concatenations_may_be_along_any_dimension() {
    for (axis, shape) in [(0, [4, 3, 4, 5]), (2, [2, 3, 8, 5]), (3, [2, 3, 4, 10])] {
        let mut b = Builder::new(15);
        let x = b.input(&[2, 3, 4, 5]);
        let made = conv_like(&mut b, x, 3, x);
        let both = same(&mut b, Op::Concat { axis }, &[made, x], &shape, x);
        let y = own(&mut b, Op::Concat { axis }, &[both], &shape);
        everything(&b.finish(&[y]));
    }
    for axis in [0, 1, 2] {
        let mut b = Builder::new(16);
        let x = b.input(&[2, 3, 4]);
        let made = b.matmul(x, 4);
        let mut shape = [2, 3, 4];
        shape[axis] *= 2;
        let y = own(&mut b, Op::Concat { axis }, &[made, x], &shape);
        everything(&b.finish(&[y]));
    }
}

#[test]
fn a_concatenation_may_have_300_operands() {
    let mut b = Builder::new(17);
    let x = b.input(&[1, 2, 2, 2]);
    let parts = vec![x; 300];
    let y = own(&mut b, Op::Concat { axis: 1 }, &parts, &[1, 600, 2, 2]);
    everything(&b.finish(&[y]));
}

#[test]
fn constants_may_stand_anywhere() {
    let mut b = Builder::new(18);
    let x = b.input(&[1, 3, 4, 4]);
    let (dtype, quant) = b.activation();
    let (low, high) = dtype.int_range().unwrap();
    let image = b.constant(&[1, 3, 4, 4], dtype, Some(quant), low, high);
    let from_constant = b.conv(image, 4, 1, THREE);
    let sum = own(&mut b, add(), &[image, x], &[1, 3, 4, 4]);
    let joined = own(&mut b, Op::Concat { axis: 1 }, &[image, from_constant, sum], &[1, 10, 4, 4]);
    everything(&b.finish(&[joined, image]));
}

#[test]
fn a_weight_may_serve_two_layers_and_an_addition() {
    let mut b = Builder::new(19);
    let x = b.input(&[4, 6]);
    let first = b.matmul(x, 4);
    let node = b.graph.nodes.last().unwrap().clone();
    let value = b.graph.value(first).clone();
    let second = b.node(node.op.clone(), &node.inputs, &[4, 4], value.dtype, value.quant);
    let weight = node.inputs[1];
    let sum = if b.graph.value(weight).quant.as_ref().unwrap().is_per_tensor() {
        own(&mut b, add(), &[x, weight], &[4, 6])
    } else {
        x
    };
    everything(&b.finish(&[first, second, sum]));
}

#[test]
fn a_weight_may_be_an_output() {
    let mut b = Builder::new(20);
    let x = b.input(&[4, 6]);
    let y = b.matmul(x, 4);
    let weight = b.graph.nodes.last().unwrap().inputs[1];
    everything(&b.finish(&[y, weight]));
}

#[test]
fn weights_may_lie_input_major_under_any_rank() {
    for shape in [vec![6], vec![5, 6], vec![2, 3, 6], vec![2, 2, 2, 6]] {
        let mut b = Builder::new(21);
        let x = b.input(&shape);
        let y = b.matmul(x, 4);
        let node = b.graph.nodes.last().unwrap().clone();
        if let Some(Constant::Dense(tensor)) = b.graph.value(node.inputs[1]).constant.clone() {
            let values = tensor.to_integers().unwrap();
            let turned: Vec<i64> = (0..24).map(|at| values[at % 4 * 6 + at / 4]).collect();
            let weight = b.graph.value_mut(node.inputs[1]);
            weight.shape = vec![6, 4];
            if let Some(quant) = &mut weight.quant {
                quant.axis = quant.axis.map(|_| 1);
            }
            let tensor = systole::tensor::Tensor::from_integers(DType::Int8, &[6, 4], &turned).unwrap();
            weight.constant = Some(Constant::Dense(std::sync::Arc::new(tensor)));
        }
        b.graph.nodes.last_mut().unwrap().op = Op::MatMul { transposed: false, activation: Activation::None };
        everything(&b.finish(&[y]));
    }
}

#[test]
fn a_scalar_may_be_an_input_and_an_operand() {
    let mut b = Builder::new(22);
    let x = b.input(&[]);
    let y = own(&mut b, Op::Relu, &[x], &[]);
    let image = b.input(&[1, 3, 2, 2]);
    let z = own(&mut b, Op::Mul, &[image, y], &[1, 3, 2, 2]);
    everything(&b.finish(&[y, z]));
}

#[test]
fn operands_of_lower_rank_are_broadcast_wherever_they_lie() {
    // The second operand comes straight from the layer before it, so that it may stay on chip.
    for shape in [vec![4, 4], vec![1, 4, 4], vec![3, 1, 1], vec![3, 4, 1], vec![1, 4]] {
        let mut b = Builder::new(23);
        let image = b.input(&[1, 3, 4, 4]);
        let x = b.input(&shape);
        let made = own(&mut b, Op::Relu, &[x], &shape);
        let y = own(&mut b, add(), &[image, made], &[1, 3, 4, 4]);
        everything(&b.finish(&[y]));
    }
    for shape in [vec![6], vec![1, 6], vec![5, 1], vec![1, 1], vec![]] {
        let mut b = Builder::new(24);
        let rows = b.input(&[5, 6]);
        let x = b.input(&shape);
        let made = own(&mut b, Op::Relu, &[x], &shape);
        let y = own(&mut b, Op::Mul, &[made, rows], &[5, 6]);
        everything(&b.finish(&[y]));
    }
    // Both operands are smaller than the result.
    let mut b = Builder::new(25);
    let column = b.input(&[2, 1, 3, 1]);
    let row = b.input(&[1, 4, 1, 5]);
    let y = own(&mut b, add(), &[column, row], &[2, 4, 3, 5]);
    everything(&b.finish(&[y]));
}

#[test]
fn sixteen_bit_activations_are_executed() {
    let quant = |scale| Quantization::per_tensor(scale, 0);
    let mut b = Builder::new(26);
    let x = b.input(&[1, 3, 4, 4]);
    b.graph.value_mut(x).dtype = DType::Int16;
    b.graph.value_mut(x).quant = Some(quant(0.001));
    let int = |b: &mut Builder, op, inputs: &[ValueId], shape: &[usize], scale| {
        b.node(op, inputs, shape, DType::Int16, Some(quant(scale)))
    };
    let relu = int(&mut b, Op::Relu, &[x], &[1, 3, 4, 4], 0.002);
    let sigmoid = int(&mut b, Op::Sigmoid, &[relu], &[1, 3, 4, 4], 1.0 / 32768.0);
    let sum = int(&mut b, add(), &[relu, sigmoid], &[1, 3, 4, 4], 0.003);
    let product = int(&mut b, Op::Mul, &[sum, relu], &[1, 3, 4, 4], 0.01);
    let joined = int(&mut b, Op::Concat { axis: 1 }, &[sum, product, relu], &[1, 9, 4, 4], 0.01);
    let pool = Window { kernel: [2, 2], stride: [2, 2], ..Window::UNIT };
    let pooled = int(&mut b, Op::MaxPool { window: pool }, &[joined], &[1, 9, 2, 2], 0.01);
    let mean = int(&mut b, Op::GlobalAvgPool, &[pooled], &[1, 9, 1, 1], 0.01);
    let flat = int(&mut b, Op::Reshape, &[mean], &[1, 9], 0.01);
    let y = int(&mut b, Op::Softmax { axis: 1 }, &[flat], &[1, 9], 1.0 / 32768.0);
    everything(&b.finish(&[y, joined]));
}

#[test]
fn operands_of_a_concatenation_may_differ_in_type_alone() {
    let mut b = Builder::new(27);
    let x = b.input(&[1, 3, 2, 2]);
    let z = b.input(&[1, 3, 2, 2]);
    for (id, dtype) in [(x, DType::UInt8), (z, DType::Int8)] {
        b.graph.value_mut(id).dtype = dtype;
        b.graph.value_mut(id).quant = Some(Quantization::per_tensor(0.5, 3));
    }
    let y =
        b.node(Op::Concat { axis: 1 }, &[x, z], &[1, 6, 2, 2], DType::UInt8, Some(Quantization::per_tensor(0.5, 3)));
    let graph = b.finish(&[y]);
    everything(&graph);
    let mut config = plain_config();
    config.vector.cycles.retain(|(function, _)| *function != systole::config::VectorFunction::Table);
    bit_exact(&graph, &Accelerator::from_valid(config), 5).unwrap();
}

#[test]
fn a_float_input_may_feed_a_boundary_and_more() {
    for also_output in [false, true] {
        let mut b = Builder::new(28);
        let x = float(&mut b, "image", &[2, 3, 4, 4]);
        b.graph.inputs.push(x);
        let q = own(&mut b, Op::QuantizeLinear, &[x], &[2, 3, 4, 4]);
        let made = b.conv(q, 3, 1, THREE);
        let mut outputs = vec![made];
        if also_output {
            outputs.push(x);
        } else {
            let r = own(&mut b, Op::QuantizeLinear, &[x], &[2, 3, 4, 4]);
            let sum = own(&mut b, add(), &[made, r], &[2, 3, 4, 4]);
            let y = float(&mut b, "result", &[2, 3, 4, 4]);
            b.graph.add_node(systole::ir::Node {
                name: "out".into(),
                op: Op::DequantizeLinear,
                inputs: vec![sum],
                outputs: vec![y],
            });
            outputs = vec![y, sum];
        }
        through_the_facade(&b.finish(&outputs));
    }
}

#[test]
fn a_dequantized_output_may_be_read_inside() {
    let mut b = Builder::new(29);
    let x = float(&mut b, "image", &[2, 3, 4, 4]);
    b.graph.inputs.push(x);
    let q = own(&mut b, Op::QuantizeLinear, &[x], &[2, 3, 4, 4]);
    let y = b.node(Op::DequantizeLinear, &[q], &[2, 3, 4, 4], DType::Fp32, None);
    let difference = b.node(Op::Sub, &[y, y], &[2, 3, 4, 4], DType::Fp32, None);
    let back = own(&mut b, Op::QuantizeLinear, &[difference], &[2, 3, 4, 4]);
    let last = b.conv(back, 2, 1, THREE);
    through_the_facade(&b.finish(&[y, last]));
}

#[test]
fn a_boundary_may_touch_a_boundary() {
    let mut b = Builder::new(30);
    let x = float(&mut b, "image", &[2, 3, 4, 4]);
    b.graph.inputs.push(x);
    let q = own(&mut b, Op::QuantizeLinear, &[x], &[2, 3, 4, 4]);
    let y = b.node(Op::DequantizeLinear, &[q], &[2, 3, 4, 4], DType::Fp32, None);
    through_the_facade(&b.finish(&[y]));
}

#[test]
fn one_value_may_leave_through_two_boundaries() {
    let mut b = Builder::new(31);
    let x = b.input(&[2, 3, 4, 4]);
    let made = b.conv(x, 3, 1, THREE);
    let y = b.node(Op::DequantizeLinear, &[made], &[2, 3, 4, 4], DType::Fp32, None);
    let z = b.node(Op::DequantizeLinear, &[made], &[2, 3, 4, 4], DType::Fp32, None);
    through_the_facade(&b.finish(&[y, z, made]));
}

#[test]
fn a_window_of_one_output_may_step_and_reach_as_far_as_it_likes() {
    let far = Window { kernel: [1, 1], stride: [1 << 30, 1 << 31], dilation: [1 << 31, 1 << 30], pad: [0; 4] };
    let mut b = Builder::new(32);
    let x = b.input(&[1, 40, 5, 9]);
    let y = b.conv(x, 3, 1, far);
    let quant = b.graph.value(x).clone();
    let z = b.node(Op::MaxPool { window: far }, &[x], &[1, 40, 1, 1], quant.dtype, quant.quant);
    everything(&b.finish(&[y, z]));
}

/// A graph of one layer on an input of this shape, with weights that are never made.
fn large(op: Op, shape: &[usize], weight: Option<&[usize]>, result: &[usize], dtype: DType) -> Graph<Quantized> {
    let mut b = Builder::new(33);
    let quant = Quantization::per_tensor(0.1, 0);
    let x = b.value("x", shape, dtype, Some(quant.clone()));
    b.graph.inputs.push(x);
    let mut inputs = vec![x];
    if let Some(weight) = weight {
        let w = b.value("w", weight, DType::Int8, Some(quant.clone()));
        let distribution = Distribution::Uniform { low: -5, high: 5 };
        b.graph.value_mut(w).constant = Some(Constant::Synthetic(Synthetic { seed: 1, distribution }));
        inputs.push(w);
    }
    let y = b.node(op, &inputs, result, dtype, Some(quant));
    b.finish(&[y])
}

/// A machine with the largest buffers that a config may have.
fn roomy() -> Accelerator {
    let mut config = plain_config();
    config.residency = true;
    config.buffers.layout =
        BufferLayout::Shared(Buffer { bytes: 1 << 30, banks: 8, word_bytes: 64, ports: 2, latency: 1 });
    config.accumulators.bytes = 1 << 30;
    config.accumulators.bits = 8;
    config.array.column_bits = 8;
    config.array.rows = 1024;
    config.array.cols = 1024;
    config.depthwise = DepthwisePolicy::BlockDiagonal;
    Accelerator::from_valid(config)
}

#[test]
fn tensors_just_below_the_limit_are_mapped() {
    let (conv, relu) = (|window| Op::Conv { window, groups: 1, activation: Activation::None }, Op::Relu);
    let side = 1 << 15;
    let matrix = || Op::MatMul { transposed: true, activation: Activation::None };
    let cases = [
        (
            "1x1",
            large(conv(Window::UNIT), &[1, 1, 65536, 32767], Some(&[1, 1, 1, 1]), &[1, 1, 65536, 32767], DType::Int8),
        ),
        (
            "deep",
            large(
                conv(Window::UNIT),
                &[1, 4096, 512, 1023],
                Some(&[4096, 4096, 1, 1]),
                &[1, 4096, 512, 1023],
                DType::Int8,
            ),
        ),
        ("16 bit", large(conv(THREE), &[2, 16, 8192, 8191], Some(&[16, 16, 3, 3]), &[2, 16, 8192, 8191], DType::Int16)),
        ("rows", large(matrix(), &[(1 << 31) - 1, 1], Some(&[1, 1]), &[(1 << 31) - 1, 1], DType::Int8)),
        ("K", large(matrix(), &[1, (1 << 31) - 1], Some(&[1, (1 << 31) - 1]), &[1, 1], DType::Int8)),
        ("N", large(matrix(), &[1, 1], Some(&[(1 << 31) - 1, 1]), &[1, (1 << 31) - 1], DType::Int8)),
        ("table", large(relu.clone(), &[1, 1, 65536, 32767], None, &[1, 1, 65536, 32767], DType::Int8)),
        ("flat table", large(relu, &[(1 << 31) - 1], None, &[(1 << 31) - 1], DType::Int8)),
        ("pool", large(Op::GlobalAvgPool, &[1, 1, 65536, 32767], None, &[1, 1, 1, 1], DType::Int16)),
        ("side", large(conv(THREE), &[1, 1, side, side], Some(&[1, 1, 3, 3]), &[1, 1, side, side], DType::Int8)),
    ];
    for (name, graph) in cases {
        let network = network(&graph);
        let started = std::time::Instant::now();
        // A report of what does not fit is as good as a program.
        match pipeline::map(&network, &roomy()) {
            Ok(mapped) => {
                let count = mapped.program.instructions().take(20_000).count();
                assert!(count > 0, "{name}");
            }
            Err(faults) => assert!(faults.0.iter().all(|fault| fault.path.is_some()), "{name}: {faults}"),
        }
        println!("{name}: {:?}", started.elapsed());
    }
}

#[test]
fn tensors_above_the_limit_are_faults_that_name_them() {
    let conv = Op::Conv { window: Window::UNIT, groups: 1, activation: Activation::None };
    let cases = [
        large(conv, &[1, 1, 65536, 32768], Some(&[1, 1, 1, 1]), &[1, 1, 65536, 32768], DType::Int8),
        large(Op::Relu, &[1 << 20, 1 << 20], None, &[1 << 20, 1 << 20], DType::Int8),
        large(Op::Transpose { perm: vec![1, 0] }, &[1 << 16, 1 << 16], None, &[1 << 16, 1 << 16], DType::Int8),
    ];
    for graph in cases {
        for (_, accelerator) in variety() {
            let faults = pipeline::map(&network(&graph), &accelerator).unwrap_err();
            let first = &faults.0[0];
            assert!(first.path.as_ref().is_some_and(|path| path.contains('x') || path.contains("node")), "{faults}");
            assert!(first.message.contains("elements"), "{faults}");
        }
    }
}

#[test]
fn what_the_reference_computed_on_both_sides_is_counted_and_proves_nothing() {
    let accelerator = Accelerator::from_valid(plain_config());
    let verification = |graph: &Graph<Quantized>| {
        let network = network(graph);
        let mapped = pipeline::map(&network, &accelerator).unwrap();
        pipeline::execute(&mapped, None, &mut Silent).unwrap().verification
    };
    let host = |b: &mut Builder| {
        let x = float(b, "x", &[2, 5]);
        b.graph.inputs.push(x);
        b.node(Op::Softmax { axis: 1 }, &[x], &[2, 5], DType::Fp32, None)
    };
    let mut b = Builder::new(40);
    let probabilities = host(&mut b);
    let alone = verification(&b.finish(&[probabilities]));
    assert_eq!((alone.status.as_str(), alone.compared), ("same_implementation", 10));
    assert_eq!(alone.compared_same_implementation, 10);
    let mut b = Builder::new(41);
    let probabilities = host(&mut b);
    let x = b.input(&[4, 6]);
    let y = b.matmul(x, 4);
    let mixed = verification(&b.finish(&[probabilities, y]));
    assert_eq!((mixed.status.as_str(), mixed.compared), ("bit_exact", 26));
    assert_eq!(mixed.compared_same_implementation, 10);
}
