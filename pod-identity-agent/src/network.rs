//! The network of the node: the addresses that the agent serves on, and the routes to its peers.
//!
//! [`Routes`] answers where the reply to a peer goes. [`Follower`] keeps it and [`Addresses`] up to date by netlink
//! notifications. [`AddressListeners`] binds the addresses that the node has, and later the others.

mod addresses;
mod bind_error;
pub mod capability;
mod follow;
mod listeners;
mod off_node;
mod route;
mod routes;

pub use addresses::Addresses;
pub use bind_error::{BindCause, BindError};
pub use follow::{FollowError, Follower};
pub use listeners::AddressListeners;
pub use off_node::{OffNode, OffNodeAction};
pub use routes::Routes;
