//! Watch: a connection to each Sentinel, for as long as a link lives, and what they say of the master.
//!
//! A Sentinel is asked when it has been reached, when it announces a switch, and at each heartbeat. Its announcements
//! alone would not do: what it announced while its connection was broken is lost.

use std::{
    convert::Infallible,
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use broker_core::{
    Error,
    ErrorKind::{Forbidden, Misconfigured, Other, Unavailable},
    Result,
    driver::{ErrorContext, Inbox, Place, ServerAddr},
};
use redis::{PushInfo, RedisError, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::timeout,
};

use super::{
    Sentinels,
    views::{View, Views},
};
use crate::{
    address::{Address, is_host},
    driver::settings,
    errors::translate,
};

/// How long a Sentinel may take to be connected to, and then to answer each question.
const LIMIT: Duration = Duration::from_secs(2);
/// The channel on which a Sentinel announces that a master has moved.
const SWITCH: &str = "+switch-master";
/// For so many heartbeats a majority of the Sentinels may be out of reach.
const MOST_MISSED: u32 = 1;

/// One task for each Sentinel. Dropping it ends them, and their connections.
#[derive(Debug)]
pub(crate) struct Watch {
    views: Arc<watch::Sender<Views>>,
    heartbeats: watch::Sender<()>,
    /// How many heartbeats in a row have found a majority out of reach.
    missed: AtomicU32,
    tasks: Mutex<JoinSet<()>>,
}

impl Watch {
    pub(crate) fn start(sentinels: &Arc<Sentinels>) -> Self {
        let all = sentinels.addresses.iter().filter_map(|address| address.server.clone());
        let views = Arc::new(watch::Sender::new(Views::new(&sentinels.master, all)));
        let (heartbeats, mut tasks) = (watch::Sender::new(()), JoinSet::new());
        for number in 0..sentinels.addresses.len() {
            let seat = Seat {
                sentinels: Arc::clone(sentinels),
                number,
                views: Arc::clone(&views),
                heartbeats: heartbeats.subscribe(),
            };
            tasks.spawn(seat.attend());
        }
        Self { views, heartbeats, missed: AtomicU32::new(0), tasks: Mutex::new(tasks) }
    }

    /// The master, as soon as a majority of the Sentinels has named it.
    pub(crate) async fn master(&self) -> Result<ServerAddr> {
        let mut views = self.views.subscribe();
        // The sender lives as long as this.
        let decided = views.wait_for(|views| !views.is_open()).await;
        decided.map_err(|_| Error::new(Unavailable, "nobody asks the Sentinels any more"))?.verdict()
    }

    /// Waits until a majority names another master than this; with the error for a link to this one.
    pub(crate) fn other_than(
        &self,
        master: ServerAddr,
    ) -> impl Future<Output = (ServerAddr, Error)> + Send + 'static {
        let mut views = self.views.subscribe();
        async move {
            loop {
                let moved = views.borrow_and_update().moved_from(&master);
                match moved {
                    Some(moved) => return moved,
                    // Without those who ask, nobody will ever say so.
                    None if views.changed().await.is_err() => std::future::pending().await,
                    None => {}
                }
            }
        }
    }

    /// From now on a link to this master is lost when a majority names another one.
    pub(crate) fn guard(&self, master: ServerAddr, inbox: Inbox) {
        let moving = self.other_than(master);
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move {
            let (_, moved) = moving.await;
            inbox.lost(moved);
        });
    }

    /// Has the Sentinels asked, and says whether enough of them could be reached before.
    pub(crate) fn heartbeat(&self) -> Result<()> {
        // None ends while this lives, unless it panics or has reported the link lost.
        if self.tasks.lock().unwrap_or_else(PoisonError::into_inner).try_join_next().is_some() {
            return Err(Error::new(Other, "a task of the driver that asks a Sentinel has ended"));
        }
        self.heartbeats.send_replace(());
        if self.views.borrow().is_reached() {
            self.missed.store(0, Ordering::Relaxed);
            return Ok(());
        }
        if self.missed.fetch_add(1, Ordering::Relaxed) < MOST_MISSED {
            return Ok(());
        }
        let verdict = self.views.borrow().verdict();
        verdict.map(drop)
    }

    /// Ends the connections.
    pub(crate) async fn end(&self) {
        let mut tasks = mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
    }
}

/// One Sentinel's place in the views.
struct Seat {
    sentinels: Arc<Sentinels>,
    number: usize,
    views: Arc<watch::Sender<Views>>,
    heartbeats: watch::Receiver<()>,
}

impl Seat {
    /// One connection after another, the next at the next heartbeat, until the task is ended.
    async fn attend(mut self) {
        loop {
            let Err(error) = self.serve().await;
            self.says(View::Nothing(error));
            if self.heartbeats.changed().await.is_err() {
                return;
            }
        }
    }

    fn says(&self, view: View) {
        self.views.send_modify(|views| views.set(self.number, view));
    }

    /// One connection, until it fails.
    async fn serve(&mut self) -> Result<Infallible> {
        let (sentinels, news) = (Arc::clone(&self.sentinels), Arc::new(Notify::new()));
        let address = &sentinels.addresses[self.number];
        let (connection, peer) = within(&address.peer, open(address, &news)).await?;
        loop {
            let master = within(&peer, ask(&connection, &peer, &sentinels.master)).await?;
            self.says(View::Master(master));
            tokio::select! {
                () = news.notified() => {}
                asked = self.heartbeats.changed() => if asked.is_err() { return Err(peer.disconnected()) },
            }
        }
    }
}

async fn within<T>(peer: &ErrorContext, answer: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Err(peer.error(Unavailable, format!("has not answered within {LIMIT:?}")));
    timeout(LIMIT, answer).await.unwrap_or_else(late)
}

/// A connection that notifies when its Sentinel has announced something, and when it has ended.
async fn open(address: &Address, news: &Arc<Notify>) -> Result<(MultiplexedConnection, ErrorContext)> {
    let client = &address.client().await?;
    Place::reach(address.server.as_slice(), |place| {
        let (peer, news) = (address.peer.at(&place), Arc::clone(news));
        async move {
            let settings = settings(Some(place.address)).set_push_sender(move |_: PushInfo| {
                news.notify_one();
                Ok::<_, Infallible>(())
            });
            let subscribing = async {
                let opened = client.get_multiplexed_async_connection_with_config(&settings).await;
                let mut connection = opened.map_err(|error| refusal(&peer, &error))?;
                connection.subscribe(SWITCH).await.map_err(|error| refusal(&peer, &error))?;
                Ok(connection)
            };
            let connection = peer.recognise(place.address, address.encryption(), subscribing).await?;
            Ok((connection, peer))
        }
    })
    .await
}

/// Where the master is, as one Sentinel says.
async fn ask(connection: &MultiplexedConnection, peer: &ErrorContext, name: &str) -> Result<ServerAddr> {
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let reply = question.query_async(&mut connection.clone()).await;
    let reply: Option<(String, u16)> = reply.map_err(|error| refusal(peer, &error))?;
    let unknown = || {
        let why = format!(
            "watches no master `{name}`: correct the key `master` of the url; `SENTINEL MASTERS` lists the names"
        );
        peer.error(Misconfigured, why)
    };
    let (host, port) = reply.ok_or_else(unknown)?;
    if !is_host(&host) || port == 0 {
        let why = format!("names an address of the master `{name}` that cannot be one");
        return Err(peer.error(Misconfigured, why));
    }
    Ok(ServerAddr::new(host, port))
}

/// What a Sentinel says instead of an answer.
fn refusal(peer: &ErrorContext, error: &RedisError) -> Error {
    let (kind, why) = match (error.code().unwrap_or_default(), error.detail().unwrap_or_default()) {
        // In front of the name stands a quotation mark of one kind or another.
        ("ERR", detail) if detail.get(17..).is_some_and(|name| name.starts_with("SENTINEL")) => (
            Misconfigured,
            "is no Sentinel: give the port of its Sentinel (26379), or write the url as redis://, or redis+cluster:// for a member of a cluster",
        ),
        ("NOAUTH", _) => {
            (Forbidden, "a password is required; give it by the key `sentinel_password` of the url")
        }
        ("NOPERM", _) => (
            Forbidden,
            "no permission; the user needs `&+switch-master +subscribe +sentinel|get-master-addr-by-name`",
        ),
        _ => return translate(peer, error),
    };
    peer.error(kind, why)
}
