//! Models become graphs: one importer a format, and the elements of synthetic constants.

//ron
pub mod synthetic;
