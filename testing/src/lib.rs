//! Test helpers that several crates share.

pub mod sdk; // SDK clients in several languages
pub mod wire; // HTTP/1.1 with full control over the bytes
pub mod flags; // check of a program's flags against its documentation
pub mod authority; // private certificate authority
pub mod logs; // captured log lines of the process
pub mod eventually; // waiting for a condition
#[cfg(target_os = "linux")]
pub mod program; // child processes that end with the test
#[cfg(target_os = "linux")]
pub mod netns; // network namespaces
#[cfg(all(target_os = "linux", feature = "cluster"))]
pub mod cluster; // a real Kubernetes control plane
#[cfg(all(target_os = "linux", feature = "cluster"))]
pub mod node; // a real Kubernetes node
#[cfg(all(target_os = "linux", feature = "cluster"))]
pub mod kustomize; // manifests
mod install; // installation of tools below target/tools
mod skip; // skipping of tests whose programs are missing
