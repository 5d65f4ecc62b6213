//! RabbitHarness: a virtual host of the case's own, and a fault proxy before the server for every node.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use broker_conformance::{
    Entry,
    case::Need,
    harness::{Harness, is_core_own, quick_options},
    line::{Line, ProxyLines},
    pool::{Lease, Pool},
    wait::{LIMIT, eventually},
    watch::Watch,
};
use broker_core::{Backend, Capabilities, Confirmation, Options, Reach};
use serde_json::json;

use crate::{
    cases,
    servers::{
        self, Source,
        rabbitmq::{Rabbit, Side, control::RabbitControl, stream::Stream},
    },
};

const CAPABILITIES: Capabilities = Capabilities::new(Reach::Cluster).confirmation(Confirmation::Accepted);

/// The entry of the suite.
pub const ENTRY: Entry = Entry::new(broker_rabbitmq::BACKEND, CAPABILITIES, |needs| {
    Box::pin(async { Ok(Box::new(RabbitHarness::start(needs).await?) as Box<dyn Harness>) })
})
.available(|| Box::pin(servers::rabbitmq::available()))
.lacks(lacks)
.end(|| SERVERS.end())
.own(cases::rabbitmq::CASES);

/// The driver's own default.
const EXCHANGE: &str = "broker";

/// The size of a segment of the log, as the driver makes it.
const SEGMENT: usize = 1_000_000;

/// So often the same list of connections is the list.
const STEADY: u32 = 20;

static SERVERS: Pool<Box<dyn Rabbit>> = Pool::new();

fn lacks(need: Need) -> Option<&'static str> {
    match need {
        Need::Durable if !Source::is_process() => Some("the container keeps its data in memory"),
        Need::Process if !Source::is_process() => Some("the server is no process of this machine"),
        _ => None,
    }
}

/// Makes a stream, for what a server notes with the first it ever has: half a second later it is on disk, and a server
/// that is killed before has none of its streams again.
async fn make_first_stream(server: &dyn Rabbit, vhost: &str) -> Result<(), String> {
    let (control, path) = (server.control(), format!("queues/{vhost}/first"));
    let stream = json!({ "durable": true, "arguments": { "x-queue-type": "stream" } });
    control.call("PUT", &path, Some(&stream)).await?;
    let done = format!("rabbit_runtime_parameters:set_global('{vhost}', true, <<\"guest\">>)");
    server.evaluate(&format!("[dets:sync(Notes) || Notes <- dets:all()], {done}")).await?;
    let path_done = format!("global-parameters/{vhost}");
    eventually("the server's notes to be on disk", LIMIT, || control.get(&path_done)).await?;
    control.call("DELETE", &path, None).await.map(drop)
}

/// Has a server drop what a stream has now. It drops a whole segment, not the last, and looks for one when another
/// begins.
pub(super) async fn trim(control: &RabbitControl, vhost: &str, url: &str, log: &str) -> Result<(), String> {
    let policy = format!("policies/{vhost}/trim");
    let soon = json!({ "pattern": ".*", "apply-to": "queues", "definition": { "max-age": "1s" } });
    let stream = Stream::open(url, log).await?;
    let last = stream.last().await?;
    control.call("PUT", &policy, Some(&soon)).await?;
    // Who reads the log passes over what is no record.
    let padding = vec![0; SEGMENT];
    eventually("the log to be trimmed", LIMIT, || async {
        control.publish(vhost, EXCHANGE, log, &padding).await?;
        let first = stream.first().await?;
        if first > last { Ok(()) } else { Err(format!("from {first}, was up to {last}")) }
    })
    .await?;
    control.call("DELETE", &policy, None).await.map(drop)
}

/// One virtual host on a server; see the module.
#[derive(Debug)]
pub(crate) struct RabbitHarness {
    server: Lease<Box<dyn Rabbit>>,
    /// Of the virtual host, its user, and the password.
    pub(crate) name: String,
    lines: ProxyLines,
    watch: Watch,
    /// Whether the server keeps its data when it is killed.
    durable: bool,
}

impl RabbitHarness {
    async fn start(needs: &[Need]) -> Result<Self, String> {
        static CASES: AtomicU64 = AtomicU64::new(1);
        let server = SERVERS.lease(needs, servers::rabbitmq::start).await?;
        if server.is_own() {
            // As the case before left it.
            if server.is_alive().await? {
                // An error where there was no pause.
                let _ = server.resume().await;
            }
            // It may be gone, or somewhere in the middle of a start that nobody waited for.
            if server.control().get("overview").await.is_err() {
                server.kill().await?;
                server.start_again().await?;
            }
        }
        let name = format!("case-{}", CASES.fetch_add(1, Ordering::Relaxed));
        server.control().add_vhost(&name).await?;
        let durable = needs.contains(&Need::Durable);
        if durable {
            make_first_stream(&**server, &name).await?;
        }
        Ok(Self { server, name, lines: ProxyLines::default(), watch: Watch::new(), durable })
    }

    /// The one behind a case about RabbitMQ alone.
    pub(crate) fn of(h: &dyn Harness) -> Result<&Self, String> {
        let any: &dyn Any = h;
        any.downcast_ref().ok_or_else(|| format!("a case for RabbitMQ runs on {}", h.backend().name))
    }

    pub(crate) fn server(&self) -> &dyn Rabbit {
        &**self.server
    }

    /// The revocation log's queue: there is no other stream.
    pub(crate) async fn log(&self) -> Result<String, String> {
        let streams = self.server.control().streams(&self.name).await?;
        let [log] = &streams[..] else { return Err(format!("not one stream: {streams:?}")) };
        Ok(log.clone())
    }

    fn url_at(&self, addr: std::net::SocketAddr) -> String {
        let Self { name, .. } = self;
        format!("amqp://{name}:{name}@{addr}/{name}")
    }
}

const NO_PERMISSIONS: &str = "RabbitMQ knows no permission for single keys of a direct exchange";

#[async_trait]
impl Harness for RabbitHarness {
    fn backend(&self) -> Backend {
        broker_rabbitmq::BACKEND
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn options(&self) -> Options {
        let mut options = quick_options();
        // A server that starts again takes longer than the others.
        options.subscribe_timeout = LIMIT;
        options
    }

    fn url(&self) -> String {
        self.url_at(self.server.addr())
    }

    async fn line(&self) -> Result<Arc<dyn Line>, String> {
        self.lines.add(self.server.addr(), |addr| self.url_at(addr)).await
    }

    async fn kill_server(&self) -> Result<(), String> {
        if !self.server.is_own() {
            return Err("other cases use this server: the case needs one of its own".to_owned());
        }
        self.server.kill().await
    }

    async fn start_server(&self) -> Result<(), String> {
        if self.durable {
            self.server.start_with_data().await?;
        } else {
            self.server.start_again().await?;
            self.server.control().add_vhost(&self.name).await?;
        }
        self.lines.lead_to(self.server.addr());
        Ok(())
    }

    async fn pause_server(&self) -> Result<(), String> {
        if !self.server.is_own() {
            return Err("other cases use this server: the case needs one of its own".to_owned());
        }
        self.server.pause().await
    }

    async fn resume_server(&self) -> Result<(), String> {
        self.server.resume().await
    }

    async fn drop_links(&self) -> Result<(), String> {
        let control = self.server.control();
        let before = control.connections(&self.name).await?;
        self.server.close_connections(&self.name, Side::Both).await?;
        eventually("the connections to end", LIMIT, || async {
            let left = control.connections(&self.name).await?;
            if before.iter().any(|name| left.contains(name)) { Err(format!("{left:?}")) } else { Ok(()) }
        })
        .await
    }

    async fn drop_receivers(&self) -> Result<(), String> {
        self.server.close_connections(&self.name, Side::Receiving).await
    }

    fn watch(&self) -> &Watch {
        &self.watch
    }

    async fn channels_at_server(&self) -> Result<Option<Vec<String>>, String> {
        let mut names = self.server.control().binding_keys(&self.name, EXCHANGE).await?;
        // The log is bound by a key that is no channel's.
        names.retain(|name| !is_core_own(name) && !name.contains(".."));
        names.sort_unstable();
        names.dedup();
        Ok(Some(names))
    }

    async fn connections(&self) -> Result<usize, String> {
        let control = self.server.control();
        let (mut last, mut same) = (control.connections(&self.name).await?, 0);
        // The server writes its list a moment after it opened or closed one.
        while same < STEADY {
            let now = control.connections(&self.name).await?;
            same = if now == last { same + 1 } else { 0 };
            last = now;
        }
        Ok(last.len())
    }

    async fn publish_raw(&self, channel: &str, bytes: &[u8]) -> Result<(), String> {
        self.server.control().publish(&self.name, EXCHANGE, channel, bytes).await
    }

    async fn wipe_log(&self) -> Result<(), String> {
        let path = format!("queues/{}/{}", self.name, self.log().await?);
        self.server.control().call("DELETE", &path, None).await.map(drop)
    }

    async fn trim_log(&self) -> Result<(), String> {
        trim(&self.server.control(), &self.name, &self.url(), &self.log().await?).await
    }

    async fn save_data(&self) -> Result<(), String> {
        self.server.save_data().await
    }

    async fn restore_data(&self) -> Result<(), String> {
        self.server.restore_data().await?;
        self.lines.lead_to(self.server.addr());
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
