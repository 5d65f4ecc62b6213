//! One post to many sockets.

use std::sync::{Mutex, PoisonError};

use axum::extract::ws::Utf8Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{Ours, host::Host, methods::Said, raw::Client};
use crate::{
    Outcome,
    report::{Report, Row, Target},
    rounds::{Round, Scale, alternate},
};

/// The queues of the peer's sockets.
#[derive(Default)]
pub(crate) struct Peers(Mutex<Vec<UnboundedSender<Utf8Bytes>>>);

impl Peers {
    pub(crate) fn join(&self) -> UnboundedReceiver<Utf8Bytes> {
        let (sender, receiver) = unbounded_channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    pub(crate) fn send(&self, text: &str) {
        let text = Utf8Bytes::from(text);
        for peer in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            drop(peer.send(text.clone()));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    let sockets = if scale.is_smoke() { 10 } else { 1000 };
    // Posts that follow each other share a write, of ours and of the peer.
    for (window, target) in [(1, Some(Target::AtMost(0.6))), (16, None)] {
        let name = format!("streams {window} posts at once to {sockets} sockets");
        if report.starts(&name) {
            let pairs = fan_out(scale, sockets, window).await?;
            let peer = "axum, 4 KiB, a queue each, drained into one flush";
            report.add(Row::cpu(name, peer, &pairs).target(target));
        }
    }
    Ok(())
}

async fn fan_out(scale: Scale, sockets: usize, window: usize) -> Outcome<Vec<(Round, Round)>> {
    let host = Host::start()?;
    let posts = scale.of(400, window);
    let said = Said { text: "x".repeat(60) };
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..sockets {
        let mut client = Client::connect(host.address, "/v1/websocket").await?;
        Ours { endpoint: "bench", method: "news", inputs: &[] }.open(&mut client).await?;
        ours.push(client);
        theirs.push(Client::connect(host.address, "/queue").await?);
    }
    while host.peers.len() < sockets {
        tokio::task::yield_now().await;
    }
    // As long as a frame of ours.
    let text = format!("{:0>1$}", "", super::value("news", None, &said).len());
    alternate(
        scale,
        async || {
            let work = async {
                for _ in 0..posts / window {
                    host.post(&said, window).await?;
                    for client in &mut ours {
                        client.skip(window).await?;
                    }
                }
                Ok(())
            };
            host.time(posts * sockets, work).await
        },
        async || {
            let work = async {
                for _ in 0..posts / window {
                    host.send(&text, window).await?;
                    for client in &mut theirs {
                        client.skip(window).await?;
                    }
                }
                Ok(())
            };
            host.time(posts * sockets, work).await
        },
    )
    .await
}
