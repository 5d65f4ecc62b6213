//! SqlPost: a post that a transaction of the application carries, as the parameters of one statement.

use std::sync::{
    LazyLock,
    atomic::{AtomicU32, Ordering},
};

use broker_core::{
    ChannelName, Options, Post, Result,
    driver::{random, unnumbered_frame},
};

use crate::piece;

/// The counter of the next piece. In one transaction equal pieces are delivered once, so no two messages may begin at the same
/// number: their first pieces differ in the message's id, and those behind may be equal.
static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(random() as u32));

/// A message that is posted by a transaction of your own: every subscriber receives it exactly if that commits, in the
/// order of the commits.
///
/// With any client of PostgreSQL run [`STATEMENT`](Self::STATEMENT) in the transaction, with [`channels`](Self::channels)
/// and [`payloads`](Self::payloads) as its two parameters. It needs no function of the schema `broker`, and no permission
/// beyond a connection to the database.
///
/// The message is delivered like any other, and [`Message::sequence`](broker_core::Message::sequence) is `None`: a
/// transaction is no node of the broker, so numbers show no loss of it. A lost link shows as a gap, as always.
///
/// ```
/// use broker_core::{ChannelName, Options, Post};
/// use broker_postgres::SqlPost;
///
/// let channel = ChannelName::new("orders.acme")?;
/// let post = SqlPost::new(&channel, Post::from("17 is paid"), &Options::default())?;
/// // client.execute(SqlPost::STATEMENT, &[&post.channels(), &post.payloads()])
/// assert_eq!(post.channels().len(), post.payloads().len());
/// # Ok::<(), broker_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlPost {
    channels: Vec<String>,
    payloads: Vec<String>,
}

impl SqlPost {
    /// The statement, with two parameters of the type `text[]`. It returns one row.
    pub const STATEMENT: &str =
        "SELECT count(pg_notify(c, p)) FROM unnest($1::text[], $2::text[]) AS t(c, p)";

    /// Prepares a post. Each use of it is a message with the same [`id`](broker_core::Message::id): make another one for
    /// another message. `options` are those of the nodes that are to receive it: their `prefix` counts, and their limits.
    ///
    /// # Errors
    /// [`TooLarge`](broker_core::ErrorKind::TooLarge) and [`InvalidInput`](broker_core::ErrorKind::InvalidInput) for a post
    /// beyond the limits of the options.
    pub fn new(channel: &ChannelName, post: impl Into<Post>, options: &Options) -> Result<Self> {
        let frame = unnumbered_frame(post.into(), options)?;
        let name = match options.prefix.as_str() {
            "" => channel.as_str().to_owned(),
            prefix => format!("{prefix}.{channel}"),
        };
        let mut payloads = Vec::new();
        let mut counter = NEXT.fetch_add(piece::most_pieces(&frame), Ordering::Relaxed);
        piece::cut(&name, &[&frame], &mut counter, &mut payloads);
        let bucket = piece::bucket_name(piece::bucket(piece::hash(&name)));
        Ok(Self { channels: vec![bucket; payloads.len()], payloads })
    }

    /// The first parameter: the NOTIFY channel of each payload.
    #[must_use]
    pub fn channels(&self) -> &[String] {
        &self.channels
    }

    /// The second parameter: the payloads, in their order.
    #[must_use]
    pub fn payloads(&self) -> &[String] {
        &self.payloads
    }
}
