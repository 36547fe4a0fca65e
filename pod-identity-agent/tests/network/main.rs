//! Tests of the agent's process on a node with pods and neighbours, in network namespaces: `initialize`, addresses that
//! disappear, peers outside the node, and capabilities.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod addresses; // addresses that appear, disappear and move; errors of bind
mod capabilities; // port 80 without root
mod initialize;
mod off_node; // peers outside the node
mod process; // the agent's process
