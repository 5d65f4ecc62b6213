//! The raw PostgreSQL client: one connection that notifies, one statement for each post, and one that listens to each channel.

use std::{
    future::{pending, poll_fn},
    io, str,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::{net::TcpStream, task::JoinSet};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Statement, config::Host};

use super::{Received, Wire, names};
use crate::{
    Outcome,
    report::{Report, Row},
    rounds::{Round, Scale, alternate},
};

/// As long as the payload of one notification may be, without what numbers the pieces of a longer one.
const PIECE: usize = 7999 - LAST.len() - 8;
/// What the last piece of a message begins with. Equal notifications of one transaction are delivered once, so each piece
/// has its number, too.
const LAST: &str = "last";

pub(crate) struct Raw {
    publisher: Client,
    notify: Statement,
    notify_pieces: Statement,
    channels: Vec<String>,
    received: Arc<Received>,
    /// Both connections, and the one that reads.
    _tasks: JoinSet<()>,
}

impl Wire for Raw {
    async fn open(url: &str, channels: usize) -> Outcome<Self> {
        let (received, mut tasks) = (Received::new()?, JoinSet::new());
        let publisher = connect(url, &mut tasks, |_| ()).await?;
        // As ours, and as anybody would who posts much: a crash forgets notifications anyway.
        publisher.batch_execute("SET synchronous_commit = off").await?;
        let notify = publisher.prepare("SELECT pg_notify($1, $2)").await?;
        let pieces = "SELECT count(pg_notify($1, piece)) FROM unnest($2::text[]) AS t (piece)";
        let notify_pieces = publisher.prepare(pieces).await?;

        let noting = Arc::clone(&received);
        let listener = connect(url, &mut tasks, move |payload| noting.note(|| payload)).await?;
        let channels = names("raw ", channels);
        listener.batch_execute(&listen(&channels)).await?;
        // Its connection ends with it.
        tasks.spawn(async move {
            let _listener = listener;
            pending::<()>().await;
        });
        Ok(Self { publisher, notify, notify_pieces, channels, received, _tasks: tasks })
    }

    async fn post(&self, caller: usize, payload: Bytes) -> Outcome {
        let channel = &self.channels[caller % self.channels.len()];
        let text = str::from_utf8(&payload)?;
        if text.len() <= PIECE {
            self.publisher.query_one(&self.notify, &[channel, &text]).await?;
        } else {
            self.publisher.query_one(&self.notify_pieces, &[channel, &pieces(text)]).await?;
        }
        Ok(())
    }

    async fn flush(&self) -> Outcome {
        Ok(())
    }

    fn received(&self) -> &Received {
        &self.received
    }
}

fn listen(channels: &[String]) -> String {
    let statements: Vec<String> = channels.iter().map(|channel| format!("LISTEN \"{channel}\";")).collect();
    statements.concat()
}

/// The name of that scenario.
pub(super) fn subscribing(scale: Scale) -> String {
    format!("postgres subscribe to {} channels", scale.of(10_000, 100))
}

/// Until all are confirmed, on a connection that is there; beside as many `LISTEN` in one query.
pub(super) async fn subscribe(scale: Scale, report: &mut Report, url: &str) -> Outcome {
    let name = subscribing(scale);
    if !report.starts(&name) {
        return Ok(());
    }
    let channels = names("", scale.of(10_000, 100));
    let ours = async || {
        let node = broker::connect(url).await?;
        let mut open = Vec::new();
        let work = async {
            open = try_join_all(channels.iter().map(|channel| node.subscribe(channel))).await?;
            Ok(())
        };
        let round = Round::time(channels.len(), work).await;
        drop(open);
        node.close().await;
        round
    };
    let raw = async || {
        let mut tasks = JoinSet::new();
        let listener = connect(url, &mut tasks, |_| ()).await?;
        let work = async { Ok(listener.batch_execute(&listen(&channels)).await?) };
        Round::time(channels.len(), work).await
    };
    let pairs = alternate(scale, ours, raw).await?;
    report.add(Row::rates(name, "channels/s", "raw tokio-postgres, LISTEN for each", &pairs));
    Ok(())
}

/// The payloads of a message that is too long for one notification; it is ASCII.
fn pieces(text: &str) -> Vec<String> {
    let count = text.len().div_ceil(PIECE);
    let parts = text.as_bytes().chunks(PIECE).map(String::from_utf8_lossy);
    let marked = |(number, part): (usize, _)| {
        let mark = if number + 1 == count { LAST } else { "part" };
        format!("{mark}{number:08}{part}")
    };
    parts.enumerate().map(marked).collect()
}

/// Opens a connection, driven by a task, that calls `note` for each message.
async fn connect(
    url: &str,
    tasks: &mut JoinSet<()>,
    note: impl Fn(&[u8]) + Send + 'static,
) -> Outcome<Client> {
    let config: Config = url.parse()?;
    let (Some(Host::Tcp(host)), Some(port)) = (config.get_hosts().first(), config.get_ports().first()) else {
        return Err(io::Error::other("a server with an address is needed").into());
    };
    let stream = TcpStream::connect((&**host, *port)).await?;
    stream.set_nodelay(true)?;
    let (client, mut connection) = config.connect_raw(stream, NoTls).await?;
    tasks.spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message
                && !notification.payload().starts_with("part")
            {
                note(notification.payload().as_bytes());
            }
        }
    });
    Ok(client)
}
