//! Mappings that were found before, kept by everything that they depend on: the machine, the layer's shape, and the
//! room and memories that it has. Knows nothing of networks; how a mapping is found is the search's business.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    search::{Constraints, Found, Infeasible},
    shape::MatrixShape,
    vector::{VectorCost, VectorMapping, VectorShape},
};
use crate::config::{Accelerator, VectorFunction};

/// Mappings that are kept, all machines together: about a kilobyte each.
const MOST_MAPPINGS: usize = 1 << 14;
/// Machines that are kept: a sweep over machines seldom comes back to one.
const MOST_MACHINES: usize = 64;

/// A layer of the array: its shape and constraints.
type MatrixKey = (MatrixShape, Constraints);
/// A layer of the vector unit: function, shape, reserved bytes, and whether channels stay whole.
type VectorKey = (Option<VectorFunction>, VectorShape, u64, bool);
type MatrixFound = Result<Found, Infeasible>;
type VectorFound = Result<(VectorMapping, VectorCost), Infeasible>;

/// The mappings of several machines, shared by any number of plans and threads. Its size is bounded: the oldest machine
/// goes first.
#[derive(Debug, Default)]
pub struct MappingCache {
    machines: Mutex<VecDeque<(Accelerator, Arc<Known>)>>,
}

impl MappingCache {
    /// Mappings that it holds.
    pub fn len(&self) -> usize {
        lock(&self.machines).iter().map(|(_, known)| known.len()).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of a machine, whatever its name.
    pub(super) fn of(&self, accelerator: &Accelerator) -> Arc<Known> {
        let mut machine = accelerator.clone();
        (machine.config.name, machine.config.description) = (String::new(), String::new());
        let mut machines = lock(&self.machines);
        if let Some((_, known)) = machines.iter().find(|(other, _)| *other == machine) {
            return Arc::clone(known);
        }
        let mut mappings: usize = machines.iter().map(|(_, known)| known.len()).sum();
        while machines.len() >= MOST_MACHINES || mappings > MOST_MAPPINGS {
            let Some((_, oldest)) = machines.pop_front() else { break };
            mappings -= oldest.len();
        }
        let known = Arc::new(Known::default());
        machines.push_back((machine, Arc::clone(&known)));
        known
    }
}

/// The mappings of one machine.
#[derive(Debug, Default)]
pub(super) struct Known {
    matrix: Mutex<BTreeMap<MatrixKey, MatrixFound>>,
    vector: Mutex<HashMap<VectorKey, VectorFound>>,
}

impl Known {
    fn len(&self) -> usize {
        lock(&self.matrix).len() + lock(&self.vector).len()
    }

    /// Whether a problem is solved.
    pub fn has(&self, key: &MatrixKey) -> bool {
        lock(&self.matrix).contains_key(key)
    }

    /// Keeps solutions.
    pub fn extend(&self, solved: Vec<(MatrixKey, MatrixFound)>) {
        let mut known = lock(&self.matrix);
        make_room(known.len(), || known.clear());
        known.extend(solved);
    }

    /// A layer of the array, searched for where it is new.
    pub fn matrix(&self, key: MatrixKey, search: impl FnOnce() -> MatrixFound) -> MatrixFound {
        if let Some(found) = lock(&self.matrix).get(&key) {
            return *found;
        }
        let found = search();
        self.extend(vec![(key, found)]);
        found
    }

    /// A layer of the vector unit, searched for where it is new.
    pub fn vector(&self, key: VectorKey, search: impl FnOnce() -> VectorFound) -> VectorFound {
        if let Some(found) = lock(&self.vector).get(&key) {
            return found.clone();
        }
        let found = search();
        let mut known = lock(&self.vector);
        make_room(known.len(), || known.clear());
        known.insert(key, found.clone());
        found
    }
}

/// One machine's mappings may not grow for ever either: networks of ever other shapes begin anew.
fn make_room(len: usize, clear: impl FnOnce()) {
    if len > MOST_MAPPINGS {
        clear();
    }
}

/// A thread that panicked has left whole entries behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_known_by_its_numbers_and_not_by_its_name() {
        let cache = MappingCache::default();
        let machine = crate::config::load("edge_16x16", &[]).unwrap();
        let known = cache.of(&machine);
        let mut other = machine.clone();
        other.config.name = "copy".into();
        assert!(Arc::ptr_eq(&known, &cache.of(&other)));
        other.config.dma.descriptor_cycles += 1;
        assert!(!Arc::ptr_eq(&known, &cache.of(&other)));
        assert!(Arc::ptr_eq(&known, &cache.of(&machine)));
    }

    #[test]
    fn a_sweep_over_many_machines_keeps_the_last_ones() {
        let cache = MappingCache::default();
        let mut machine = crate::config::load("edge_16x16", &[]).unwrap();
        for cycles in 0..200 {
            machine.config.dma.descriptor_cycles = cycles;
            cache.of(&machine);
        }
        assert_eq!(lock(&cache.machines).len(), MOST_MACHINES);
    }
}
