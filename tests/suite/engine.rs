//! The functional engine reproduces the reference bit for bit: random layers and networks on random machines, in
//! program order, in the order that the timing engine chose, and in random legal orders.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use rand::SeedableRng;
use systole::{
    config::{Accelerator, Buffer, BufferLayout, Dataflow},
    engine::{functional::Machine, timing},
    ir::{Activation, Constant, Graph, Op, Quantized, ValueId},
    pipeline::ReferenceHost,
    program::{Arithmetic, Instruction, LayerKind, Operation, Program, TensorId, orders::random_legal},
    reference::{self, Keep, Settings},
    tensor::{AccumulationOrder, DType, Overflow, Quantization, Tensor},
};

use crate::{
    layers::{attention, layer_of, network_of, random_layer, small_network},
    programs::mapped,
    support::{
        Builder, cases, inputs_of, machines, operand_types, plain_config, requantizers, spread_machines,
        tight_output_stationary,
    },
};

/// A dense constant of a graph.
pub fn constant(graph: &Graph<Quantized>, id: ValueId) -> Option<Tensor> {
    match graph.value(id).constant.as_ref()? {
        Constant::Dense(tensor) => Some(tensor.as_ref().clone()),
        Constant::Synthetic(_) => None,
    }
}

/// All values of the reference, in the machine's arithmetic.
pub fn oracle(graph: &Graph<Quantized>, program: &Program, inputs: &[Tensor]) -> reference::Execution {
    let orders: BTreeMap<_, AccumulationOrder> = program
        .header
        .layers
        .iter()
        .filter_map(|layer| match &layer.arithmetic {
            Arithmetic::Matrix { order, .. } => Some((layer.node, order.clone())),
            _ => None,
        })
        .collect();
    let order = |node| orders.get(&node).cloned().unwrap_or(AccumulationOrder::Exact);
    let settings = Settings { requantizer: program.accelerator.config.vector.requantizer, order: &order };
    reference::run(graph, inputs, &settings, Keep::All, &|id| constant(graph, id)).unwrap()
}

/// A machine with everything in place for one sample, every read of a byte that nobody wrote an error.
pub fn machine<'g>(graph: &'g Graph<Quantized>, program: &Program, inputs: &[Tensor]) -> Machine<'g> {
    let options = systole::engine::functional::Options { checked: true };
    let mut machine = Machine::with_options(&program.accelerator, &program.header, &|id| constant(graph, id), options)
        .unwrap()
        .with_host(Arc::new(ReferenceHost(graph)));
    for (index, place) in (0_u32..).zip(&program.header.tensors) {
        if let Some(tensor) = constant(graph, place.value) {
            machine.set_constant(TensorId(index), &tensor).unwrap();
        }
    }
    for (index, input) in inputs.iter().enumerate() {
        machine.set_input(index, input).unwrap();
    }
    machine
}

#[test]
fn an_attention_block_multiplies_on_the_array_and_leaves_nothing_to_the_host() {
    for (name, seed) in [("edge_16x16", 1), ("edge_32x32", 2)] {
        let accelerator = systole::config::load(name, &[]).unwrap();
        let graph = attention(Builder::new(seed));
        let program = mapped(&graph, &accelerator).unwrap();
        for layer in &program.header.layers {
            let expected = match layer.op.as_str() {
                "MatMul" | "BatchMatMul" => LayerKind::Array,
                "Reshape" | "Transpose" => LayerKind::Free,
                _ => LayerKind::Vector,
            };
            assert_eq!(layer.kind, expected, "{} on {name}", layer.name);
        }
        bit_exact(&graph, &accelerator, seed).unwrap();
    }
}

fn outputs_equal(
    graph: &Graph<Quantized>,
    oracle: &reference::Execution,
    machine: &Machine,
    order: &str,
) -> Result<(), TestCaseError> {
    for (&id, actual) in graph.outputs.iter().zip(machine.outputs().unwrap()) {
        prop_assert_eq!(oracle.value(id).unwrap(), &actual, "in {} order", order);
    }
    Ok(())
}

/// The engine equals the reference on random inputs in every order; `Reject` where a layer does not fit.
pub fn bit_exact(graph: &Graph<Quantized>, accelerator: &Accelerator, seed: u64) -> Result<(), TestCaseError> {
    let Some(program) = mapped(graph, accelerator) else {
        return Err(TestCaseError::reject("a layer does not fit"));
    };
    let inputs = inputs_of(graph, seed);
    let oracle = oracle(graph, &program, &inputs);
    // Program order, every tensor as its layer leaves it.
    let mut in_order = machine(graph, &program, &inputs);
    let mut first_wrong = None;
    in_order
        .run_observed(program.instructions(), &mut |layer, machine| {
            for &output in &program.header.layers[layer.index()].outputs {
                let value = program.header.tensors[output.index()].value;
                if first_wrong.is_none() && machine.tensor(output).unwrap() != *oracle.value(value).unwrap() {
                    first_wrong = Some(program.header.layers[layer.index()].name.clone());
                }
            }
        })
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert!(first_wrong.is_none(), "first difference in layer {}", first_wrong.unwrap());
    outputs_equal(graph, &oracle, &in_order, "program")?;
    let instructions: Vec<Instruction> = program.instructions().collect();
    // The order that the timing engine chose.
    let options = timing::Options { record_order: true, ..timing::Options::default() };
    let timed = timing::simulate(accelerator, &program.header, program.instructions(), options)
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    let mut replay = machine(graph, &program, &inputs);
    for index in timed.issue_order {
        let at = usize::try_from(index).unwrap();
        replay.execute(&instructions[at]).map_err(|error| TestCaseError::fail(error.to_string()))?;
    }
    outputs_equal(graph, &oracle, &replay, "timed")?;
    // Random legal orders.
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..2 {
        let mut shuffled = machine(graph, &program, &inputs);
        for at in random_legal(&instructions, accelerator.engines.len(), &mut random) {
            shuffled.execute(&instructions[at]).map_err(|error| TestCaseError::fail(error.to_string()))?;
        }
        outputs_equal(graph, &oracle, &shuffled, "random")?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn random_layers_are_bit_exact_in_every_order(seed in any::<u64>(), accelerator in machines()) {
        bit_exact(&random_layer(seed), &accelerator, seed)?;
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn output_stationary_layers_are_bit_exact_with_little_room(
        seed in any::<u64>(), accelerator in tight_output_stationary(),
    ) {
        bit_exact(&random_layer(seed), &accelerator, seed)?;
    }
}

/// Where K is cut and an output tile is one array tile, its sums stay in the elements; narrow adders that saturate make
/// the order of additions visible.
#[test]
fn sums_that_stay_in_the_elements_are_bit_exact() {
    let mut config = plain_config();
    (config.array.rows, config.array.cols) = (8, 8);
    config.array.dataflows = vec![Dataflow::OS];
    config.array.overflow = Overflow::Saturate;
    let buffer = |bytes| Buffer { bytes, banks: 2, word_bytes: 16, ports: 1, latency: 1 };
    config.buffers.layout = BufferLayout::Split { input: buffer(96), weight: buffer(160), output: buffer(64) };
    for bits in [12, 17, 32] {
        (config.array.column_bits, config.accumulators.bits) = (bits, bits);
        let accelerator = Accelerator::from_valid(config.clone());
        let mut held = 0;
        for seed in 0..200 {
            let graph = random_layer(seed);
            let Some(program) = mapped(&graph, &accelerator) else { continue };
            held += program.instructions().filter(|i| matches!(&i.operation, Operation::Matmul(m) if m.hold)).count();
            bit_exact(&graph, &accelerator, seed).unwrap();
        }
        assert!(held > 100, "{held} tiles held their sums");
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn layers_of_every_type_are_bit_exact(seed in any::<u64>(), types in operand_types(), accelerator in machines()) {
        bit_exact(&layer_of(seed, types), &accelerator, seed)?;
    }

    #[test]
    fn layers_of_every_type_are_bit_exact_with_little_room(
        seed in any::<u64>(), types in operand_types(), accelerator in tight_output_stationary(),
    ) {
        bit_exact(&layer_of(seed, types), &accelerator, seed)?;
    }
}

proptest! {
    #![proptest_config(cases(400))]

    /// Wide accumulators hold sums of products of 16-bit operands, whose products with the multiplier are the longest.
    #[test]
    fn every_requantizer_of_every_type_is_the_reference_s(
        seed in any::<u64>(), types in operand_types(), requantizer in requantizers(), bits in 33_u8..=64,
    ) {
        let mut config = plain_config();
        (config.accumulators.bits, config.array.column_bits) = (bits, bits);
        config.vector.requantizer = requantizer;
        let mut b = Builder::of(seed, types);
        let x = b.input(&[2, 40]);
        let y = b.matmul(x, 20);
        bit_exact(&b.finish(&[y]), &Accelerator::from_valid(config), seed)?;
    }
}

/// Four products of -2^15 and -2^15 are 2^32, which wraps to nothing in 32 bits, in one addition as in the kernel's.
#[test]
fn a_sum_of_16_bit_products_that_wraps_all_the_way_round_is_counted() {
    for (column_bits, bits, counted) in [(32, 32, 1), (64, 32, 1), (32, 64, 1), (64, 64, 0)] {
        let mut config = plain_config();
        (config.array.column_bits, config.accumulators.bits) = (column_bits, bits);
        let accelerator = Accelerator::from_valid(config);
        let mut b = Builder::new(1);
        let one = || Some(Quantization::per_tensor(1.0, 0));
        let x = b.value("x", &[1, 4], DType::Int16, one());
        b.graph.inputs.push(x);
        let w = b.constant(&[1, 4], DType::Int16, one(), -32768, -32768);
        let op = Op::MatMul { transposed: true, activation: Activation::None };
        let y = b.node(op, &[x, w], &[1, 1], DType::Int16, Some(Quantization::per_tensor(1_048_576.0, 0)));
        let graph = b.finish(&[y]);
        let program = mapped(&graph, &accelerator).unwrap();
        let inputs = [Tensor::from_integers(DType::Int16, &[1, 4], &[-32768; 4]).unwrap()];
        let mut run = machine(&graph, &program, &inputs);
        run.run(program.instructions()).unwrap();
        let expected = oracle(&graph, &program, &inputs);
        assert_eq!(run.outputs().unwrap()[0], *expected.value(y).unwrap());
        assert_eq!(run.outputs().unwrap()[0].to_integers().unwrap(), [if counted > 0 { 0 } else { 4096 }]);
        assert_eq!(run.overflows(), [counted], "{column_bits} and {bits} bits");
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn networks_of_every_type_are_bit_exact(seed in any::<u64>(), types in operand_types(), accelerator in machines()) {
        bit_exact(&network_of(seed, types), &accelerator, seed)?;
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn networks_over_several_memories_are_bit_exact(seed in any::<u64>(), accelerator in spread_machines()) {
        bit_exact(&small_network(seed), &accelerator, seed)?;
    }

    #[test]
    fn small_networks_are_bit_exact_in_every_order(seed in any::<u64>(), accelerator in machines()) {
        bit_exact(&small_network(seed), &accelerator, seed)?;
    }
}
