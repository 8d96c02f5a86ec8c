//! The program on values: memory images, scratchpads, accumulators, the array, the vector unit. Knows nothing of time,
//! of the mapping that made the program, or of the reference that it is compared with.
//!
//! Instructions are executed one at a time, in any order that respects tokens and engine order: nothing is remembered
//! between them but the spaces' contents and the array's stationary operand.

mod access;
mod array;
mod error;
mod host;
mod numerics;
mod pack;
mod place;
mod pool;
mod requantizer;
mod store;
mod table;
mod trace;
mod unrolled;
mod vector;

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_lossless,
    clippy::float_cmp,
    clippy::type_complexity,
    clippy::too_many_arguments,
    clippy::incompatible_msrv,
    reason = "small numbers; the tests need not build on the oldest compiler"
)]
mod tests;

use std::{borrow::Borrow, collections::VecDeque, sync::Arc};

use array::{ArrayUnit, Stationary};
pub use error::{Fault, FunctionalError};
pub use host::{HostExecutor, is_delegated};
use numerics::{Datapath, LayerNumerics};
use store::Store;
use trace::Tracer;
pub use trace::{Origin, TracedElement};
use unrolled::UnrolledRegion;
use vector::{Context, VectorUnit};

use crate::{
    config::Accelerator,
    ir::ValueId,
    program::{
        Arithmetic, Header, Instruction, LayerId, Operation, Region, TensorId, TensorPlace, Transfer, VectorKind,
        WeightImage,
    },
    tensor::{DType, Tensor},
};

/// Bytes that the spaces of one machine may take together: 4 GiB.
pub const MEMORY_LIMIT: u64 = 1 << 32;

/// How a machine runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether reading what nothing has written is a fault. Costs a byte an address and some time.
    pub checked: bool,
}

/// A machine with its program's images in memory.
#[derive(Clone, Debug)]
pub struct Machine<'h> {
    store: Store,
    datapath: Datapath,
    layers: Vec<LayerNumerics>,
    tensors: Vec<TensorPlace>,
    inputs: Vec<TensorId>,
    outputs: Vec<TensorId>,
    /// What runs on the host.
    host: Option<Arc<dyn HostExecutor + 'h>>,
    /// Of each engine; those that neither multiply nor fetch leave theirs alone.
    arrays: Vec<ArrayUnit>,
    /// Operands in the weight FIFO, the oldest first.
    fetched: VecDeque<Stationary>,
    vector: VectorUnit,
    source: UnrolledRegion,
    target: UnrolledRegion,
    bytes: Vec<u8>,
    tracer: Option<Tracer>,
    /// By layer, sums that left their adder's width.
    overflows: Vec<u64>,
}

impl<'h> Machine<'h> {
    /// A machine with weights and parameters in memory. `constants` gives the graph's constants by value.
    ///
    /// # Errors
    /// Spaces beyond [`MEMORY_LIMIT`], and images that do not fit the weights.
    pub fn new(
        accelerator: &Accelerator,
        header: &Header,
        constants: &dyn Fn(ValueId) -> Option<Tensor>,
    ) -> Result<Self, FunctionalError> {
        Self::with_options(accelerator, header, constants, Options::default())
    }

    /// As [`Machine::new`], with options.
    ///
    /// # Errors
    /// As [`Machine::new`].
    pub fn with_options(
        accelerator: &Accelerator,
        header: &Header,
        constants: &dyn Fn(ValueId) -> Option<Tensor>,
        options: Options,
    ) -> Result<Self, FunctionalError> {
        let datapath = Datapath::new(accelerator);
        let varied = header.layers.iter().any(|layer| match &layer.arithmetic {
            Arithmetic::Matrix { weight, .. } => {
                weight.zero_point.iter().any(|zero| Some(zero) != weight.zero_point.first())
            }
            _ => false,
        });
        let mut store = Store::new(accelerator, header, options.checked, varied, MEMORY_LIMIT)
            .map_err(FunctionalError::TooLarge)?;
        let mut weight_types: Vec<Option<DType>> = vec![None; header.layers.len()];
        for image in &header.weights {
            let layer = header.layers.get(image.layer.index());
            let name = layer.map_or_else(String::new, |layer| layer.name.clone());
            let packed = write_image(image, header, constants, datapath, &mut store);
            let dtype = packed.map_err(|fault| FunctionalError::Image { layer: name, fault })?;
            weight_types[image.layer.index()] = Some(dtype);
        }
        let mut layers = Vec::new();
        for (layer, weight_type) in header.layers.iter().zip(weight_types) {
            let numbers = LayerNumerics::new(layer, header, accelerator, weight_type);
            layers.push(numbers.map_err(|fault| FunctionalError::Image { layer: layer.name.clone(), fault })?);
        }
        Ok(Self {
            store,
            datapath,
            layers,
            tensors: header.tensors.clone(),
            inputs: header.inputs.clone(),
            outputs: header.outputs.clone(),
            host: None,
            arrays: vec![ArrayUnit::default(); accelerator.engines.len()],
            fetched: VecDeque::new(),
            vector: VectorUnit::default(),
            source: UnrolledRegion::default(),
            target: UnrolledRegion::default(),
            bytes: Vec::new(),
            tracer: None,
            overflows: vec![0; header.layers.len()],
        })
    }

    /// With an executor for the operators that run on the host.
    #[must_use]
    pub fn with_host(mut self, host: Arc<dyn HostExecutor + 'h>) -> Self {
        self.host = Some(host);
        self
    }

    /// Writes the network's input `index`, in logical layout.
    ///
    /// # Errors
    /// No such input, or a tensor of another shape or type.
    pub fn set_input(&mut self, index: usize, tensor: &Tensor) -> Result<(), FunctionalError> {
        let &id = self.inputs.get(index).ok_or(FunctionalError::NoInput(index))?;
        self.set_tensor(id, tensor)
    }

    /// Writes a tensor, in logical layout, to where it lies.
    ///
    /// # Errors
    /// No such tensor, or one of another shape or type.
    pub fn set_tensor(&mut self, id: TensorId, tensor: &Tensor) -> Result<(), FunctionalError> {
        self.put(id, tensor, false)
    }

    /// As [`Machine::set_tensor`], for a constant that [`Machine::reset_activations`] keeps.
    ///
    /// # Errors
    /// As [`Machine::set_tensor`].
    pub fn set_constant(&mut self, id: TensorId, tensor: &Tensor) -> Result<(), FunctionalError> {
        self.put(id, tensor, true)
    }

    fn put(&mut self, id: TensorId, tensor: &Tensor, constant: bool) -> Result<(), FunctionalError> {
        let place = self.tensors.get(id.index()).ok_or(FunctionalError::NoTensor(id))?;
        let written = place::write(&mut self.store, place, tensor, constant);
        written.map_err(|fault| FunctionalError::Tensor { tensor: place.name.clone(), fault })
    }

    /// Reads a tensor from where it lies, into logical layout.
    ///
    /// # Errors
    /// No such tensor; in checked mode one that has not been written.
    pub fn tensor(&self, id: TensorId) -> Result<Tensor, FunctionalError> {
        let place = self.tensors.get(id.index()).ok_or(FunctionalError::NoTensor(id))?;
        place::read(&self.store, place).map_err(|fault| FunctionalError::Tensor { tensor: place.name.clone(), fault })
    }

    /// The network's outputs, in the graph's order.
    ///
    /// # Errors
    /// As [`Machine::tensor`].
    pub fn outputs(&self) -> Result<Vec<Tensor>, FunctionalError> {
        self.outputs.iter().map(|&id| self.tensor(id)).collect()
    }

    /// Forgets a sample: what is not a weight or a constant is undefined again, buffers are poisoned.
    pub fn reset_activations(&mut self) {
        self.store.reset();
        self.arrays.fill(ArrayUnit::default());
        self.fetched.clear();
    }

    /// By layer, how many sums left the width of their adder on the array or the vector unit, in all runs so far.
    pub fn overflows(&self) -> &[u64] {
        &self.overflows
    }

    /// Follows one element from now on, or none.
    ///
    /// # Errors
    /// No such tensor, or an index outside it.
    pub fn set_trace(&mut self, trace: Option<&TracedElement>) -> Result<(), FunctionalError> {
        self.tracer = None;
        let Some(trace) = trace else { return Ok(()) };
        let place = self.tensors.get(trace.tensor.index()).ok_or(FunctionalError::NoTensor(trace.tensor))?;
        let address = place::address(place, &trace.index).ok_or_else(|| FunctionalError::Tensor {
            tensor: place.name.clone(),
            fault: Fault::Region("index outside the tensor"),
        })?;
        self.tracer = Some(Tracer::new((place.space, address)));
        Ok(())
    }

    /// Where the followed element came from, once it has been written.
    pub fn traced(&self) -> Option<Origin> {
        self.tracer.as_ref().and_then(Tracer::story)
    }

    /// An operand of the array as integers less their zero points, `[rows, k]` as the region of the instruction's layer
    /// walks; `stays` says whether it is the one that is preloaded (or, where sums stay, the second one).
    ///
    /// # Errors
    /// A region outside its space, a layer without products.
    pub fn array_operand(
        &mut self,
        instruction: &Instruction,
        region: &Region,
        stays: bool,
    ) -> Result<Vec<i32>, FunctionalError> {
        let id = instruction.layer;
        let layer = self.layers.get(id.index()).ok_or(Fault::NoLayer(id));
        let values = layer
            .and_then(|layer| array_unit(&mut self.arrays, instruction)?.operand(&self.store, layer, region, stays));
        values.map_err(|fault| self.at(instruction, fault))
    }

    /// Accumulators in the order of a region's walk.
    ///
    /// # Errors
    /// A region outside them.
    pub fn sums(&mut self, instruction: &Instruction, region: &Region) -> Result<Vec<i64>, FunctionalError> {
        let array = array_unit(&mut self.arrays, instruction);
        let sums = array.and_then(|array| array.sums(&self.store.accumulators, region));
        sums.map_err(|fault| self.at(instruction, fault))
    }

    /// Executes instructions in the order given.
    ///
    /// # Errors
    /// The first instruction that cannot be executed.
    pub fn run(
        &mut self,
        instructions: impl IntoIterator<Item = impl Borrow<Instruction>>,
    ) -> Result<(), FunctionalError> {
        instructions.into_iter().try_for_each(|instruction| self.execute(instruction.borrow()))
    }

    /// Executes instructions in program order, in which those of one layer are contiguous, and calls
    /// `observer(layer, machine)` when the last one of a layer has been executed: its outputs can be read then.
    ///
    /// # Errors
    /// The first instruction that cannot be executed.
    pub fn run_observed(
        &mut self,
        instructions: impl IntoIterator<Item = Instruction>,
        observer: &mut dyn FnMut(LayerId, &Self),
    ) -> Result<(), FunctionalError> {
        let mut current = None;
        for instruction in instructions {
            if let Some(layer) = current
                && layer != instruction.layer
            {
                observer(layer, self);
            }
            current = Some(instruction.layer);
            self.execute(&instruction)?;
        }
        if let Some(layer) = current {
            observer(layer, self);
        }
        Ok(())
    }

    /// Executes one instruction.
    ///
    /// # Errors
    /// Regions outside their space or that do not fit each other, reads of undefined bytes in checked mode, and
    /// arithmetic that the layer does not have.
    pub fn execute(&mut self, instruction: &Instruction) -> Result<(), FunctionalError> {
        self.dispatch(instruction).map_err(|fault| self.at(instruction, fault))
    }

    fn at(&self, instruction: &Instruction, fault: Fault) -> FunctionalError {
        FunctionalError::Instruction {
            instruction: instruction.index,
            layer: self.layers.get(instruction.layer.index()).map_or_else(String::new, |layer| layer.name.clone()),
            fault,
        }
    }

    fn dispatch(&mut self, instruction: &Instruction) -> Result<(), Fault> {
        let id = instruction.layer;
        let layer = self.layers.get(id.index()).ok_or(Fault::NoLayer(id))?;
        match &instruction.operation {
            Operation::Fence => Ok(()),
            Operation::Load(transfer) | Operation::Store(transfer) | Operation::Move(transfer) => {
                self.transfer(transfer, instruction.index)
            }
            Operation::Preload { stationary } => {
                let array = array_unit(&mut self.arrays, instruction)?;
                array.preload(&self.store, id, layer, self.datapath, stationary, false)
            }
            Operation::Fetch { stationary } => {
                let fifo = array_unit(&mut self.arrays, instruction)?;
                self.fetched.push_back(fifo.fetch(&self.store, id, layer, self.datapath, stationary)?);
                Ok(())
            }
            Operation::PreloadNext { columns, k } => {
                let next = self.fetched.pop_front().ok_or(Fault::NoStationary)?;
                array_unit(&mut self.arrays, instruction)?.take(next, [*columns, *k])
            }
            Operation::Matmul(matmul) => {
                let array = array_unit(&mut self.arrays, instruction)?;
                array.matmul(&mut self.store, id, layer, self.datapath, matmul)?;
                self.overflows[id.index()] += std::mem::take(&mut array.overflows);
                Ok(())
            }
            Operation::Host(op) if matches!(op.kind, VectorKind::WholeOperator { .. }) => {
                host::execute(&mut self.store, &self.tensors, layer, self.datapath, self.host.as_deref())
            }
            Operation::Vector(op) | Operation::Host(op) => {
                let context = Context {
                    store: &mut self.store,
                    id,
                    layer,
                    datapath: self.datapath,
                    instruction: instruction.index,
                    tracer: self.tracer.as_mut(),
                };
                self.vector.execute(context, op)?;
                self.overflows[id.index()] += std::mem::take(&mut self.vector.overflows);
                Ok(())
            }
        }
    }

    fn transfer(&mut self, transfer: &Transfer, instruction: u64) -> Result<(), Fault> {
        let (from, to) = (transfer.source.space, transfer.target.space);
        self.source.set(&transfer.source)?;
        self.target.set(&transfer.target)?;
        access::equal("elements of a transfer", self.source.elements() as u64, self.target.elements() as u64)?;
        access::equal("element size of a transfer", self.source.element as u64, self.target.element as u64)?;
        access::gather_bytes(self.store.bytes(from)?, &self.source, &mut self.bytes)?;
        access::scatter_bytes(self.store.bytes_mut(to)?, &self.target, &self.bytes)?;
        access::carry_zeros(&mut self.store, (from, &self.source), (to, &self.target))?;
        match &mut self.tracer {
            Some(tracer) => tracer.carried(instruction, (from, &self.source), (to, &self.target)),
            None => Ok(()),
        }
    }
}

/// Writes one image; the type of the second operand.
fn write_image(
    image: &WeightImage,
    header: &Header,
    constants: &dyn Fn(ValueId) -> Option<Tensor>,
    datapath: Datapath,
    store: &mut Store,
) -> Result<DType, Fault> {
    let layer = header.layers.get(image.layer.index()).ok_or(Fault::NoLayer(image.layer))?;
    let constant = |id: ValueId| constants(id).ok_or(Fault::NoConstant(id.0));
    let weights = image.weights.map(constant).transpose()?;
    let bias = image.bias.map(constant).transpose()?;
    let Arithmetic::Matrix { input, weight, output, .. } = &layer.arithmetic else {
        return Err(Fault::Arithmetic("a weight image"));
    };
    let memory = store.bytes_mut(crate::program::Space::Memory(image.memory))?;
    let (total, dtype) = if let Some(weights) = &weights {
        (pack::weights(image, weights, weight, memory)?, weights.dtype())
    } else {
        let second = layer.inputs.get(1).and_then(|id| header.tensors.get(id.index()));
        let second = second.ok_or(Fault::Arithmetic("a second operand"))?;
        (usize::try_from(image.outputs).map_err(|_| Fault::Region("weight image"))?, second.dtype)
    };
    pack::parameters(image, total, bias.as_ref(), [input, weight, output], datapath.requantizer, memory)?;
    Ok(dtype)
}

/// The array that an instruction runs on.
fn array_unit<'a>(arrays: &'a mut [ArrayUnit], instruction: &Instruction) -> Result<&'a mut ArrayUnit, Fault> {
    arrays.get_mut(usize::from(instruction.engine.0)).ok_or(Fault::Arithmetic("an engine that the machine has"))
}
