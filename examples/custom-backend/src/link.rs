//! Link: the contract, in commands of the protocol.

use std::num::NonZero;

use async_trait::async_trait;
use broker_core::{
    ChannelName, Error, Result,
    driver::{
        Capabilities, Confirmation, DurableLog, Inspection, Link, LinkInfo, LogCursor, LogPage, LogSpec,
        OrderGuarantee, Outgoing, PermissionScope, Reach, Receipt,
    },
};
use bytes::Bytes;

use crate::connection::{Answer, Connection};

/// What every link promises beyond the contract.
const PROMISED: Capabilities = Capabilities::new(Reach::Cluster)
    .ordering(OrderGuarantee::PerChannel)
    .confirmation(Confirmation::Accepted)
    .permissions(PermissionScope::Channel);

/// One task writes all calls in the order in which they were polled: several batches may be under way.
const WINDOW: NonZero<usize> = NonZero::new(4).expect("it is not zero");

pub(crate) struct LineLink(Connection);

impl LineLink {
    pub(crate) fn new(connection: Connection) -> Self {
        Self(connection)
    }

    async fn about(&self, command: &str, channels: &[ChannelName]) -> Result<()> {
        let mut line = command.to_owned();
        for channel in channels {
            line.push(' ');
            line.push_str(channel.as_str());
        }
        line.push('\n');
        self.0.ask(line.into_bytes()).await.map(|_| ())
    }
}

fn with_bytes(commands: &mut Vec<u8>, words: &str, bytes: &[u8]) {
    commands.extend_from_slice(format!("{words} {}\n", bytes.len()).as_bytes());
    commands.extend_from_slice(bytes);
}

#[async_trait]
impl Link for LineLink {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        let mut commands = Vec::new();
        for outgoing in batch {
            with_bytes(&mut commands, &format!("PUB {}", outgoing.channel), &outgoing.frame());
        }
        let (answers, error) = self.0.call(commands, batch.len()).await;
        let outcome = |answer| match answer {
            Answer::Refused(error) => Err(error),
            _ => Ok(Receipt::new()),
        };
        let mut outcomes: Vec<_> = answers.into_iter().map(outcome).collect();
        if let Some(error) = error {
            let again = || Err(Error::new(error.kind(), error.message()));
            outcomes.resize_with(batch.len(), again);
        }
        outcomes
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.about("SUB", channels).await
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.about("UNSUB", channels).await
    }

    fn log(&self) -> Option<&dyn DurableLog> {
        Some(self)
    }

    fn probe_channels(&self, own: &ChannelName) -> Vec<ChannelName> {
        vec![own.clone()]
    }

    fn info(&self) -> LinkInfo {
        let mut info = LinkInfo::new(PROMISED);
        info.publish_window = WINDOW;
        info
    }

    async fn inspect(&self, _log: &LogSpec) -> Inspection {
        Inspection::new(None, Some(true))
    }

    async fn close(&self) -> Result<()> {
        self.about("BYE", &[]).await
    }
}

#[async_trait]
impl DurableLog for LineLink {
    async fn append(&self, log: &LogSpec, record: Bytes) -> Result<()> {
        let mut command = Vec::new();
        let words = format!("APPEND {} {}", log.name, log.retention.as_millis());
        with_bytes(&mut command, &words, &record);
        log.within(&self.0.peer, self.0.ask(command)).await.map(|_| ())
    }

    async fn read(&self, log: &LogSpec, after: &LogCursor) -> Result<LogPage> {
        let is_word = |place: &&str| !place.is_empty() && !place.contains(char::is_whitespace);
        // Text that is no word is no cursor of ours, and `?` is none either.
        let place = after.place().map(|place| format!(" {}", Some(place).filter(is_word).unwrap_or("?")));
        let place = place.unwrap_or_default();
        let command = format!("READ {} {}{place}\n", log.name, log.retention.as_millis());
        let page = log.within(&self.0.peer, self.0.ask(command.into_bytes())).await?;
        let mut page = page.ok_or_else(|| self.0.peer.not_this_protocol())?;
        page.created = self.0.take_created();
        Ok(page)
    }
}
