//! Log: the revocation log, a stream queue that is bound to the exchange.
//!
//! A stream does not say where it ends. So whoever reads appends a **fence** first, and reads as far as that: what was
//! confirmed before the call stands before it. A place in the log is an entry's offset and its random id: what stands
//! at the offset of a replaced log has another one.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use broker_core::{
    Error,
    ErrorKind::{InvalidInput, Other, Timeout, Unavailable},
    Result,
    driver::{LogCursor, LogDiscontinuity, LogPage, LogSpec, random},
};
use bytes::Bytes;
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel as AmqpChannel, Confirmation, Consumer,
    message::Delivery,
    options::{BasicCancelOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions},
    protocol::constants::REPLY_SUCCESS,
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use crate::{
    address::{Address, LONGEST_NAME},
    connection::Connection,
    errors::has_other_limits,
};

/// The types of what stands in the log. Anything else there is nobody's, and passed over.
const RECORD: &str = "revocation";
const FENCE: &str = "fence";
/// How many entries a page has: records, and the fences of others between them. The server sends no more than these
/// and the one at the cursor, so that nothing need be acknowledged.
const PAGE: u16 = 1000;
/// Where the log is missing the first try makes it. Who is too early at a stream that was just made loses the
/// connection; a moment later it works.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);
/// The server drops whole segments, and looks at their age when one is full: the default of 500 MB would never be.
const SEGMENT: i64 = 1_000_000;

/// The log of one link, by a connection of its own: the server answers some errors by ending the connection, and an
/// alarm stops what publishes; neither is then the link's.
///
/// Calls take turns on it. A connection is kept from one call to the next only if the call came to its end: whatever a
/// call that failed, was late or was dropped has left at the server goes with its socket.
pub(crate) struct Log {
    address: Arc<Address>,
    /// Where the link is connected.
    at: SocketAddr,
    kept: Mutex<Option<Connection>>,
    /// It was missing, and no page has said so yet.
    created: AtomicBool,
}

impl Log {
    pub(crate) fn new(address: Arc<Address>, at: SocketAddr) -> Self {
        Self { address, at, kept: Mutex::default(), created: AtomicBool::new(false) }
    }

    pub(crate) async fn append(&self, log: &LogSpec, record: &[u8]) -> Result<()> {
        self.limited(log, async {
            let mut kept = self.kept.lock().await;
            let (stream, _) = self.appended(log, &mut kept, RECORD, record).await?;
            *kept = Some(stream.connection);
            Ok(())
        })
        .await
    }

    pub(crate) async fn page(&self, log: &LogSpec, after: &LogCursor) -> Result<LogPage> {
        self.limited(log, async {
            let mut kept = self.kept.lock().await;
            let (stream, fence) = self.appended(log, &mut kept, FENCE, b"").await?;
            let page = stream.page(after, &fence).await?;
            let page = LogPage { created: self.created.swap(false, Relaxed), ..page };
            *kept = Some(stream.connection);
            Ok(page)
        })
        .await
    }

    async fn limited<T>(&self, log: &LogSpec, call: impl Future<Output = Result<T>>) -> Result<T> {
        // A server with an alarm does not answer whoever publishes.
        let why = "was too slow; it may be low on memory or disk: see `rabbitmq-diagnostics alarms`";
        timeout(log.limit, call).await.unwrap_or_else(|_| Err(self.address.peer.error(Timeout, why)))
    }

    /// The stream with one more entry, whose id comes with it.
    async fn appended<'a>(
        &'a self,
        log: &'a LogSpec,
        kept: &mut Option<Connection>,
        kind: &str,
        body: &[u8],
    ) -> Result<(Stream<'a>, String)> {
        let (address, name, mut tries) = (&*self.address, name(&self.address, log)?, 0);
        loop {
            tries += 1;
            let connection = match kept.take().filter(|connection| connection.connection.status().connected())
            {
                Some(connection) => connection,
                None => Connection::open(address, self.at).await?,
            };
            let stream = Stream { address, log, name: name.clone(), connection, created: &self.created };
            match stream.append(kind, body).await {
                Ok(id) => return Ok((stream, id)),
                Err(error) if error.kind() != Unavailable || tries == TRIES => return Err(error),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    pub(crate) async fn close(&self) -> lapin::Result<()> {
        match self.kept.lock().await.take() {
            Some(connection) => connection.close().await,
            None => Ok(()),
        }
    }
}

/// A consumer, and the AMQP channel that is its own.
type Reading = (Consumer, AmqpChannel);

/// The stream, for one call.
struct Stream<'a> {
    address: &'a Address,
    log: &'a LogSpec,
    /// Of the queue, and the key by which it is bound.
    name: ShortString,
    connection: Connection,
    created: &'a AtomicBool,
}

impl Stream<'_> {
    /// Appends an entry, and returns its id. Where the log is missing it is only made.
    async fn append(&self, kind: &str, body: &[u8]) -> Result<String> {
        let (peer, id) = (&self.address.peer, format!("{:016x}{:016x}", random(), random()));
        match self.translated(self.publish(kind, &id, body)).await? {
            Confirmation::Ack(None) => Ok(id),
            // Confirmed, but it went nowhere.
            Confirmation::Ack(Some(_)) => {
                self.created.store(true, Relaxed);
                self.make().await?;
                Err(peer.error(Unavailable, "has only just created the revocation log; call again"))
            }
            _ => Err(peer.error(Other, "has not stored the entry; see its log")),
        }
    }

    async fn publish(&self, kind: &str, id: &str, body: &[u8]) -> lapin::Result<Confirmation> {
        let publisher = self.connection.channel().await?;
        // Without it the server confirms what goes nowhere, too, and says no more.
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let marks = BasicProperties::default().with_type(kind.into()).with_message_id(id.into());
        let (exchange, key) = (self.address.exchange.clone(), self.name.clone());
        publisher.basic_publish(exchange, key, options, body, marks).await?.await
    }

    /// Makes the queue and its binding, of which either may be there.
    async fn make(&self) -> Result<()> {
        let seconds = self.log.retention.as_secs().saturating_add(1);
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
        arguments.insert("x-max-age".into(), AMQPValue::LongString(format!("{seconds}s").into()));
        arguments.insert("x-stream-max-segment-size-bytes".into(), AMQPValue::LongLongInt(SEGMENT));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let control = self.translated(self.connection.channel()).await?;
        match control.queue_declare(self.name.clone(), options, arguments).await {
            // That of a node with another retention is used as it is.
            Err(error) if !has_other_limits(&error) => return Err(self.address.error(&error)),
            _ => {}
        }
        let control = self.translated(self.connection.channel()).await?;
        let (queue, exchange, key) = (self.name.clone(), self.address.exchange.clone(), self.name.clone());
        let (options, plain) = (QueueBindOptions::default(), FieldTable::default());
        self.translated(control.queue_bind(queue, exchange, key, options, plain)).await
    }

    /// What stands after a cursor, as far as the fence or a whole page.
    async fn page(&self, after: &LogCursor, fence: &str) -> Result<LogPage> {
        let (mut entries, broken) = self.after(after).await?;
        let mut page =
            LogPage { records: Vec::new(), cursor: LogCursor::START, more: true, broken, created: false };
        for _ in 0..PAGE {
            let entry = self.next(&mut entries).await?;
            page.cursor = LogCursor::new(format!("{}/{}", entry.offset, entry.id));
            page.records.extend(entry.record);
            page.more = entry.id != fence;
            if !page.more {
                break;
            }
        }
        self.done(entries).await?;
        Ok(page)
    }

    /// The entries after a cursor; all of them where it has lost its place, and why.
    async fn after(&self, cursor: &LogCursor) -> Result<(Reading, Option<LogDiscontinuity>)> {
        let broken = match cursor.place().map(parse) {
            None => None,
            Some(None) => Some(LogDiscontinuity::Replaced),
            Some(Some((offset, _))) if self.ends_before(offset).await? => Some(LogDiscontinuity::RolledBack),
            Some(Some((offset, id))) => {
                let mut entries = self.entries(AMQPValue::LongLongInt(offset)).await?;
                let first = self.next(&mut entries).await?;
                if (first.offset, &*first.id) == (offset, id) {
                    return Ok((entries, None));
                }
                self.done(entries).await?;
                Some(if first.offset == offset {
                    LogDiscontinuity::Replaced
                } else {
                    LogDiscontinuity::Trimmed
                })
            }
        };
        Ok((self.entries(AMQPValue::LongString("first".into())).await?, broken))
    }

    /// Whether the stream is shorter than that. To whoever starts beyond its end the server sends nothing, ever.
    async fn ends_before(&self, offset: i64) -> Result<bool> {
        let mut tail = self.entries(AMQPValue::LongString("last".into())).await?;
        let mut entry = self.next(&mut tail).await?;
        if entry.offset < offset {
            // It is, or this server has not yet got what the others have: it will send this one last.
            let fence = self.append(FENCE, b"").await?;
            while entry.offset < offset && entry.id != fence {
                entry = self.next(&mut tail).await?;
            }
        }
        self.done(tail).await?;
        Ok(entry.offset < offset)
    }

    /// What the stream holds from an offset on. On an AMQP channel where there was a consumer before, the next one may
    /// miss its first deliveries.
    async fn entries(&self, offset: AMQPValue) -> Result<Reading> {
        let mut from = FieldTable::default();
        from.insert("x-stream-offset".into(), offset);
        self.translated(self.connection.consume(&self.name, PAGE + 1, from)).await
    }

    /// Ends a reading. A consumer that is not cancelled stays in the server's lists for minutes. An AMQP channel that is
    /// dropped closes at some time later, and a connection cannot be closed in good order in the middle of that.
    async fn done(&self, (entries, channel): Reading) -> Result<()> {
        self.translated(channel.basic_cancel(entries.tag(), BasicCancelOptions::default())).await?;
        self.translated(channel.close(REPLY_SUCCESS, "OK".into())).await
    }

    async fn next(&self, (entries, _): &mut Reading) -> Result<Entry> {
        let peer = &self.address.peer;
        match entries.next().await {
            Some(Ok(delivery)) => Entry::of(delivery).ok_or_else(|| peer.not_this_protocol()),
            Some(Err(error)) => Err(self.address.error(&error)),
            None => Err(peer.error(Unavailable, "has deleted the revocation log while it was read")),
        }
    }

    async fn translated<T>(&self, call: impl Future<Output = lapin::Result<T>>) -> Result<T> {
        call.await.map_err(|error| self.address.error(&error))
    }
}

/// What the stream holds at an offset.
struct Entry {
    offset: i64,
    id: String,
    /// `None`: a fence, or nothing of ours.
    record: Option<Bytes>,
}

impl Entry {
    /// `None` without an offset: what is no stream refuses to be read from one.
    fn of(delivery: Delivery) -> Option<Self> {
        let marks = &delivery.properties;
        let Some(AMQPValue::LongLongInt(offset)) = marks.headers().as_ref()?.inner().get("x-stream-offset")
        else {
            return None;
        };
        let (offset, id) =
            (*offset, marks.message_id().as_ref().map(ToString::to_string).unwrap_or_default());
        let is_record = marks.kind().as_ref().is_some_and(|kind| kind.as_str() == RECORD);
        Some(Self { offset, id, record: is_record.then(|| delivery.data.into()) })
    }
}

/// A cursor's offset and id. It may be any text.
fn parse(place: &str) -> Option<(i64, &str)> {
    let (offset, id) = place.split_once('/')?;
    Some((offset.parse().ok().filter(|offset| *offset >= 0)?, id))
}

/// The queue's name, after the exchange's so that one pattern of a permission covers both, and the key by which it is
/// bound. No channel has two dots in a row: no post ever has this key, and no two logs have one name.
fn name(address: &Address, log: &LogSpec) -> Result<ShortString> {
    let name = format!("{}..{}", address.exchange, log.name);
    if name.len() <= LONGEST_NAME {
        return Ok(name.into());
    }
    let why = "is longer than 255 bytes; set a shorter key `exchange`, or option `prefix`";
    Err(Error::new(InvalidInput, format!("the name of the revocation log, {name:?}, {why}")))
}

#[cfg(test)]
mod tests {
    use broker_core::{BrokerUrl, ChannelName};

    use super::*;

    #[test]
    fn a_cursor_may_be_any_text() {
        assert_eq!(parse("7/abc"), Some((7, "abc")));
        assert_eq!(parse("0//"), Some((0, "/")));
        for hostile in ["", "/", "7", "abc/abc", "-1/abc", "99999999999999999999/abc", " 7/abc", "\u{0}/"] {
            assert_eq!(parse(hostile), None, "{hostile:?}");
        }
    }

    #[test]
    fn the_name_of_no_log_is_that_of_a_channel_or_another_log() {
        let named = |exchange: &str, log: &str| {
            let url = BrokerUrl::parse(&format!("amqp://h/?exchange={exchange}")).unwrap();
            let log = LogSpec::new(ChannelName::new(log).unwrap(), Duration::MAX, Duration::MAX);
            name(&Address::parse(&url).unwrap(), &log)
        };
        assert_eq!(named("broker", "shop").unwrap().as_str(), "broker..shop");
        assert!(ChannelName::new("broker..shop").is_err());
        assert_ne!(named("a", "b.c").unwrap(), named("a.b", "c").unwrap());
        let longest = named(&"x".repeat(53), &"y".repeat(200)).unwrap();
        assert_eq!(longest.as_str().len(), LONGEST_NAME);
        let error = named(&"x".repeat(54), &"y".repeat(200)).unwrap_err();
        assert_eq!(error.kind(), InvalidInput, "{error}");
        assert!(error.message().contains("`exchange`"), "{error}");
    }
}
