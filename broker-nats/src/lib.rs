//! The NATS driver: one connection that is never healed, and a round trip behind every promise. For NATS 2.2 or
//! newer.
//!
//! Users depend on the facade `broker` with its feature `nats` and write a URL; this crate exports only
//! [`BACKEND`].
//!
//! # The URL
//!
//! ```text
//! nats://user:password@host:4222?prefix=shop
//! nats://token@host
//! nats://a:4222,b:4222,c:4222?creds=/etc/nats/shop.creds
//! tls://host?nkey=/etc/nats/shop.nk&ca=/etc/ssl/nats-ca.pem
//! tls://host?tls_first=true
//! ```
//!
//! - The port defaults to 4222; the host has no default. Of several hosts a link goes to any one that answers,
//!   beginning anywhere, the next one tried 250 ms after the one before; one that refuses the credentials ends the
//!   search. Several addresses of one name are tried in turn: each gets half a second, then twice as long, and so
//!   on. A link goes to none of the servers that the cluster announces, so name all of them.
//! - One way to sign in: user and password, a token, the seed of an nkey (the file `nkey`), or a JWT with its seed
//!   (the file `creds`). Files are read at every connect, so they may be renewed in place.
//! - `tls://` insists on encryption; `nats://` encrypts where the server demands it. The server's certificate is
//!   checked against the system's roots, or against those in the PEM file `ca`. `cert` and `key`, given together,
//!   are the PEM files of a client certificate. The facade installs the rustls provider; whoever uses this crate
//!   without it, beside other users of rustls, installs one before connecting.
//! - `tls_first=true`, with `tls://`, is for a server that begins with TLS (`handshake_first`), before its
//!   greeting.
//! - `inbox` (default `_INBOX`) is where the driver's own subject lives; see the permissions below.
//!
//! Times are core's options (`connect_timeout`, `publish_timeout`, …): the driver has none of its own, but for
//! those above and [in a cluster](#a-cluster), and 5 s after which the client looks after an idle connection.
//!
//! # What `Ok` means
//!
//! - *publish*: the server has processed the frame. It is in the output buffer of every connection of that server
//!   that was subscribed at that moment, and on its way to the other servers of a cluster. NATS stores nothing: a
//!   node without a link does not get it later.
//! - *subscribe*: the server has processed the subscriptions, and refused none; in a cluster so have the other
//!   servers, see [below](#a-cluster).
//! - *unsubscribe*: the server has processed it.
//! - *an append to the revocation log*: see there.
//! - *close*: the server has forgotten every subscription, and the socket is closed.
//!
//! The round trip behind them is a message to ourselves: a server does one thing of a connection after the other,
//! so when it is back, everything before it has been done.
//!
//! # A cluster
//!
//! The server tells the others of a subscription in its own time, and nobody says when they know. So a link has one
//! more connection to each other server, a *helper*, and asks it through the cluster: the question travels behind the
//! subscription, and its answer proves that this server knows. A subscription, and a new link, wait for the answers of
//! all, at once: for one round trip to the slowest server.
//!
//! - The servers are those that the link's server announces and those of the URL, as far as they name the same cluster.
//!   They are asked for it, and reached, with the credentials and the TLS of the URL; up to 64 addresses, of which a
//!   server may have several. A certificate must be valid for the address that is announced. With `tls://` a server
//!   announces before TLS begins, so that anybody on the way may do it: a link signs in at an announced server only if
//!   the URL names its host, or has the key `ca` or `tls_first`.
//! - A server that does not answer for 1 s is gone on without. When it answers again every channel has a gap.
//! - A server that cannot be reached from here is gone on without at once, and `broker doctor` names it. What is
//!   published there right after a subscription may be missed.
//! - A server that joins the cluster is found within 2 s, one that comes back within 250 ms: the link looks for it.
//! - A user needs as many connections more as there are other servers, and no other permission.
//!
//! # What is lost when
//!
//! - **A link breaks**: everything published until another is open. A frame whose round trip did not come back is
//!   reported `Interrupted`, and is not sent again: the client's own recovery is off, so that nothing is delivered
//!   late.
//! - **A server is about to shut down** (lame duck mode): the link is given up at once, to go to another server.
//! - **A node reads too slowly**: what arrives is handed over at once, so the client's own queues never fill. When
//!   the node is too busy even for that, the server ends the connection (`write_deadline`, `max_pending`). That is
//!   a broken link like any other.
//!
//! Each publisher's messages have one order for all; those of two publishers may be seen interleaved in two ways by
//! two nodes, since each server of a cluster delivers for itself. One link receives everything in the order of its
//! arrival, across channels.
//!
//! # The revocation log
//!
//! A stream of JetStream, made when it is first read or written, and only if the application uses revocations.
//! Without JetStream, on the server or for the account, all else works, and the log is `Unsupported`. Its one
//! subject is `$revocations.log`, its name `_24revocations`: whatever is no letter, no digit and no `-` is a byte
//! in hex. With the prefix `shop` they are `shop.$revocations.log` and `shop_2E_24revocations`.
//!
//! *An append is `Ok`* when the stream has stored the record:
//!
//! | | |
//! |---|---|
//! | killed server | kept |
//! | power cut | what was not on disk yet is lost: the server writes every 2 minutes (`sync_interval`). With `sync_interval: always` it is kept, and a record takes some three times as long |
//! | fail-over | with one replica there is none: while the server of the stream is away every call fails, and goes on with all records when it is back. With three they are kept |
//!
//! The driver makes the stream with file storage, `revocation_retention` as its `max_age`, and three replicas where the
//! cluster has as many servers, else one. It may be made or changed by hand: what it must have is this one subject, and a
//! `max_age` that is not shorter, else the log is `Misconfigured`. One that was made before the cluster had three servers
//! keeps its one replica, until somebody runs `nats stream edit _24revocations --replicas 3`; `broker doctor` says so.
//!
//! It is read record by record, and nothing of a reader is left at the server. A node that had read further than
//! the log now goes, or missed a record that was deleted unread, detects it at its next read. A stream's leader
//! that is cut off from its cluster goes on answering for up to 20 s, without what is appended elsewhere: a
//! `revocation_lease` below that promises too much.
//!
//! # Permissions
//!
//! A user needs the channels, in both directions as far as they are used: its own names and the broker's own, which
//! start with `$`. With a `prefix` all of them start with it. And every link has a subject of its own, to which it
//! publishes and subscribes.
//!
//! ```text
//! permissions: { publish: ["shop.>", "_INBOX.>"], subscribe: ["shop.>", "_INBOX.>"] }
//! permissions: { publish: ["news", "user.*", "$node.>", "$digests", "_INBOX.>"], subscribe: [ the same ] }
//! ```
//!
//! An application that uses revocations publishes and subscribes to `$revocations`, publishes to
//! `$revocations.log`, and publishes three questions about the stream. Without a prefix:
//!
//! ```text
//! "$revocations", "$revocations.log", "$JS.API.STREAM.INFO._24revocations",
//! "$JS.API.STREAM.MSG.GET._24revocations", "$JS.API.STREAM.CREATE._24revocations"
//! ```
//!
//! The last one is not needed where the stream is there already. Whoever may publish to the subject of the log may
//! sign out anybody.
//!
//! A refusal is reported per channel, and the link lives on. A permission that is taken away ends the link, and the
//! next one detects what is still allowed. A frame longer than the server's `max_payload` (default 1 MiB, enough
//! for all) is refused by itself, too.

mod address;
mod client_thread;
mod cluster;
mod connection_state;
mod driver;
mod errors;
mod link;
mod log;
mod opening;
mod place;
mod subscription;

use std::sync::Arc;

use broker_core::{
    BrokerUrl, Result,
    driver::{Backend, Driver, Scheme},
};

/// NATS, for `nats://` and `tls://`.
pub const BACKEND: Backend = Backend {
    name: NAME,
    schemes: &[Scheme::plain("nats", address::DEFAULT_PORT, Some("tls")), Scheme::encrypted("tls")],
    open,
};

const NAME: &str = "nats";

fn open(url: &BrokerUrl) -> Result<Arc<dyn Driver>> {
    Ok(Arc::new(driver::NatsDriver::new(address::Address::parse(url)?)))
}
