//! Client: the handle that an application keeps, and what its tasks share.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::{runtime::Handle, sync::watch};

use crate::{
    CallBuilder, CallError, ClientBuilder, Status, StatusChanges,
    calls::{Call, Slot},
    connection::Connection,
    connector::Route,
    credentials::Provider,
    mailbox::{Mailbox, Order},
};

/// A client of one streaming server. Clones share its socket.
///
/// The socket is opened by the first call and closed a second after the last has ended. It is owned by one
/// task, which ends then, or with the last clone of the client and the last stream of a call.
#[derive(Clone)]
pub struct Client {
    lifeline: Arc<Lifeline>,
}

/// The last of these ends the client's tasks. Every client and every stream has one.
pub(crate) struct Lifeline {
    shared: Arc<Shared>,
}

/// What the handles and the tasks of a client share.
pub(crate) struct Shared {
    pub(crate) route: Route,
    /// Whether the server is to authenticate calls by the cookies of the upgrade.
    pub(crate) cookies: bool,
    /// Whether the extension is offered to the server.
    pub(crate) offer: bool,
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) window: u32,
    pub(crate) max_buffered: usize,
    pub(crate) max_calls: usize,
    pub(crate) close_when_offline: bool,
    pub(crate) taken: Arc<AtomicUsize>,
    pub(crate) keys: AtomicU64,
    /// The tasks. The last is that of new calls; those before it are about to end.
    pub(crate) links: Mutex<Vec<Arc<Mailbox>>>,
    pub(crate) status: watch::Sender<Status>,
}

impl Client {
    /// A client of the server at an address: `ws://example.org/v1/websocket`, or `wss://…` with the feature
    /// `tls`. Nothing is connected before the first call.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder::new(url)
    }

    pub(crate) fn new(shared: Shared) -> Self {
        Self { lifeline: Arc::new(Lifeline { shared: Arc::new(shared) }) }
    }

    /// A call of a method, to be completed and opened.
    pub fn call(&self, endpoint: &str, method: &str) -> CallBuilder {
        CallBuilder::new(Arc::clone(&self.lifeline), endpoint, method)
    }

    /// Whether there is a connection.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared().status.borrow().clone()
    }

    /// The present status and its changes.
    #[must_use]
    pub fn status_changes(&self) -> StatusChanges {
        StatusChanges::new(self.shared().status.subscribe())
    }

    /// Ends all calls with [`CallError::SocketClosed`], and closes the socket. A call after this opens
    /// another.
    pub fn close(&self) {
        self.shared().order(Order::Close);
    }

    /// Reports that there is no network. With [`close_when_offline`](ClientBuilder::close_when_offline) the
    /// socket is closed at once: its calls end with [`CallError::SocketClosed`], and those that may be
    /// resumed wait. Without that nothing happens: a network may be back before anybody notices.
    pub fn report_offline(&self) {
        if self.shared().close_when_offline {
            self.shared().order(Order::Offline);
        }
    }

    /// Reports that there is a network: a connection that waits for its next attempt tries at once.
    pub fn report_online(&self) {
        self.shared().order(Order::Online);
    }

    /// Shows new credentials for the calls that are open: the provider is asked for them. Of use only between
    /// two ends that have agreed on the extension; the server closes the calls of a user who is another, or
    /// is not let in any more.
    pub fn authenticate_again(&self) {
        self.shared().order(Order::Authenticate);
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.lifeline.shared
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Lifeline {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.shared.order(Order::Close);
    }
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, Vec<Arc<Mailbox>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a call to the task of new calls; begins one if there is none. Without a runtime the call ends.
    pub(crate) fn open(self: &Arc<Self>, call: Call) {
        let Ok(runtime) = Handle::try_current() else { return call.end(Err(CallError::Stopped)) };
        let mut links = self.links();
        let call = match links.last().map(Arc::clone) {
            None => call,
            Some(link) => {
                call.inbox.move_to(&link);
                match link.open(call) {
                    Ok(()) => {
                        drop(links);
                        return link.wake();
                    }
                    Err(call) => *call,
                }
            }
        };
        let link = Arc::new(Mailbox::default());
        links.push(Arc::clone(&link));
        drop(links);
        let mut connection = Connection::new(Arc::clone(self), Arc::clone(&link));
        call.inbox.move_to(&link);
        connection.insert(call);
        runtime.spawn(connection.run());
    }

    fn order(&self, order: Order) {
        let links = self.links().clone();
        for link in links {
            link.order(order);
        }
    }

    /// A task has ended.
    pub(crate) fn forget(&self, link: &Arc<Mailbox>) {
        let mut links = self.links();
        let place = links.iter().position(|other| Arc::ptr_eq(other, link));
        let gone = place.map(|place| links.remove(place));
        drop(links);
        drop(gone);
    }

    /// The status is that of the task of new calls.
    pub(crate) fn publish(&self, link: &Arc<Mailbox>, status: Status) {
        let is_current = self.links().last().is_some_and(|last| Arc::ptr_eq(last, link));
        if !is_current {
            return;
        }
        self.status.send_if_modified(|before| {
            let is_same = matches!(
                (&*before, &status),
                (Status::Disconnected { .. }, Status::Disconnected { .. })
                    | (Status::Connecting, Status::Connecting)
                    | (Status::Connected, Status::Connected)
            );
            *before = status;
            !is_same
        });
    }

    pub(crate) fn next_key(&self) -> u64 {
        self.keys.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn slot(&self) -> Result<Slot, CallError> {
        Slot::take(&self.taken, self.max_calls).ok_or(CallError::TooManyCalls)
    }
}
