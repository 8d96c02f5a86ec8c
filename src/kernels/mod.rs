//! Fast integer kernels, used by the functional engine and by the measured CPU baseline, never by `reference`.
