//! Nodes that move elements on the CPU, and functions of one element: each output is one input, through a table or not.

use super::{
    kernels::strided::{Dim, StridedCopy},
    layout::{held_steps, logical_steps, narrow},
};
use crate::{
    ir::{Graph, Node, Op, Quantized, Value},
    kernels::widen::Narrow,
    reference::{self, Settings},
    tensor::{DType, Tensor},
};

/// What becomes of each element, by its bytes as an unsigned number.
#[derive(Clone, Debug)]
enum Table {
    /// Outputs of one byte.
    Bytes(Vec<u8>),
    /// Outputs of two bytes.
    Pairs(Vec<[u8; 2]>),
}

/// Moves elements, each through a table where there is one.
#[derive(Clone, Debug)]
pub struct Move {
    copy: StridedCopy,
    /// Bytes of an element of the input.
    size: usize,
    table: Option<Table>,
}

impl Move {
    fn new(dims: &[Dim], to: usize, kind: Narrow, table: Option<Table>) -> Option<Self> {
        Some(Self { copy: StridedCopy::new(dims, 0, to)?, size: kind.bytes(), table })
    }

    fn between(shape: &[usize], from: &[usize], to: &[usize], kind: Narrow) -> Option<Self> {
        Self::new(&dims(shape, from, to), 0, kind, None)
    }

    /// From row-major order to the one in which values are held.
    pub fn to_held(shape: &[usize], kind: Narrow) -> Option<Self> {
        Self::between(shape, &logical_steps(shape), &held_steps(shape), kind)
    }

    /// The inverse of [`Self::to_held`].
    pub fn to_logical(shape: &[usize], kind: Narrow) -> Option<Self> {
        Self::between(shape, &held_steps(shape), &logical_steps(shape), kind)
    }

    /// A function of one element.
    pub fn function(op: &Op, x: &Value, y: &Value) -> Option<Self> {
        let steps = held_steps(&x.shape);
        Self::new(&dims(&x.shape, &steps, &steps), 0, narrow(x.dtype)?, Some(table(op, x, y)?))
    }

    /// A permutation of dimensions.
    pub fn transpose(perm: &[usize], x: &Value, y: &Value) -> Option<Self> {
        let from = held_steps(&x.shape);
        let from: Vec<usize> = perm.iter().map(|&axis| from.get(axis).copied()).collect::<Option<_>>()?;
        Self::between(&y.shape, &from, &held_steps(&y.shape), narrow(x.dtype)?)
    }

    /// A box in a larger one, `before` elements from its start; the rest stays.
    pub fn inside(before: &[usize], x: &Value, y: &Value) -> Option<Self> {
        Self::placed(before, x, y, None)
    }

    /// An operand of a concatenation, `first` elements along the axis from the start, in the output's quantization.
    pub fn part(axis: usize, first: usize, x: &Value, y: &Value) -> Option<Self> {
        let mut before = vec![0; y.shape.len()];
        *before.get_mut(axis)? = first;
        let same = x.quant == y.quant && x.dtype == y.dtype;
        let table = if same { None } else { Some(table(&Op::Concat { axis: 1 }, x, y)?) };
        Self::placed(&before, x, y, table)
    }

    fn placed(before: &[usize], x: &Value, y: &Value, table: Option<Table>) -> Option<Self> {
        let steps = held_steps(&y.shape);
        if before.len() != steps.len() || x.shape.len() != steps.len() {
            return None;
        }
        let start = before.iter().zip(&steps).map(|(before, step)| before * step).sum();
        Self::new(&dims(&x.shape, &held_steps(&x.shape), &steps), start, narrow(x.dtype)?, table)
    }

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        self.copy.is_identity() && self.table.is_none()
    }

    /// Runs on bytes. `None` where a slice is too short.
    pub fn run(&self, x: &[u8], out: &mut [u8]) -> Option<()> {
        let Self { copy, size, table } = self;
        if *size == 1 {
            return match table {
                None => copy.copy(x, out, |x| x),
                Some(Table::Bytes(table)) => {
                    let table: &[u8; 256] = table.as_slice().try_into().ok()?;
                    copy.copy(x, out, |x| table[usize::from(x)])
                }
                Some(Table::Pairs(table)) => {
                    let table: &[[u8; 2]; 256] = table.as_slice().try_into().ok()?;
                    copy.copy(x, out.as_chunks_mut().0, |x| table[usize::from(x)])
                }
            };
        }
        let x = x.as_chunks::<2>().0;
        let index = |x| usize::from(u16::from_le_bytes(x));
        match table {
            None => copy.copy(x, out.as_chunks_mut().0, |x| x),
            Some(Table::Bytes(table)) => copy.copy(x, out, |x| table[index(x)]),
            Some(Table::Pairs(table)) => copy.copy(x, out.as_chunks_mut().0, |x| table[index(x)]),
        }
    }
}

/// The same elements in the layouts of two shapes: to row-major order and from it.
pub fn reshape(x: &Value, y: &Value) -> Option<Vec<Move>> {
    let kind = narrow(x.dtype)?;
    let mut moves = vec![Move::to_logical(&x.shape, kind)?, Move::to_held(&y.shape, kind)?];
    moves.retain(|step| !step.is_identity());
    Some(moves)
}

fn dims(shape: &[usize], from: &[usize], to: &[usize]) -> Vec<Dim> {
    let steps = from.iter().zip(to);
    shape.iter().zip(steps).map(|(&extent, (&from, &to))| Dim { extent, from, to }).collect()
}

/// What the reference makes of each element, by its bytes; made once, before anything is measured.
fn table(op: &Op, x: &Value, y: &Value) -> Option<Table> {
    let kind = narrow(x.dtype)?;
    let entries: i64 = if kind.bytes() == 1 { 1 << 8 } else { 1 << 16 };
    let (dtype, signed) = match kind {
        Narrow::U8 => (DType::UInt8, false),
        Narrow::I8 => (DType::Int8, true),
        Narrow::U16 => (DType::UInt16, false),
        Narrow::I16 => (DType::Int16, true),
    };
    let shape = vec![1, usize::try_from(entries).ok()?];
    let mut graph = Graph::<Quantized>::new("table");
    let input = graph.add_value(Value { shape: shape.clone(), dtype, constant: None, ..x.clone() });
    let output = graph.add_value(Value { shape: shape.clone(), constant: None, ..y.clone() });
    let node = Node { name: "table".into(), op: op.clone(), inputs: vec![input], outputs: vec![output] };
    let node = graph.add_node(node);
    let element = |index: i64| if signed && index >= entries / 2 { index - entries } else { index };
    let elements: Vec<i64> = (0..entries).map(element).collect();
    let tensor = Tensor::from_integers(dtype, &shape, &elements)?;
    let results = reference::run_node(&graph, node, &[&tensor], &Settings::default()).ok()?;
    let outputs = results.first()?.to_integers()?.into_iter().map(i64::to_le_bytes);
    Some(match narrow(y.dtype)?.bytes() {
        1 => Table::Bytes(outputs.map(|bytes| bytes[0]).collect()),
        _ => Table::Pairs(outputs.map(|bytes| [bytes[0], bytes[1]]).collect()),
    })
}
