//! StandbyHarness: a PostgreSQL and its standby, and for every node a fault proxy before each of the two.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use broker_conformance::{
    Entry,
    case::Need,
    harness::{Harness, Members},
    line::{Line, ProxyLines},
    pool::{Lease, Pool},
    watch::Watch,
};
use broker_core::{Backend, Capabilities};

use crate::{
    harness::postgres::{CAPABILITIES, NO_PERMISSIONS, RECEIVER},
    servers::{
        Server, Source,
        postgres::{
            Postgres,
            config::APP,
            databases::Databases,
            pair::PostgresPair,
            pieces::posting,
            process::{self, PostgresServer},
        },
    },
};

/// The entry of the suite.
pub const ENTRY: Entry = Entry::new(broker_postgres::BACKEND, CAPABILITIES, |needs| {
    Box::pin(async { Ok(Box::new(StandbyHarness::start(needs).await?) as Box<dyn Harness>) })
})
.named("postgres-standby")
.on_request(super::ACROSS_MEMBERS)
.available(|| Box::pin(async { available() }))
.end(|| SHARED.end());

const SWITCH_OVER: &str = "switch over on purpose";

/// Where cases are that break neither.
static SHARED: Pool<PostgresPair> = Pool::new();
static DATABASES: Databases = Databases::new();

fn available() -> Result<(), String> {
    if !Source::is_process() {
        return Err("both servers have to be processes of this machine".to_owned());
    }
    process::available()
}

#[derive(Debug)]
enum Place {
    Shared(Lease<PostgresPair>),
    Own(Box<PostgresPair>),
}

#[derive(Debug)]
struct StandbyHarness {
    place: Place,
    database: String,
    lines: ProxyLines,
    watch: Watch,
    /// The number of the next piece that is posted around the nodes.
    counter: AtomicU32,
}

impl StandbyHarness {
    async fn start(needs: &[Need]) -> Result<Self, String> {
        let alters = |need: &Need| matches!(need, Need::OwnServer | Need::Durable | Need::Process);
        let (place, database) = if needs.iter().any(alters) {
            (Place::Own(Box::new(PostgresPair::start().await?)), APP.to_owned())
        } else {
            let pair = SHARED.lease(&[], PostgresPair::start).await?;
            let database = DATABASES.make(&pair.primary().control()).await?;
            (Place::Shared(pair), database)
        };
        let (lines, watch) = (ProxyLines::default(), Watch::new());
        Ok(Self { place, database, lines, watch, counter: AtomicU32::new(0) })
    }

    fn pair(&self) -> &PostgresPair {
        match &self.place {
            Place::Shared(pair) => pair,
            Place::Own(pair) => pair,
        }
    }

    fn addrs(&self) -> Vec<SocketAddr> {
        self.pair().servers().iter().map(Server::addr).collect()
    }

    fn url_at(&self, addrs: &[SocketAddr]) -> String {
        let hosts: Vec<String> = addrs.iter().map(ToString::to_string).collect();
        format!("postgres://{APP}@{}/{}", hosts.join(","), self.database)
    }

    async fn run(&self, statements: &str) -> Result<(), String> {
        self.pair().primary().control().run(&self.database, statements).await.map(drop)
    }

    async fn end_connections(&self, name: Option<&str>) -> Result<(), String> {
        self.pair().primary().control().end_connections(&self.database, name).await
    }

    fn member(&self, number: usize) -> Result<&PostgresServer, String> {
        self.pair().server(number)
    }
}

impl Drop for StandbyHarness {
    fn drop(&mut self) {
        if matches!(self.place, Place::Shared(_)) {
            DATABASES.end(std::mem::take(&mut self.database));
        }
    }
}

#[async_trait]
impl Harness for StandbyHarness {
    fn backend(&self) -> Backend {
        broker_postgres::BACKEND
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn url(&self) -> String {
        self.url_at(&self.addrs())
    }

    async fn line(&self) -> Result<Arc<dyn Line>, String> {
        self.lines.add_to_servers(&self.addrs(), |addrs| self.url_at(addrs)).await
    }

    async fn kill_server(&self) -> Result<(), String> {
        self.pair().kill_both().await
    }

    async fn start_server(&self) -> Result<(), String> {
        self.pair().start_both().await
    }

    async fn pause_server(&self) -> Result<(), String> {
        self.pair().pause_both(true).await
    }

    async fn resume_server(&self) -> Result<(), String> {
        self.pair().pause_both(false).await
    }

    async fn drop_links(&self) -> Result<(), String> {
        self.end_connections(None).await
    }

    async fn drop_receivers(&self) -> Result<(), String> {
        self.end_connections(Some(RECEIVER)).await
    }

    fn watch(&self) -> &Watch {
        &self.watch
    }

    async fn connections(&self) -> Result<usize, String> {
        self.pair().primary().control().connections(&self.database).await
    }

    async fn publish_raw(&self, channel: &str, bytes: &[u8]) -> Result<(), String> {
        let first = self.counter.fetch_add(1 << 12, Ordering::Relaxed);
        match posting(channel, bytes, first) {
            Some(statement) => self.run(&statement).await,
            None => Ok(()),
        }
    }

    async fn wipe_log(&self) -> Result<(), String> {
        self.run("DROP SCHEMA IF EXISTS broker CASCADE").await
    }

    async fn trim_log(&self) -> Result<(), String> {
        self.run("DELETE FROM broker.record").await
    }

    async fn save_data(&self) -> Result<(), String> {
        self.pair().save_data().await
    }

    async fn restore_data(&self) -> Result<(), String> {
        self.pair().restore_data().await
    }

    async fn allow_only(&self, _: &str) -> Result<(), String> {
        Err(NO_PERMISSIONS.to_owned())
    }

    async fn allow_nothing(&self) -> Result<(), String> {
        Err(NO_PERMISSIONS.to_owned())
    }

    async fn allow_everything(&self) -> Result<(), String> {
        Err(NO_PERMISSIONS.to_owned())
    }

    fn members(&self) -> Option<&dyn Members> {
        Some(self)
    }
}

#[async_trait]
impl Members for StandbyHarness {
    fn count(&self) -> usize {
        self.pair().servers().len()
    }

    async fn kill(&self, member: usize) -> Result<(), String> {
        self.pair().kill(member).await
    }

    async fn start(&self, member: usize) -> Result<(), String> {
        self.pair().start_again(member).await
    }

    async fn pause(&self, member: usize) -> Result<(), String> {
        self.member(member)?.pause().await
    }

    async fn resume(&self, member: usize) -> Result<(), String> {
        self.member(member)?.resume().await
    }

    async fn leader(&self) -> Result<usize, String> {
        Ok(self.pair().primary_number())
    }

    fn faults(&self) -> &'static [&'static str] {
        &[SWITCH_OVER]
    }

    async fn suffer(&self, fault: &str, _: Duration) -> Result<(), String> {
        if fault == SWITCH_OVER {
            self.pair().switch_over().await
        } else {
            Err(format!("nothing is called {fault:?}"))
        }
    }

    async fn whole(&self) -> Result<(), String> {
        self.pair().whole().await
    }
}
