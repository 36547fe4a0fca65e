//! The rules of EKS Pod Identity, without sockets, files, processes or clocks.

pub mod arn;
pub mod identity;
