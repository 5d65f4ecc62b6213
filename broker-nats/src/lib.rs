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
//!   on. Servers that the cluster announces are not used, so name all of them.
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
//! those above, and 5 s after which the client looks after an idle connection.
//!
//! # What `Ok` means
//!
//! - *publish*: the server has processed the frame. It is in the output buffer of every connection of that server
//!   that was subscribed at that moment, and on its way to the other servers of a cluster. NATS stores nothing: a
//!   node without a link does not get it later.
//! - *subscribe*: the server has processed the subscriptions, and refused none. In a cluster the other servers
//!   learn of them a moment later: what is published there in that moment may be missed.
//! - *unsubscribe*: the server has processed it.
//! - *an append to the revocation log*: see there.
//! - *close*: the server has forgotten every subscription, and the socket is closed.
//!
//! The round trip behind them is a message to ourselves: a server does one thing of a connection after the other,
//! so when it is back, everything before it has been done.
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
//! The driver makes the stream with file storage, one replica, and `revocation_retention` as its `max_age`. It may
//! be made or changed by hand: what it must have is this one subject, and a `max_age` that is not shorter, else the
//! log is `Misconfigured`. In a cluster it should have three: `nats stream edit _24revocations --replicas 3`.
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
mod connection_state;
mod driver;
mod errors;
mod link;
mod log;
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
    Ok(Arc::new(driver::NatsDriver(address::Address::parse(url)?)))
}
