//! Starts the real parts that tests use.

pub mod sdk;
