//! Example programs. Each shows one use: `cargo run -p examples --example NAME`.
