//! One test binary: the rules of injection, from the API server's question to its answer.
#![allow(clippy::unwrap_used)]

mod apply; // a patch, applied by a library that is not ours
mod fuzz; // any pod
mod golden; // cases as files
mod review; // question and answer
