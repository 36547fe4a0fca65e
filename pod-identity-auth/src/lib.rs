//! EKS Auth for clusters that are not EKS.

pub mod sigv4;
