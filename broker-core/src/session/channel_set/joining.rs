//! Joining: channels that enter a set together, or not at all.

use std::sync::Arc;

use super::{ChannelSet, member::Member};
use crate::{
    AsChannelName, ChannelName, CloseReason, Error, ErrorKind, Result,
    hub::{Seats, WakeList},
};

impl ChannelSet {
    /// Adds a channel. When it returns, every later post from any process is yielded, or reported missing. One that is
    /// in the set already is no error. Cancel safe: a dropped call adds nothing.
    ///
    /// # Errors
    /// As [`Session::create_stream`](crate::Session::create_stream).
    pub async fn join(&mut self, channel: impl AsChannelName + Send) -> Result<()> {
        let name = parsed("join", channel.channel_name())?;
        self.join_names("join", vec![name]).await
    }

    /// Adds channels, all of them or none: they are requested at once, and waited for together, within one
    /// [`subscribe_timeout`](crate::Options::subscribe_timeout). All else as [`join`](Self::join).
    ///
    /// # Errors
    /// As [`join`](Self::join), for the first channel that fails. Then none of those that this call would have added is
    /// in the set.
    pub async fn join_all<C: AsChannelName>(
        &mut self,
        channels: impl IntoIterator<Item = C> + Send,
    ) -> Result<()> {
        let names = channels.into_iter().map(|channel| parsed("join_all", channel.channel_name()));
        let names = names.collect::<Result<Vec<_>>>()?;
        self.join_names("join_all", names).await
    }

    async fn join_names(&mut self, operation: &'static str, names: Vec<ChannelName>) -> Result<()> {
        let joining = Joining { set: self, members: Vec::with_capacity(names.len()) };
        let joining = joining.add(operation, names)?;
        let broker = joining.set.broker.clone();
        let names: Vec<&ChannelName> = joining.members.iter().map(|member| &member.ring.channel).collect();
        if joining.set.options.waits() {
            let limit = joining.set.options.limit(broker.options().subscribe_timeout)?;
            let refusal = || joining.members.iter().find_map(|member| member.refusal());
            let confirmed = broker.confirm_all(&names, limit, refusal).await;
            confirmed.map_err(|error| broker.about(operation, error))?;
        }
        joining.set.check_open(operation)?;
        if !joining.set.options.waits() {
            broker.request_channels(names.iter().copied()).map_err(|error| broker.about(operation, error))?;
        }
        joining.begin();
        Ok(())
    }

    fn check_open(&self, operation: &'static str) -> Result<()> {
        if !self.is_closed() {
            return Ok(());
        }
        if self.broker.is_closed() {
            return Err(self.broker.closed_error().with_operation(operation));
        }
        let reason = self.owner.as_ref().and_then(super::Owner::close_reason);
        let reason = reason.or_else(|| self.ended.clone()).unwrap_or(CloseReason::BrokerClosed);
        let message = format!("the set of channels has ended: {reason}; make another one of another session");
        Err(Error::new(ErrorKind::Closed, message).with_operation(operation))
    }
}

fn parsed(operation: &'static str, channel: &str) -> Result<ChannelName> {
    ChannelName::new(channel).map_err(|error| error.with_operation(operation))
}

/// Channels that enter a set. Dropped before they have begun, they leave again.
struct Joining<'a> {
    set: &'a mut ChannelSet,
    members: Vec<Arc<Member>>,
}

impl<'a> Joining<'a> {
    /// Those that are not in the set take their seats, and yield nothing yet.
    fn add(mut self, operation: &'static str, names: Vec<ChannelName>) -> Result<Self> {
        self.set.check_open(operation)?;
        for name in names {
            if self.set.members.lock().contains_key(&name) {
                continue;
            }
            let broker = &self.set.broker;
            let closed = || broker.at(operation, name.as_str(), broker.closed_error());
            let (ring, cursor) = broker.hub().join(&name, self.set.reads).ok_or_else(closed)?;
            let member = Arc::new(Member::new(ring, cursor, Arc::clone(&self.set.queue)));
            self.members.push(Arc::clone(&member));
            let name = member.ring.channel.clone();
            self.set.members.lock().insert(name, member);
        }
        Ok(self)
    }

    /// They are confirmed, or the call does not wait for that.
    fn begin(mut self) {
        let hub = self.set.broker.hub();
        let waited = self.set.options.waits();
        for member in std::mem::take(&mut self.members) {
            member.begin(waited);
            if waited {
                hub.set_subscribed(&member.ring.channel);
            }
        }
        // Closed meanwhile: some of them may have begun after they were closed.
        if self.set.is_closed() {
            let mut wakes = WakeList::default();
            self.set.members.close(hub, &mut wakes);
            wakes.finish();
        }
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        for member in std::mem::take(&mut self.members) {
            self.set.members.lock().remove(&member.ring.channel);
            self.set.give_back(&member);
        }
    }
}
