//! Starts the real parts that tests use.
