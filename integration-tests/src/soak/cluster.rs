//! Cluster: the nodes of a soak, each on a line of its own, and how a fault is done to them. Nodes are processes, but on
//! a bus of this process they are tasks.

use std::{
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use broker::Reach;
use broker_conformance::{
    harness::{Harness, Members},
    line::Line,
    wait::eventually,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    Plan,
    faults::{Fault, ONE_SERVER, Target},
    history::History,
    node::{self, Order, Task},
    record::Record,
};

/// How long the nodes may take to be connected again after a fault. A server may have to start in it.
const RECOVERY: Duration = Duration::from_secs(60);
/// For so long nothing arrives anywhere any more: the last messages and digests are there.
const QUIET: Duration = Duration::from_secs(4);

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    harness: Arc<dyn Harness>,
    history: Arc<Mutex<History>>,
    plan: Plan,
    members: Vec<Member>,
    next_id: u32,
}

#[derive(Debug)]
struct Member {
    id: u32,
    line: Arc<dyn Line>,
    body: Body,
    /// Puts what it says into the history; ends with it.
    reader: JoinHandle<()>,
}

#[derive(Debug)]
enum Body {
    Process(Box<Child>, ChildStdin),
    Task(JoinHandle<Result<(), String>>, mpsc::UnboundedSender<Order>),
}

impl Cluster {
    /// Starts all nodes, and waits until they are connected.
    ///
    /// # Errors
    /// One does not start, or not connect.
    pub async fn start(
        harness: Arc<dyn Harness>,
        history: Arc<Mutex<History>>,
        plan: &Plan,
    ) -> Result<Self, String> {
        let mut cluster = Self { harness, history, plan: plan.clone(), members: Vec::new(), next_id: 1 };
        for _ in 0..plan.nodes {
            let line = cluster.harness.line().await?;
            let member = cluster.member(line)?;
            cluster.members.push(member);
        }
        cluster.recover().await?;
        Ok(cluster)
    }

    /// Whether the nodes are processes.
    #[must_use]
    pub fn has_processes(&self) -> bool {
        self.harness.capabilities().reach == Reach::Cluster
    }

    /// On what faults fall.
    #[must_use]
    pub fn target(&self) -> Target {
        let target = |members: &dyn Members| Target { members: members.count(), faults: members.faults() };
        self.harness.members().map_or(ONE_SERVER, target)
    }

    fn member(&mut self, line: Arc<dyn Line>) -> Result<Member, String> {
        let id = self.next_id;
        self.next_id += 1;
        let task = Task { url: line.url(), id, channels: self.plan.channels, rate: self.plan.rate };
        let history = Arc::clone(&self.history);
        let note = move |record| history.lock().unwrap_or_else(PoisonError::into_inner).note(id, record);
        if self.has_processes() {
            let (child, orders, reader) = start_process(&task, note)?;
            return Ok(Member { id, line, body: Body::Process(Box::new(child), orders), reader });
        }
        let (orders, ordered) = mpsc::unbounded_channel();
        let running = tokio::spawn(node::run(task, ordered, Arc::new(note)));
        Ok(Member { id, line, body: Body::Task(running, orders), reader: tokio::spawn(async {}) })
    }

    /// Does a fault, and ends it.
    ///
    /// # Errors
    /// It cannot be done.
    pub async fn suffer(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::KillNode(node, pause) => {
                let member = self.members.remove(node);
                let line = Arc::clone(&member.line);
                member.kill().await;
                sleep(pause).await;
                let successor = self.member(line)?;
                self.members.insert(node, successor);
            }
            Fault::FreezeNode(node, pause) => {
                self.members[node].signal("STOP").await?;
                sleep(pause).await;
                self.members[node].signal("CONT").await?;
            }
            Fault::Cut(node, pause) => self.on_line(node, pause, |line| line.cut()).await,
            Fault::Stall(node, pause) => self.on_line(node, pause, |line| line.stall()).await,
            Fault::HalfOpen(node, pause) => self.on_line(node, pause, |line| line.stall_downstream()).await,
            Fault::Flap(node, times) => {
                for _ in 0..times {
                    self.on_line(node, Duration::from_millis(30), |line| line.cut()).await;
                    sleep(Duration::from_millis(70)).await;
                }
            }
            Fault::Slow(node, pause) => {
                self.members[node].order(Order::BeSlow(pause.as_millis() as u64)).await?;
                sleep(pause).await;
            }
            Fault::DropLinks => self.harness.drop_links().await?,
            Fault::FreezeServer(pause) => {
                self.harness.pause_server().await?;
                sleep(pause).await;
                self.harness.resume_server().await?;
            }
            Fault::KillServer(pause) => {
                self.harness.kill_server().await?;
                sleep(pause).await;
                self.harness.start_server().await?;
            }
            Fault::KillMember(..) | Fault::KillLeader(_) | Fault::FreezeMember(..) | Fault::OfCluster(..) => {
                let members = self.harness.members().ok_or("there is one server")?;
                suffer_member(members, fault).await?;
            }
        }
        Ok(())
    }

    async fn on_line(&self, node: usize, pause: Duration, fault: impl Fn(&dyn Line)) {
        let line = &self.members[node].line;
        fault(&**line);
        sleep(pause).await;
        line.heal();
    }

    /// Waits until every node is connected; how long that took.
    ///
    /// # Errors
    /// One is not within a minute: it has not recovered.
    pub async fn recover(&self) -> Result<Duration, String> {
        let begun = Instant::now();
        eventually("every node to be connected again", RECOVERY, || {
            let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            let missing: Vec<u32> =
                self.members.iter().map(|member| member.id).filter(|id| !history.is_connected(*id)).collect();
            let all = if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} are not")) };
            std::future::ready(all)
        })
        .await?;
        Ok(begun.elapsed())
    }

    /// Waits until what was posted has arrived.
    async fn wait_for_quiet(&self) -> Result<(), String> {
        let totals = || self.history.lock().unwrap_or_else(PoisonError::into_inner).totals();
        let calm = async {
            let mut before = None;
            while before != Some(totals()) {
                before = Some(totals());
                sleep(QUIET).await;
            }
        };
        timeout(RECOVERY, calm).await.map_err(|_| format!("messages do not stop: {}", totals()))
    }

    /// Lets everything come to its end: no more posts, then the last messages and digests, then everyone says the rest.
    ///
    /// # Errors
    /// A node does not end in good order.
    pub async fn finish(mut self) -> Result<(), String> {
        for member in &mut self.members {
            member.order(Order::Stop).await?;
        }
        self.wait_for_quiet().await?;
        self.recover().await?;
        for mut member in std::mem::take(&mut self.members) {
            member.order(Order::Finish).await?;
            let id = member.id;
            let ended = timeout(RECOVERY, member.end()).await;
            ended.map_err(|_| format!("node {id} does not end"))??;
        }
        Ok(())
    }
}

/// Does a fault to a member of the cluster, and waits until the cluster is whole again.
async fn suffer_member(members: &dyn Members, fault: Fault) -> Result<(), String> {
    match fault {
        Fault::FreezeMember(member, pause) => {
            members.pause(member).await?;
            sleep(pause).await;
            members.resume(member).await?;
        }
        Fault::OfCluster(name, pause) => members.suffer(name, pause).await?,
        Fault::KillMember(_, pause) | Fault::KillLeader(pause) => {
            let member =
                if let Fault::KillMember(member, _) = fault { member } else { members.leader().await? };
            members.kill(member).await?;
            sleep(pause).await;
            members.start(member).await?;
        }
        _ => return Err(format!("{} is no fault of a member", fault.name())),
    }
    members.whole().await
}

/// Starts this very program as a node.
fn start_process(
    task: &Task,
    note: impl Fn(Record) + Send + 'static,
) -> Result<(Child, ChildStdin, JoinHandle<()>), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let Task { url, id, channels, rate } = task;
    let mut child = Command::new(program)
        .args(["node", url, &id.to_string(), &channels.to_string(), &rate.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("a node: {error}"))?;
    let (Some(orders), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("a node without input and output".to_owned());
    };
    let reader = tokio::spawn(async move {
        let (mut output, mut line) = (BufReader::new(output), String::new());
        while output.read_line(&mut line).await.is_ok_and(|length| length > 0) {
            // The last line of one that is killed may be cut off anywhere.
            line.strip_suffix('\n').and_then(Record::parse).into_iter().for_each(&note);
            line.clear();
        }
    });
    Ok((child, orders, reader))
}

impl Member {
    async fn order(&mut self, order: Order) -> Result<(), String> {
        match &mut self.body {
            Body::Process(_, orders) => {
                let given = orders.write_all(order.line().as_bytes()).await;
                given.map_err(|error| format!("node {}: {error}", self.id))
            }
            Body::Task(_, orders) => orders.send(order).map_err(|_| format!("node {} is gone", self.id)),
        }
    }

    async fn signal(&self, name: &str) -> Result<(), String> {
        let Body::Process(child, _) = &self.body else { return Err("a task takes no signal".to_owned()) };
        let pid = child.id().ok_or_else(|| format!("node {} has ended by itself", self.id))?;
        let status = Command::new("sh").args(["-c", &format!("kill -s {name} {pid}")]).status().await;
        match status {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("kill -s {name} {pid}: {other:?}")),
        }
    }

    /// Ends it at once. What it had said is in the history.
    async fn kill(mut self) {
        match &mut self.body {
            Body::Process(child, _) => {
                let _ = child.kill().await;
            }
            Body::Task(running, _) => {
                running.abort();
                let _ = running.await;
            }
        }
        let _ = self.reader.await;
    }

    /// Waits for its end.
    async fn end(mut self) -> Result<(), String> {
        match &mut self.body {
            Body::Process(child, _) => {
                let status = child.wait().await.map_err(|error| error.to_string())?;
                let _ = self.reader.await;
                if status.success() { Ok(()) } else { Err(format!("node {}: {status}", self.id)) }
            }
            Body::Task(running, _) => running.await.map_err(|error| error.to_string())?,
        }
    }
}
