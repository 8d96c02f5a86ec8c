//! The array: the stationary operand, and products that stream past it into the accumulators.
//!
//! Four ways give the same bits. `Direct`: 32-bit kernel straight into the accumulators, where nothing can leave them.
//! `Tile`: the kernel's sums, which are exact, then the datapath's policy once a sum. `Wide`: the same of sums in 64 bits,
//! where 32 do not hold them or operands do not fit 16. `Sequential`: one adder after the other in the order of k, where a
//! column can saturate.

use super::{
    access::{equal, gather, gather_operands},
    error::Fault,
    numerics::{Datapath, LayerNumerics, Matrix, Operand},
    requantizer::{add, leaves},
    store::{Accumulators, Store, Words},
    unrolled::UnrolledRegion,
};
use crate::{
    config::Dataflow,
    kernels::gemm::{Packed, gemm},
    program::{LayerId, Matmul, Region},
    tensor::{AccumulationOrder, Overflow},
};

/// How a product is computed; see the module's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Direct,
    Tile,
    Wide,
    Sequential,
}

/// A stationary operand.
#[derive(Clone, Debug, Default)]
pub(super) struct Stationary {
    /// Its layer.
    owner: Option<LayerId>,
    path: Option<Path>,
    packed: Packed,
    /// `[k, n]`, on the wide and the sequential path.
    wide: Vec<i32>,
    shape: [usize; 2],
}

/// The array's registers and the engine's scratch memory.
#[derive(Clone, Debug, Default)]
pub(super) struct ArrayUnit {
    stationary: Stationary,
    /// Sums that left their adder's width, where that is possible at all.
    pub overflows: u64,
    stream: Vec<i16>,
    values: Vec<i32>,
    tile: Vec<i32>,
    sums: Vec<i64>,
    /// One row of a tile's sums, on the wide path.
    products: Vec<i64>,
    /// Sums `[t, n]` that the elements hold, and of which layer.
    held: Vec<i64>,
    held_by: Option<(LayerId, [usize; 2])>,
    offsets: Vec<usize>,
    walk: UnrolledRegion,
    target: UnrolledRegion,
}

/// `continued`: the column's sums begin with, or are the beginning of, those of another tile.
fn path_of(matrix: &Matrix, datapath: Datapath, k: usize, continued: bool) -> Path {
    let wraps = datapath.overflow == Overflow::Wrap;
    let largest = matrix.input.magnitude.saturating_mul(matrix.weight.magnitude).saturating_mul(k as u64);
    let below = |bits: u8| largest < 1 << (u32::from(bits) - 1);
    let exact = below(datapath.column_bits);
    // A sum that is held may saturate on the way, however few products this tile adds.
    let may_saturate = !wraps && (!exact || (continued && matrix.order != AccumulationOrder::Exact));
    if may_saturate || !below(64) {
        return Path::Sequential;
    }
    // The kernel takes operands, less their zero points, of 16 bits, and adds modulo 2^32: a sum that wraps could not be
    // counted.
    let fits = |operand: &Operand| operand.narrow.is_some() && operand.magnitude <= i16::MAX.unsigned_abs().into();
    if !fits(&matrix.input) || !fits(&matrix.weight) || !below(32) {
        return Path::Wide;
    }
    let wide_column = datapath.column_bits >= 32 || exact;
    // What may overflow is added up sum by sum, so that it is counted.
    let wide_accumulator = datapath.accumulator_bits == 32 && matrix.order == AccumulationOrder::Exact;
    if wide_column && wide_accumulator && !continued { Path::Direct } else { Path::Tile }
}

/// The (stationary, streaming) operands of a dataflow.
fn operands(layer: &LayerNumerics) -> Result<(Operand, Operand), Fault> {
    let matrix = layer.matrix()?;
    Ok(match layer.dataflow {
        Some(Dataflow::WS | Dataflow::OS) => (matrix.weight, matrix.input),
        Some(Dataflow::IS) => (matrix.input, matrix.weight),
        None => return Err(Fault::Arithmetic("a dataflow")),
    })
}

impl ArrayUnit {
    /// `Preload`; `continued` as in [`path_of`].
    pub fn preload(
        &mut self,
        store: &Store,
        id: LayerId,
        layer: &LayerNumerics,
        datapath: Datapath,
        region: &Region,
        continued: bool,
    ) -> Result<(), Fault> {
        self.stationary.owner = None;
        let (stationary, _) = operands(layer)?;
        self.walk.set(region)?;
        let (n, k) = (self.walk.rows.len(), self.walk.cols);
        let matrix = layer.matrix()?;
        // Where nothing can overflow it does not matter which adder adds.
        let injects = datapath.injects && matrix.order != AccumulationOrder::Exact;
        let path = path_of(matrix, datapath, k, continued || injects);
        let bytes = store.bytes(region.space)?;
        if let (Some(kind), Path::Direct | Path::Tile) = (stationary.narrow, path) {
            let zero = if stationary.varied { 0 } else { narrow(stationary.zero)? };
            gather_operands(bytes, &self.walk, kind, zero, k, &mut self.stream)?;
            self.stationary.packed.reset(n, k);
            for (j, row) in self.stream.chunks_exact_mut(k.max(1)).take(n).enumerate() {
                if stationary.varied {
                    subtract(row, narrow(varied_zero(bytes, &self.walk, j)?)?);
                }
                self.stationary.packed.set_row(j, row);
            }
        } else {
            gather(bytes, &self.walk, stationary.dtype, stationary.zero, &mut self.values)?;
            self.stationary.wide.clear();
            self.stationary.wide.resize(n * k, 0);
            for (j, row) in self.values.chunks_exact(k.max(1)).take(n).enumerate() {
                let zero = if stationary.varied { varied_zero(bytes, &self.walk, j)? } else { stationary.zero };
                for (d, &value) in row.iter().enumerate() {
                    self.stationary.wide[d * n + j] = value - zero;
                }
            }
        }
        self.stationary.shape = [n, k];
        self.stationary.path = Some(path);
        self.stationary.owner = Some(id);
        Ok(())
    }

    /// `Fetch`: as `Preload`, for the FIFO.
    pub fn fetch(
        &mut self,
        store: &Store,
        id: LayerId,
        layer: &LayerNumerics,
        datapath: Datapath,
        region: &Region,
    ) -> Result<Stationary, Fault> {
        self.preload(store, id, layer, datapath, region, false)?;
        Ok(std::mem::take(&mut self.stationary))
    }

    /// `PreloadNext`, with the FIFO's oldest operand.
    pub fn take(&mut self, next: Stationary, [columns, k]: [u32; 2]) -> Result<(), Fault> {
        self.stationary = next;
        equal("columns of the stationary operand", u64::from(columns), self.stationary.shape[0] as u64)?;
        equal("k of the stationary operand", u64::from(k), self.stationary.shape[1] as u64)
    }

    /// `Matmul`.
    pub fn matmul(
        &mut self,
        store: &mut Store,
        id: LayerId,
        layer: &LayerNumerics,
        datapath: Datapath,
        matmul: &Matmul,
    ) -> Result<(), Fault> {
        if let Some(region) = &matmul.stationary {
            self.preload(store, id, layer, datapath, region, matmul.resume || matmul.hold)?;
        }
        let (Some(path), true) = (self.stationary.path, self.stationary.owner == Some(id)) else {
            return Err(Fault::NoStationary);
        };
        let (_, streaming) = operands(layer)?;
        let counts = layer.matrix()?.order != AccumulationOrder::Exact;
        let [n, k] = self.stationary.shape;
        self.walk.set(&matmul.stream)?;
        self.target.set(&matmul.accumulators)?;
        let t = self.walk.rows.len();
        equal("k of the stream", k as u64, self.walk.cols as u64)?;
        equal("rows of the accumulators", t as u64, self.target.rows.len() as u64)?;
        equal("columns of the accumulators", n as u64, self.target.cols as u64)?;
        let held = self.held_by.take();
        if matmul.resume && held != Some((id, [t, n])) {
            return Err(Fault::NoHeldSums);
        }
        if matmul.hold {
            self.held_by = Some((id, [t, n]));
            self.held.resize(t * n, 0);
        }
        let bytes = store.bytes(matmul.stream.space)?;
        if matches!(path, Path::Wide | Path::Sequential) {
            self.gather_wide(bytes, streaming)?;
            return self.on_wide(&mut store.accumulators, datapath, matmul, counts, path == Path::Wide);
        }
        let kind = streaming.narrow.ok_or(Fault::Arithmetic("16-bit operands"))?;
        let depth = self.stationary.packed.padded_k();
        let zero = if streaming.varied { 0 } else { narrow(streaming.zero)? };
        gather_operands(bytes, &self.walk, kind, zero, depth, &mut self.stream)?;
        if streaming.varied {
            for (i, row) in self.stream.chunks_exact_mut(depth.max(1)).take(t).enumerate() {
                subtract(row, narrow(varied_zero(bytes, &self.walk, i)?)?);
            }
        }
        self.offsets.clear();
        if let (Path::Direct, Some(flat)) = (path, self.target.flat()) {
            let accumulators = &mut store.accumulators;
            match self.target.offsets() {
                // One check of the bounds for all rows.
                Some((first, last)) if !accumulators.is_checked() => {
                    let reach = usize::try_from(last - first).map_err(|_| Fault::Region("too many elements"))?;
                    let start = accumulators.writing(flat + first, reach + n)?.start;
                    let index = |point: &super::unrolled::Point| {
                        // The offset is at least the first one, by definition.
                        start + usize::try_from(point.offset - first).unwrap_or(0)
                    };
                    self.offsets.extend(self.target.rows.iter().map(index));
                }
                _ => {
                    for point in &self.target.rows {
                        if matmul.accumulate {
                            accumulators.reading(flat + point.offset, n)?;
                        }
                        self.offsets.push(accumulators.writing(flat + point.offset, n)?.start);
                    }
                }
            }
            if let Words::Narrow(words) = &mut store.accumulators.words {
                gemm(&self.stream, &self.stationary.packed, words, &self.offsets, matmul.accumulate);
                return Ok(());
            }
            self.offsets.clear();
        }
        self.tile.clear();
        self.tile.resize(t * n, 0);
        self.offsets.extend((0..t).map(|i| i * n));
        gemm(&self.stream, &self.stationary.packed, &mut self.tile, &self.offsets, false);
        for i in 0..t {
            self.begin(&store.accumulators, datapath, matmul, i)?;
            let tile = self.tile[i * n..][..n].iter().map(|&sum| i64::from(sum));
            self.overflows += add_row(&mut self.sums, tile, datapath, counts);
            self.end(&mut store.accumulators, datapath, matmul, i, counts)?;
        }
        Ok(())
    }

    /// An operand of a layer as integers less their zero points, `[rows, k]` as its region walks.
    pub fn operand(
        &mut self,
        store: &Store,
        layer: &LayerNumerics,
        region: &Region,
        stays: bool,
    ) -> Result<Vec<i32>, Fault> {
        let (stationary, streaming) = operands(layer)?;
        self.walk.set(region)?;
        self.gather_wide(store.bytes(region.space)?, if stays { stationary } else { streaming })?;
        Ok(self.values.clone())
    }

    /// Accumulators, in the order of their region's walk.
    pub fn sums(&mut self, accumulators: &Accumulators, region: &Region) -> Result<Vec<i64>, Fault> {
        self.target.set(region)?;
        let mut sums = Vec::with_capacity(self.target.elements());
        for row in 0..self.target.rows.len() {
            read_row(accumulators, &self.target, row, &mut sums)?;
        }
        Ok(sums)
    }

    fn gather_wide(&mut self, bytes: &super::store::Bytes, operand: Operand) -> Result<(), Fault> {
        if !operand.varied {
            gather(bytes, &self.walk, operand.dtype, operand.zero, &mut self.values)?;
            subtract(&mut self.values, operand.zero);
            return Ok(());
        }
        gather(bytes, &self.walk, operand.dtype, 0, &mut self.values)?;
        for (i, row) in self.values.chunks_exact_mut(self.walk.cols.max(1)).enumerate() {
            subtract(row, varied_zero(bytes, &self.walk, i)?);
        }
        Ok(())
    }

    /// A row of sums as the columns have it before a tile: zero, what the elements hold, or what is injected.
    fn begin(
        &mut self,
        accumulators: &Accumulators,
        datapath: Datapath,
        matmul: &Matmul,
        row: usize,
    ) -> Result<(), Fault> {
        let n = self.stationary.shape[0];
        self.sums.clear();
        if matmul.resume {
            self.sums.extend_from_slice(&self.held[row * n..][..n]);
            return Ok(());
        }
        if !is_injected(datapath, matmul) {
            self.sums.resize(n, 0);
            return Ok(());
        }
        read_row(accumulators, &self.target, row, &mut self.sums)
    }

    /// Where a row of sums goes after a tile: it stays, or goes to the accumulators.
    fn end(
        &mut self,
        accumulators: &mut Accumulators,
        datapath: Datapath,
        matmul: &Matmul,
        row: usize,
        counts: bool,
    ) -> Result<(), Fault> {
        if matmul.hold {
            let n = self.stationary.shape[0];
            self.held[row * n..][..n].copy_from_slice(&self.sums);
            return Ok(());
        }
        let overflows = counts.then_some(&mut self.overflows);
        let adds = matmul.accumulate && !is_injected(datapath, matmul);
        deposit(accumulators, &self.target, row, &self.sums, datapath, adds, overflows)
    }

    /// A tile on operands of 32 bits: `whole` rows of sums are made first and then added once, or else each product is.
    fn on_wide(
        &mut self,
        accumulators: &mut Accumulators,
        datapath: Datapath,
        matmul: &Matmul,
        counts: bool,
        whole: bool,
    ) -> Result<(), Fault> {
        let [n, k] = self.stationary.shape;
        for i in 0..self.target.rows.len() {
            self.begin(accumulators, datapath, matmul, i)?;
            let row = &self.values[i * k..][..k];
            if whole {
                self.products.clear();
                self.products.resize(n, 0);
                for (&value, weights) in row.iter().zip(self.stationary.wide.chunks_exact(n.max(1))) {
                    for (sum, &weight) in self.products.iter_mut().zip(weights) {
                        *sum = sum.wrapping_add(i64::from(value).wrapping_mul(i64::from(weight)));
                    }
                }
                self.overflows += add_row(&mut self.sums, self.products.iter().copied(), datapath, counts);
            } else {
                for (&value, weights) in row.iter().zip(self.stationary.wide.chunks_exact(n.max(1))) {
                    let products = weights.iter().map(|&weight| i64::from(value) * i64::from(weight));
                    self.overflows += add_row(&mut self.sums, products, datapath, counts);
                }
            }
            self.end(accumulators, datapath, matmul, i, counts)?;
        }
        Ok(())
    }
}

/// Whether the sums that a tile adds to run through its columns.
const fn is_injected(datapath: Datapath, matmul: &Matmul) -> bool {
    datapath.injects && matmul.accumulate && matmul.stationary.is_none()
}

/// Appends one row of accumulators.
fn read_row(
    accumulators: &Accumulators,
    target: &UnrolledRegion,
    row: usize,
    sums: &mut Vec<i64>,
) -> Result<(), Fault> {
    target.row(target.rows[row], |_, length, address| {
        let address = address.ok_or(Fault::Region("padding in accumulators"))?;
        let range = accumulators.reading(address, length)?;
        match &accumulators.words {
            Words::Narrow(words) => sums.extend(words[range].iter().map(|&word| i64::from(word))),
            Words::Wide(words) => sums.extend_from_slice(&words[range]),
        }
        Ok(())
    })
}

/// One addition in each of a row of columns; the number of sums that left their width, where that is counted.
#[inline]
fn add_row(sums: &mut [i64], values: impl Iterator<Item = i64>, datapath: Datapath, counts: bool) -> u64 {
    let mut overflows = 0;
    for (sum, value) in sums.iter_mut().zip(values) {
        overflows += u64::from(counts && leaves(*sum, value, datapath.column_bits));
        *sum = add(*sum, value, datapath.column_bits, datapath.overflow);
    }
    overflows
}

/// Adds the columns' sums of one row to its accumulators, or writes them.
#[allow(clippy::cast_possible_truncation, reason = "narrow accumulators hold values cut to at most 32 bits")]
fn deposit(
    accumulators: &mut Accumulators,
    target: &UnrolledRegion,
    row: usize,
    sums: &[i64],
    datapath: Datapath,
    accumulate: bool,
    mut overflows: Option<&mut u64>,
) -> Result<(), Fault> {
    target.row(target.rows[row], |first, length, address| {
        let address = address.ok_or(Fault::Region("padding in accumulators"))?;
        if accumulate {
            accumulators.reading(address, length)?;
        }
        let range = accumulators.writing(address, length)?;
        let sums = &sums[first..first + length];
        let mut cut = |old: i64, sum: i64| {
            let old = if accumulate { old } else { 0 };
            if let Some(overflows) = &mut overflows {
                **overflows += u64::from(leaves(old, sum, datapath.accumulator_bits));
            }
            add(old, sum, datapath.accumulator_bits, datapath.overflow)
        };
        match &mut accumulators.words {
            Words::Narrow(words) => {
                for (word, &sum) in words[range].iter_mut().zip(sums) {
                    *word = cut(i64::from(*word), sum) as i32;
                }
            }
            Words::Wide(words) => {
                for (word, &sum) in words[range].iter_mut().zip(sums) {
                    *word = cut(*word, sum);
                }
            }
        }
        Ok(())
    })
}

fn subtract<T: Copy + std::ops::SubAssign>(values: &mut [T], zero: T) {
    for value in values {
        *value -= zero;
    }
}

/// A zero point of operands of 16 bits less it.
fn narrow(zero: i32) -> Result<i16, Fault> {
    i16::try_from(zero).map_err(|_| Fault::Arithmetic("a zero point of 16 bits"))
}

/// The zero point of the weights of one row, where channels have their own.
pub(super) fn varied_zero(bytes: &super::store::Bytes, walk: &UnrolledRegion, row: usize) -> Result<i32, Fault> {
    let mut zero = 0;
    walk.row(walk.rows[row], |_, _, address| {
        if let Some(address) = address
            && let Some([first, ..]) = bytes.zeros(address, 1)?
        {
            zero = *first;
        }
        Ok(())
    })?;
    Ok(zero)
}
