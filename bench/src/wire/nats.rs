//! The raw NATS client: one connection that posts, one that hears.

use std::sync::Arc;

use async_nats::{Client, ConnectOptions, Subject};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::task::JoinSet;

use super::{Heard, Wire, names};
use crate::Outcome;

pub(crate) struct Raw {
    publisher: Client,
    _hearer: Client,
    subjects: Vec<Subject>,
    heard: Arc<Heard>,
    _readers: JoinSet<()>,
}

impl Wire for Raw {
    async fn open(url: &str, channels: usize) -> Outcome<Self> {
        let publisher = async_nats::connect(url).await?;
        // As much as there is ever under way: it drops what does not fit.
        let hearer = ConnectOptions::new().subscription_capacity(1 << 18).connect(url).await?;
        let subjects: Vec<Subject> = names("raw.", channels).into_iter().map(Subject::from).collect();
        let (heard, mut readers) = (Heard::new(), JoinSet::new());
        for subject in &subjects {
            let mut subscriber = hearer.subscribe(subject.clone()).await?;
            let noting = Arc::clone(&heard);
            readers.spawn(async move {
                while subscriber.next().await.is_some() {
                    noting.note();
                }
            });
        }
        // A flush does not wait for the server: a message behind the subscriptions, on their connection, does.
        heard.want(1);
        hearer.publish(subjects[0].clone(), Bytes::new()).await?;
        heard.reach().await?;
        Ok(Self { publisher, _hearer: hearer, subjects, heard, _readers: readers })
    }

    async fn post(&self, caller: usize, payload: Bytes) -> Outcome {
        let subject = &self.subjects[caller % self.subjects.len()];
        Ok(self.publisher.publish(subject.clone(), payload).await?)
    }

    async fn flush(&self) -> Outcome {
        Ok(self.publisher.flush().await?)
    }

    fn heard(&self) -> &Heard {
        &self.heard
    }
}
