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
//! redis+sentinel://user:password@s1,s2:26380,s3/?master=main
//! rediss+sentinel://s1,s2,s3/?master=main&sentinel_user=watcher&sentinel_password=…&ca=/etc/ssl/redis-ca.pem
//! redis+cluster://user:password@a,b,c:6379/?sharded=true
//! ```
//!
//! - The port defaults to 6379; the host has no default. Of several addresses of its name any one that answers
//!   serves: the next one is tried 250 ms after the one before. Several hosts are refused: nodes that went to
//!   different masters, or to a replica, would not reach each other. A socket is always local, so the host of a
//!   `redis+unix` URL is empty, or `localhost` where user or password need a place to stand.
//! - A password without a user is the default user's. A user without a password signs in with an empty one (a
//!   `nopass` user takes any).
//! - A database number (`/3`) is accepted **and has no effect**: Redis does not divide channels by database, and
//!   the revocation log is in database 0. Keep applications apart with the option `prefix`.
//! - `rediss://` needs the feature `tls`. The server's certificate is checked against Mozilla's roots, or against
//!   those in the PEM file `ca`. `cert` and `key`, given together, are the PEM files of a client certificate. The
//!   files are read at every connect, so they may be renewed in place. The facade installs the rustls provider;
//!   whoever uses this crate without it installs one before connecting.
//!
//! - The hosts of a `redis+sentinel` URL are Sentinels, with the port 26379 where none is given, and `master` is the
//!   name under which they watch the master. List all of them: the master is what a majority *of those listed* says, so
//!   that one of two is none. User and password are for the servers; those for the Sentinels are the keys `sentinel_user`
//!   and `sentinel_password`, in which `+` is written `%2B` and `@` is written `%40`. With `rediss+sentinel` Sentinels and
//!   servers speak TLS, and a certificate has to name the address that the Sentinels announce.
//!
//! Times are core's options (`connect_timeout`, `publish_timeout`, …): the driver has none of its own
//! but for Sentinels.
//!
//! # What `Ok` means
//!
//! - *publish*: the server took the frame and has put it into the output buffer of every link subscribed at that
//!   moment. Redis stores nothing: a node without a link does not get it later.
//! - *subscribe*: the server confirmed every one of the channels.
//! - *an append to the revocation log*: see there.
//! - *close*: the server has closed both connections, so it has forgotten every subscription.
//!
//! # What is lost when
//!
//! - **A link breaks**: everything published until it is open again. A frame whose reply did not come is reported
//!   `Interrupted`: it was delivered to all subscribers of the server, or to none.
//! - **A node reads too slowly**: the server closes its connection at `client-output-buffer-limit pubsub 32mb 8mb
//!   60` (the default: 32 MB waiting, or 8 MB for 60 s). That is a broken link like any other. Raise the limit
//!   where bursts are larger.
//! - **The server closes idle connections** (`timeout`): none is idle for so long. The limit is read at connect,
//!   and where it is not above `heartbeat` core posts its heartbeat twice in that time, and logs a warning. Where
//!   the user may not read it (`+config|get`), or a proxy has one, the link is lost each time, with an error that
//!   names this cause.
//! - **Fail-over**: what the old master took and the new one was not sent. A replica takes a publish and delivers
//!   it to its own subscribers only, so both connections are asked for their role, by `HELLO`, at connect and at each heartbeat: a
//!   replica is `Unavailable`, until the address leads to the master again. What was posted to a master after it was demoted, up
//!   to one `heartbeat` long, reached its own clients alone; a node that had received something of the poster on that channel before finds a gap in the numbers.
//!
//! - **Fail-over with Sentinels**: the same, and sooner. A connection to each Sentinel announces a switch, and each is asked
//!   again at each heartbeat. A link is lost when a majority names another server, also while the old one still calls
//!   itself a master; and when a majority is out of reach at two heartbeats in a row. An attempt to connect waits up to 2 s
//!   at a master that cannot be reached, and follows the Sentinels when they name another one.
//!
//! All nodes see a channel in one order, the server's.
//!
//! # Redis Cluster
//!
//! `redis+cluster://` and `rediss+cluster://` take any members as hosts, tried in random order; the others are learned from
//! them, and are remembered for the next link. There is no database, and so no path. A member of a cluster is refused
//! under `redis://`, and a server that stands alone under `redis+cluster://`.
//!
//! **Plain channels**, the default: a post goes to every member of the cluster, replicas too. A link receives at one master
//! and publishes at another, so the heartbeat's echo crosses the cluster. Two publishers at two members may be seen
//! interleaved in two ways: `OrderGuarantee::PerPublisher`. Both members are asked for `cluster_state` at connect, which has to
//! be `ok`, and at each heartbeat: a member that may have lost the majority of the masters is left. While one of several
//! masters is being replaced the links through the others live on. When a member dies, or is frozen for longer than
//! `cluster-node-timeout`, members drop what they had for it. The same can happen to a bus that is saturated, with a
//! `cluster-node-timeout` of a second: leave it at 5 s or more. It is found by the numbers of the messages and the digests.
//!
//! **Sharded channels**, `sharded=true`: a post goes to the master that serves the slot of its channel, and to its replicas.
//! A link has two connections to every master, of which there may be 128. All of a channel goes
//! through one master as long as its slot stays there: `OrderGuarantee::PerChannel`. What has braces in its name, `{a}.x`, has
//! the slot of what is in them.
//!
//! - A master that is gone, silent for 4 s while an answer is due, or no master any more concerns its channels alone: each of them has a gap, and
//!   is subscribed again when another master serves it. The map of the slots is asked for at each heartbeat and, while a
//!   master is missing, every 25 to 50 ms. Meanwhile posts on these channels fail with `Unavailable`, or `Interrupted` if
//!   they were under way, and whoever subscribes to one waits. The link ends when no master is left.
//! - A digest is handed over when every shard has answered a question that was put after it came, so that it reports nothing as
//!   missing that is only slower: a round trip more.
//! - A slot that is moved to another master is the same for the channels in it.
//! - The echo tests every master that there was when the link was opened; where one is missing it comes from here, since its
//!   channels have been reported. Every connection is asked for its role at each heartbeat.
//! - Announcements of revocations have the slot of `$revocations`. While no master serves it nobody can be told of one, and
//!   none is stored; afterwards every node reads the log.
//!
//! The revocation log is at the owner of its slot, by a connection of its own, and is followed from member to member.
//! While its slot is being moved, or has no master, calls fail with `Unavailable`, and core repeats them.
//!
//! # The revocation log
//!
//! A stream under the key `$revocations`, with the prefix before it; made when it is first read or written, and
//! only if the application uses revocations. It needs Redis 7.0 or newer, or Valkey; with an older server all else
//! works, and the log is `Unsupported`. A consumer group `epoch-…` on it, which has no consumers, distinguishes
//! this stream from another one of the same name: leave it there. A record of 200 bytes takes about 230 bytes of
//! memory.
//!
//! *An append is `Ok`* when the master has the record in its memory. What takes it back is the server's
//! configuration:
//!
//! | configuration | killed server | power cut | fail-over |
//! |---|---|---|---|
//! | no persistence | lost | lost | what the replica had not received |
//! | snapshots (`save`) | back to the last one | back to the last one | the same |
//! | `appendonly yes`, `appendfsync everysec` | kept | up to a second is lost | the same |
//! | `appendonly yes`, `appendfsync always` | kept | kept | the same |
//!
//! Replication is asynchronous. `min-replicas-to-write` stops a master that is cut off from taking records which
//! the next one will not have. A node that had read further than the log now goes detects at its next read that it
//! was replaced, rolled back or trimmed; one that had not cannot see it.
//!
//! - **Not on a Redis that evicts.** With a `maxmemory-policy` other than `noeviction` the log may be evicted like
//!   any key, as a whole (`volatile-*` spares it: it has no expiry). Without memory the server refuses appends, and
//!   reads go on.
//! - **Retention**: an append drops, a hundred entries at a time, what is too old by the server's clock and by this
//!   node's. All nodes should keep records equally long, for the shortest time wins. A server whose clock was
//!   behind and leaps forward makes what it had stored that much older.
//! - **A replica** refuses an append, and that link is given up.
//!
//! # Permissions
//!
//! An ACL user needs three commands, and the channels: its own names and the broker's own, which start with `$`.
//! With a `prefix` all of them start with it.
//!
//! ```text
//! ACL SETUSER shop on >password resetchannels &shop.* -@all +publish +subscribe +unsubscribe
//! ACL SETUSER app  on >password resetchannels &news &user.* &$* -@all +publish +subscribe +unsubscribe
//! ```
//!
//! In a cluster, where each member has its own list of users, for plain channels and for sharded ones:
//!
//! ```text
//! ACL SETUSER shop on >password resetchannels &shop.* -@all +publish +subscribe +unsubscribe +cluster|slots +cluster|info
//! ACL SETUSER shop on >password resetchannels &shop.* -@all +spublish +ssubscribe +sunsubscribe +cluster|slots
//! ```
//!
//! For the revocation log it needs the key, and five commands more:
//!
//! ```text
//! ACL SETUSER shop ~shop.$revocations +xadd +xrange +xinfo|stream +xinfo|groups +xgroup|create
//! ACL SETUSER app  ~$revocations      +xadd +xrange +xinfo|stream +xinfo|groups +xgroup|create
//! ```
//!
//! At the Sentinels a user needs two, and one channel:
//!
//! ```text
//! ACL SETUSER watcher on >password resetchannels &+switch-master -@all +subscribe +sentinel|get-master-addr-by-name
//! ```
//!
//! `HELLO` and `QUIT` are allowed to everyone. `CONFIG GET timeout` is asked once for each link, and need not be
//! allowed. When a user's channels are narrowed later, the server closes the connections that are subscribed to
//! others.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod cluster;
mod driver;
mod errors;
mod link;
mod log;
mod publishing;
mod role;
mod sentinel;
#[cfg(feature = "tls")]
mod tls;

use std::sync::Arc;

use broker_core::{
    BrokerUrl, Result,
    driver::{Backend, Driver, Scheme},
};

/// Redis and Valkey, for `redis://`, `rediss://` and `redis+unix://`; behind Sentinels for `redis+sentinel://` and
/// `rediss+sentinel://`; a Redis Cluster for `redis+cluster://` and `rediss+cluster://`.
pub const BACKEND: Backend = Backend {
    name: NAME,
    schemes: &[
        Scheme::plain("redis", address::DEFAULT_PORT, Some("rediss")),
        Scheme::encrypted("rediss"),
        Scheme::local("redis+unix"),
        Scheme::plain(sentinel::SCHEME, sentinel::DEFAULT_PORT, Some(sentinel::ENCRYPTED)),
        Scheme::encrypted(sentinel::ENCRYPTED),
        Scheme::plain("redis+cluster", address::DEFAULT_PORT, Some("rediss+cluster")),
        Scheme::encrypted("rediss+cluster"),
    ],
    open,
};

const NAME: &str = "redis";

fn open(url: &BrokerUrl) -> Result<Arc<dyn Driver>> {
    if matches!(url.scheme(), sentinel::SCHEME | sentinel::ENCRYPTED) {
        return Ok(Arc::new(sentinel::SentinelDriver::parse(url)?));
    }
    if matches!(url.scheme(), "redis+cluster" | "rediss+cluster") {
        return cluster::open(url);
    }
    Ok(Arc::new(driver::RedisDriver(address::Address::parse(url)?)))
}
