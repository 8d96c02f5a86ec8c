//! The facade: one function a stage, typed so that no stage can be skipped.
