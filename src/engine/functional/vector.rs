//! The vector unit: from accumulators to outputs, and everything element by element or window by window. The host
//! runs the same kinds on memory.

use super::{
    access::{decode, equal, gather, gather_operand_row, same_size, scatter},
    array::varied_zero,
    error::Fault,
    numerics::{Datapath, LayerNumerics, Matrix, Operand},
    pool::Pool,
    requantizer::{Record, add, leaves},
    store::{Store, Words},
    table,
    trace::Tracer,
    unrolled::UnrolledRegion,
};
use crate::{
    ir::Op,
    kernels::{
        elementwise::{self, AddCoefficients},
        requantize::{Limits, requantize_row},
    },
    program::{Arithmetic, LayerId, Region, Space, VectorKind, VectorOp},
    tensor::{AccumulationOrder, DType, Quantization, Requantizer},
};

/// The unit's scratch memory.
#[derive(Clone, Debug, Default)]
pub(super) struct VectorUnit {
    records: Vec<Record>,
    biases: Vec<i32>,
    multipliers: Vec<f32>,
    first: Vec<i32>,
    second: Vec<i32>,
    result: Vec<i32>,
    bytes: Vec<u8>,
    accumulators: Vec<i64>,
    /// Sums that left their adder's width, where that is possible at all.
    pub overflows: u64,
    source: UnrolledRegion,
    target: UnrolledRegion,
    /// The table made last, with what it is for.
    table: Option<(LayerId, u8, Vec<i32>)>,
}

/// What an instruction works with besides its operands.
pub(super) struct Context<'a> {
    /// The machine's state.
    pub store: &'a mut Store,
    /// The layer.
    pub id: LayerId,
    /// Its numbers.
    pub layer: &'a LayerNumerics,
    /// The machine's datapath.
    pub datapath: Datapath,
    /// The instruction's position.
    pub instruction: u64,
    /// An element to follow.
    pub tracer: Option<&'a mut Tracer>,
}

/// The numbers of an element-wise layer.
pub(super) struct Elementwise<'a> {
    pub inputs: &'a [Quantization],
    pub input_types: &'a [DType],
    pub output: &'a Quantization,
    pub output_type: DType,
    pub clamp: [i32; 2],
    pub op: &'a Op,
}

impl<'a> Elementwise<'a> {
    pub fn of(layer: &'a LayerNumerics) -> Result<Self, Fault> {
        match &layer.arithmetic {
            Arithmetic::Elementwise { inputs, input_types, output, output_type, clamp, op } => {
                Ok(Self { inputs, input_types, output, output_type: *output_type, clamp: *clamp, op })
            }
            _ => Err(Fault::Arithmetic("an element-wise operation")),
        }
    }

    pub fn operand(&self, index: usize) -> Result<(&'a Quantization, DType), Fault> {
        let both = self.inputs.get(index).zip(self.input_types.get(index).copied());
        let (quantization, dtype) = both.ok_or(Fault::Arithmetic("this operand"))?;
        if quantization.scale.is_empty() || quantization.zero_point.is_empty() {
            return Err(Fault::Arithmetic("this operand's scale"));
        }
        Ok((quantization, dtype))
    }
}

fn input(op: &VectorOp, index: usize) -> Result<&Region, Fault> {
    op.inputs.get(index).ok_or(Fault::Shape {
        what: "operands of a vector instruction",
        expected: index as u64 + 1,
        found: op.inputs.len() as u64,
    })
}

impl VectorUnit {
    /// Executes an instruction of any kind but a whole operator.
    pub fn execute(&mut self, mut context: Context, op: &VectorOp) -> Result<(), Fault> {
        match op.kind {
            VectorKind::Requantize => self.requantize(&mut context, op),
            VectorKind::Depthwise => self.depthwise(&mut context, op),
            VectorKind::Add | VectorKind::Mul => self.binary(&mut context, op),
            VectorKind::MaxPool | VectorKind::AvgPool | VectorKind::GlobalAvgPool => self.pool(&mut context, op),
            VectorKind::Table => self.table(&mut context, op),
            VectorKind::Softmax => self.softmax(&mut context, op),
            VectorKind::Copy => self.copy(&mut context, op),
            VectorKind::WholeOperator { .. } => Err(Fault::Unsupported("a whole operator on the vector unit")),
        }
    }

    /// Reads the parameter records of `channels` channels.
    fn read_records(&mut self, context: &Context, region: &Region, channels: usize) -> Result<(), Fault> {
        self.source.set(region)?;
        super::access::gather_bytes(context.store.bytes(region.space)?, &self.source, &mut self.bytes)?;
        let record = context.datapath.record;
        equal("bytes of the parameter records", (channels * record) as u64, self.bytes.len() as u64)?;
        self.records.clear();
        self.records.extend(self.bytes.chunks_exact(record).map(Record::decode));
        Ok(())
    }

    fn write(&mut self, context: &mut Context, space: Space, dtype: DType, sums: bool) -> Result<(), Fault> {
        scatter(context.store.bytes_mut(space)?, &self.target, dtype, &self.result)?;
        match &mut context.tracer {
            Some(tracer) => {
                let sums = sums.then_some(self.accumulators.as_slice());
                tracer.computed(context.instruction, space, &self.target, sums)
            }
            None => Ok(()),
        }
    }

    fn requantize(&mut self, context: &mut Context, op: &VectorOp) -> Result<(), Fault> {
        let matrix = context.layer.matrix()?;
        self.target.set(&op.output)?;
        let [m, n] = [self.target.rows.len(), self.target.cols];
        self.read_records(context, input(op, 1)?, n)?;
        self.source.set(input(op, 0)?)?;
        equal("rows of the accumulators", m as u64, self.source.rows.len() as u64)?;
        equal("columns of the accumulators", n as u64, self.source.cols as u64)?;
        if input(op, 0)?.space != Space::Accumulators {
            return Err(Fault::NoSpace(input(op, 0)?.space));
        }
        if self.requantize_fast(context, op, matrix)? {
            return Ok(());
        }
        self.accumulators.clear();
        self.accumulators.resize(m * n, 0);
        let accumulators = &context.store.accumulators;
        let (source, values) = (&self.source, &mut self.accumulators);
        source.stretches(|first, length, address| {
            let range = accumulators.reading(address.ok_or(Fault::Region("padding in accumulators"))?, length)?;
            let target = &mut values[first..first + length];
            match &accumulators.words {
                Words::Narrow(words) => {
                    target.iter_mut().zip(&words[range]).for_each(|(slot, &word)| *slot = i64::from(word));
                }
                Words::Wide(words) => target.copy_from_slice(&words[range]),
            }
            Ok(())
        })?;
        self.count_biases(matrix, n, context.datapath);
        self.result.clear();
        let finished = self.accumulators.chunks_exact(n.max(1)).flat_map(|row| {
            row.iter().zip(&self.records).map(|(&acc, &record)| finish(acc, record, matrix, context.datapath))
        });
        self.result.extend(finished);
        self.write(context, op.output.space, matrix.output_type, true)
    }

    /// Counts the accumulators that their bias takes past their width.
    fn count_biases(&mut self, matrix: &Matrix, channels: usize, datapath: Datapath) {
        if matrix.order == AccumulationOrder::Exact {
            return;
        }
        for row in self.accumulators.chunks_exact(channels.max(1)) {
            let left = row
                .iter()
                .zip(&self.records)
                .filter(|&(&acc, record)| leaves(acc, i64::from(record.bias), datapath.accumulator_bits));
            self.overflows += left.count() as u64;
        }
    }

    /// The kernel's case: 32-bit accumulators, float32 multiplier, 8-bit outputs, contiguous rows.
    fn requantize_fast(&mut self, context: &mut Context, op: &VectorOp, matrix: &Matrix) -> Result<bool, Fault> {
        let datapath = context.datapath;
        // What may overflow is counted, which the kernel does not.
        let exact = matrix.order == AccumulationOrder::Exact;
        let byte =
            matches!(matrix.output_type, DType::UInt8 | DType::Int8 | DType::Int4) && op.output.element.bytes() == 1;
        let plain = datapath.requantizer == Requantizer::F32Rne && datapath.accumulator_bits == 32 && exact;
        let (Some(from), Some(to)) = (self.source.flat(), self.target.flat()) else { return Ok(false) };
        if !byte || !plain || context.tracer.is_some() {
            return Ok(false);
        }
        let Store { accumulators, .. } = &*context.store;
        if !matches!(accumulators.words, Words::Narrow(_)) {
            return Ok(false);
        }
        let n = self.target.cols;
        self.biases.clear();
        self.biases.extend(self.records.iter().map(|record| record.bias));
        self.multipliers.clear();
        self.multipliers.extend(self.records.iter().map(|record| record.single()));
        let limits = Limits { zero_point: matrix.output_zero, low: matrix.clamp[0], high: matrix.clamp[1] };
        for (source, target) in self.source.rows.iter().zip(&self.target.rows) {
            let range = context.store.accumulators.reading(from + source.offset, n)?;
            self.first.clear();
            if let Words::Narrow(words) = &context.store.accumulators.words {
                self.first.extend_from_slice(&words[range]);
            }
            let out = context.store.bytes_mut(op.output.space)?.write(to + target.offset, n)?;
            requantize_row(&self.first, &self.biases, &self.multipliers, limits, out);
        }
        Ok(true)
    }

    fn depthwise(&mut self, context: &mut Context, op: &VectorOp) -> Result<(), Fault> {
        let matrix = context.layer.matrix()?;
        let datapath = context.datapath;
        let (image, weights) = (*input(op, 0)?, *input(op, 1)?);
        let channels = window_channels(&image)?;
        self.source.set(&weights)?;
        equal("channels of the weights", channels as u64, self.source.rows.len() as u64)?;
        let taps = self.source.cols;
        let weights = self.weights(context, &weights, matrix.weight, channels, taps)?;
        self.read_records(context, input(op, 2)?, channels)?;
        self.source.set(&image)?;
        self.target.set(&op.output)?;
        equal("taps of the window", (taps * channels) as u64, self.source.cols as u64)?;
        equal("rows of the result", self.source.rows.len() as u64, self.target.rows.len() as u64)?;
        equal("columns of the result", channels as u64, self.target.cols as u64)?;
        self.accumulators.clear();
        self.result.clear();
        let bytes = context.store.bytes(image.space)?;
        let largest = matrix.input.magnitude.saturating_mul(matrix.weight.magnitude).saturating_mul(taps as u64);
        let exact = matrix.order == AccumulationOrder::Exact && largest < 1 << 31;
        let mut operands = vec![0_i16; taps * channels];
        let mut values = vec![0_i32; taps * channels];
        let mut sums = vec![0_i32; channels];
        for &point in &self.source.rows {
            if let (Some(kind), true) = (matrix.input.narrow, exact) {
                let zero = i16::try_from(matrix.input.zero).map_err(|_| Fault::Arithmetic("a zero point"))?;
                equal("element size of an image", kind.bytes() as u64, self.source.element as u64)?;
                gather_operand_row(bytes, &self.source, point, kind, zero, &mut operands)?;
                elementwise::depthwise_row(&operands, &weights, &mut sums);
                self.accumulators.extend(sums.iter().map(|&sum| i64::from(sum)));
                continue;
            }
            self.source.row(point, |first, length, address| {
                let target = &mut values[first..first + length];
                let Some(address) = address else {
                    target.fill(0);
                    return Ok(());
                };
                decode(matrix.input.dtype, bytes.read(address, length * self.source.element)?, target)?;
                for value in target {
                    *value -= matrix.input.zero;
                }
                Ok(())
            })?;
            for channel in 0..channels {
                let product = |tap: usize| {
                    let at = tap * channels + channel;
                    i64::from(values[at]) * i64::from(weights[at])
                };
                self.accumulators.push(accumulate(&matrix.order, taps, product, &mut self.overflows)?);
            }
        }
        self.count_biases(matrix, channels, datapath);
        for row in self.accumulators.chunks_exact(channels.max(1)) {
            self.result
                .extend(row.iter().zip(&self.records).map(|(&acc, &record)| finish(acc, record, matrix, datapath)));
        }
        self.write(context, op.output.space, matrix.output_type, true)
    }

    /// Depthwise weights `[c, taps]` as `[taps, c]`, less their zero points.
    fn weights(
        &mut self,
        context: &Context,
        region: &Region,
        operand: Operand,
        channels: usize,
        taps: usize,
    ) -> Result<Vec<i32>, Fault> {
        let bytes = context.store.bytes(region.space)?;
        gather(bytes, &self.source, operand.dtype, operand.zero, &mut self.first)?;
        let mut weights = vec![0; channels * taps];
        for (channel, row) in self.first.chunks_exact(taps.max(1)).enumerate() {
            let zero = if operand.varied { varied_zero(bytes, &self.source, channel)? } else { operand.zero };
            for (tap, &value) in row.iter().enumerate() {
                weights[tap * channels + channel] = value - zero;
            }
        }
        Ok(weights)
    }

    fn operand(
        &mut self,
        context: &Context,
        region: &Region,
        (quantization, dtype): (&Quantization, DType),
    ) -> Result<Vec<i32>, Fault> {
        self.source.set(region)?;
        let mut values = std::mem::take(&mut self.second);
        gather(context.store.bytes(region.space)?, &self.source, dtype, table::zero(quantization), &mut values)?;
        Ok(values)
    }

    fn binary(&mut self, context: &mut Context, op: &VectorOp) -> Result<(), Fault> {
        let numbers = Elementwise::of(context.layer)?;
        let (a, b) = (numbers.operand(0)?, numbers.operand(1)?);
        let left = self.operand(context, input(op, 0)?, a)?;
        let right = self.operand(context, input(op, 1)?, b)?;
        equal("elements of the operands", left.len() as u64, right.len() as u64)?;
        self.target.set(&op.output)?;
        self.result.clear();
        self.result.resize(left.len(), 0);
        let [qa, qb, qc] = [a.0, b.0, numbers.output].map(|q| (table::scale(q), table::zero(q)));
        let clamp = numbers.clamp;
        let rescaled = |q: i32, of: &Quantization| table::entry(numbers.op, q, of, numbers.output, clamp);
        let pair = |x: i32, y: i32| match numbers.op {
            // Rescaling keeps the order, so that the smaller one may be chosen behind it.
            Op::Min => rescaled(x, a.0).min(rescaled(y, b.0)),
            Op::Max => rescaled(x, a.0).max(rescaled(y, b.0)),
            Op::PRelu => table::prelu((x, a.0), (y, b.0), numbers.output, clamp),
            _ => multiply(x, y, qa, qb, qc, clamp),
        };
        if matches!(numbers.op, Op::Add { .. }) {
            let [low, high] = clamp;
            elementwise::add(&left, &right, AddCoefficients::new(qa, qb, qc), low, high, &mut self.result);
        } else {
            for ((slot, &x), &y) in self.result.iter_mut().zip(&left).zip(&right) {
                *slot = pair(x, y);
            }
        }
        self.first = left;
        self.second = right;
        self.write(context, op.output.space, numbers.output_type, false)
    }

    fn table(&mut self, context: &mut Context, op: &VectorOp) -> Result<(), Fault> {
        let numbers = Elementwise::of(context.layer)?;
        let (quantization, dtype) = numbers.operand(usize::from(op.operand))?;
        let values = self.operand(context, input(op, 0)?, (quantization, dtype))?;
        self.target.set(&op.output)?;
        self.result.clear();
        let entry = |q: i32| table::entry(numbers.op, q, quantization, numbers.output, numbers.clamp);
        if dtype.bits() <= 8 {
            let first = if dtype == DType::UInt8 { 0 } else { -128 };
            let made = self.table.take().filter(|(id, operand, _)| (*id, *operand) == (context.id, op.operand));
            let (_, _, entries) =
                made.unwrap_or_else(|| (context.id, op.operand, (first..first + 256).map(entry).collect()));
            let index = |q: i32| usize::try_from(q - first).unwrap_or(0).min(255);
            self.result.extend(values.iter().map(|&q| entries[index(q)]));
            self.table = Some((context.id, op.operand, entries));
        } else {
            self.result.extend(values.iter().map(|&q| entry(q)));
        }
        self.second = values;
        self.write(context, op.output.space, numbers.output_type, false)
    }

    fn softmax(&mut self, context: &mut Context, op: &VectorOp) -> Result<(), Fault> {
        let numbers = Elementwise::of(context.layer)?;
        let (quantization, dtype) = numbers.operand(0)?;
        let values = self.operand(context, input(op, 0)?, (quantization, dtype))?;
        self.target.set(&op.output)?;
        self.result.clear();
        self.result.resize(values.len(), 0);
        let cols = self.source.cols.max(1);
        for (row, out) in values.chunks_exact(cols).zip(self.result.chunks_exact_mut(cols)) {
            table::softmax(row, quantization, numbers.output, numbers.clamp, out);
        }
        self.second = values;
        self.write(context, op.output.space, numbers.output_type, false)
    }

    /// Elements as they are; padding becomes the padding value of the layer's operator, zero by default.
    fn copy(&mut self, context: &mut Context, op: &VectorOp) -> Result<(), Fault> {
        let region = input(op, 0)?;
        self.source.set(region)?;
        self.target.set(&op.output)?;
        equal("elements of a copy", self.target.elements() as u64, self.source.elements() as u64)?;
        equal("element size of a copy", self.target.element as u64, self.source.element as u64)?;
        let element = self.source.element;
        let padding = match Elementwise::of(context.layer) {
            Ok(numbers) => {
                let (quantization, _) = numbers.operand(usize::from(op.operand))?;
                let real = if let Op::Pad { value, .. } = numbers.op { *value } else { 0.0 };
                table::quantize(real, quantization, numbers.clamp)
            }
            Err(_) => 0,
        };
        self.bytes.clear();
        self.bytes.resize(self.source.elements() * element, 0);
        let source = context.store.bytes(region.space)?;
        self.source.stretches(|first, length, address| {
            let target = &mut self.bytes[first * element..][..length * element];
            if let Some(address) = address {
                target.copy_from_slice(source.read(address, length * element)?);
            } else {
                let value = i64::from(padding).to_le_bytes();
                target.chunks_exact_mut(element).for_each(|slot| slot.copy_from_slice(&value[..element]));
            }
            Ok(())
        })?;
        super::access::scatter_bytes(context.store.bytes_mut(op.output.space)?, &self.target, &self.bytes)?;
        match &mut context.tracer {
            Some(tracer) => tracer.computed(context.instruction, op.output.space, &self.target, None),
            None => Ok(()),
        }
    }

    fn pool(&mut self, context: &mut Context, op: &VectorOp) -> Result<(), Fault> {
        let numbers = Elementwise::of(context.layer)?;
        let (quantization, dtype) = numbers.operand(0)?;
        let region = input(op, 0)?;
        let channels = window_channels(region)?;
        self.source.set(region)?;
        same_size("element size of an image", &self.source, dtype)?;
        self.target.set(&op.output)?;
        equal("rows of the result", self.source.rows.len() as u64, self.target.rows.len() as u64)?;
        equal("columns of the result", channels as u64, self.target.cols as u64)?;
        let taps = self.source.cols / channels.max(1);
        let bytes = context.store.bytes(region.space)?;
        let mut pool = Pool::new(op.kind, &numbers, quantization, channels, taps);
        let mut line = Vec::new();
        self.result.clear();
        for &point in &self.source.rows {
            pool.start();
            self.source.row(point, |first, length, address| {
                let Some(address) = address else { return Ok(()) };
                line.resize(length, 0);
                decode(dtype, bytes.read(address, length * self.source.element)?, &mut line)?;
                pool.take(first % channels, &line);
                Ok::<_, Fault>(())
            })?;
            pool.finish(&mut self.result);
        }
        self.write(context, op.output.space, numbers.output_type, false)
    }
}

/// Channels of an image walk `[n,oh,ow | r,s,c]`; pools and depthwise windows are never cut along their columns.
fn window_channels(region: &Region) -> Result<usize, Fault> {
    if region.split != 3 || region.window.is_some() {
        return Err(Fault::Region("a window must be `[n,oh,ow | r,s,c]`, whole along its columns"));
    }
    match usize::try_from(region.dims[5].count) {
        Ok(channels) if channels > 0 => Ok(channels),
        _ => Err(Fault::Region("a window without channels")),
    }
}

/// One output: bias, requantization, zero point, clamp.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "clamped to 32-bit limits")]
pub(super) fn finish(acc: i64, record: Record, matrix: &Matrix, datapath: Datapath) -> i32 {
    let sum = add(acc, i64::from(record.bias), datapath.accumulator_bits, datapath.overflow);
    let scaled = record.scale(datapath.requantizer, sum).saturating_add(i64::from(matrix.output_zero));
    scaled.clamp(i64::from(matrix.clamp[0]), i64::from(matrix.clamp[1])) as i32
}

/// Products added in the layer's order: exactly, or chunk by chunk as `AccumulationOrder` says, with a count of the sums
/// that left their adder's width.
pub(super) fn accumulate(
    order: &AccumulationOrder,
    count: usize,
    product: impl Fn(usize) -> i64,
    overflows: &mut u64,
) -> Result<i64, Fault> {
    let AccumulationOrder::Chunked { permutation, chunks, column_bits, accumulator_bits, overflow } = order else {
        return Ok((0..count).map(product).fold(0, i64::wrapping_add));
    };
    let total: u64 = chunks.iter().map(|&chunk| u64::from(chunk)).sum();
    equal("products of the accumulation order", total, count as u64)?;
    if !permutation.is_empty() {
        equal("products of the accumulation order", permutation.len() as u64, count as u64)?;
    }
    let mut next = 0;
    let mut sum = 0;
    for &chunk in chunks {
        let mut column = 0;
        for _ in 0..chunk {
            let index = permutation.get(next).map_or(Ok(next), |&index| usize::try_from(index));
            let index = index.ok().filter(|&index| index < count).ok_or(Fault::Region("accumulation order"))?;
            let product = product(index);
            *overflows += u64::from(leaves(column, product, *column_bits));
            column = add(column, product, *column_bits, *overflow);
            next += 1;
        }
        *overflows += u64::from(leaves(sum, column, *accumulator_bits));
        sum = add(sum, column, *accumulator_bits, *overflow);
    }
    Ok(sum)
}

/// `clip(rne(f32(f32(f32((a - za)(b - zb)) * f32(f32(sa * sb) / sc)) + zc)))`, ONNX Runtime's `QLinearMul`: the zero point
/// goes in before the rounding, which an odd one makes visible at ties.
pub(super) fn multiply(a: i32, b: i32, qa: (f32, i32), qb: (f32, i32), qc: (f32, i32), clamp: [i32; 2]) -> i32 {
    let less = |q: i32, zero: i32| i64::from(q).saturating_sub(i64::from(zero));
    let product = less(a, qa.1).saturating_mul(less(b, qb.1));
    table::round_and_clip(product as f32 * (qa.0 * qb.0 / qc.0) + qc.1 as f32, 0, clamp)
}
