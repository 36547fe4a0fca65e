//! Tests of the STS with signed requests and XML responses.

mod assume_role;
mod client;
mod protocol;
mod web_identity;
