//! Parking: calls whose sockets were lost, until their clients resume them.

use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use broker_core::CloseReason;
use broker_streams_wire::{CallId, Token, Why};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    call::{
        run::cause,
        state::{CallState, End},
    },
    meter::Held,
    server::Server,
    socket::outbox::Outbox,
};

/// The most tokens of a call that are good at a time.
const TOKENS: usize = 8;

/// The time in which a socket that is to be cut gives its calls away.
const CUT: Duration = Duration::from_secs(2);

/// A call that runs, whatever drives it.
pub(crate) struct Running {
    pub(crate) id: CallId,
    pub(crate) future: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Running {
    type Output = CallId;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<CallId> {
        self.future.as_mut().poll(cx).map(|()| self.id)
    }
}

/// A call that has no socket. One that has ended does not run, and only keeps its last frames.
pub(crate) struct Parked {
    pub(crate) state: Arc<CallState>,
    pub(crate) running: Option<Running>,
}

impl Parked {
    /// Ends the call: nobody takes it.
    pub(crate) async fn end(self) {
        self.end_for(End::SocketLost).await;
    }

    async fn end_for(self, end: End) {
        self.state.end(end);
        if let Some(running) = self.running {
            running.await;
        }
    }
}

/// The calls that can be resumed, by their tokens.
#[derive(Default)]
pub(crate) struct Parking {
    places: Mutex<HashMap<Box<str>, Arc<Place>>>,
    /// A call was parked, has come to a socket, or has ended.
    moved: Notify,
    calls: AtomicUsize,
    bytes: AtomicUsize,
}

/// Where a call is that can be resumed.
struct Place {
    id: CallId,
    /// Only this user may resume it.
    user: Option<String>,
    at: Mutex<At>,
}

enum At {
    /// On a socket, which may only look alive.
    Socket(Arc<Outbox>),
    /// Parked; this asks for it.
    Parked(oneshot::Sender<oneshot::Sender<Parked>>),
    /// On its way to a socket, or nowhere.
    Away,
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, At> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who asks for a call.
pub(crate) struct Claim<'a> {
    pub(crate) token: &'a str,
    pub(crate) id: CallId,
    pub(crate) user: Option<&'a str>,
}

impl Parking {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many calls are parked.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    /// Takes a call to another socket. The newcomer wins: a socket that still has the call is cut. None when the server
    /// stops: no call is parked then.
    pub(crate) async fn take(&self, claim: &Claim<'_>, stopping: &CancellationToken) -> Option<Parked> {
        let until = Instant::now() + CUT;
        while !stopping.is_cancelled() {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            // Each time: the token may be good for nothing any more, or the call have ended.
            let place = Arc::clone(self.lock().get(claim.token)?);
            if place.id != claim.id || place.user.as_deref() != claim.user {
                return None;
            }
            let asking = match &mut *place.lock() {
                At::Socket(outbox) => {
                    outbox.cut();
                    None
                }
                // Another socket may be about to get it, and lose it again.
                At::Away => None,
                at @ At::Parked(_) => Some(std::mem::replace(at, At::Away)),
            };
            if let Some(At::Parked(asking)) = asking {
                let (hand_over, handed) = oneshot::channel();
                asking.send(hand_over).ok()?;
                // Not given up: a call that is handed over must be taken.
                return handed.await.ok();
            }
            tokio::select! {
                () = moved => {}
                () = stopping.cancelled() => {}
                () = sleep_until(until) => return None,
            }
        }
        None
    }
}

/// The right to resume a call, and its entry under the tokens, which ends with it.
pub(crate) struct Ticket {
    server: Arc<Server>,
    place: Arc<Place>,
    /// The latest token is the last one. Those before it are good until the client says something behind an answer that
    /// has brought a new one: nobody knows which of the answers it has.
    tokens: Mutex<Vec<Box<str>>>,
}

impl Ticket {
    /// For a call that is opened on a socket. `None` if no random token can be had.
    pub(crate) fn new(state: &CallState, outbox: &Arc<Outbox>) -> Option<Self> {
        let token = random()?;
        let user = state.session.get().and_then(|session| session.identity());
        let user = user.map(|identity| identity.user().to_owned());
        let at = Mutex::new(At::Socket(Arc::clone(outbox)));
        let place = Arc::new(Place { id: state.id, user, at });
        let server = Arc::clone(&state.server);
        server.parking.lock().insert(token.clone(), Arc::clone(&place));
        Some(Self { server, place, tokens: Mutex::new(vec![token]) })
    }

    fn tokens(&self) -> MutexGuard<'_, Vec<Box<str>>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn token(&self) -> Option<Token> {
        self.tokens().last().map(|token| Token(token.to_string()))
    }

    /// The call is on another socket, by this token: a new one for the next time. Of too many, one goes that is not
    /// known to have reached the client.
    pub(crate) fn renew(&self, used: &str, outbox: &Arc<Outbox>) -> Option<Token> {
        let new = random()?;
        *self.place.lock() = At::Socket(Arc::clone(outbox));
        let mut tokens = self.tokens();
        let surplus = (tokens.len() >= TOKENS).then(|| tokens.iter().position(|token| **token != *used));
        let old = surplus.flatten().map(|at| tokens.remove(at));
        tokens.push(new.clone());
        drop(tokens);
        let mut places = self.server.parking.lock();
        old.and_then(|old| places.remove(&old));
        places.insert(new.clone(), Arc::clone(&self.place));
        drop(places);
        self.server.parking.moved.notify_waiters();
        Some(Token(new.into()))
    }

    /// The client has the latest token: those before it are good for nothing any more.
    pub(crate) fn retire(&self) {
        let mut tokens = self.tokens();
        let before = tokens.len().saturating_sub(1);
        let old: Vec<_> = tokens.drain(..before).collect();
        drop(tokens);
        let mut places = self.server.parking.lock();
        old.iter().for_each(|old| drop(places.remove(old)));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let tokens = self.tokens();
        let mut places = self.server.parking.lock();
        tokens.iter().for_each(|token| drop(places.remove(token)));
        drop(places);
        self.server.parking.moved.notify_waiters();
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(…)")
    }
}

/// 128 random bits.
fn random() -> Option<Box<str>> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).ok()?;
    Some(format!("{:032x}", u128::from_be_bytes(bits)).into())
}

/// Parks a call whose socket is lost. Gives it back if there is no place for it.
pub(crate) fn park(parked: Parked) -> Result<(), Parked> {
    let server = Arc::clone(&parked.state.server);
    let (limits, parking) = (&server.limits, &server.parking);
    let bytes = parked.state.kept();
    let Some(ticket) = parked.state.ticket.get() else { return Err(parked) };
    let refused = limits.park.is_zero()
        || server.draining.is_cancelled()
        || parking.calls.load(SeqCst) >= limits.parked_calls
        || parking.bytes.load(SeqCst) + bytes > limits.parked_bytes;
    if refused {
        *ticket.place.lock() = At::Away;
        parking.moved.notify_waiters();
        return Err(parked);
    }
    let (asking, asked) = oneshot::channel();
    *ticket.place.lock() = At::Parked(asking);
    let room = Room::take(&server, bytes);
    server.parked.spawn(wait(parked, asked, room));
    server.parking.moved.notify_waiters();
    Ok(())
}

/// Keeps a parked call until it is asked for, or is to end. Its method is not polled meanwhile, unless it has a task.
async fn wait(parked: Parked, asked: oneshot::Receiver<oneshot::Sender<Parked>>, room: Room) {
    let server = Arc::clone(&parked.state.server);
    // A call that has ended has no session any more.
    let session = parked.state.session.get().filter(|_| parked.running.is_some()).cloned();
    let session_over = async {
        match session {
            Some(session) => cause_of(&session.closed().await),
            None => std::future::pending().await,
        }
    };
    // Its time may be over, or that of its credentials.
    let state = parked.running.is_some().then(|| Arc::clone(&parked.state));
    let time_over = async {
        match state {
            Some(state) => poll_fn(|cx| state.poll_end(cx)).await,
            None => std::future::pending().await,
        }
    };
    let (asked, end) = tokio::select! {
        asked = asked => (asked.ok(), End::SocketLost),
        end = session_over => (None, end),
        end = time_over => (None, end),
        () = sleep(server.limits.park) => (None, End::SocketLost),
        () = server.draining.cancelled() => (None, End::SocketLost),
    };
    drop(room);
    let left = match asked {
        Some(hand_over) => hand_over.send(parked).err(),
        None => Some(parked),
    };
    if let Some(left) = left {
        left.end_for(end).await;
    }
}

/// Why a parked call ends with its session.
fn cause_of(reason: &CloseReason) -> End {
    cause(reason).map_or(End::SocketLost, |cause| End::Why(Why::new(cause)))
}

/// What a parked call takes of the limits.
struct Room {
    server: Arc<Server>,
    bytes: usize,
    _held: Held,
}

impl Room {
    fn take(server: &Arc<Server>, bytes: usize) -> Self {
        server.parking.calls.fetch_add(1, SeqCst);
        server.parking.bytes.fetch_add(bytes, SeqCst);
        Self { server: Arc::clone(server), bytes, _held: server.meter.park() }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.server.parking.calls.fetch_sub(1, SeqCst);
        self.server.parking.bytes.fetch_sub(self.bytes, SeqCst);
    }
}
