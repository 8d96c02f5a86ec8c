//! Plain arrays in `.npz` files: samples, labels, expected outputs. Untrusted: shapes and sizes are bounded.
