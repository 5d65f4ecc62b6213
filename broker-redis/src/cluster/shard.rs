//! Shard: the two connections to one master, one to receive by and one to publish.

use std::{
    convert::Infallible,
    sync::{Arc, Weak},
    time::Duration,
};

use broker_core::{
    ChannelName, Error, ErrorKind, Result,
    driver::{ErrorContext, Inbox, Outgoing, Receipt, ServerAddr},
};
use bytes::Bytes;
use redis::{Pipeline, PushInfo, PushKind, RedisError, ServerError, Value};
use tokio::{sync::watch, time::timeout};

use super::{
    address::ClusterAddress, book::Book, echoes::Echoes, held::Held, member::Member, slots::slot_of,
};
use crate::{driver::settings, errors::translate, publishing::command, role::Role};

/// How long a master may say nothing while an answer is due, before it counts as gone. Shorter than core's usual limits,
/// which end the whole link.
const PATIENCE: Duration = Duration::from_secs(4);

/// How often to ask for an answer that is certainly one.
const FENCES: usize = 3;

/// Who is told of what happens to a shard. Called from inside the tasks of its connections: it must not block.
pub(crate) trait Watching: Send + Sync {
    /// The server has ended the subscription to a channel.
    fn ended(&self, shard: u64, channel: ChannelName);
    /// The shard is of no use any more.
    fn gone(&self, shard: u64, cause: Error);
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shard {
    /// No other one of the link has it.
    pub(crate) id: u64,
    receiver: Member,
    pub(crate) publisher: Member,
    pub(crate) book: Arc<Book>,
}

/// What a shard did not subscribe.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Served elsewhere, or not at all for now.
    pub(crate) again: Vec<ChannelName>,
    pub(crate) refused: Option<Error>,
}

/// What became of a frame.
#[derive(Debug)]
pub(crate) enum Sent {
    Done(Result<Receipt>),
    /// Not taken: its channel is served elsewhere.
    Elsewhere,
}

/// What the connections of a shard need to know of the link.
#[derive(Clone)]
pub(crate) struct LinkSide {
    pub(crate) inbox: Inbox,
    pub(crate) echoes: Arc<Echoes>,
    pub(crate) held: Arc<Held>,
    pub(crate) watching: Weak<dyn Watching>,
    pub(crate) closing: watch::Receiver<bool>,
}

impl Shard {
    pub(crate) async fn open(
        address: &ClusterAddress,
        server: &ServerAddr,
        id: u64,
        link: LinkSide,
    ) -> Result<Self> {
        let book = Arc::new(Book::default());
        let opened = || {
            Member::open(address, server, |at, peer| {
                settings(Some(at)).set_push_sender(pushed(id, link.clone(), peer.clone(), Arc::clone(&book)))
            })
        };
        let (receiver, publisher) = tokio::try_join!(opened(), opened())?;
        for member in [&receiver, &publisher] {
            if !member.role.may_be_master() {
                let why = "is a replica, and was a master of its cluster a moment ago";
                return Err(member.peer.error(ErrorKind::Unavailable, why));
            }
        }
        Ok(Self { id, receiver, publisher, book })
    }

    pub(crate) fn server(&self) -> &ServerAddr {
        &self.publisher.server
    }

    /// Subscribes, and waits until the server has named every channel.
    ///
    /// # Errors
    /// The shard is of no use any more.
    pub(crate) async fn subscribe(&self, channels: &[ChannelName]) -> Result<Left> {
        self.book.ask(channels);
        let replies = self.call("SSUBSCRIBE", channels).await;
        let (replies, trusted) = replies.inspect_err(|_| self.book.give_up(channels))?;
        let mut left = Left::default();
        let mut moved = Vec::new();
        let in_step = replies.iter().zip(channels).all(|(reply, channel)| match reply {
            Value::Push { data, .. } => {
                matches!(data.first(), Some(Value::BulkString(name)) if name == channel.as_str().as_bytes())
            }
            other => matches!(other, Value::ServerError(_)),
        });
        for (reply, channel) in replies.into_iter().zip(channels) {
            let Value::ServerError(error) = reply else { continue };
            match Refusal::of(&error) {
                Refusal::Slot(slot) => moved.push(slot),
                Refusal::Shard => left.again = channels.to_vec(),
                Refusal::Channel if trusted && in_step => {
                    self.book.give_up(std::slice::from_ref(channel));
                    left.refused.get_or_insert(translate(&self.receiver.peer, &error.into()));
                }
                // Which channel it is about cannot be told.
                Refusal::Channel => return Err(self.out_of_step()),
            }
        }
        if !moved.is_empty() {
            left.again
                .extend(channels.iter().filter(|name| moved.contains(&slot_of(name.as_str()))).cloned());
        }
        self.book.give_up(&left.again);
        self.settle(channels).await?;
        Ok(left)
    }

    /// Ends subscriptions, and waits until the server has named them.
    ///
    /// # Errors
    /// The shard is of no use any more.
    pub(crate) async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        let here = self.book.leave(channels);
        if here.is_empty() {
            return Ok(());
        }
        let (replies, _) = self.call("SUNSUBSCRIBE", &here).await?;
        // A slot that has moved: the server ended what was in it, or is about to.
        for reply in &replies {
            if let Value::ServerError(error) = reply {
                let error = RedisError::from(error.clone());
                if !matches!(Refusal::of_error(&error), Refusal::Slot(_) | Refusal::Shard) {
                    return Err(translate(&self.receiver.peer, &error));
                }
                self.book.left(&here);
            }
        }
        self.settle(&here).await
    }

    /// Waits for an answer, for as long as the master lets anything be heard. No longer than core does, which limits every
    /// call.
    async fn patiently<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let mut answer = std::pin::pin!(answer);
        loop {
            let heard = self.book.heard();
            if let Ok(answer) = timeout(PATIENCE, &mut answer).await {
                return Some(answer);
            }
            if self.book.heard() == heard {
                return None;
            }
        }
    }

    /// One command for each channel: names of several slots in one are refused. The replies, and whether they are to these.
    async fn call(&self, command: &str, channels: &[ChannelName]) -> Result<(Vec<Value>, bool)> {
        let mut pipeline = Pipeline::with_capacity(channels.len());
        for channel in channels {
            pipeline.cmd(command).arg(channel.as_str());
        }
        self.book.begin();
        let mut connection = self.receiver.connection.clone();
        let calling = connection.send_packed_commands(&pipeline, 0, channels.len());
        let replies = self.patiently(calling).await;
        let trusted = self.book.end();
        match replies {
            Some(Ok(replies)) => Ok((replies, trusted)),
            Some(Err(error)) => Err(translate(&self.receiver.peer, &error)),
            None => Err(silent(&self.receiver.peer)),
        }
    }

    async fn settle(&self, channels: &[ChannelName]) -> Result<()> {
        match timeout(PATIENCE, self.book.settled(channels)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.receiver.peer.disconnected()),
            Err(_) => Err(self.out_of_step()),
        }
    }

    fn out_of_step(&self) -> Error {
        let why = "ended subscriptions while others were being made, and left open which of these it refused";
        self.receiver.peer.error(ErrorKind::Unavailable, why)
    }

    /// Publishes frames in their order.
    ///
    /// # Errors
    /// The shard is of no use any more: any of them may have been taken, or none.
    pub(crate) async fn publish(&self, frames: &[&Outgoing]) -> Result<Vec<Sent>> {
        let peer = &self.publisher.peer;
        let mut pipeline = Pipeline::with_capacity(frames.len());
        for outgoing in frames {
            pipeline.add_command(command("SPUBLISH", outgoing));
        }
        let mut connection = self.publisher.connection.clone();
        let sending = connection.send_packed_commands(&pipeline, 0, frames.len());
        let replies = match self.patiently(sending).await {
            Some(replies) => replies.map_err(|error| translate(peer, &error))?,
            None => return Err(silent(peer)),
        };
        let sent = replies.into_iter().map(|reply| match reply {
            Value::Int(_) => Some(Sent::Done(Ok(Receipt::new()))),
            Value::ServerError(error) => Some(match Refusal::of(&error) {
                Refusal::Slot(_) => Sent::Elsewhere,
                _ => Sent::Done(Err(translate(peer, &error.into()))),
            }),
            // Nothing else answers a SPUBLISH: these are not the replies to what we sent.
            _ => None,
        });
        let sent: Option<Vec<Sent>> = sent.collect();
        sent.filter(|sent| sent.len() == frames.len()).ok_or_else(|| peer.not_this_protocol())
    }

    /// Whether both connections still lead to a master.
    ///
    /// # Errors
    /// They do not.
    pub(crate) async fn check(&self) -> Result<()> {
        self.book.begin();
        let asked = self.patiently(async {
            tokio::join!(Role::ask(&self.receiver.connection), Role::ask(&self.publisher.connection))
        });
        let asked = asked.await;
        let trusted = self.book.end();
        let Some((receiving, publishing)) = asked else { return Err(silent(&self.receiver.peer)) };
        // What stands in place of a reply that went to another call says nothing.
        let receiving = match receiving {
            Err(error) if !trusted && error.code().is_none() && !error.is_io_error() => Ok(Role::default()),
            other => other,
        };
        for (role, member) in [(receiving, &self.receiver), (publishing, &self.publisher)] {
            match role {
                Ok(role) if role.may_be_master() => {}
                Ok(_) => return Err(member.peer.error(ErrorKind::Unavailable, "is a replica now")),
                // It does not say.
                Err(error) if error.code().is_some() => {}
                Err(error) => return Err(translate(&member.peer, &error)),
            }
        }
        Ok(())
    }

    /// Waits until what the master had published before has arrived here.
    ///
    /// # Errors
    /// The shard is of no use any more.
    pub(crate) async fn fence(&self) -> Result<()> {
        // A reply that may be another call's proves nothing.
        for _ in 0..FENCES {
            self.book.begin();
            let asked = self.patiently(Role::ask(&self.receiver.connection)).await;
            let trusted = self.book.end();
            match asked {
                None => return Err(silent(&self.receiver.peer)),
                Some(Err(error)) if error.is_io_error() => {
                    return Err(translate(&self.receiver.peer, &error));
                }
                // A refusal is an answer, too.
                Some(_) if trusted => break,
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Asks the server to hang up.
    pub(crate) async fn quit(&self) -> Result<()> {
        for member in [&self.publisher, &self.receiver] {
            let quit = redis::cmd("QUIT").query_async::<()>(&mut member.connection.clone()).await;
            if let Some(error) = quit.err().filter(|error| error.code().is_some()) {
                return Err(translate(&member.peer, &error));
            }
        }
        Ok(())
    }
}

fn silent(peer: &ErrorContext) -> Error {
    peer.error(ErrorKind::Unavailable, format!("did not answer within {PATIENCE:?}"))
}

/// What a refusal is about.
enum Refusal {
    /// The slot is served elsewhere.
    Slot(u16),
    /// No slot is served.
    Shard,
    Channel,
}

impl Refusal {
    fn of(error: &ServerError) -> Self {
        Self::of_error(&RedisError::from(error.clone()))
    }

    fn of_error(error: &RedisError) -> Self {
        match (error.code(), error.redirect_node()) {
            (Some("MOVED" | "ASK"), Some((_, slot))) => Self::Slot(slot),
            (Some("CLUSTERDOWN" | "TRYAGAIN" | "LOADING" | "MASTERDOWN"), _) => Self::Shard,
            _ => Self::Channel,
        }
    }
}

/// What a connection calls for whatever the server pushes, from inside its task: it must not block.
fn pushed(
    id: u64,
    link: LinkSide,
    peer: ErrorContext,
    book: Arc<Book>,
) -> impl Fn(PushInfo) -> std::result::Result<(), Infallible> + Send + Sync + 'static {
    move |push| {
        if book.is_closed() {
            return Ok(());
        }
        book.hear();
        let gone = |cause| {
            if let Some(watching) = link.watching.upgrade() {
                watching.gone(id, cause);
            }
        };
        let mut data = push.data.into_iter();
        match (push.kind, data.next(), data.next()) {
            (PushKind::SMessage, Some(Value::BulkString(channel)), Some(Value::BulkString(frame))) => {
                // A name that is not UTF-8 was never subscribed here.
                if let Ok(channel) = std::str::from_utf8(&channel) {
                    let is_probe = |name: &str| link.echoes.is_probe(name);
                    let frame = link.held.take(channel, Bytes::from(frame), is_probe);
                    frame.into_iter().for_each(|frame| link.inbox.deliver(channel, frame));
                }
            }
            (PushKind::SSubscribe, Some(Value::BulkString(channel)), _) => {
                std::str::from_utf8(&channel).into_iter().for_each(|channel| book.subscribed(channel));
            }
            (PushKind::SUnsubscribe, Some(Value::BulkString(channel)), _) => {
                let ended = std::str::from_utf8(&channel).ok().and_then(|channel| book.unsubscribed(channel));
                if let (Some(channel), Some(watching)) = (ended, link.watching.upgrade()) {
                    watching.ended(id, channel);
                }
            }
            (PushKind::SMessage | PushKind::SSubscribe | PushKind::SUnsubscribe, ..) => {
                gone(peer.not_this_protocol());
            }
            (PushKind::Disconnection, ..) if !*link.closing.borrow() => gone(peer.disconnected()),
            _ => {}
        }
        Ok(())
    }
}
