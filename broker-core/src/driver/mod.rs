//! Driver, Link, Inbox: the contract a backend implements. This is the page to read before writing one.
//!
//! A backend does four things: it opens a link, carries opaque frames over it, keeps a log of opaque records, and
//! admits when the link is broken. It does not reconnect, resubscribe, count references, fan out, keep order across links,
//! detect losses, bound queues or measure health. All of that is written once, in core, so that every
//! backend inherits it, and every backend means the same.
//!
//! # The life of a link
//!
//! 1. Core calls [`Driver::connect`] with a fresh [`Inbox`], under a time limit. No retries inside.
//! 2. Core reads the revocation log, if a session or a revocation needs it; subscribes everything that is wanted,
//!    in chunks, each confirmed; and reads the log again.
//! 3. Core posts to a channel of its own and waits to receive it. From here the broker is `Connected`.
//! 4. One writer calls [`Link::publish`], one task [`Link::subscribe`] and [`Link::unsubscribe`], one
//!    [`DurableLog::read`], and some [`DurableLog::append`]; they run side by side. The link calls [`Inbox::deliver`] for whatever
//!    arrives.
//! 5. When the link calls [`Inbox::lost`], a call times out, [`Link::check`] fails, or the echo of step 3 (repeated every
//!    heartbeat) fails to come, core drops the link, without another word, and starts again at 1.
//!    [`Link::close`] is called only for a link that still lives, after a last [`Link::publish`], before which a call that
//!    was under way may have been dropped.
//!
//! Whatever a dead link still delivers is discarded: an inbox belongs to one link. Every call is made inside the
//! Tokio runtime in which the broker was started, and may spawn there. `close` is called alone, and at last; the
//! link may call [`Inbox::lost`] after it, or never.
//!
//! # How much at once
//!
//! A batch has at most 1,024 frames, and ends with the frame that makes it 1 MiB or more; a frame has at most
//! [`MAX_FRAME`] bytes. Posts that wait together for one channel are one frame by then. A subscribe or unsubscribe call
//! has at most 1,000 names of at most [`MAX_NAME`] bytes, with the prefix in them. A name follows the rules of [`ChannelName`], so it
//! has no white space, no control character, and none of `*`, `>`, `#`. The broker's own names have a segment that starts
//! with `$`; permissions have to let them through.
//!
//! # What drivers would all write
//!
//! [`BrokerUrl::allow_keys`], [`BrokerUrl::server`] and [`BrokerUrl::invalid`] read a URL; [`TlsFiles`] and
//! [`UrlFile`] are the files it names; [`Place::reach`] tries every address; [`ErrorContext`] makes the errors that are about a
//! server, and [`ErrorContext::recognise`] determines what is there instead of it. Core itself names backend,
//! operation and channel in an error: a driver need not.

mod capabilities;
pub(crate) mod inbox;
mod info;
mod log;
mod scheme;
pub(crate) mod support;
mod unnumbered;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

pub use crate::wire::{
    limits::{MAX_FRAME, MAX_NAME, MAX_RECORD},
    outgoing::Outgoing,
};
use crate::{BrokerUrl, ChannelName, NodeId, Result};

pub(crate) use self::support::reach::open_link;
pub use self::{
    capabilities::{Capabilities, Confirmation, OrderGuarantee, PermissionScope, Reach},
    inbox::{Arrival, Inbox, Missing, Sink},
    info::{ConnectContext, LinkInfo, Receipt},
    log::{DurableLog, LogCursor, LogDiscontinuity, LogPage, LogSpec},
    scheme::{Scheme, Transport},
    support::{
        error_context::{Encryption, ErrorContext},
        inspection::{Inspection, Warning},
        reach::Place,
        server_addr::ServerAddr,
        tls::{TlsFiles, UrlFile},
    },
    unnumbered::unnumbered_frame,
};

/// A way to reach one kind of backend: its address, credentials and settings. Making one does no I/O.
#[async_trait]
pub trait Driver: fmt::Debug + Send + Sync + 'static {
    /// The backend's name in errors and logs: `redis`.
    fn name(&self) -> &'static str;

    /// Opens one link.
    ///
    /// Core calls it at start and again after every loss, with backoff and under a time limit (dropping
    /// the future must leave nothing behind). It never retries by itself.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable) when no server answers;
    /// [`Forbidden`](crate::ErrorKind::Forbidden) for refused credentials;
    /// [`Protocol`](crate::ErrorKind::Protocol) when the peer is not this kind of server;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) when it is too old. The message names host and
    /// port, never a password.
    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>>;
}

/// One live connection. It never heals itself: once lost it is thrown away.
///
/// Dropping a link must end its tasks and sockets. Every call is dropped by core when its time limit
/// passes, and the link with it; so a call may hang, but must not block its thread. No batch and no list of
/// channels is empty, and no name is longer than [`MAX_NAME`].
#[async_trait]
pub trait Link: Send + Sync + 'static {
    /// Sends a batch, in its order, and returns one outcome for each frame.
    ///
    /// `Ok` means that the backend took the frame. Core's single writer calls it, so the order of calls is
    /// the order of messages. An error of one frame (no permission, server out of memory) concerns that
    /// frame only; if the link itself broke, report [`Inbox::lost`] and answer
    /// [`Interrupted`](crate::ErrorKind::Interrupted) for all whose fate is unknown,
    /// [`Unavailable`](crate::ErrorKind::Unavailable) only for those that were certainly not sent. A result of
    /// the wrong length is taken for a broken link.
    ///
    /// At most [`publish_window`](LinkInfo::publish_window) calls are under way at once. Where that is more than one, their
    /// frames go out in the order in which the calls were first polled, and core takes the outcomes in that order.
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>>;

    /// Subscribes to channels. `Ok`: the backend delivers every later publish on these channels, by
    /// whomever, to this link. Idempotent.
    ///
    /// # Errors
    /// A kind that is [transient](crate::ErrorKind::is_transient), `Other` among them, means that the link is
    /// broken, and core gives it up. Any other kind is a refusal of
    /// something in `channels`; core asks again one by one to find out which, so an error may leave some of
    /// them subscribed.
    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()>;

    /// Unsubscribes. `Ok`: the backend has forgotten these channels for this link. Idempotent; frames
    /// already under way may still be delivered.
    ///
    /// # Errors
    /// Any error means that the link is broken.
    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()>;

    /// The durable log of the link's server; `None` if this kind of backend has none.
    fn log(&self) -> Option<&dyn DurableLog>;

    /// The channels whose echo proves that the link receives: one for each path by which it receives. A link
    /// of one path returns `own`, the channel of this node on the wire; a link of several makes one for each with
    /// [`probe_channel`]. Core subscribes to each,
    /// posts to each, and gives the link up when one of the posts does not come back.
    ///
    /// Called once, before anything is subscribed.
    fn probe_channels(&self, own: &ChannelName) -> Vec<ChannelName>;

    /// What the link has learned about its server so far.
    fn info(&self) -> LinkInfo;

    /// Whether the server still is what it was when the link was opened, where that can change under a connection that
    /// lives on: a master that was demoted takes posts as before. Core asks at each heartbeat, beside the echo. Without an
    /// implementation, always.
    ///
    /// # Errors
    /// It is not: core gives the link up.
    async fn check(&self) -> Result<()> {
        Ok(())
    }

    /// What the server reports to an operator. Called only by [`Inspection::of`], and as much as it answers:
    /// what is refused, or fails, is `None`.
    async fn inspect(&self, log: &LogSpec) -> Inspection;

    /// Ends the link in good order: nothing of it is left at the server when it returns.
    ///
    /// # Errors
    /// Any failure; core logs it, and drops the link anyway.
    async fn close(&self) -> Result<()>;
}

/// How long a link may take to close in good order.
pub(crate) const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// The channel of the probe for one of several paths, for [`Link::probe_channels`]: `own` and the path's name, one
/// segment.
#[must_use]
pub fn probe_channel(own: &ChannelName, path: impl fmt::Display) -> ChannelName {
    ChannelName::internal(format!("{own}.{path}"))
}

/// A random number, for a name at the server that no other link has, or to choose one of several servers. Not for
/// secrets.
#[must_use]
pub fn random() -> u64 {
    NodeId::random().as_u64()
}

/// A backend as a value: every backend crate exports one as `pub const BACKEND: Backend`.
#[derive(Clone, Copy, Debug)]
pub struct Backend {
    /// The name, as in the facade's feature: `redis`.
    pub name: &'static str,
    /// The URL schemes it answers to, the usual one first.
    pub schemes: &'static [Scheme],
    /// Makes a driver from a URL. Does no I/O; an error names the part of the URL that is wrong.
    pub open: fn(&BrokerUrl) -> Result<Arc<dyn Driver>>,
}

impl Backend {
    /// The scheme of this name, if it is one of this backend.
    #[must_use]
    pub fn scheme(&self, name: &str) -> Option<&'static Scheme> {
        self.schemes.iter().find(|scheme| scheme.name == name)
    }
}
