//! PostgresPair: a primary and its standby, and the fail-over from one to the other as a cluster manager would do it.

use std::sync::atomic::{AtomicUsize, Ordering};

use broker_conformance::wait::eventually;
use futures_util::future::{try_join, try_join_all};

use super::{Postgres, config::PostgresConfig, process::PostgresServer};
use crate::servers::{LIMIT, Server};

/// A database that every server has.
const DATABASE: &str = "postgres";

/// See the module. Both keep their data and their ports.
#[derive(Debug)]
pub(crate) struct PostgresPair {
    servers: [PostgresServer; 2],
    /// Which of them writes.
    primary: AtomicUsize,
}

impl PostgresPair {
    /// Starts both.
    ///
    /// # Errors
    /// One does not start.
    pub(crate) async fn start() -> Result<Self, String> {
        // What a standby misses while it is away is kept for it.
        let config = PostgresConfig::default().durable().keeps_port().setting("wal_keep_size", "64MB");
        let primary = PostgresServer::start(config.clone()).await?;
        let standby = PostgresServer::standby_of(&primary, config).await?;
        let pair = Self { servers: [primary, standby], primary: AtomicUsize::new(0) };
        pair.whole().await?;
        Ok(pair)
    }

    /// Both, each at its number.
    pub(crate) fn servers(&self) -> &[PostgresServer; 2] {
        &self.servers
    }

    /// A server by its number.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn server(&self, number: usize) -> Result<&PostgresServer, String> {
        self.servers.get(number).ok_or_else(|| format!("there is no server {number}"))
    }

    /// The number of the one that writes.
    pub(crate) fn primary_number(&self) -> usize {
        self.primary.load(Ordering::Relaxed)
    }

    /// The one that writes.
    pub(crate) fn primary(&self) -> &PostgresServer {
        let [first, second] = &self.servers;
        if self.primary_number() == 0 { first } else { second }
    }

    /// Kills a server. If it was the primary and the other runs, that is promoted.
    ///
    /// # Errors
    /// It does not end, or the other is not promoted.
    pub(crate) async fn kill(&self, number: usize) -> Result<(), String> {
        self.server(number)?.kill().await?;
        let other = self.server(1 - number)?;
        if number == self.primary_number() && other.is_running()? {
            self.promote(1 - number).await
        } else {
            Ok(())
        }
    }

    /// Starts a killed server: with its data as the primary, otherwise as the standby of the other, with a copy of that
    /// one's data. A primary of before has commits that the other never had.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn start_again(&self, number: usize) -> Result<(), String> {
        let server = self.server(number)?;
        if number == self.primary_number() {
            server.start_again().await
        } else {
            server.follow(self.primary()).await
        }
    }

    /// Stops the primary in good order, promotes the standby, and has the old primary follow the new one.
    ///
    /// # Errors
    /// One of the steps fails.
    pub(crate) async fn switch_over(&self) -> Result<(), String> {
        let old = self.primary_number();
        self.server(old)?.stop().await?;
        self.promote(1 - old).await?;
        self.start_again(old).await
    }

    async fn promote(&self, number: usize) -> Result<(), String> {
        let promoted = self.server(number)?.control().ask(DATABASE, "SELECT pg_promote()").await?;
        if promoted != "t" {
            return Err(format!("server {number} was not promoted in time"));
        }
        self.primary.store(number, Ordering::Relaxed);
        Ok(())
    }

    /// Kills both, and promotes none.
    ///
    /// # Errors
    /// One does not end.
    pub(crate) async fn kill_both(&self) -> Result<(), String> {
        try_join_all(self.servers.iter().map(Server::kill)).await.map(drop)
    }

    /// Starts both after [`kill_both`](Self::kill_both), with the data of the primary.
    ///
    /// # Errors
    /// One does not start.
    pub(crate) async fn start_both(&self) -> Result<(), String> {
        let primary = self.primary_number();
        self.start_again(primary).await?;
        self.start_again(1 - primary).await?;
        self.whole().await
    }

    /// As [`Server::save_data`] of the primary.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn save_data(&self) -> Result<(), String> {
        self.primary().save_data().await
    }

    /// Puts the copy of the data in the place of those of both.
    ///
    /// # Errors
    /// As [`Server::restore_data`].
    pub(crate) async fn restore_data(&self) -> Result<(), String> {
        self.kill_both().await?;
        self.primary().restore_data().await?;
        self.start_again(1 - self.primary_number()).await?;
        self.whole().await
    }

    /// Freezes both, or ends that.
    ///
    /// # Errors
    /// One is not there.
    pub(crate) async fn pause_both(&self, pause: bool) -> Result<(), String> {
        let [first, second] = &self.servers;
        if pause {
            try_join(first.pause(), second.pause()).await.map(drop)
        } else {
            try_join(first.resume(), second.resume()).await.map(drop)
        }
    }

    /// Waits until the standby follows the primary.
    ///
    /// # Errors
    /// It does not in time.
    pub(crate) async fn whole(&self) -> Result<(), String> {
        let following = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        eventually("the standby to follow the primary", LIMIT, || async {
            match self.primary().control().ask(DATABASE, following).await?.as_str() {
                "1" => Ok(()),
                count => Err(format!("{count} standbys follow")),
            }
        })
        .await
    }
}
