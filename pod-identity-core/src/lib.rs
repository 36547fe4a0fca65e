//! The rules of EKS Pod Identity, without sockets, files, processes or clocks.
//!
//! A pod's token goes in, and what may be asked of AWS for it comes out. The modules stand in the
//! order in which a request passes them:
//!
//! ```text
//! token ─► identity ─► association ─► trust ─► session ─► credentials
//! ```
//!
//! Nothing here reads a clock: every function that needs the time takes it.
//!
//! ```
//! use pod_identity_core::association::{Association, AssociationTable};
//! use pod_identity_core::cluster::Cluster;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster::new("demo".parse()?).in_region("eu-west-1", "111122223333".parse()?);
//! let association = Association::new(
//!     "a-0123456789abcdefg".parse()?,
//!     "shop".parse()?,
//!     "cart".parse()?,
//!     "arn:aws:iam::111122223333:role/cart".parse()?,
//! );
//! let table = AssociationTable::build([(cluster, vec![association])])?;
//!
//! let (_, found) = table.lookup(&"demo".parse()?, &"shop".parse()?, &"cart".parse()?)?;
//! assert_eq!(found.role.name(), "cart");
//! assert!(table.lookup(&"demo".parse()?, &"shop".parse()?, &"other".parse()?).is_err());
//! # Ok(())
//! # }
//! ```

pub mod token; // the pod's token: read, verified, redacted
pub mod identity; // whom it speaks for
pub mod cluster; // where it comes from
pub mod arn; // the names of AWS
pub mod association; // which role that identity has
pub mod trust; // whether the role lets itself be assumed, and why not
pub mod session; // what is asked of STS
pub mod credentials; // what comes back, and the JSON that SDKs read
pub mod cache; // fetched once, read without a lock
pub mod source; // the one seam to AWS
pub mod error; // every code, whose fault it is, and its mend
pub mod now; // the time, as an argument
pub mod json; // JSON that says each thing once
