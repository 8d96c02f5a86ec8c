//! Models become graphs: one importer a format, and the elements of synthetic constants.

pub mod ron;
pub mod synthetic;
