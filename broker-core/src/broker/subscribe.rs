//! Subscribing: joining a channel here at once, and waiting until the backend delivers it.

use super::Broker;
use crate::{ChannelName, Result, Subscription};

impl Broker {
    /// Subscribes to a channel outside of any session. When it returns, every later post from any process is
    /// delivered, or reported missing. Cancel safe: a dropped call leaves nothing behind.
    ///
    /// # Errors
    /// As [`Session::create_stream`](crate::Session::create_stream).
    pub async fn subscribe(&self, channel: impl AsRef<str> + Send) -> Result<Subscription> {
        let mut subscription = self.join("subscribe", channel.as_ref())?;
        self.confirm("subscribe", &mut subscription).await?;
        Ok(subscription)
    }

    pub(crate) fn join(&self, operation: &'static str, channel: &str) -> Result<Subscription> {
        let name = ChannelName::new(channel).map_err(|error| error.with_operation(operation))?;
        Subscription::open(self, &name).ok_or_else(|| self.at(operation, channel, self.closed_error()))
    }

    pub(crate) async fn confirm(
        &self,
        operation: &'static str,
        subscription: &mut Subscription,
    ) -> Result<()> {
        let Some(backend) = &self.0.backend else {
            subscription.begin_here();
            return Ok(());
        };
        let name = subscription.channel();
        let (limit, refusal) = (self.0.options.subscribe_timeout, || subscription.refusal());
        let confirmed = backend.subscriptions.confirmed(name, limit, refusal).await;
        confirmed.map_err(|error| self.at(operation, name.as_str(), error))?;
        subscription.begin_here();
        Ok(())
    }

    pub(crate) fn note_left(&self, channel: &ChannelName) {
        if let Some(backend) = &self.0.backend {
            backend.subscriptions.note_left(channel);
        }
    }
}
