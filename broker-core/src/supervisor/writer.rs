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
        match link.info().publish_window.get() {
            // The common case, at every post: nothing is kept in order here.
            1 => loop {
                let batch = self.outbox.batch().await;
                let posts = batch.completion.len();
                self.finish(self.send(link, batch).await?);
                self.outbox.gather(posts).await;
            },
            window => self.write_several(link, window).await,
        }
    }

    async fn write_several(&self, link: &dyn Link, window: usize) -> Result<()> {
        let mut under_way = FuturesOrdered::new();
        loop {
            tokio::select! {
                // The oldest first: its outcomes must not wait for what is still to be sent.
                biased;
                Some(sent) = under_way.next() => self.finish(sent?),
                batch = self.outbox.batch(), if under_way.len() < window => {
                    under_way.push_back(self.send(link, batch));
                }
            }
        }
    }

    fn finish(&self, sent: Sent) {
        self.receivers.meter.published(self.outbox.finish(sent.completion, sent.outcomes));
    }

    /// Sends one batch.
    async fn send(&self, link: &dyn Link, batch: Batch) -> Result<Sent> {
        let Batch { frames, completion } = batch;
        let bundles = Bundles::of(&frames, link.info().max_frame);
        let sent = link.publish(&bundles.frames);
        let outcomes = self.timed("publish", self.options.publish_timeout, sent).await?;
        let outcomes = bundles.outcomes(outcomes);
        let miscounted =
            || Error::new(ErrorKind::Other, "the driver returned a wrong number of outcomes for a batch");
        Ok(Sent { completion, outcomes: outcomes.ok_or_else(miscounted)? })
    }
}

/// A batch that was sent, and what became of its posts.
struct Sent {
    completion: Vec<Completion>,
    outcomes: Vec<Result<Receipt>>,
}

/// A link that returns fewer or more outcomes than frames is broken.
pub(super) fn miscounted() -> Error {
    Error::new(ErrorKind::Other, "the driver returned a wrong number of outcomes for a batch")
}
