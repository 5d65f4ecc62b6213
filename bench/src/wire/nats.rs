//! The raw NATS client: one connection that posts, one that hears.

use std::sync::Arc;

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use futures_util::StreamExt;

use super::{CHANNEL, Heard, Wire};
use crate::Outcome;

pub(super) struct Raw {
    publisher: Client,
    _hearer: Client,
    heard: Arc<Heard>,
}

impl Raw {
    pub(super) async fn open(url: &str) -> Outcome<Self> {
        let publisher = async_nats::connect(url).await?;
        // As much as there is ever under way: it drops what does not fit.
        let hearer = ConnectOptions::new().subscription_capacity(1 << 18).connect(url).await?;
        let mut subscriber = hearer.subscribe(format!("raw.{CHANNEL}")).await?;
        hearer.flush().await?;
        let heard = Heard::new();
        let noting = Arc::clone(&heard);
        tokio::spawn(async move {
            while subscriber.next().await.is_some() {
                noting.note();
            }
        });
        let raw = Self { publisher, _hearer: hearer, heard };
        // A flush does not wait for the server: the first message does.
        raw.heard.want(1);
        for _ in 0..1000 {
            raw.post(Bytes::new()).await?;
            raw.flush().await?;
            if tokio::time::timeout(std::time::Duration::from_millis(10), raw.heard.reached.notified())
                .await
                .is_ok()
            {
                break;
            }
        }
        Ok(raw)
    }
}

impl Wire for Raw {
    async fn post(&self, payload: Bytes) -> Outcome {
        Ok(self.publisher.publish(format!("raw.{CHANNEL}"), payload).await?)
    }

    async fn flush(&self) -> Outcome {
        Ok(self.publisher.flush().await?)
    }

    fn heard(&self) -> &Heard {
        &self.heard
    }
}
