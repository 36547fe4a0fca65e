//! The rules of injection, from the admission review to its response.
#![allow(clippy::unwrap_used)]

mod apply; // applies a patch with a library that is not ours
mod fuzz; // generated pods
mod golden; // cases in files
mod review; // reviews and responses
