//! The Redis driver: a publishing connection and a RESP3 push subscriber, for Redis 6 or newer and Valkey.
//!
//! Users depend on the facade `broker` with its feature `redis` and write a URL; this crate exports only
//! [`BACKEND`].
//!
//! # The URL
//!
//! ```text
//! redis://user:password@host:6379/?prefix=shop
//! rediss://:password@host:6380/?ca=/etc/ssl/redis-ca.pem
//! redis+unix:///run/redis/redis.sock
//! redis+unix://user:password@localhost/run/redis/redis.sock
//! ```
//!
//! - The port defaults to 6379; the host has no default. A socket is always local, so the host of a
//!   `redis+unix` URL is empty, or `localhost` where user or password need a place to stand.
//! - A password without a user is the default user's. A user without a password signs in with an empty one
//!   (a `nopass` user takes any).
//! - A database number (`/3`) is accepted **and has no effect**: Redis does not divide channels by database.
//!   Keep applications apart with the option `prefix`.
//! - `rediss://` needs the feature `tls`. The server's certificate is checked against Mozilla's roots, or
//!   against those in the PEM file `ca`. `cert` and `key`, given together, are the PEM files of a client
//!   certificate. The files are read at every connect, so they may be renewed in place. The facade installs
//!   the rustls provider; whoever uses this crate without it installs one before connecting.
//!
//! Times are core's options (`connect_timeout`, `publish_timeout`, …): the driver has none of its own.
//!
//! # What `Ok` means
//!
//! - *publish*: the server took the frame and has put it into the output buffer of every link subscribed
//!   at that moment. Redis stores nothing: a node without a link does not get it later.
//! - *subscribe*: the server confirmed every one of the channels.
//! - *close*: the server has closed both connections, so it has forgotten every subscription.
//!
//! # What is lost when
//!
//! - **A link breaks**: everything published until it is open again. A frame whose reply did not come is
//!   reported `Interrupted`: it was delivered to all subscribers of the server, or to none.
//! - **A node reads too slowly**: the server closes its connection at
//!   `client-output-buffer-limit pubsub 32mb 8mb 60` (the default: 32 MB waiting, or 8 MB for 60 s). That
//!   is a broken link like any other. Raise the limit where bursts are larger.
//! - **Fail-over**: what the old master took and the new one was not sent. A replica takes a publish and
//!   delivers it to its own subscribers only; let the address always lead to the master.
//!
//! All nodes see a channel in one order, the server's. On Redis Cluster any one node can be given as
//! address and all nodes hear each other, but two publishers at different nodes may be seen interleaved in
//! two ways.
//!
//! # Permissions
//!
//! An ACL user needs three commands, and the channels: its own names and the broker's own, which start with
//! `$`. With a `prefix` all of them start with it.
//!
//! ```text
//! ACL SETUSER shop on >password resetchannels &shop.* -@all +publish +subscribe +unsubscribe
//! ACL SETUSER app  on >password resetchannels &news &user.* &$* -@all +publish +subscribe +unsubscribe
//! ```
//!
//! `HELLO` and `QUIT`, the only other commands sent, are allowed to everyone. When a user's channels are
//! narrowed later, the server closes the connections that are subscribed to others.

mod address;
mod driver;
mod errors;
mod link;
mod log;
#[cfg(feature = "tls")]
mod tls;

use std::sync::Arc;

use broker_core::{
    BrokerUrl, Result,
    driver::{Backend, Driver},
};

/// Redis and Valkey, for `redis://`, `rediss://` and `redis+unix://`.
pub const BACKEND: Backend = Backend { name: NAME, schemes: &["redis", "rediss", "redis+unix"], open };

const NAME: &str = "redis";

fn open(url: &BrokerUrl) -> Result<Arc<dyn Driver>> {
    Ok(Arc::new(driver::RedisDriver(address::Address::parse(url)?)))
}
