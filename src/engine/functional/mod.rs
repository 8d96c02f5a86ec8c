//! The program on values: memory images, scratchpads, accumulators, the array, the vector unit.
