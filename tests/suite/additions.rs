//! The order of additions that the mapping exports is the one in which the emitted program adds: here the program is
//! walked, weight by weight, and the order read off it.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use proptest::prelude::*;
use systole::{
    config::{Accelerator, Accumulate, BufferId, Dataflow, EngineId},
    ir::{Graph, Quantized},
    mapping::{LayerMapping, order::accumulation_order},
    program::{Arithmetic, Matmul, Operation, Program, Region, Space, TensorPlace, Transfer, VectorKind, WeightImage},
    tensor::AccumulationOrder,
};

use crate::{
    layers::random_layer,
    programs::mapped,
    support::{cases, machines, tight_output_stationary},
};

/// What a sum has been given: the output channel of the weights, and their K, chunk by chunk.
#[derive(Clone, Debug, Default)]
struct Additions {
    output: Option<u32>,
    chunks: Vec<Rc<Vec<u32>>>,
}

impl Additions {
    fn add(&mut self, output: u32, chunk: Rc<Vec<u32>>) -> Result<(), TestCaseError> {
        prop_assert!(self.output.is_none_or(|known| known == output), "a sum of two output channels");
        self.output = Some(output);
        self.chunks.push(chunk);
        Ok(())
    }
}

/// Output channel and K of each weight in memory, by address: the image as its documentation lays it out.
fn weights_of(image: &WeightImage) -> BTreeMap<u64, (u32, u32)> {
    let mut weights = BTreeMap::new();
    let mut address = image.base;
    let taps = image.kernel[0] * image.kernel[1];
    let tiles = |extent: u32, tile: u32| {
        (0..extent.div_ceil(tile)).map(move |index| index * tile..extent.min((index + 1) * tile))
    };
    for pass in 0..image.passes {
        for outputs in tiles(image.outputs, image.output_tile) {
            for channels in tiles(image.channels, image.channel_tile) {
                for output in outputs.clone() {
                    for tap in 0..taps {
                        for channel in channels.clone() {
                            let k = tap * image.channels + channel;
                            weights.insert(address, (pass * image.outputs + output, k));
                            address += u64::from(image.element.bytes());
                        }
                    }
                }
            }
        }
    }
    weights
}

/// The same of a second operand that is an activation `[..., K, N]`: columns of different matrices are channels apart.
fn activations_of(place: &TensorPlace) -> BTreeMap<u64, (u32, u32)> {
    let narrow = |dim: usize| u32::try_from(dim).unwrap();
    let [batch @ .., depth, columns] = place.shape.as_slice() else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    for matrix in 0..batch.iter().product() {
        let (mut rest, mut base) = (matrix, place.base);
        for (&dim, &stride) in batch.iter().zip(&place.strides).rev() {
            base += (rest % dim) as u64 * stride;
            rest /= dim;
        }
        let [.., down, right] = place.strides.as_slice() else { unreachable!("a stride a dimension") };
        for k in 0..*depth {
            for column in 0..*columns {
                let address = base + k as u64 * down + column as u64 * right;
                found.insert(address, (narrow(matrix * columns + column), narrow(k)));
            }
        }
    }
    found
}

/// The addresses of a region's elements in the order of its walk.
fn addresses(region: &Region) -> impl Iterator<Item = u64> + '_ {
    (0..region.rows()).flat_map(move |row| (0..region.cols()).filter_map(move |col| region.address(row, col)))
}

/// One layer on the array, walked.
struct Walker {
    dataflow: Dataflow,
    /// Whether sums go on in the columns.
    injects: bool,
    image: BTreeMap<u64, (u32, u32)>,
    memory: Space,
    /// The weights that lie in buffers.
    buffers: BTreeMap<(BufferId, u64), (u32, u32)>,
    /// Weights in each array, and in the weight FIFO.
    stationary: BTreeMap<EngineId, Rows>,
    fetched: VecDeque<Rows>,
    /// Sums that stay in the elements, by array, row and column.
    elements: BTreeMap<(EngineId, u32, u32), Additions>,
    accumulators: BTreeMap<u64, Additions>,
    /// Sums that are complete.
    done: Vec<Additions>,
}

/// Output channel and K of weights, row by row.
type Rows = Vec<(u32, Rc<Vec<u32>>)>;

impl Walker {
    fn load(&mut self, transfer: &Transfer) {
        let Space::Buffer(buffer) = transfer.target.space else { return };
        for (from, to) in addresses(&transfer.source).zip(addresses(&transfer.target)) {
            let weight = self.image.get(&from).filter(|_| transfer.source.space == self.memory);
            match weight {
                Some(&weight) => self.buffers.insert((buffer, to), weight),
                None => self.buffers.remove(&(buffer, to)),
            };
        }
    }

    /// Output channel and K of the weights `[outputs, k]` of a region.
    fn rows(&self, weights: &Region) -> Result<Rows, TestCaseError> {
        let Space::Buffer(buffer) = weights.space else { return Err(TestCaseError::fail("weights outside buffers")) };
        let row = |row: u32| {
            let found: Option<Vec<(u32, u32)>> = (0..weights.cols())
                .map(|col| self.buffers.get(&(buffer, weights.address(row, col)?)).copied())
                .collect();
            let found = found.ok_or_else(|| TestCaseError::fail("a weight that was not loaded"))?;
            let output = found[0].0;
            prop_assert!(found.iter().all(|&(other, _)| other == output), "a row of two output channels");
            Ok((output, Rc::new(found.into_iter().map(|(_, k)| k).collect())))
        };
        (0..weights.rows()).map(row).collect()
    }

    fn multiply(&mut self, array: EngineId, matmul: &Matmul) -> Result<(), TestCaseError> {
        let rows = match (self.dataflow, matmul.stationary) {
            (Dataflow::IS, _) => self.rows(&matmul.stream)?,
            (_, Some(stationary)) => self.rows(&stationary)?,
            (_, None) => {
                let held = self.stationary.get(&array);
                held.cloned().ok_or_else(|| TestCaseError::fail("nothing was preloaded"))?
            }
        };
        let sums = &matmul.accumulators;
        for row in 0..sums.rows() {
            for col in 0..sums.cols() {
                let line = if self.dataflow == Dataflow::IS { row } else { col };
                let (output, chunk) = rows[usize::try_from(line).unwrap()].clone();
                let address = sums.address(row, col).unwrap();
                let mut sum = Additions::default();
                if matmul.resume || (self.injects && matmul.accumulate) {
                    sum = if matmul.resume {
                        self.elements.remove(&(array, row, col)).expect("a sum in the element")
                    } else {
                        self.accumulators.remove(&address).expect("a sum to inject")
                    };
                    let begun = sum.chunks.pop().expect("a chunk that goes on");
                    sum.add(output, Rc::new(begun.iter().chain(chunk.iter()).copied().collect()))?;
                } else {
                    sum.add(output, chunk)?;
                }
                if matmul.hold {
                    self.elements.insert((array, row, col), sum);
                } else if matmul.accumulate && !self.injects {
                    let known = self.accumulators.get_mut(&address).expect("a sum to add to");
                    for chunk in sum.chunks {
                        known.add(output, chunk)?;
                    }
                } else {
                    self.accumulators.insert(address, sum);
                }
            }
        }
        Ok(())
    }
}

/// The exported order equals that of the program; `Reject` where no layer runs on the array.
fn orders_agree(graph: &Graph<Quantized>, accelerator: &Accelerator) -> Result<(), TestCaseError> {
    let Some(program) = mapped(graph, accelerator) else {
        return Err(TestCaseError::reject("a layer does not fit"));
    };
    let mut walked = 0;
    for (index, layer) in program.layers.iter().enumerate() {
        if let (LayerMapping::Matrix(mapping), Some(dataflow)) = (&layer.mapping, program.header.layers[index].dataflow)
        {
            let order = accumulation_order(mapping, accelerator);
            if let Arithmetic::Matrix { order: exported @ AccumulationOrder::Chunked { .. }, .. } =
                &program.header.layers[index].arithmetic
            {
                prop_assert_eq!(exported, &order);
            }
            let outputs = mapping.shape.pixels() * u64::from(mapping.shape.o);
            order_agrees(&program, index, dataflow, &order, outputs)?;
            walked += 1;
        }
    }
    if walked == 0 { Err(TestCaseError::reject("nothing on the array")) } else { Ok(()) }
}

fn order_agrees(
    program: &Program,
    layer: usize,
    dataflow: Dataflow,
    order: &AccumulationOrder,
    outputs: u64,
) -> Result<(), TestCaseError> {
    let image = program.header.weights.iter().find(|image| image.layer.index() == layer).unwrap();
    #[allow(clippy::single_match_else, reason = "two kinds of second operand, side by side")]
    let (weights, memory) = match image.weights {
        Some(_) => (weights_of(image), Space::Memory(image.memory)),
        None => {
            let second = &program.header.tensors[program.header.layers[layer].inputs[1].index()];
            (activations_of(second), second.space)
        }
    };
    let mut walker = Walker {
        dataflow,
        injects: program.accelerator.config.array.accumulate != Accumulate::AtOutput,
        image: weights,
        memory,
        buffers: BTreeMap::new(),
        stationary: BTreeMap::new(),
        fetched: VecDeque::new(),
        elements: BTreeMap::new(),
        accumulators: BTreeMap::new(),
        done: Vec::new(),
    };
    for instruction in program.instructions().filter(|instruction| instruction.layer.index() == layer) {
        match &instruction.operation {
            Operation::Load(transfer) => walker.load(transfer),
            // Weights lie in the array from now on, whatever comes to where they were.
            Operation::Preload { stationary } if dataflow != Dataflow::IS => {
                let rows = walker.rows(stationary)?;
                walker.stationary.insert(instruction.engine, rows);
            }
            Operation::Fetch { stationary } => {
                let rows = walker.rows(stationary)?;
                walker.fetched.push_back(rows);
            }
            Operation::PreloadNext { .. } => {
                let rows = walker.fetched.pop_front();
                let rows = rows.ok_or_else(|| TestCaseError::fail("nothing was fetched"))?;
                walker.stationary.insert(instruction.engine, rows);
            }
            Operation::Matmul(matmul) => walker.multiply(instruction.engine, matmul)?,
            Operation::Vector(op) if op.kind == VectorKind::Requantize => {
                for address in addresses(&op.inputs[0]) {
                    let sum = walker.accumulators.remove(&address).expect("a sum to requantize");
                    walker.done.push(sum);
                }
            }
            _ => {}
        }
    }
    let AccumulationOrder::Chunked { permutation, chunks, .. } = order else {
        return Err(TestCaseError::fail("an order of the array is chunked"));
    };
    prop_assert!(walker.elements.is_empty() && walker.accumulators.is_empty(), "sums that no one takes");
    prop_assert_eq!(walker.done.len() as u64, outputs);
    for sum in &walker.done {
        let lengths: Vec<usize> = sum.chunks.iter().map(|chunk| chunk.len()).collect();
        let added: Vec<u32> = sum.chunks.iter().flat_map(|chunk| chunk.iter().copied()).collect();
        prop_assert_eq!(&added, permutation, "of output channel {:?}", sum.output);
        prop_assert!(lengths.iter().map(|&length| length as u64).eq(chunks.iter().map(|&length| u64::from(length))));
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn programs_add_in_the_order_that_the_mapping_exports(seed in any::<u64>(), accelerator in machines()) {
        orders_agree(&random_layer(seed), &accelerator)?;
    }

    #[test]
    fn sums_that_stay_in_the_elements_are_one_chunk(seed in any::<u64>(), accelerator in tight_output_stationary()) {
        orders_agree(&random_layer(seed), &accelerator)?;
    }
}
