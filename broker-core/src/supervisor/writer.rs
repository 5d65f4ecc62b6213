//! Writer: sends what waits in the outbox, batch after batch.

use futures_util::{StreamExt, stream::FuturesOrdered};

use super::{
    Supervisor,
    batch::{Batch, Completion},
};
use crate::{
    Error, ErrorKind, Result,
    driver::{Link, Receipt},
    wire::bundle::Bundles,
};

impl Supervisor {
    /// Sends batch after batch, as many at once as the link takes.
    pub(super) async fn write(&self, link: &dyn Link) -> Result<()> {
        let window = link.info().publish_window.get();
        let mut under_way = FuturesOrdered::new();
        loop {
            tokio::select! {
                // The oldest first: what is told of it must not wait for what is still to be sent.
                biased;
                Some(sent) = under_way.next() => {
                    let (completion, outcomes) = sent?;
                    self.receivers.meter.published(self.outbox.finish(completion, outcomes));
                }
                batch = self.outbox.batch(), if under_way.len() < window => {
                    under_way.push_back(self.send(link, batch));
                }
            }
        }
    }

    /// Sends one batch.
    async fn send(&self, link: &dyn Link, batch: Batch) -> Result<(Vec<Completion>, Vec<Result<Receipt>>)> {
        let Batch { frames, completion } = batch;
        let bundles = Bundles::of(&frames, link.info().max_frame);
        let sent = link.publish(&bundles.frames);
        let outcomes = self.timed("publish", self.options.publish_timeout, sent).await?;
        let outcomes = bundles.outcomes(outcomes);
        let miscounted = || Error::new(ErrorKind::Other, "the driver lost count of a batch's outcomes");
        Ok((completion, outcomes.ok_or_else(miscounted)?))
    }
}
