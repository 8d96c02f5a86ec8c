//! Layers that stand side by side as a graph: each has an input and an output of its own, because a topology does not
//! say which reads which. Sizes of outputs are rounded down here, as everywhere but in SCALE-Sim.

use std::collections::BTreeSet;

use super::topology::{Form, Topology};
use crate::{
    diag::{Diagnostic, Faults},
    import::synthetic,
    ir::{
        Activation, Constant, Distribution, Float, Graph, Node, Op, Synthetic, Value, Window, infer::infer,
        verify::verify,
    },
    tensor::{DType, Quantization, checked_elements},
};

/// Most filters of all layers together, each of which has a scale.
const MAX_CHANNELS: usize = 1 << 22;
/// Deviation of weights in steps, as in layer lists.
const SIGMA: f32 = 28.2;
/// Deviation of activations in steps: random bytes.
const INPUT_SIGMA: f32 = 73.9;
/// Scale and zero point of every input.
const INPUT: (f32, i32) = (1.0 / 64.0, 128);
/// Scale of every weight.
const WEIGHT_SCALE: f32 = 1.0 / 256.0;
/// Deviation of outputs in steps: four of them reach the type's ends.
const OUTPUT_SIGMA: f32 = 32.0;

/// The layers of a topology as convolutions and products of uint8 activations and int8 weights; `batch` is the first
/// dimension of every activation, and multiplies the rows of a product.
///
/// # Errors
/// Layers that are too large to be simulated, all at once.
pub fn graph(topology: &Topology, name: &str, batch: usize) -> Result<Graph<Float>, Faults> {
    let mut graph = Graph::new(name);
    let (mut names, mut channels, mut found) = (BTreeSet::new(), 0_usize, Vec::new());
    for layer in &topology.layers {
        let unnamed = if layer.name.is_empty() { format!("line {}", layer.line) } else { layer.name.clone() };
        let unique = if names.contains(&unnamed) { format!("{unnamed} (line {})", layer.line) } else { unnamed };
        names.insert(unique.clone());
        let made = shapes(topology.form, &layer.convolution, batch).and_then(|(op, input, weight)| {
            channels = channels.saturating_add(weight[0]);
            if channels > MAX_CHANNELS {
                return Err(format!("the layers up to here have more than {MAX_CHANNELS} filters, the limit"));
            }
            if checked_elements(&weight, synthetic::MAX_ELEMENTS).is_none() {
                return Err("its weights are more than a simulation holds".to_owned());
            }
            add(&mut graph, &unique, op, input, weight)
        });
        if let Err(message) = made {
            let fault = Diagnostic::error(message).with_path(format!("layer {unique:?}, line {}", layer.line));
            found.push(fault.with_help("remove the row, or make it smaller"));
        }
    }
    Faults::check(found)?;
    verify(&graph)?;
    Ok(graph)
}

/// Operator, shape of the input and shape of the weight.
fn shapes(form: Form, layer: &super::Convolution, batch: usize) -> Result<(Op, Vec<usize>, Vec<usize>), String> {
    let size = |size: u64| usize::try_from(size).map_err(|_| "its sizes do not fit".to_owned());
    let [height, width] = [size(layer.ifmap[0])?, size(layer.ifmap[1])?];
    let kernel = [size(layer.filter[0])?, size(layer.filter[1])?];
    let (channels, filters, stride) = (size(layer.channels)?, size(layer.filters)?, size(layer.stride)?);
    match form {
        Form::Convolutions => {
            let window = Window { kernel, stride: [stride; 2], dilation: [1; 2], pad: [0; 4] };
            let op = Op::Conv { window, groups: 1, activation: Activation::None };
            Ok((op, vec![batch, channels, height, width], vec![filters, channels, kernel[0], kernel[1]]))
        }
        Form::Products => {
            let rows = height.checked_mul(batch).ok_or("its rows times the batch do not fit")?;
            let op = Op::MatMul { transposed: true, activation: Activation::None };
            Ok((op, vec![rows, width], vec![filters, width]))
        }
    }
}

/// Adds a layer with its input, its weight and its output.
fn add(graph: &mut Graph<Float>, name: &str, op: Op, input: Vec<usize>, weight: Vec<usize>) -> Result<(), String> {
    let shape =
        infer(&op, &[&input, &weight], None).map_err(|error| error.to_string())?.pop().ok_or("it has no output")?;
    let products: usize = weight[1..].iter().product();
    let filters = weight[0];
    let deviation = INPUT.0 * INPUT_SIGMA * WEIGHT_SCALE * SIGMA * (products as f32).sqrt();
    let value = |suffix: &str, shape, dtype, quant, constant| Value {
        name: format!("{name}{suffix}"),
        shape,
        dtype,
        quant: Some(quant),
        constant,
    };
    let x = value(".input", input, DType::UInt8, Quantization::per_tensor(INPUT.0, INPUT.1), None);
    let recipe = Synthetic {
        seed: synthetic::seed(&[&graph.name, name, "weight"]),
        distribution: Distribution::Normal { sigma: SIGMA, limit: 127 },
    };
    let scales = Quantization { scale: vec![WEIGHT_SCALE; filters], zero_point: vec![0; filters], axis: Some(0) };
    let w = value(".weight", weight, DType::Int8, scales, Some(Constant::Synthetic(recipe)));
    let y = value("", shape, DType::UInt8, Quantization::per_tensor(deviation / OUTPUT_SIGMA, 128), None);
    let [x, w, y] = [x, w, y].map(|value| graph.add_value(value));
    graph.inputs.push(x);
    graph.outputs.push(y);
    graph.add_node(Node { name: name.to_owned(), op, inputs: vec![x, w], outputs: vec![y] });
    Ok(())
}
