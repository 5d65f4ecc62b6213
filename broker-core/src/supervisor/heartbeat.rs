//! When heartbeats are posted: as often as the options say, or more often where the server closes idle connections.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Receivers, Supervisor, probe::Kind};
use crate::{Result, driver::Link};

impl Supervisor {
    /// Posts to itself every heartbeat, and asks the link what its server is; ends when the echo does not come, or the
    /// server is not what it was.
    pub(crate) async fn heartbeat(&self, link: &dyn Link) -> Result<()> {
        let pace = self.heartbeat_within(link.info().idle_limit);
        loop {
            sleep(pace).await;
            let Receivers { hub, follower, .. } = &self.receivers;
            let (sent, probe_epoch) = (Instant::now(), hub.begin_probe_epoch());
            let echo = async {
                self.round_trip(Kind::Heartbeat).await?;
                Ok(sent.elapsed())
            };
            let check = async { self.timed("check", self.options.heartbeat_timeout, link.check()).await? };
            let (round_trip, ()) = tokio::try_join!(echo, check)?;
            self.receivers.meter.record_round_trip(round_trip);
            hub.confirm_probe_epoch(probe_epoch);
            follower.echoed(sent);
        }
    }

    /// The time between two heartbeats: shorter than in the options where the server would close the connection
    /// meanwhile.
    fn heartbeat_within(&self, idle_limit: Option<Duration>) -> Duration {
        let wanted = self.options.heartbeat;
        match idle_limit {
            Some(limit) if limit <= wanted => {
                let pace = limit / 2;
                tracing::warn!(
                    backend = self.driver.name(),
                    "the server closes connections that are idle for {limit:?}, within the heartbeat of {wanted:?}: a \
                     heartbeat is posted every {pace:?} instead; turn off that limit, or raise it"
                );
                pace
            }
            _ => wanted,
        }
    }
}
