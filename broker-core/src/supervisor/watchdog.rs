//! Watchdog: ends the posts that wait for a writer that does not run, so that not each needs a timer for that.
//!
//! A task of its own: what blocks the writer's task blocks all that is in it.

use std::sync::Arc;

use tokio::time::sleep;

use super::{
    batch::{Completion, interrupted},
    outbox::{Outbox, State},
    progress::{STOPPED, Silence},
};
use crate::{
    Error, ErrorKind,
    runtime::{GONE, user_code::contain},
};

impl Outbox {
    /// Watches the writer until it is dropped.
    pub(crate) async fn watch(self: Arc<Self>) {
        let watching = Watching::begin(self);
        let mut silence = Silence::default();
        loop {
            // By a timer, never woken by a post: that would bring it to the poster's thread, which may be the one that is
            // blocked.
            sleep(watching.0.limit).await;
            if silence.lasts(watching.0.awaited()) {
                watching.0.interrupt();
            }
        }
    }

    /// What the writer has done, if something waits for it.
    fn awaited(&self) -> Option<u64> {
        let state = self.lock();
        let waits = !state.queue.is_empty() || !state.under_way.is_empty();
        waits.then(|| self.progress.steps())
    }

    /// Ends the posts that wait. What is queued or under way keeps its place, its room and its number: the writer may
    /// run again, and finishes it then.
    fn interrupt(&self) {
        let waiting: Vec<_> = {
            let State { queue, under_way, .. } = &mut *self.lock();
            let queued = queue.iter_mut().map(|pending| &mut pending.completion);
            under_way.iter_mut().flatten().chain(queued).filter_map(Completion::take_post).collect()
        };
        let error = interrupted(STOPPED);
        for outcome in waiting {
            contain("a waker", || drop(outcome.send(Err(error.clone()))));
        }
    }
}

/// A watchdog that runs.
struct Watching(Arc<Outbox>);

impl Watching {
    fn begin(outbox: Arc<Outbox>) -> Self {
        outbox.progress.set_watched(true);
        Self(outbox)
    }
}

impl Drop for Watching {
    /// The supervisor has ended; or the runtime has, and perhaps only a blocked thread of it holds the supervisor still.
    /// Then nothing else ends what waits, and nothing more is taken.
    fn drop(&mut self) {
        self.0.progress.set_watched(false);
        self.0.shut(&Error::new(ErrorKind::Closed, format!("the broker is closed: {GONE}")));
        self.0.interrupt();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{sync::oneshot::Receiver, time::timeout};

    use super::*;
    use crate::{
        NodeId, Options, Post, Result,
        driver::{MAX_FRAME, Outgoing, Receipt},
        runtime::Runtime,
        supervisor::outbox::Priority,
        wire::{encoded::Encoded, frame, names::Names},
    };

    fn outbox() -> Outbox {
        let options = Options { outbox_bytes: MAX_FRAME, ..Options::default() };
        let runtime = Runtime::current("a test").expect("a runtime");
        let outbox = Outbox::new(&options, NodeId::from_u64(1), Names::new("app"), runtime);
        outbox.open();
        outbox
    }

    /// There is room for one at a time.
    fn large() -> Encoded {
        Encoded::of(&Post::new(vec![0; MAX_FRAME - 1000]), NodeId::from_u64(1))
    }

    async fn queue(outbox: &Outbox) -> Receiver<Result<Receipt>> {
        outbox.queue("news", large()).await.expect("there is room")
    }

    /// The number of the post in a batch.
    fn number(batch: &[Outgoing]) -> u64 {
        let post = batch.iter().find(|out| out.channel.as_str() == "app.news").expect("a post");
        frame::decode(&post.frame()).expect("a frame").1.sequence
    }

    fn unsent(batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        batch.iter().map(|_| Err(Error::new(ErrorKind::Unavailable, "the test does not send it"))).collect()
    }

    /// How a post fails. Under paused time it takes none until it is late.
    async fn failed(outcome: Receiver<Result<Receipt>>) -> ErrorKind {
        let outcome = timeout(Duration::from_secs(600), outcome).await.expect("in time");
        outcome.expect("an outcome").expect_err("it is not sent").kind()
    }

    #[tokio::test(start_paused = true)]
    async fn an_interrupted_post_keeps_its_number_and_its_room() {
        let outbox = outbox();
        let refused = queue(&outbox).await;
        let batch = outbox.batch().await;
        assert_eq!(number(&batch), 1);
        outbox.finish(unsent(&batch));
        assert_eq!(failed(refused).await, ErrorKind::Unavailable);

        let under_way = queue(&outbox).await;
        let batch = outbox.batch().await;
        assert_eq!(number(&batch), 1, "the first was taken back");
        let channel = crate::ChannelName::internal("app.own");
        let own = outbox.send_control(&channel, "x", Priority::InTurn).expect("the outbox is open");
        outbox.interrupt();
        assert_eq!(failed(under_way).await, ErrorKind::Interrupted);
        let full = outbox.queue("news", large()).await.expect_err("its room is taken");
        assert_eq!(full.kind(), ErrorKind::Overloaded);
        outbox.finish(unsent(&batch));
        let batch = outbox.batch().await;
        outbox.finish(vec![Ok(Receipt::new()); batch.len()]);
        assert!(own.await.expect("an outcome").is_ok(), "nobody interrupts what the broker itself sends");

        let queued = queue(&outbox).await;
        outbox.interrupt();
        assert_eq!(failed(queued).await, ErrorKind::Interrupted);
        let batch = outbox.batch().await;
        assert_eq!(number(&batch), 2, "the poster of the first was told that it may have been delivered");
        outbox.finish(vec![Ok(Receipt::new()); batch.len()]);
        assert_eq!(outbox.awaited(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_watchdog_ends_what_waits() {
        let outbox = Arc::new(outbox());
        let watching = Watching::begin(Arc::clone(&outbox));
        let small = || Encoded::of(&Post::new("x"), NodeId::from_u64(1));
        let under_way = outbox.queue("news", small()).await.expect("there is room");
        outbox.batch().await;
        let queued = outbox.queue("news", small()).await.expect("there is room");
        assert!(outbox.is_watched());
        drop(watching);
        assert!(!outbox.is_watched());
        assert_eq!(failed(under_way).await, ErrorKind::Interrupted);
        assert_eq!(failed(queued).await, ErrorKind::Closed);
        assert_eq!(outbox.check().expect_err("it is shut").kind(), ErrorKind::Closed);
    }

    /// As before the watchdog runs.
    #[tokio::test(start_paused = true)]
    async fn a_post_that_is_not_watched_watches_itself() {
        let outbox = outbox();
        let posting = timeout(Duration::from_secs(600), outbox.post("news", large())).await.expect("in time");
        assert_eq!(posting.expect_err("nobody sends it").kind(), ErrorKind::Interrupted);
    }
}
