//! Shape and type inference of the operators, from operands to results.
