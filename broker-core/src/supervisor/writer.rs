//! Writer: sends what waits in the outbox, batch after batch.

use futures_util::{StreamExt, stream::FuturesOrdered};

use super::{Supervisor, outbox::Outbox};
use crate::{
    Error, ErrorKind, Result,
    driver::{Link, Outgoing, Receipt},
    wire::bundle::Bundles,
};

impl Supervisor {
    /// Sends batch after batch, as many at once as the link takes.
    pub(super) async fn write(&self, link: &dyn Link) -> Result<()> {
        let _writing = Writing(&self.outbox);
        match link.info().publish_window.get() {
            // The common case, at every post: nothing is kept in order here.
            1 => loop {
                let batch = self.outbox.batch().await;
                let posts = batch.len();
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

    fn finish(&self, outcomes: Vec<Result<Receipt>>) {
        self.receivers.meter.published(self.outbox.finish(outcomes));
    }

    /// Sends one batch. Returns what became of each frame.
    async fn send(&self, link: &dyn Link, frames: Vec<Outgoing>) -> Result<Vec<Result<Receipt>>> {
        let bundles = Bundles::of(frames, link.info().max_frame);
        let sent = link.publish(&bundles.frames);
        let outcomes = self.timed("publish", self.options.publish_timeout, sent).await?;
        let outcomes = bundles.outcomes(outcomes);
        outcomes.ok_or_else(miscounted)
    }
}

/// The writer, while it runs.
struct Writing<'a>(&'a Outbox);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.break_off();
    }
}

/// A link that returns fewer or more outcomes than frames is broken.
pub(super) fn miscounted() -> Error {
    Error::new(ErrorKind::Other, "the driver returned a wrong number of outcomes for a batch")
}
