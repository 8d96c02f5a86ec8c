//! The engines that run a program: on values (`functional`) and on time (`timing`). Neither knows the other.

pub mod functional;
pub mod pe;
pub mod timing;
