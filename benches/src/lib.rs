//! What the measurements and the instruction counts share.

pub mod signed; // a token, its key, and its signature for the bare library
pub mod identities; // a cache with identities and tokens that cost no cryptography
pub mod associations; // tables to look up in
pub mod reviews; // what an API server asks
