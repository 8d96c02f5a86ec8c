//! The story of one element, for divergence reports: which instruction computed it, from which accumulator, and which
//! transfer put it where it lies.

use std::collections::BTreeMap;

use super::{error::Fault, unrolled::UnrolledRegion};
use crate::program::{Space, TensorId};

/// An element to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedElement {
    /// The tensor.
    pub tensor: TensorId,
    /// Logical index of the element.
    pub index: Vec<usize>,
}

/// Where an element came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The instruction that computed it.
    pub instruction: u64,
    /// The accumulator that it was made from, before the bias; only of a requantization.
    pub accumulator: Option<i64>,
    /// The transfer that wrote it where the tensor lies, if it was not computed there.
    pub carried_by: Option<u64>,
}

/// Follows one element. Everything that vector instructions write is remembered by address, so that a later transfer
/// can say what it carries: slow, and only while a trace is wanted.
#[derive(Clone, Debug)]
pub(super) struct Tracer {
    /// Where the element lies.
    place: (Space, i64),
    written: BTreeMap<(Space, i64), Origin>,
}

impl Tracer {
    /// Of an element that lies there.
    pub fn new(place: (Space, i64)) -> Self {
        Self { place, written: BTreeMap::new() }
    }

    /// The element's story so far.
    pub fn story(&self) -> Option<Origin> {
        self.written.get(&self.place).copied()
    }

    /// A vector instruction wrote a walk; `accumulators` as many as elements, where it read accumulators.
    pub fn computed(
        &mut self,
        instruction: u64,
        space: Space,
        walk: &UnrolledRegion,
        accumulators: Option<&[i64]>,
    ) -> Result<(), Fault> {
        let unit = i64::try_from(walk.element).unwrap_or(1);
        walk.stretches(|first, length, address| {
            let mut address = address.unwrap_or_default();
            for index in first..first + length {
                let accumulator = accumulators.and_then(|all| all.get(index)).copied();
                self.written.insert((space, address), Origin { instruction, accumulator, carried_by: None });
                address += unit;
            }
            Ok(())
        })
    }

    /// A transfer copied elements from one walk to another.
    pub fn carried(
        &mut self,
        instruction: u64,
        from: (Space, &UnrolledRegion),
        to: (Space, &UnrolledRegion),
    ) -> Result<(), Fault> {
        let addresses = |walk: &UnrolledRegion| {
            let unit = i64::try_from(walk.element).unwrap_or(1);
            let mut all = Vec::new();
            walk.stretches(|_, length, address| {
                let start = address.unwrap_or_default();
                all.extend((start..).step_by(usize::try_from(unit).unwrap_or(1)).take(length));
                Ok::<_, Fault>(())
            })
            .map(|()| all)
        };
        let (sources, targets) = (addresses(from.1)?, addresses(to.1)?);
        let stories: Vec<Option<Origin>> =
            sources.iter().map(|&address| self.written.get(&(from.0, address)).copied()).collect();
        for (target, story) in targets.into_iter().zip(stories) {
            match story {
                Some(origin) => {
                    self.written.insert((to.0, target), Origin { carried_by: Some(instruction), ..origin });
                }
                None => {
                    self.written.remove(&(to.0, target));
                }
            }
        }
        Ok(())
    }
}
