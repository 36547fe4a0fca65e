//! The shared parts of the measurements and the instruction counts.

pub mod signed; // a token, its key, and its signature for the bare library
pub mod identities; // a cache with identities and tokens that cost no cryptography
pub mod associations; // association tables
pub mod reviews; // admission reviews
