//! The STS from outside: signed requests in, XML out.

mod assume_role;
mod client;
mod protocol;
mod web_identity;
