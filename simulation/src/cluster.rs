//! Cluster: the nodes of a run, and what happens to them.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use broker_core::{ChannelName, Options, Result};
use futures_util::future::{join_all, try_join_all};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Costs, Server,
    node::{Node, ROUND},
    random::Random,
};

/// The size of a cluster.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many channels each of them listens to.
    pub channels: usize,
    /// How many nodes listen to one channel, on average.
    pub listeners: usize,
    /// On how many of its channels a node posts, once in five seconds on each.
    pub active: usize,
    /// What the run follows.
    pub seed: u64,
    /// Of each broker.
    pub options: Options,
}

impl Shape {
    /// How many channels there are in all.
    #[must_use]
    pub fn all_channels(&self) -> usize {
        (self.nodes * self.channels / self.listeners).max(self.channels)
    }
}

/// See the module.
pub struct Cluster {
    /// What the nodes are linked to.
    pub server: Server,
    /// The size at the beginning.
    pub shape: Shape,
    nodes: Vec<Node>,
    random: Random,
    delivering: tokio::task::JoinHandle<()>,
}

/// How long a run waits for everything to be right again.
const LIMIT: Duration = Duration::from_secs(300);
/// How exactly the end of a recovery is seen.
const LOOK: Duration = Duration::from_millis(5);

impl Cluster {
    /// Starts all nodes at once; when everything is subscribed. Then each begins to post, at a moment of its own.
    ///
    /// # Errors
    /// What a node failed with.
    pub async fn start(shape: Shape) -> Result<Self> {
        let (server, delivering) = Server::start(Costs::default());
        let mut random = Random::new(shape.seed);
        let starts: Vec<_> = (0..shape.nodes).map(|_| start(&server, &shape, &mut random)).collect();
        let mut nodes = try_join_all(starts).await?;
        for node in &mut nodes {
            node.post_on(shape.active, ROUND.mul_f64(random.below(1000) as f64 / 1000.0));
        }
        Ok(Self { server, shape, nodes, random, delivering })
    }

    /// How many messages the listeners have received, gaps after lost links, and other gaps.
    #[must_use]
    pub fn heard(&self) -> (u64, u64, u64) {
        self.nodes.iter().fold((0, 0, 0), |(messages, lost, needless), Node { heard, .. }| {
            (
                messages + heard.messages.load(Relaxed),
                lost + heard.lost.load(Relaxed),
                needless + heard.needless.load(Relaxed),
            )
        })
    }

    /// Loses the links of so many nodes at once; connections are refused for a while. After which time every
    /// listener was told of its gap, when its channel was subscribed again; `None`: not within five minutes.
    pub async fn lose(&mut self, nodes: usize, down: Duration) -> Option<Duration> {
        let before = self.heard().1;
        // One link for each node, and every node listens to as many channels.
        let expected = before + (nodes * self.shape.channels) as u64;
        let places = self.random.some_below(nodes, self.server.links());
        let begun = Instant::now();
        self.server.set_down(!down.is_zero());
        self.server.lose(&places);
        let look = async {
            sleep(down).await;
            self.server.set_down(false);
            while self.heard().1 < expected {
                sleep(LOOK).await;
            }
        };
        timeout(LIMIT, look).await.ok()?;
        let last = self.nodes.iter().filter_map(|node| node.heard.told()).max();
        last.map(|last| last - begun)
    }

    /// For so many seconds: in each some nodes end and as many start, and every other one leaves some of its channels for
    /// others.
    ///
    /// # Errors
    /// What a node failed with.
    pub async fn churn(&mut self, seconds: usize, nodes: usize, channels: usize) -> Result<()> {
        for _ in 0..seconds {
            let begun = Instant::now();
            let mut ended = Vec::new();
            for _ in 0..nodes.min(self.nodes.len()) {
                ended.push(self.nodes.swap_remove(self.random.below(self.nodes.len())));
            }
            let all = self.shape.all_channels();
            for node in &mut self.nodes {
                let join = names((0..channels).map(|_| self.random.below(all)).collect())?;
                node.change(channels, join).await?;
            }
            let count = ended.len();
            join_all(ended.into_iter().map(Node::end)).await;
            let starts: Vec<_> =
                (0..count).map(|_| start(&self.server, &self.shape, &mut self.random)).collect();
            let mut started = try_join_all(starts).await?;
            started.iter_mut().for_each(|node| node.post_on(self.shape.active, Duration::ZERO));
            self.nodes.append(&mut started);
            sleep(Duration::from_secs(1).saturating_sub(begun.elapsed())).await;
        }
        Ok(())
    }

    /// Ends all nodes, and the server.
    pub async fn end(self) {
        join_all(self.nodes.into_iter().map(Node::end)).await;
        self.delivering.abort();
    }
}

fn start(server: &Server, shape: &Shape, random: &mut Random) -> impl Future<Output = Result<Node>> + use<> {
    let channels = random.some_below(shape.channels, shape.all_channels());
    let (server, options) = (server.clone(), shape.options.clone());
    async move { Node::start(&server, options, names(channels)?).await }
}

fn names(numbers: Vec<usize>) -> Result<Vec<ChannelName>> {
    numbers.into_iter().map(name).collect()
}

/// As long as names of channels are.
pub(crate) fn name(number: usize) -> Result<ChannelName> {
    ChannelName::new(format!("chat.room.{number:09}"))
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("shape", &self.shape).finish_non_exhaustive()
    }
}
