//! Resume: how a call begins, what becomes of it when its socket is lost, and how it goes on.
//!
//! A call that may be resumed goes on in one of three ways, and its stream says in which. *Exactly*: the
//! server has kept it, and both ends send again what the other has not acknowledged. *By cursor*: a new call,
//! whose method goes on behind the last value that the application was given. *Anew*: a new call, with what
//! was sent in between missing.

use std::{sync::Arc, time::Duration};

use broker_streams_wire::{CallId, Credential, Resume, ResumeCall, Resumed, write_data, write_flow};
use tokio::time::Instant;

use crate::{
    CallError,
    backoff::{jitter, random},
    calls::{Begins, Call, Phase, Shown, kept},
    connection::Connection,
    dispatch::{ANSWER, LONGEST_WAIT},
    inbox::Entry,
    inputs::too_long,
    serve::{Asked, Ended, Session},
    stream::Resumption,
};

impl Connection {
    /// There is a socket: the calls that wait begin, or go on.
    pub(crate) fn connected(&mut self, session: &mut Session) {
        let now = Instant::now();
        let due = |call: &Call| matches!(call.phase, Phase::New(at) if at.is_none_or(|at| at <= now));
        let due: Vec<u64> = self.calls.values().filter(|call| due(call)).map(|call| call.key).collect();
        for key in due {
            self.begin(session, key, now);
        }
        if session.agreed.is_none() {
            return self.reopen_parked(session, now);
        }
        let mut parked = self.calls.values().filter(|call| call.phase == Phase::Parked).peekable();
        if parked.peek().is_none() {
            return;
        }
        // One question for all: a server knows which of the calls were opened without credentials.
        if parked.all(|call| call.options.anonymous) {
            self.resume(session, None, now);
        } else {
            let asked = Arc::clone(&self.shared.provider).ask();
            session.asked.push(Box::pin(async { Asked::Resume(asked.await) }));
        }
    }

    /// Begins a call: the provider of credentials is asked first. While too much waits to be written the call
    /// waits, too.
    pub(crate) fn begin(&mut self, session: &mut Session, key: u64, now: Instant) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        if let Some(deadline) = call.options.deadline {
            session.wake_at(deadline);
        }
        if let Phase::New(Some(at)) = call.phase
            && at > now
        {
            return session.wake_at(at);
        }
        if session.socket.is_full() {
            call.phase = Phase::New(None);
            return session.pump_soon(key);
        }
        if call.options.anonymous {
            return self.ask_server(session, key, Shown::Nothing, now);
        }
        if self.shared.cookies {
            return self.ask_server(session, key, Shown::Cookies, now);
        }
        call.phase = Phase::Asking;
        let asked = Arc::clone(&self.shared.provider).ask();
        session.asked.push(Box::pin(async move { Asked::Open(key, asked.await) }));
    }

    /// Asks the server to open a call.
    pub(crate) fn ask_server(&mut self, session: &mut Session, key: u64, shown: Shown<'_>, now: Instant) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        if !matches!(call.phase, Phase::New(_) | Phase::Asking) {
            return;
        }
        let text = call.open_frame(shown, session.agreed.is_some(), now);
        if text.len() > self.shared.route.max_frame {
            let why = too_long("the opening with its arguments", text.len(), self.shared.route.max_frame);
            return self.give_up(session, key, CallError::Unwritable(why));
        }
        call.phase = Phase::Opening(now + ANSWER);
        session.wake_at(now + ANSWER);
        session.socket.push(text);
    }

    /// The provider of credentials has failed: a first call fails with it, a later one tries again.
    pub(crate) fn without_credentials(
        &mut self,
        session: &mut Session,
        key: u64,
        error: CallError,
        now: Instant,
    ) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        if call.opener.is_none() {
            let at = now + call.backoff.next();
            call.phase = Phase::New(Some(at));
            session.wake_at(at);
        } else if let Some(call) = self.remove(key) {
            call.end(Err(error));
        }
    }

    /// Asks the server to go on with the calls that are parked.
    pub(crate) fn resume(&mut self, session: &mut Session, auth: Option<String>, now: Instant) {
        let mut calls = Vec::new();
        for call in self.calls.values_mut() {
            if call.phase != Phase::Parked {
                continue;
            }
            let Some(token) = call.token.clone() else { continue };
            // What has come and was not consumed comes again, and is known. So there is never more of it than
            // a window.
            let got = call.inbox.position();
            call.arrivals.resume(got);
            call.phase = Phase::Resuming(now + ANSWER);
            calls.push(ResumeCall { cid: call.id, t: token, got: [(String::new(), got)].into() });
        }
        if !calls.is_empty() {
            session.wake_at(now + ANSWER);
            session.socket.push(write_data("rsm", &Resume { calls, auth: auth.map(Credential) }));
            // The tokens are good for another attempt until something else arrives at the server.
            session.socket.hold();
        }
    }

    /// The server has said which calls go on.
    pub(crate) fn resumed(&mut self, session: &mut Session, resumed: Resumed, now: Instant) {
        session.socket.release();
        for answer in resumed.calls {
            let Some(key) = self.ids.get(&answer.cid).copied() else { continue };
            let Some(call) = self.calls.get_mut(&key) else { continue };
            if !matches!(call.phase, Phase::Resuming(_)) {
                continue;
            }
            if !answer.ok {
                self.reopen(session, key, now);
                continue;
            }
            call.phase = Phase::Open;
            if answer.t.is_some() {
                call.token = kept(answer.t);
            }
            for input in &mut call.inputs {
                let got = answer.got.get(input.name()).copied().unwrap_or_default();
                input.resume(got);
            }
            // The last number that was told may be lost with the socket, and then nothing else would tell it
            // again.
            let got = call.inbox.tell();
            call.arrivals.acknowledge(got);
            session.socket.push(write_flow(call.id, None, got));
            call.inbox.push(Entry::Resumed(Resumption::Exact));
            call.inbox.signal();
            session.pump_soon(key);
        }
    }

    /// All calls that are parked begin anew: the server keeps none, or there are no credentials to say whose
    /// they are.
    pub(crate) fn reopen_parked(&mut self, session: &mut Session, now: Instant) {
        let parked: Vec<u64> =
            self.calls.values().filter(|call| call.phase == Phase::Parked).map(|call| call.key).collect();
        for key in parked {
            self.reopen(session, key, now);
        }
    }

    /// A call is lost, and a new one takes its place, not before a time.
    pub(crate) fn reopen(&mut self, session: &mut Session, key: u64, at: Instant) {
        self.replace(key, Some(at));
        if session.bye.is_none() {
            self.begin(session, key, Instant::now());
        }
    }

    fn replace(&mut self, key: u64, at: Option<Instant>) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        if call.opener.is_none() {
            // By cursor or anew: that shows when it is asked for.
            call.begins = Begins::Anew;
        }
        call.phase = Phase::New(at);
        call.token = None;
        call.look_at = None;
        call.refreshed = false;
        self.renumber(key);
    }

    /// Gives a call another id: the server may still know the one it has.
    pub(crate) fn renumber(&mut self, key: u64) {
        if let Some(call) = self.calls.get_mut(&key) {
            self.ids.remove(&call.id);
            call.id = CallId::from_random(random());
            self.ids.insert(call.id, key);
        }
    }

    /// The socket is gone. Calls end, or wait for the next socket; if the server leaves, for one of another
    /// task.
    pub(crate) fn lost(&mut self, ended: Ended, leaving: Option<Duration>) {
        let error = ended.error().unwrap_or(CallError::SocketLost);
        let now = Instant::now();
        for key in self.calls.keys().copied().collect::<Vec<_>>() {
            let Some(call) = self.calls.get_mut(&key) else { continue };
            call.look_at = None;
            if call.faulted || !call.options.resume {
                let end = if call.faulted { Ok(()) } else { Err(error.clone()) };
                if let Some(call) = self.remove(key) {
                    call.end(end);
                }
            } else if let Some(spread) = leaving {
                // The task of the next socket knows nothing of this one. Without a spread, a server that always
                // leaves would be come back to without a pause.
                let wait = jitter(spread.min(LONGEST_WAIT)).max(call.backoff.next_or_now());
                self.replace(key, Some(now + wait));
            } else if call.token.is_some() && call.opener.is_none() {
                call.phase = Phase::Parked;
            } else {
                let at = if let Phase::New(at) = call.phase { at } else { None };
                self.replace(key, at);
            }
        }
        if leaving.is_some() {
            for call in self.remove_where(|_| true) {
                self.shared.open(call);
            }
        }
    }
}
