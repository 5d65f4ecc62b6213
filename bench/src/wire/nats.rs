//! The raw NATS client: one connection that posts, one that receives.

use std::sync::Arc;

use async_nats::{Client, ConnectOptions, Subject};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::task::JoinSet;

use super::{Received, Wire, names};
use crate::Outcome;

pub(crate) struct Raw {
    publisher: Client,
    _subscriber: Client,
    subjects: Vec<Subject>,
    received: Arc<Received>,
    _readers: JoinSet<()>,
}

impl Wire for Raw {
    async fn open(url: &str, channels: usize) -> Outcome<Self> {
        let publisher = async_nats::connect(url).await?;
        // As much as there is ever under way: it drops what does not fit.
        let receiving = ConnectOptions::new().subscription_capacity(1 << 18).connect(url).await?;
        let subjects: Vec<Subject> = names("raw.", channels).into_iter().map(Subject::from).collect();
        let (received, mut readers) = (Received::new()?, JoinSet::new());
        for subject in &subjects {
            let mut subscriber = receiving.subscribe(subject.clone()).await?;
            let noting = Arc::clone(&received);
            readers.spawn(async move {
                while let Some(message) = subscriber.next().await {
                    noting.note(|| message.payload);
                }
            });
        }
        // A flush does not wait for the server: a message behind the subscriptions, on their connection, does.
        received.want(1);
        receiving.publish(subjects[0].clone(), Bytes::new()).await?;
        received.reach().await?;
        Ok(Self { publisher, _subscriber: receiving, subjects, received, _readers: readers })
    }

    async fn post(&self, caller: usize, payload: Bytes) -> Outcome {
        let subject = &self.subjects[caller % self.subjects.len()];
        Ok(self.publisher.publish(subject.clone(), payload).await?)
    }

    async fn flush(&self) -> Outcome {
        Ok(self.publisher.flush().await?)
    }

    fn received(&self) -> &Received {
        &self.received
    }
}
