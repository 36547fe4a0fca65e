//! What the tests of several crates share.

pub mod sdk; // SDK clients in several languages
pub mod wire; // HTTP/1.1 to the byte, as well-behaved clients cannot speak it
pub mod flags; // a program's flags and its page
pub mod authority; // certificates that only a test trusts
pub mod logs; // what the process has logged
pub mod eventually; // waiting for what has to happen soon
#[cfg(target_os = "linux")]
pub mod program; // a real program as a process of its own
#[cfg(target_os = "linux")]
pub mod netns; // peers with addresses of their own
#[cfg(all(target_os = "linux", feature = "cluster"))]
pub mod cluster; // a real Kubernetes control plane
mod install; // what is installed once, below target/tools
mod left_out; // what a machine lacks
