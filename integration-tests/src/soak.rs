//! Soak: several nodes post and receive for minutes while faults drawn from a seed happen, and an oracle looks at what
//! each subscriber must have received, or lost with a gap.
//!
//! - [`node`]: one node; posts numbers on every channel, and says what it received.
//! - [`record`]: what it says, line by line.
//! - [`faults`]: what happens when, from the seed.
//! - [`cluster`]: the nodes, their lines, and how a fault is done to them.
//! - [`history`]: everything that was said, put together.
//! - [`oracle`]: whether all of it may be true at once.

pub mod cluster;
pub mod faults;
pub mod history;
pub mod node;
pub mod oracle;
pub mod record;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use broker_conformance::{Entry, case::Need, harness::Harness};
use cluster::Cluster;
use history::History;
use oracle::Verdict;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long faults go on.
    pub length: Duration,
    /// Decides which faults, and when.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How many channels; every node posts and listens on each.
    pub channels: u32,
    /// How many messages a second each node posts at most.
    pub rate: u32,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    backend: &'static str,
    plan: Plan,
    verdict: Verdict,
    /// How often each kind of fault was done.
    faults: Vec<(&'static str, usize)>,
    /// How long it took after each fault until every node was connected.
    recoveries: Vec<Duration>,
}

impl Report {
    /// Whether everything that must be zero is.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.verdict.is_good()
    }
}

/// Runs a soak on one backend; `progress` is told now and then how it goes.
///
/// # Errors
/// The cluster could not be started, a fault could not be done, or the nodes did not recover from one.
pub async fn run(
    entry: Entry,
    plan: Plan,
    mut progress: impl FnMut(String) + Send,
) -> Result<Report, String> {
    let harness: Arc<dyn Harness> = (entry.start)(&[Need::OwnServer]).await?.into();
    let history = Arc::new(Mutex::new(History::default()));
    let mut cluster = Cluster::start(Arc::clone(&harness), Arc::clone(&history), &plan).await?;
    let (begun, mut reported) = (Instant::now(), Instant::now());
    let mut draw = faults::Draw::new(plan.seed, plan.nodes, cluster.has_processes(), cluster.target());
    let (mut recoveries, mut done) = (Vec::new(), Vec::new());
    while begun.elapsed() < plan.length {
        let (calm, fault) = draw.next_fault();
        tokio::time::sleep(calm).await;
        let name = fault.name();
        let context =
            |error| format!("{name}, {:.1} s after the start: {error}", begun.elapsed().as_secs_f64());
        cluster.suffer(fault).await.map_err(context)?;
        recoveries.push(cluster.recover().await.map_err(context)?);
        done.push(name);
        if reported.elapsed() > Duration::from_secs(10) {
            reported = Instant::now();
            let totals = history.lock().unwrap_or_else(PoisonError::into_inner).totals();
            progress(format!("{:4.0} s: {totals}, {} faults", begun.elapsed().as_secs_f64(), done.len()));
        }
    }
    cluster.finish().await?;
    let verdict = oracle::judge(&history.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Report { backend: entry.name(), plan, verdict, faults: count(&done), recoveries })
}

fn count(names: &[&'static str]) -> Vec<(&'static str, usize)> {
    let mut counts: Vec<(&'static str, usize)> = Vec::new();
    for name in names {
        match counts.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    counts.sort_unstable();
    counts
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { length, seed, nodes, channels, rate } = &self.plan;
        let seconds = length.as_secs();
        writeln!(
            f,
            "{}: {seconds} s, seed {seed}, {nodes} nodes, {channels} channels, {rate}/s each",
            self.backend
        )?;
        write!(f, "{}", self.verdict)?;
        let faults: Vec<_> = self.faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(f, "  faults              {}", faults.join(", "))?;
        let mut times = self.recoveries.clone();
        times.sort_unstable();
        let at =
            |part: usize| times.get(times.len().saturating_sub(1) * part / 100).copied().unwrap_or_default();
        writeln!(f, "  time to recover     p50 {:.2?}, longest {:.2?}", at(50), at(100))
    }
}
