//! MemoryLink: one membership of a bus.

use std::{future::pending, time::SystemTime};

use async_trait::async_trait;
use broker_core::{
    ChannelName, Error, ErrorKind, Result,
    driver::{
        Capabilities, Confirmation, DurableLog, Inbox, Inspection, Link, LinkInfo, LogCursor, LogPage,
        LogSpec, OrderGuarantee, Outgoing, PermissionScope, Reach, Receipt,
    },
};
use bytes::Bytes;
use tokio::time::timeout;

use crate::bus::{Bus, Passage};

/// The bus sends every link what it took in one order.
const CAPABILITIES: Capabilities = Capabilities::new(Reach::Process)
    .ordering(OrderGuarantee::PerChannel)
    .confirmation(Confirmation::Accepted)
    .permissions(PermissionScope::Channel);

#[derive(Debug)]
pub(crate) struct MemoryLink {
    bus: Bus,
    id: u64,
}

impl MemoryLink {
    pub(crate) async fn open(bus: &Bus, line: &str, inbox: Inbox) -> Result<Self> {
        match bus.join(line, inbox) {
            Ok(id) => Ok(Self { bus: bus.clone(), id }),
            Err(Passage::Cut) => Err(cut_off()),
            Err(_) => pending().await,
        }
    }

    fn permit(&self, channel: &ChannelName) -> Result<()> {
        if self.bus.permits(channel) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Forbidden, format!("the bus refuses the channel `{channel}`")))
    }

    async fn pass(&self) -> Result<()> {
        match self.bus.passage_of(self.id) {
            Passage::Clear => Ok(()),
            Passage::Stalled => pending().await,
            Passage::Cut => Err(cut_off()),
        }
    }
}

/// What a stalled bus answers to a call about the log.
fn late<T>(log: &LogSpec) -> Result<T> {
    Err(Error::new(ErrorKind::Timeout, format!("the bus has not answered within {:?}", log.limit)))
}

fn cut_off() -> Error {
    Error::new(ErrorKind::Unavailable, "the bus is cut off")
}

#[async_trait]
impl Link for MemoryLink {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        if let Err(error) = self.pass().await {
            return batch.iter().map(|_| Err(error.clone())).collect();
        }
        while self.bus.is_behind() {
            tokio::task::yield_now().await;
        }
        let permit = |outgoing: &Outgoing| self.permit(&outgoing.channel).map(|()| Receipt::new());
        let outcomes: Vec<Result<Receipt>> = batch.iter().map(permit).collect();
        let taken = batch.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
        self.bus.publish(taken.map(|(outgoing, _)| outgoing));
        outcomes
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.pass().await?;
        channels.iter().try_for_each(|channel| self.permit(channel))?;
        self.bus.subscribe(self.id, channels);
        Ok(())
    }

    async fn unsubscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.pass().await?;
        self.bus.unsubscribe(self.id, channels);
        Ok(())
    }

    fn log(&self) -> Option<&dyn DurableLog> {
        Some(self)
    }

    fn probe_channels(&self, own: &ChannelName) -> Vec<ChannelName> {
        vec![own.clone()]
    }

    fn info(&self) -> LinkInfo {
        LinkInfo::new(CAPABILITIES)
    }

    async fn inspect(&self, _: &LogSpec) -> Inspection {
        Inspection::new(Some(SystemTime::now()), Some(false))
    }

    async fn close(&self) -> Result<()> {
        self.bus.leave(self.id);
        Ok(())
    }
}

#[async_trait]
impl DurableLog for MemoryLink {
    async fn append(&self, log: &LogSpec, record: Bytes) -> Result<()> {
        match timeout(log.limit, self.pass()).await {
            Ok(passed) => passed.map(|()| self.bus.revoke(log, record)),
            Err(_) => late(log),
        }
    }

    async fn read(&self, log: &LogSpec, after: &LogCursor) -> Result<LogPage> {
        match timeout(log.limit, self.pass()).await {
            Ok(passed) => passed.map(|()| self.bus.revocations(log, after)),
            Err(_) => late(log),
        }
    }
}

impl Drop for MemoryLink {
    fn drop(&mut self) {
        self.bus.leave(self.id);
    }
}
