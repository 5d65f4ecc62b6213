//! How a broker ends: drained, closed, or dropped.

use std::sync::Weak;

use tokio::time::timeout;

use super::{Backend, Broker, Shared};
use crate::{CloseReason, health::State, link::probe::Kind};

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Broker {
    /// Finishes what was accepted, then closes: no new post and no new subscription; every accepted post is sent
    /// and has come back; listeners and streams read their queues to the end, for at most
    /// `drain_timeout`; then [`close`](Self::close). Idempotent, and may be called from several tasks.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
    /// use broker::Scope;
    ///
    /// let broker = broker::connect("memory:").await?;
    /// let mut news = broker.subscribe("news").await?;
    /// broker.publish("news", "last words", Scope::Global).await?;
    /// let reader = tokio::spawn(async move {
    ///     let mut heard = 0;
    ///     while news.next().await.is_some() {
    ///         heard += 1;
    ///     }
    ///     heard
    /// });
    /// broker.drain().await;
    /// assert_eq!(reader.await.unwrap(), 1);
    /// # Ok(()) }
    /// ```
    pub async fn drain(&self) {
        let limit = self.0.options.drain_timeout;
        let drained = async {
            self.flush().await;
            self.0.hub.end();
            self.0.hub.idle().await;
        };
        tokio::select! {
            drained = timeout(limit, drained) => {
                if drained.is_err() {
                    tracing::warn!("not everything was read within {limit:?}; closing all the same");
                }
            }
            () = self.0.stop.cancelled() => {}
        }
        self.close().await;
    }

    /// Takes nothing new, and waits until everything accepted has come back, and everyone has been told how much that
    /// was. With the link gone nothing more comes.
    async fn flush(&self) {
        let Some(backend) = &self.0.backend else { return };
        backend.outbox.seal();
        self.pass_barrier(backend).await;
        backend.outbox.digest();
        self.pass_barrier(backend).await;
    }

    /// Waits until everything queued before it has come back.
    async fn pass_barrier(&self, backend: &Backend) {
        let (token, frame) = backend.probe.next(Kind::Barrier);
        let Ok(outcome) = backend.outbox.post_own(&backend.probe.wire_name, frame, false) else { return };
        // Its outcome is told after those of the posts before it, which its echo may overtake.
        let come_back = async {
            if let Ok(Ok(())) = outcome.await {
                let _ = backend.probe.echo(token, self.0.options.drain_timeout).await;
            }
        };
        let mut health = self.0.health.subscribe();
        tokio::select! {
            () = come_back => {}
            _ = health.wait_for(|health| !health.is_connected()) => {}
        }
    }

    /// Closes now: every session, stream and listener ends, posts that wait fail, and when it returns neither
    /// task, socket nor subscription of this broker is left. Idempotent, and may be called from several tasks.
    ///
    /// A listener in the middle of a call is dropped at its next await; one that blocks its thread instead is
    /// waited for, for at most `drain_timeout`.
    pub async fn close(&self) {
        self.end_sessions().await;
        self.0.stop.cancel();
        self.0.hub.close();
        // Those that were opened meanwhile; their hooks are called as far as they get.
        let late = std::mem::take(&mut *self.sessions());
        for session in late.into_values().filter_map(|session| session.upgrade()) {
            session.close(CloseReason::BrokerClosed);
        }
        self.0.abort.cancel();
        self.0.tasks.close();
        if timeout(self.0.options.drain_timeout, self.0.tasks.wait()).await.is_err() {
            tracing::warn!("a listener blocks its thread; the broker is closed without it");
        }
        self.0.health.send_if_modified(|health| {
            let open = health.state != State::Closed;
            health.enter(State::Closed);
            open
        });
    }

    /// Ends every session. Those with hooks can still post, for at most `close_timeout`.
    async fn end_sessions(&self) {
        let open: Vec<_> = self.sessions().values().filter_map(Weak::upgrade).collect();
        open.iter().for_each(|session| session.close(CloseReason::BrokerClosed));
        for session in open {
            session.closed().await;
        }
    }
}
