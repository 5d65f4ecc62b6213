//! Large clusters in one process, in virtual time: the brokers are real, the server and the way to it are simulated.
//!
//! What is counted is exact: posts, deliveries, names, connects and their moments. What is *modelled* is time: a
//! constant way to the server, and what the server takes for each thing that it does ([`Costs`]). A node's own work takes no
//! virtual time at all.
//!
//! The choices of a run follow its seed. What core decides by random numbers of the operating system (the ids of nodes, and how
//! much a wait is shortened) differs from run to run, and so do figures, by a few per cent.

pub mod cluster;
mod counts;
mod driver;
pub mod memory;
mod node;
pub mod random;
pub mod scenarios;
mod server;
pub mod table;

pub use counts::{Counts, Kind, Traffic};
pub use server::{Costs, Server};
