//! Programs that show one use each: `cargo run -p examples --example NAME`.
