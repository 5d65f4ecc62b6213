//! Memory: what one node keeps, for itself, for each channel and for each other node.
//!
//! Counted by thread, so everything here runs on one. What others post is recorded first, and replayed to the node that is
//! looked at, so that nothing of the others is counted.

use std::time::Duration;

use allocation_counter::measure;
use broker_core::{ChannelName, Options, Result, driver::Inbox};
use bytes::Bytes;
use tokio::{runtime::Runtime, time::sleep};

use crate::{Costs, Kind, Server, cluster::name, node::Node};

/// In bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// A node that is connected and does nothing.
    pub node: f64,
    /// A channel that it listens to.
    pub channel: f64,
    /// A node whose messages it receives, on each channel on which it does.
    pub peer_on_channel: f64,
    /// A node whose digests it receives.
    pub peer: f64,
    /// A channel on which it posts, besides.
    pub posted: f64,
}

/// One node that listens to so many channels, on each of which so many others post.
///
/// # Errors
/// What a node failed with.
pub fn memory(channels: usize, peers: usize) -> Result<Memory> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.map_err(|error| {
        broker_core::Error::new(broker_core::ErrorKind::Other, format!("no runtime: {error}"))
    })?;
    let names = (0..channels).map(name).collect::<Result<Vec<_>>>()?;
    let frames = runtime.block_on(posts_of(&names, peers))?;
    let (server, _) = runtime.block_on(async { Server::start(Costs::default()) });
    let (empty, node) = held(|| runtime.block_on(Node::start(&server, Options::default(), Vec::new())));
    let node = node?;
    // A node of its own: the set of the first one is not to grow. Both stay.
    let (full, observed) = held(|| runtime.block_on(Node::start(&server, Options::default(), names.clone())));
    let mut observed = observed?;
    let inbox = server.newest_inbox();
    let (known, ()) = held(|| replay(&runtime, inbox.as_ref(), &frames, Kind::User));
    let (told, ()) = held(|| replay(&runtime, inbox.as_ref(), &frames, Kind::Digest));
    let (posted, ()) = held(|| {
        runtime.block_on(async {
            observed.post_on(channels, Duration::ZERO);
            sleep(Duration::from_secs(6)).await;
        });
    });
    runtime.block_on(async {
        node.end().await;
        observed.end().await;
    });
    let (channels, peers) = (channels as f64, peers as f64);
    Ok(Memory {
        node: empty,
        channel: (full - empty) / channels,
        peer_on_channel: known / channels / peers,
        peer: told / peers,
        posted: posted / channels,
    })
}

/// What is still there of what was allocated.
fn held<R>(work: impl FnOnce() -> R) -> (f64, R) {
    let mut outcome = None;
    let info = measure(|| outcome = Some(work()));
    match outcome {
        Some(outcome) => (info.bytes_current as f64, outcome),
        None => unreachable!("the work was done"),
    }
}

/// What nodes post, each on all channels, and their digests.
async fn posts_of(names: &[ChannelName], peers: usize) -> Result<Vec<(ChannelName, Bytes)>> {
    let (server, _) = Server::start(Costs::default());
    server.record(true);
    for _ in 0..peers {
        let mut node = Node::start(&server, Options::default(), Vec::new()).await?;
        node.channels = names.to_vec();
        node.post_on(names.len(), Duration::ZERO);
        // Once on each channel, and a digest.
        sleep(Duration::from_millis(5200)).await;
        node.end().await;
    }
    Ok(server.record(false))
}

fn replay(runtime: &Runtime, inbox: Option<&Inbox>, frames: &[(ChannelName, Bytes)], kind: Kind) {
    let Some(inbox) = inbox else { return };
    for (channel, frame) in frames.iter().filter(|(channel, _)| Kind::of(channel.as_str()) == kind) {
        inbox.deliver(channel.as_str(), frame.clone());
        // The reader takes it.
        runtime.block_on(async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        });
    }
}
