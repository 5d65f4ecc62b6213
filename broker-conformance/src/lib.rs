//! The conformance suite: every case that a backend must pass, on a real server, with injected faults.
//!
//! A [case](case::Case) is one sentence, and a function over a [`Harness`](harness::Harness) that proves it. Each case has
//! a cluster of its own: a server to break, and nodes on [lines](line::Line) to cut, stall and heal. The suite runs every
//! case on every backend as `<backend>::<sentence>`. It knows no backend by name: yours joins it from your own
//! repository, with one dev-dependency and one test file.
//!
//! # Join the suite
//!
//! 1. In the manifest of your backend, the dev-dependency and a test that has its own `main`:
//!
//!    ```toml
//!    [dev-dependencies]
//!    async-trait = "0.1"
//!    broker-conformance = "0.1"
//!
//!    [[test]]
//!    name = "conformance"
//!    harness = false
//!    ```
//!
//! 2. In `tests/conformance.rs` a harness, which starts one cluster, and an [`Entry`] that names it. This is the whole
//!    file for the in-process bus of `broker-memory`, whose server is a `Bus` that breaks when it
//!    is told to:
//!
//!    ```no_run
//!    use std::{
//!        process::ExitCode,
//!        sync::{
//!            Arc, Mutex,
//!            atomic::{AtomicU64, Ordering},
//!        },
//!    };
//!
//!    use async_trait::async_trait;
//!    use broker_conformance::{
//!        Entry,
//!        harness::{Harness, is_core_own},
//!        line::Line,
//!        watch::Watch,
//!    };
//!    use broker_core::{
//!        Backend,
//!        driver::{Capabilities, Confirmation, OrderGuarantee, PermissionScope, Reach},
//!    };
//!    use broker_memory::{Bus, SavedLogs};
//!
//!    /// What its links promise beyond the contract.
//!    const PROMISED: Capabilities = Capabilities::new(Reach::Process)
//!        .ordering(OrderGuarantee::PerChannel)
//!        .confirmation(Confirmation::Accepted)
//!        .permissions(PermissionScope::Channel);
//!
//!    const ENTRY: Entry = Entry::new(broker_memory::BACKEND, PROMISED, |_needs| {
//!        Box::pin(async { Ok(Box::new(Cluster::start()) as Box<dyn Harness>) })
//!    });
//!
//!    fn main() -> ExitCode {
//!        broker_conformance::main(&[ENTRY])
//!    }
//!
//!    #[derive(Debug)]
//!    struct Cluster {
//!        bus: Bus,
//!        name: String,
//!        saved: Mutex<Option<SavedLogs>>,
//!        watch: Watch,
//!    }
//!
//!    /// A number that no other cluster or line of this process has.
//!    fn fresh() -> u64 {
//!        static NEXT: AtomicU64 = AtomicU64::new(1);
//!        NEXT.fetch_add(1, Ordering::Relaxed)
//!    }
//!
//!    impl Cluster {
//!        fn start() -> Self {
//!            let name = format!("case{}", fresh());
//!            Self { bus: Bus::named(&name), name, saved: Mutex::default(), watch: Watch::new() }
//!        }
//!    }
//!
//!    #[async_trait]
//!    impl Harness for Cluster {
//!        fn backend(&self) -> Backend {
//!            broker_memory::BACKEND
//!        }
//!
//!        fn capabilities(&self) -> Capabilities {
//!            PROMISED
//!        }
//!
//!        fn url(&self) -> String {
//!            format!("memory://{}", self.name)
//!        }
//!
//!        async fn line(&self) -> Result<Arc<dyn Line>, String> {
//!            let name = format!("line{}", fresh());
//!            let url = format!("{}?line={name}", self.url());
//!            Ok(Arc::new(Wire { line: self.bus.line(&name), url }))
//!        }
//!
//!        async fn kill_server(&self) -> Result<(), String> {
//!            self.bus.cut();
//!            Ok(())
//!        }
//!
//!        async fn start_server(&self) -> Result<(), String> {
//!            self.bus.heal();
//!            Ok(())
//!        }
//!
//!        async fn pause_server(&self) -> Result<(), String> {
//!            self.bus.stall();
//!            Ok(())
//!        }
//!
//!        async fn resume_server(&self) -> Result<(), String> {
//!            self.bus.heal();
//!            Ok(())
//!        }
//!
//!        async fn drop_links(&self) -> Result<(), String> {
//!            self.bus.drop_links();
//!            Ok(())
//!        }
//!
//!        fn watch(&self) -> &Watch {
//!            &self.watch
//!        }
//!
//!        async fn channels_at_server(&self) -> Result<Option<Vec<String>>, String> {
//!            Ok(Some(self.bus.channels().into_iter().filter(|name| !is_core_own(name)).collect()))
//!        }
//!
//!        async fn connections(&self) -> Result<usize, String> {
//!            Ok(self.bus.links())
//!        }
//!
//!        async fn publish_raw(&self, channel: &str, bytes: &[u8]) -> Result<(), String> {
//!            self.bus.publish_raw(channel, bytes.to_vec());
//!            Ok(())
//!        }
//!
//!        async fn wipe_log(&self) -> Result<(), String> {
//!            self.bus.wipe_logs();
//!            Ok(())
//!        }
//!
//!        async fn trim_log(&self) -> Result<(), String> {
//!            self.bus.trim_logs();
//!            Ok(())
//!        }
//!
//!        async fn save_data(&self) -> Result<(), String> {
//!            *self.saved.lock().unwrap() = Some(self.bus.save_logs());
//!            Ok(())
//!        }
//!
//!        async fn restore_data(&self) -> Result<(), String> {
//!            let saved = self.saved.lock().unwrap().clone().ok_or("nothing was saved")?;
//!            self.kill_server().await?;
//!            self.bus.restore_logs(&saved);
//!            self.start_server().await
//!        }
//!
//!        async fn allow_only(&self, start: &str) -> Result<(), String> {
//!            self.bus.allow_only(start);
//!            Ok(())
//!        }
//!
//!        async fn allow_nothing(&self) -> Result<(), String> {
//!            self.bus.allow_nothing();
//!            Ok(())
//!        }
//!
//!        async fn allow_everything(&self) -> Result<(), String> {
//!            self.bus.allow_everything();
//!            Ok(())
//!        }
//!    }
//!
//!    #[derive(Debug)]
//!    struct Wire {
//!        line: broker_memory::Line,
//!        url: String,
//!    }
//!
//!    impl Line for Wire {
//!        fn url(&self) -> String {
//!            self.url.clone()
//!        }
//!
//!        fn cut(&self) {
//!            self.line.cut();
//!        }
//!
//!        fn stall(&self) {
//!            self.line.stall();
//!        }
//!
//!        fn heal(&self) {
//!            self.line.heal();
//!        }
//!    }
//!
//!    impl Drop for Wire {
//!        fn drop(&mut self) {
//!            self.line.cut();
//!        }
//!    }
//!    ```
//!
//! 3. `cargo test --test conformance` until every case passes, or is not applicable. `-- gap` runs the cases whose name
//!    contains `gap`, `-- --list` shows them all.
//!
//! # A server over TCP
//!
//! `examples/custom-backend` of the repository is a whole crate of this kind: a driver, a server program, and its
//! `tests/conformance.rs`.
//!
//! - Its lines are [`ProxyLines`](line::ProxyLines): a [fault proxy](proxy::Proxy) for each node. Call
//!   [`lead_to`](line::ProxyLines::lead_to) where the server has another address after a restart.
//! - A server program takes a [free port](free_port()), and is there when
//!   [`eventually`](wait::eventually) it answers. `SIGSTOP` and `SIGCONT` pause it. It must end with the test, also with
//!   one that is killed: have it watch its standard input, say.
//! - A server that starts slowly comes from a [`Pool`](pool::Pool): most cases share one, in a virtual host or below a
//!   prefix of their own, and those that [need their own](case::Need::OwnServer) take turns at a second one. End the
//!   pool in [`Entry::end`].
//! - [`Entry::available`] says why no server can be had, and what to do about it; then the cases are ignored, with that
//!   reason. In continuous integration, `BROKER_REQUIRE=acme` turns a missing server into a failure.
//!
//! # Which cases apply
//!
//! A case that needs more than the contract says so, and is shown as not applicable where it cannot be had. It never
//! passes without a word.
//!
//! | the case needs | it applies if |
//! |---|---|
//! | [`PostsInTurn`](case::Need::PostsInTurn) | it has one server, or its members order what passes between them |
//! | [`OnePath`](case::Need::OnePath) | a link receives by a single connection |
//! | [`ChannelOrder`](case::Need::ChannelOrder) | the entry declares [`OrderGuarantee::PerChannel`](broker_core::driver::OrderGuarantee) |
//! | [`Confirms`](case::Need::Confirms) | it declares [`Confirmation::Accepted`](broker_core::driver::Confirmation) |
//! | [`Permissions`](case::Need::Permissions) | it declares [`PermissionScope::Channel`](broker_core::driver::PermissionScope) |
//! | [`Log`](case::Need::Log) | [`Entry::lacks`] does not give a reason: the links have a [log](broker_core::driver::Link::log) |
//! | [`Server`](case::Need::Server) | as above: a node that reaches no server is not connected |
//! | [`OwnServer`](case::Need::OwnServer) | [`Entry::lacks`] does not give a reason. `start` gives such a case a server of its own |
//! | [`Durable`](case::Need::Durable) | as above. `start_server` then keeps the data, and with other cases it removes them |
//! | [`Process`](case::Need::Process), [`LoadBalancer`](case::Need::LoadBalancer), [`Pooler`](case::Need::Pooler) | as above. No case of this crate needs it; [your own](#cases-of-your-own) may |
//!
//! All other cases apply to every backend. `wipe_log`, `trim_log`, `save_data` and `restore_data` do to the log at the
//! server what an operator or a disk may do.
//! [`Reach`](broker_core::driver::Reach) rules no case out.
//!
//! # Cases of your own
//!
//! What holds of your backend alone is a list of cases too, and goes to [`Entry::own`]:
//!
//! ```
//! use broker_conformance::{
//!     case::{Case, Outcome, case},
//!     harness::Harness,
//!     steps::{receives, post},
//! };
//!
//! const CASES: &[&[Case]] = &[&[case!(a_post_comes_back_to_its_node, [2])]];
//!
//! async fn a_post_comes_back_to_its_node(h: &dyn Harness) -> Outcome {
//!     let node = h.node().await?;
//!     let mut news = node.subscribe("news").await?;
//!     post(&node, "news", "hello").await?;
//!     Ok(receives(&mut news, "hello").await?)
//! }
//! # assert_eq!(CASES[0][0].name, "a_post_comes_back_to_its_node");
//! ```
//!
//! It waits for conditions ([`wait`]), never for a time; that nothing more arrives is shown by a [fence](wait::fence).
//! See each case fail once: break the line that it guards. [`log_checks`] holds what is true of every revocation log, for
//! servers that are set up in another way; [`lossy_driver`] loses and repeats what a node posts.

pub mod case;
pub mod cases;
pub mod entry;
pub mod external_server;
mod free_port;
pub mod harness;
pub mod line;
pub mod log_checks;
pub mod log_link;
pub mod lossy_driver;
pub mod pool;
pub mod proxy;
mod run;
pub mod steps;
pub mod wait;
pub mod watch;

pub use entry::Entry;
pub use free_port::free_port;
pub use run::{main, required};
