//! The whole path of EKS Pod Identity on one laptop.

pub mod issuer;
