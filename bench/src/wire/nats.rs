//! The raw NATS client: one connection that posts, one that hears.

use std::sync::Arc;

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use futures_util::StreamExt;

use super::{CHANNEL, Heard, Wire};
use crate::Outcome;

pub(crate) struct Raw {
    publisher: Client,
    _hearer: Client,
    heard: Arc<Heard>,
}

impl Raw {
    pub(crate) async fn open(url: &str) -> Outcome<Self> {
        let publisher = async_nats::connect(url).await?;
        // As much as there is ever under way: it drops what does not fit.
        let hearer = ConnectOptions::new().subscription_capacity(1 << 18).connect(url).await?;
        let mut subscriber = hearer.subscribe(subject()).await?;
        let heard = Heard::new();
        let noting = Arc::clone(&heard);
        tokio::spawn(async move {
            while subscriber.next().await.is_some() {
                noting.note();
            }
        });
        // A flush does not wait for the server: a message behind the subscription, on its connection, does.
        heard.want(1);
        hearer.publish(subject(), Bytes::new()).await?;
        heard.reach().await?;
        Ok(Self { publisher, _hearer: hearer, heard })
    }
}

fn subject() -> String {
    format!("raw.{CHANNEL}")
}

impl Wire for Raw {
    async fn post(&self, payload: Bytes) -> Outcome {
        Ok(self.publisher.publish(subject(), payload).await?)
    }

    async fn flush(&self) -> Outcome {
        Ok(self.publisher.flush().await?)
    }

    fn heard(&self) -> &Heard {
        &self.heard
    }
}
