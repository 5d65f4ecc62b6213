//! The PostgreSQL driver: NOTIFY by one connection, LISTEN by another, and a log in two tables. For PostgreSQL 13 or newer.
//!
//! Users depend on the facade `broker` with its feature `postgres` and write a URL; this crate exports
//! [`BACKEND`], and what an application needs to post inside its own transactions: [`SqlPost`], [`MIGRATION`] and [`migrate`].
//!
//! # The URL
//!
//! ```text
//! postgres://user:password@host:5432/database?prefix=shop
//! postgres://user:password@a,b,c/database
//! postgresql://user:password@host/database?sslmode=verify-full&ca=/etc/ssl/db-ca.pem
//! ```
//!
//! - The port defaults to 5432; the host has no default. Without a user it is the one of the process, without a database
//!   the one of the user's name.
//! - Of several hosts, and of several addresses of one name, a link goes to the one that writes: a standby is passed over,
//!   and the next one is tried 250 ms after the one before. One that refuses the credentials ends the search.
//!   `target_session_attrs` may say `read-write`, and nothing else.
//! - `sslmode=verify-full` encrypts, and needs the feature `tls`; `require` is the same here. The server's certificate is
//!   checked against Mozilla's roots, or against those in the PEM file `ca`, and has to name the host of the URL. `cert` and
//!   `key`, given together, are the PEM files of a client certificate. The files are read at every connect, so they may be
//!   renewed in place. Without the key, or with `disable`, nothing is encrypted.
//!
//! Times are core's options (`connect_timeout`, `publish_timeout`, …): the driver has none of its own, but for the 2 s
//! within which a new link has to receive its own.
//!
//! # How messages travel
//!
//! A link is two connections, `broker receive` and `broker post` in `pg_stat_activity`: so a node takes two of the server's
//! `max_connections`. A batch of posts is one statement, and so one transaction, that calls `pg_notify`. A frame that is longer
//! than a payload of NOTIFY may be goes in pieces; the server delivers a transaction as one block, so that they arrive together.
//! Nothing is stored, and no table is used.
//!
//! All channels of all applications in a database go over 64 channels of NOTIFY, `broker_0` to `broker_63`, chosen by
//! the hash of their names. A node listens to those that it needs, and drops what it has not subscribed. Databases are apart
//! from each other; within one use the option `prefix`.
//!
//! # What `Ok` means
//!
//! - *publish*: the transaction is committed, and the frame is in the queue from which the server serves every link that
//!   listens at that moment. An error with the server's code means that it was rolled back: no node receives it.
//! - *subscribe*: the server has committed the LISTEN, and everything that was posted before has been dropped.
//! - *unsubscribe*: nothing of the channel is handed over any more.
//! - *an append to the revocation log*: see there.
//! - *close*: the server has closed both connections.
//!
//! # What is lost when
//!
//! - **A link breaks**: everything published until it is open again. A post whose answer did not come is reported
//!   `Interrupted`: all of its batch was delivered, or nothing.
//! - **Fail-over**: notifications are not replicated, so it is a link that breaks. A standby is refused at connect, and at
//!   each heartbeat a server that has been set not to write (`default_transaction_read_only`) is left.
//! - **A node reads too slowly**: the server keeps what it has not read, in the one queue that all databases share (8 GB). A
//!   node that does not read at all is hung up on after 30 s (`tcp_user_timeout`, which the driver sets for its own
//!   connections).
//! - **The queue is full**: posts fail with `Unavailable`. Mostly a session that once listened is busy in a long
//!   transaction. `broker doctor` reports how full the queue is.
//!
//! All nodes see all channels in one order, that of the commits.
//!
//! A commit that notifies takes a lock that all of them on the server share. The driver commits without waiting for the disk
//! (`synchronous_commit=off` on its own connection), and many posts at once; an application that notifies by itself
//! waits in the same line.
//!
//! # Poolers
//!
//! A pooler that lends a connection for each transaction (`pool_mode=transaction` of pgbouncer) answers LISTEN, and its
//! client never receives anything. The driver finds that at connect, before it sets anything, and refuses it as
//! `Misconfigured`: give the address of the server, or a pool with `pool_mode=session`.
//!
//! # The revocation log
//!
//! Two tables in the schema `broker`, `log` and `record`; made when it is first read or written, and only if the application
//! uses revocations. Calls go by the connection that posts.
//!
//! *An append is `Ok`* when it is committed with `synchronous_commit=on`:
//!
//! | | |
//! |---|---|
//! | killed server, power cut | kept, with `fsync=on` (the default) |
//! | fail-over | kept, if `synchronous_standby_names` names the standby; else what that had not received is lost |
//! | restored backup | back to it |
//!
//! A record's number is taken under a lock of its log's row, so that appends to one log take turns. A node that had read further
//! than the log now goes, also if that has grown again since, detects it at its next read, and so does one whose records
//! were deleted unread. An append drops, a hundred at a time, what is older than `revocation_retention` by the server's clock.
//!
//! A call that is not answered within two fifths of `publish_timeout` or of `heartbeat_timeout`, whichever is shorter (2 s by
//! default), is cancelled at the server, since posts and the probe wait behind it; core tries again. Raise both where
//! commits wait longer for a standby.
//!
//! # Permissions
//!
//! Messages need none but `CONNECT`: every user of a database may LISTEN and NOTIFY all of it. **So everyone who may connect to the
//! database may receive everything and post as any node**: keep others out of it.
//!
//! The log is made by a user that may create a schema, or by an operator:
//!
//! ```text
//! GRANT CREATE ON DATABASE app TO shop;
//! GRANT USAGE ON SCHEMA broker TO shop; GRANT SELECT, INSERT, UPDATE, DELETE ON broker.log, broker.record TO shop;
//! ```
//!
//! The first line is for the first start only. The second is for users other than the one that made the schema.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod assembly;
mod cancels;
mod driver;
mod errors;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(any(feature = "tokio-postgres-0_7", feature = "sqlx-0_8"))]
mod in_transaction;
mod inspect;
mod link;
mod log;
mod migration;
mod names;
mod notify;
mod piece;
mod proof;
mod receiver;
mod session;
mod socket;
mod sql_post;
#[cfg(feature = "tls")]
mod tls;

#[cfg(feature = "tokio-postgres-0_7")]
pub use in_transaction::post_in;
#[cfg(feature = "sqlx-0_8")]
pub use in_transaction::post_in_sqlx;
pub use migration::{MIGRATION, migrate};
pub use sql_post::SqlPost;

use std::sync::Arc;

use broker_core::{
    BrokerUrl, Result,
    driver::{Backend, Driver, Scheme},
};

/// PostgreSQL, for `postgres://` and `postgresql://`.
pub const BACKEND: Backend = Backend {
    name: NAME,
    schemes: &[
        Scheme::by_key("postgres", address::DEFAULT_PORT, address::SSLMODE, address::DISABLE),
        Scheme::by_key("postgresql", address::DEFAULT_PORT, address::SSLMODE, address::DISABLE),
    ],
    open,
};

const NAME: &str = "postgres";

fn open(url: &BrokerUrl) -> Result<Arc<dyn Driver>> {
    Ok(Arc::new(driver::PostgresDriver::new(address::Address::parse(url)?)))
}
