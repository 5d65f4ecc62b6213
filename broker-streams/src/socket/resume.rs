//! Resuming: calls that leave a lost socket, and calls that come to a new one.

use std::{
    collections::{BTreeMap, HashSet},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use broker_core::Session;
use broker_streams_wire::{CallId, Flow, Resume, ResumeCall, Resumed, ResumedCall, write_data};
use futures_util::{FutureExt, future::join_all};

use super::{Ending, Socket, Transport, inbound::bad_request, refresh::look};
use crate::{
    auth::{Authenticated, Head},
    call::state::{CallState, End},
    park::{Claim, Parked, Ticket, park},
    server::Server,
};

/// The calls that a client would resume, on their way from where they are.
pub(super) type Resuming = Pin<Box<dyn Future<Output = Taken> + Send>>;

/// What a client that would resume calls gets.
pub(super) struct Taken {
    /// Who it is, if it has shown that, and a session that ends when these credentials are revoked.
    known: Option<(Authenticated, Session)>,
    calls: Vec<(ResumeCall, Option<Parked>)>,
}

impl<S: Transport> Socket<S> {
    /// The socket is lost: calls that can be resumed wait for their client.
    pub(super) fn park_calls(&mut self) {
        for running in std::mem::take(&mut self.calls) {
            let state = self.table.get(&running.id).filter(|state| state.can_be_resumed());
            let Some(state) = state.map(Arc::clone) else {
                self.calls.push(running);
                continue;
            };
            match park(Parked { state, running: Some(running) }) {
                Ok(()) => {}
                Err(Parked { state, running }) => {
                    state.end(End::SocketLost);
                    self.calls.extend(running);
                }
            }
        }
        // The parked ones are not of this socket any more.
        self.table.retain(|id, _| self.calls.iter().any(|running| running.id == *id));
        for state in self.tails.drain(..).filter(|state| state.can_be_resumed()) {
            // One for which there is no place has nothing left to do.
            drop(park(Parked { state, running: None }));
        }
    }

    /// Keeps the last frames of a call that has ended, if its client would resume it.
    pub(super) fn keep_tail(&mut self, ended: Option<Arc<CallState>>) {
        let Some(state) = ended.filter(|state| state.can_be_resumed()) else { return };
        if self.tails.len() >= self.server.limits.calls_per_socket {
            self.tails.pop_front();
        }
        self.tails.push_back(state);
    }

    /// The client has consumed something of a call that has ended.
    pub(super) fn consumed_tail(&mut self, flow: &Flow<'_>) {
        if flow.parameter.is_some() {
            return;
        }
        self.tails.retain(|state| {
            if state.id == flow.call {
                state.consumed(flow.got);
            }
            !state.lock().is_over()
        });
    }

    /// A client that says something of a call it has resumed has the answer, and with it the new token. A ping says
    /// nothing: it may have crossed the answer.
    pub(super) fn retire_token(&mut self, call: CallId) {
        self.resumed.retain(|state| {
            let knows = state.id == call;
            if knows {
                state.ticket.get().into_iter().for_each(Ticket::retire);
            }
            !knows
        });
    }

    pub(super) fn on_resume(&mut self, resume: Resume, text: &str) -> Result<(), Ending> {
        if self.resuming.is_some() || resume.calls.len() > self.server.limits.calls_per_socket {
            return Err(bad_request(text));
        }
        let (server, head) = (Arc::clone(&self.server), Arc::clone(&self.head));
        self.resuming = Some(Box::pin(take(server, head, resume)));
        Ok(())
    }

    pub(super) fn poll_resume(&mut self, cx: &mut Context<'_>) {
        let Some(resuming) = &mut self.resuming else { return };
        let Poll::Ready(taken) = resuming.poll_unpin(cx) else { return };
        self.resuming = None;
        let Taken { known, calls } = taken;
        let calls: Vec<_> = calls.into_iter().map(|(asked, parked)| self.settle(&asked, parked)).collect();
        if let Some((known, guard)) = &known {
            let resumed = |call: &CallState| calls.iter().any(|resumed| resumed.ok && resumed.cid == call.id);
            self.refresh_calls(known, guard, resumed);
        }
        // Before all values: those that the calls have yet to send.
        self.outbox.control(write_data("rsr", &Resumed { calls }).into());
        self.resumed.iter().for_each(|state| state.tell_all());
        self.outbox.wake();
    }

    /// Settles a call at this socket, if it was found and fits.
    fn settle(&mut self, asked: &ResumeCall, parked: Option<Parked>) -> ResumedCall {
        let cid = asked.cid;
        let refused = ResumedCall { cid, ok: false, t: None, got: BTreeMap::new() };
        let Some(parked) = parked else {
            self.server.meter.resumed("refused");
            return refused;
        };
        let room = self.table.len() < self.server.limits.calls_per_socket && !self.table.contains_key(&cid);
        let received = asked.got.get("").copied().unwrap_or_default();
        let got = room.then(|| parked.state.attach(&self.outbox, received)).flatten();
        let Some(got) = got else {
            self.server.meter.resumed("refused");
            self.server.parked.spawn(parked.end());
            return refused;
        };
        let Parked { state, running } = parked;
        let token = state.ticket.get().and_then(|ticket| ticket.renew(&asked.t.0, &self.outbox));
        self.server.meter.resumed("exact");
        if self.resumed.len() >= self.server.limits.calls_per_socket {
            // Of calls that have ended meanwhile, and that the client does not mention.
            let oldest = self.resumed.remove(0);
            oldest.ticket.get().into_iter().for_each(Ticket::retire);
        }
        self.resumed.push(Arc::clone(&state));
        match running {
            Some(running) => {
                self.table.insert(cid, state);
                self.run_call(running);
            }
            None => self.keep_tail(Some(state)),
        }
        ResumedCall { cid, ok: true, t: token, got }
    }
}

/// Takes the calls from where they are, if they are those of this client.
async fn take(server: Arc<Server>, head: Arc<Head>, resume: Resume) -> Taken {
    let known = match resume.auth {
        Some(shown) => unless_stopping(&server, look(Arc::clone(&server), head, shown)).await.flatten(),
        None => None,
    };
    let user = known.as_ref().map(|(known, _)| known.user.as_str());
    // All at once: a socket that is stuck keeps its own calls for some time, and none of the others.
    let mut seen = HashSet::new();
    let taken = resume.calls.iter().map(|asked| {
        // One that is named twice is on its way already.
        let first = seen.insert(asked.cid);
        let server = &server;
        async move { if first { take_one(server, asked, user).await } else { None } }
    });
    let taken = join_all(taken).await;
    Taken { calls: resume.calls.into_iter().zip(taken).collect(), known }
}

/// The output of what asks an authenticator; `None` if the server begins to stop before.
async fn unless_stopping<T>(server: &Server, asking: impl Future<Output = T>) -> Option<T> {
    // All of it within the future: what the authenticator holds may panic when it is dropped.
    let asked = async {
        tokio::select! {
            biased;
            output = asking => Some(output),
            () = server.draining.cancelled() => None,
        }
    };
    AssertUnwindSafe(asked).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("what an authenticator held panicked when it was dropped");
        None
    })
}

/// Takes one call. Whoever has the token of an anonymous one may resume it.
async fn take_one(server: &Server, asked: &ResumeCall, user: Option<&str>) -> Option<Parked> {
    let claim = |user| Claim { token: &asked.t.0, id: asked.cid, user };
    if user.is_some()
        && let Some(parked) = server.parking.take(&claim(user), &server.draining).await
    {
        return Some(parked);
    }
    server.parking.take(&claim(None), &server.draining).await
}

/// Gives calls back that were on their way to a socket which is gone.
pub(super) async fn give_back(resuming: Resuming) {
    for parked in resuming.await.calls.into_iter().filter_map(|(_, parked)| parked) {
        if let Err(parked) = park(parked) {
            parked.end().await;
        }
    }
}
