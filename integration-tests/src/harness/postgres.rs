//! PostgresHarness: a database of the case's own, and a fault proxy before the server for every node.

use std::{
    any::Any,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use broker_conformance::{
    Entry,
    case::Need,
    harness::Harness,
    line::{Line, ProxyLines},
    pool::{Lease, Pool},
    required,
    watch::Watch,
};
use broker_core::{Backend, Capabilities, Confirmation, OrderGuarantee, Reach};

use crate::{
    cases,
    servers::{
        self, Source,
        postgres::{
            Postgres,
            config::{APP, PostgresConfig},
            databases::Databases,
            pieces::posting,
            pooler, template,
        },
    },
};

pub(crate) const CAPABILITIES: Capabilities = Capabilities::new(Reach::Cluster)
    .ordering(OrderGuarantee::PerChannel)
    .confirmation(Confirmation::Accepted);

/// The entry of the suite.
pub const ENTRY: Entry = Entry::new(broker_postgres::BACKEND, CAPABILITIES, |needs| {
    Box::pin(async { Ok(Box::new(PostgresHarness::start(needs).await?) as Box<dyn Harness>) })
})
.available(|| Box::pin(servers::postgres::available()))
.lacks(lacks)
.end(|| {
    SERVERS.end();
    template::end();
})
.own(cases::postgres::CASES);

/// One for all cases that break none.
static SERVERS: Pool<Box<dyn Postgres>> = Pool::new();
static DATABASES: Databases = Databases::new();

/// The name that the driver gives to the connection that listens.
pub(crate) const RECEIVER: &str = "broker receive";

fn lacks(need: Need) -> Option<&'static str> {
    match need {
        Need::Durable if !Source::is_process() => Some("the container keeps its data in memory"),
        Need::Pooler if !Source::is_process() => {
            Some("the pooler is to run on this machine, beside its server")
        }
        // Where every server has to be there, the case says what is missing.
        Need::Pooler if !required("postgres") && pooler::available().is_err() => {
            Some("there is no `pgbouncer` on the PATH; install the package pgbouncer")
        }
        Need::Process if !Source::is_process() => Some("the server is no process of this machine"),
        _ => None,
    }
}

#[derive(Debug)]
enum Serving {
    Shared(Lease<Box<dyn Postgres>>),
    Own(Box<dyn Postgres>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct PostgresHarness {
    serving: Serving,
    pub(crate) database: String,
    lines: ProxyLines,
    watch: Watch,
    /// The number of the next piece that is posted around the nodes.
    counter: AtomicU32,
}

impl PostgresHarness {
    async fn start(needs: &[Need]) -> Result<Self, String> {
        let (serving, database) = if needs.iter().any(|need| matches!(need, Need::OwnServer | Need::Durable))
        {
            let config = PostgresConfig::default();
            let config = if needs.contains(&Need::Durable) { config.durable() } else { config };
            (Serving::Own(servers::postgres::start(config).await?), APP.to_owned())
        } else {
            let start = || servers::postgres::start(PostgresConfig::default());
            let server = SERVERS.lease(&[], start).await?;
            let database = DATABASES.make(&server.control()).await?;
            (Serving::Shared(server), database)
        };
        let (lines, watch) = (ProxyLines::default(), Watch::new());
        Ok(Self { serving, database, lines, watch, counter: AtomicU32::new(0) })
    }

    /// The one behind a case about PostgreSQL alone.
    pub(crate) fn of(h: &dyn Harness) -> Result<&Self, String> {
        let any: &dyn Any = h;
        any.downcast_ref().ok_or_else(|| format!("a case for PostgreSQL runs on {}", h.backend().name))
    }

    pub(crate) fn server(&self) -> &dyn Postgres {
        match &self.serving {
            Serving::Shared(server) => &***server,
            Serving::Own(server) => &**server,
        }
    }

    /// The case's server, if no other case uses it.
    fn own(&self) -> Result<&dyn Postgres, String> {
        match &self.serving {
            Serving::Own(server) => Ok(&**server),
            Serving::Shared(_) => {
                Err("other cases use this server: the case needs one of its own".to_owned())
            }
        }
    }

    /// The URL for a user, by way of an address.
    pub(crate) fn url_for(&self, user: &str, addr: SocketAddr) -> String {
        format!("postgres://{user}@{addr}/{}", self.database)
    }

    /// Runs statements in the case's database, as the user who may do everything.
    pub(crate) async fn run(&self, statements: &str) -> Result<Vec<Vec<String>>, String> {
        self.server().control().run(&self.database, statements).await
    }
}

impl Drop for PostgresHarness {
    fn drop(&mut self) {
        if matches!(self.serving, Serving::Shared(_)) {
            DATABASES.end(std::mem::take(&mut self.database));
        }
    }
}

pub(crate) const NO_PERMISSIONS: &str = "PostgreSQL knows no permission for single channels";

#[async_trait]
impl Harness for PostgresHarness {
    fn backend(&self) -> Backend {
        broker_postgres::BACKEND
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn url(&self) -> String {
        self.url_for(APP, self.server().addr())
    }

    async fn line(&self) -> Result<Arc<dyn Line>, String> {
        self.lines.add(self.server().addr(), |addr| self.url_for(APP, addr)).await
    }

    async fn kill_server(&self) -> Result<(), String> {
        self.own()?.kill().await
    }

    async fn start_server(&self) -> Result<(), String> {
        self.own()?.start_again().await?;
        self.lines.lead_to(self.server().addr());
        Ok(())
    }

    async fn pause_server(&self) -> Result<(), String> {
        self.own()?.pause().await
    }

    async fn resume_server(&self) -> Result<(), String> {
        self.own()?.resume().await
    }

    async fn drop_links(&self) -> Result<(), String> {
        self.server().control().end_connections(&self.database, None).await
    }

    async fn drop_receivers(&self) -> Result<(), String> {
        self.server().control().end_connections(&self.database, Some(RECEIVER)).await
    }

    /// A session can ask for its own channels only, so the server does not say.
    fn watch(&self) -> &Watch {
        &self.watch
    }

    async fn connections(&self) -> Result<usize, String> {
        self.server().control().connections(&self.database).await
    }

    async fn publish_raw(&self, channel: &str, bytes: &[u8]) -> Result<(), String> {
        let first = self.counter.fetch_add(1 << 12, Ordering::Relaxed);
        match posting(channel, bytes, first) {
            Some(statement) => self.run(&statement).await.map(drop),
            None => Ok(()),
        }
    }

    async fn wipe_log(&self) -> Result<(), String> {
        self.run("DROP SCHEMA IF EXISTS broker CASCADE").await.map(drop)
    }

    async fn trim_log(&self) -> Result<(), String> {
        self.run("DELETE FROM broker.record").await.map(drop)
    }

    async fn save_data(&self) -> Result<(), String> {
        self.own()?.save_data().await
    }

    async fn restore_data(&self) -> Result<(), String> {
        self.own()?.restore_data().await?;
        self.lines.lead_to(self.server().addr());
        Ok(())
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
}
