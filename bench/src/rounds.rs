//! Rounds: the same work for two sides in turn, so that what else the machine does falls on both.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use cpu_time::ProcessTime;

use crate::Outcome;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) rounds: usize,
    /// How often all of it is done, each time by another process: its memory lies elsewhere, and minutes later a machine
    /// is not what it was. One: by this process.
    pub(crate) passes: usize,
    share: f64,
}

impl Scale {
    pub(crate) const FULL: Self = Self { rounds: 3, passes: 4, share: 1.0 };
    pub(crate) const QUICK: Self = Self { rounds: 3, passes: 1, share: 0.05 };
    pub(crate) const SMOKE: Self = Self { rounds: 1, passes: 1, share: 0.0 };

    /// Only to show that it works.
    pub(crate) fn is_smoke(self) -> bool {
        self.share == 0.0
    }

    /// That share of `full`, in whole steps, at least one.
    pub(crate) fn of(self, full: usize, step: usize) -> usize {
        ((full as f64 * self.share) as usize / step).max(1) * step
    }
}

/// One round of one side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    count: usize,
    took: Duration,
    /// Of this process: a server's is its own.
    cpu: Duration,
}

impl Round {
    /// Times work that does `count` of what is counted.
    pub(crate) async fn time(count: usize, work: impl Future<Output = Outcome>) -> Outcome<Self> {
        let (cpu, began) = (ProcessTime::now(), Instant::now());
        work.await?;
        Ok(Self { count, took: began.elapsed(), cpu: cpu.elapsed() })
    }

    /// What was timed elsewhere.
    pub(crate) const fn of(count: usize, took: Duration, cpu: Duration) -> Self {
        Self { count, took, cpu }
    }

    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn cpu_nanos(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.count as f64
    }
}

/// Runs both in turn, the first of a pair being the second of the next. One pair before that warms up and is dropped.
pub(crate) async fn alternate<T>(
    scale: Scale,
    mut ours: impl AsyncFnMut() -> Outcome<T>,
    mut theirs: impl AsyncFnMut() -> Outcome<T>,
) -> Outcome<Vec<(T, T)>> {
    ours().await?;
    theirs().await?;
    let mut pairs = Vec::with_capacity(scale.rounds);
    for round in 0..scale.rounds {
        let pair = if round % 2 == 0 {
            (ours().await?, theirs().await?)
        } else {
            let second = theirs().await?;
            (ours().await?, second)
        };
        pairs.push(pair);
    }
    Ok(pairs)
}

/// The median, and the span of all values.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        let median = f64::midpoint(values[last / 2], values[last.div_ceil(2)]);
        Self { low: values[0], median, high: values[last] }
    }
}
