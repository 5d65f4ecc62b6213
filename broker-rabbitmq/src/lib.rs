//! The RabbitMQ driver: one direct exchange for all, a queue for each link, a binding for each channel. For
//! RabbitMQ 3.10 or newer, also 4.
//!
//! Users depend on the facade `broker` with its feature `rabbitmq` and write a URL; this crate exports only
//! [`BACKEND`].
//!
//! # The URL
//!
//! ```text
//! amqp://user:password@host:5672/vhost?prefix=shop
//! amqps://user:password@host:5671/vhost?ca=/etc/ssl/rabbitmq-ca.pem
//! amqp://user:password@a,b,c:5673/vhost
//! amqp://localhost?exchange=shop
//! ```
//!
//! - The port defaults to 5672, for `amqps` to 5671; the host has no default.
//! - Several hosts are nodes of one cluster. A link goes to any one that answers, beginning anywhere. All addresses
//!   of all hosts are tried, the next one 250 ms after the one before; one that refuses the credentials ends the
//!   search.
//! - Without user and password both are `guest`, whom a server lets in from its own machine only.
//! - The path is the virtual host, percent-decoded. `amqp://h` and `amqp://h/` both mean `/`, the one that every
//!   server has; a virtual host without a name cannot be reached.
//! - `exchange` names the exchange; default `broker`. Applications are kept apart by virtual hosts, by the option
//!   `prefix`, or by exchanges.
//! - `amqps://` needs the feature `tls`. The server's certificate is checked against Mozilla's roots, or against
//!   those in the PEM file `ca`. `cert` and `key`, given together, are the PEM files of a client certificate. The
//!   files are read at every connect, so they may be renewed in place. The facade installs the rustls provider;
//!   whoever uses this crate without it installs one before connecting.
//!
//! Times are core's options (`connect_timeout`, `publish_timeout`, …). `heartbeat` is core's too: that of AMQP is
//! always 5 s, or less where the server asks for less.
//!
//! # What is made at the server
//!
//! - The exchange: `direct` and durable. It stays, also when it is no longer used.
//! - For each link two connections named `broker`, one to publish and one to receive, so that neither waits behind
//!   the other; and an exclusive, transient queue named after the exchange: `broker.<32 digits>`. All go with the
//!   link. A channel's name is the binding's key, byte for byte.
//! - For an application that revokes: the revocation log, a stream queue named after the exchange, with two dots,
//!   `broker..$revocations`, or `broker..shop.$revocations` with the prefix `shop`. It is bound to the exchange by
//!   its own name, which is none of a channel, and stays. Each link that uses it has a third connection for it.
//!
//! # What it costs
//!
//! Each connection has a thread of the client, and buffers of up to 4 MB that take memory as they are used: an idle
//! link takes less than 2 MB, one that has been busy up to 8 MB, and 12 MB in an application that revokes. The
//! client's timer for the heartbeats of AMQP ends up to 2.5 s after its connection is closed, so a runtime that
//! counts its tasks has two or three of them for that long. They hold no connection.
//!
//! # What `Ok` means
//!
//! - *publish*: the server confirmed the message, so it is in the queue of every link bound at that moment. Nothing
//!   is written to disk: a node without a link does not get it later.
//! - *subscribe*: the server confirmed every binding.
//! - *close*: the server has deleted the queue, and the bindings with it.
//!
//! # A cluster
//!
//! Of several hosts, `amqp://a,b,c/shop`, a link receives at any one that answers, beginning anywhere, and publishes and
//! keeps the log at another one; at the same if no other answers within 1 s. So the echo of core's heartbeats crosses the
//! cluster, and a link whose two members do not reach each other is given up. A binding is confirmed when every member
//! has it (with Mnesia; not tested with Khepri of RabbitMQ 4).
//!
//! - **A member that ends** takes the queues that it has with it, and ends the links that use it: one gap, and they go on
//!   at the others. A post that was for such a queue too may be `Interrupted`, though all others receive it.
//! - **A partition**: set `cluster_partition_handling = pause_minority`, and have an odd number of members. Then the
//!   smaller side closes its connections. With `ignore`, which is the default, both sides go on, and bindings that were
//!   made on one of them are missing on the other even when they have met again; only the echo shows it, and only to links
//!   with hosts on both sides. AMQP does not tell which of them is set, so `broker doctor` cannot.
//! - A binding is a transaction of all members: they make some hundreds in a second, whoever asks for them.
//!
//! # What is lost when
//!
//! - **A link breaks**: everything published until it is open again. A frame without a confirmation is reported
//!   `Interrupted`: it may have been delivered or not.
//! - **A node reads too slowly**: the server sends at most 256 frames ahead of what the node has taken, and keeps
//!   up to 100,000 more, or 256 MiB, in the queue; posts that went together are one frame. Beyond that it drops the
//!   oldest, so that no publisher waits; the numbers of the messages show how many, and subscribers receive a gap.
//!   A node takes a frame as soon as its receiving thread runs, so this concerns machines that stand still.
//! - **Somebody deletes the queue or the exchange**: the link counts as lost, and the next one makes both again. A
//!   deleted exchange shows only at the next post; core posts to itself at every heartbeat.
//! - **The server has an alarm** (low on memory or disk): it reads nothing from connections that publish. After 2 s
//!   the link is given up, and the reason is in the health's last error. Until the alarm ends posts fail with
//!   `Unavailable`, and nothing arrives, since no node can publish.
//!
//! Each publisher's messages keep their order. Two publishers may be seen interleaved in two ways by two nodes, on
//! a single server too: each writes to both queues by itself.
//!
//! # The revocation log
//!
//! - **What `Ok` survives**: the stream has the record. A server that is killed at that moment still has it when it
//!   starts again. Of a power cut this is not promised: the server does not wait for its disk. In a cluster a
//!   majority of the stream's replicas has the record, so it is there as long as one of those takes over (not
//!   tested). RabbitMQ 3.10 has a gap at the very beginning: a server that is killed within half a second of the
//!   first stream it ever had never brings that one up again, nor can it be deleted. Both calls then report that
//!   the queue is down, until its virtual host is made anew.
//! - **A read writes**: it appends an entry of some 300 bytes, to find out where the stream ends.
//! - **How long it is kept**: the server drops segments of 1 MB as a whole, from the oldest on, and only when a new
//!   one begins. So a record stays for its time and often much longer, and a log below 1 MB is never shortened. The
//!   time is that of the node that made the queue. To change it delete the queue: every node notices. A policy with
//!   a `max-age` or `max-length-bytes` for this queue can shorten it: set none.
//! - **Streams turned off**: a cluster that was upgraded from before 3.9 has none until somebody runs `rabbitmqctl
//!   enable_feature_flag stream_queue`. Until then both calls fail with `Unsupported`.
//! - **An alarm**: both calls fail with `Timeout`. What was to be appended may be stored once the alarm is over.
//! - **A cluster**: the server to which a link is connected needs a replica of the stream. One that joined later
//!   has none until somebody runs `rabbitmq-streams add_replica`.
//!
//! # Permissions
//!
//! One pattern, for all three of configure, write and read, covers exchange and queues, the log's among them:
//!
//! ```text
//! rabbitmqctl set_permissions -p shop ada '^broker(\..*)?$' '^broker(\..*)?$' '^broker(\..*)?$'
//! ```
//!
//! | | exchange | queues | the log's queue |
//! |---|---|---|---|
//! | configure | to declare it | to declare them | to make it, where it is missing |
//! | write | to publish and append | to bind | to bind it, where it is missing |
//! | read | to bind | to consume | to read it |
//!
//! The keys of a direct exchange are not subject to permissions: a user who may publish may publish on every
//! channel, and the same for subscribing. Give applications that must not reach each other an exchange or a virtual
//! host each.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod connection;
mod consumer;
mod driver;
mod errors;
mod link;
mod log;
#[cfg(feature = "tls")]
mod tls;

use std::sync::Arc;

use broker_core::{
    BrokerUrl, Result,
    driver::{Backend, Driver, Scheme},
};

/// RabbitMQ, for `amqp://` and `amqps://`.
pub const BACKEND: Backend = Backend {
    name: NAME,
    schemes: &[Scheme::plain("amqp", address::DEFAULT_PORT, Some("amqps")), Scheme::encrypted("amqps")],
    open,
};

const NAME: &str = "rabbitmq";

fn open(url: &BrokerUrl) -> Result<Arc<dyn Driver>> {
    Ok(Arc::new(driver::RabbitDriver(Arc::new(address::Address::parse(url)?))))
}
