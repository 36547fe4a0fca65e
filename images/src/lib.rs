//! Makes the container images of the programs, without a container engine.
//!
//! An image holds one program, the C library that it is linked with, CA certificates and the list of its packages. The
//! archive is an OCI layout that `docker load`, `podman load`, `ctr images import` and skopeo also read. The same input
//! makes the same bytes.

pub mod args; // command line
pub mod program; // the programs and the names that they have in an image
pub mod elf; // architecture and libraries of a program
pub mod packages; // the list of packages (CycloneDX)
pub mod root; // the files of an image
pub mod layer; // the files as a tar layer
pub mod archive; // the OCI layout
pub mod build; // from flags to an archive
