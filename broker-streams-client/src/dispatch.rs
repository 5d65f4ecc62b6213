//! Dispatch: what a frame of the server does to a call.

use std::{sync::Arc, time::Duration};

use broker_streams_wire::{
    Again, Agreement, Close, CloseReason, Extension, Frame, OpenResult, Opened, Target, write_bad_request,
    write_data, write_flow,
};
use tokio::time::Instant;

use crate::{
    CallError, StreamFault,
    calls::{Call, Phase, Shown},
    connection::Connection,
    inbox::Entry,
    serve::{Asked, Ended, Session},
    window::Arrival,
};

/// Frames and bytes of a stream that may be under way, where the server does not say.
const WINDOW: u32 = 64;
const BYTES: u32 = 256 << 10;

impl Connection {
    /// A text has arrived.
    pub(crate) fn arrived(&mut self, session: &mut Session, text: &str, now: Instant) -> Option<Ended> {
        let extension = if session.agreed.is_some() { Extension::X1 } else { Extension::Plain };
        let frame = match Frame::read(text, extension) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(%error, "the server has sent what is no frame");
                session.socket.push(write_bad_request(&error.to_string()));
                return Some(Ended::BadFrame);
            }
        };
        match frame {
            Frame::Value(item) if item.parameter.is_none() => {
                let entry = Entry::Value {
                    class_name: item.class_name.into(),
                    json: item.json.into(),
                    cursor: item.cursor.map(Box::from),
                };
                self.entry(session, &item.target, entry);
            }
            Frame::Fault(item) if item.parameter.is_none() => {
                let fault = StreamFault::new(&item.class_name, item.json);
                self.entry(session, &item.target, Entry::Fault(fault));
            }
            Frame::Gap(gap) => {
                let entry = Entry::Gap { missed: gap.missed, cause: gap.cause.into() };
                self.entry(session, &gap.target, entry);
            }
            Frame::Close(close) => self.closed(session, &close, now),
            Frame::Opened(opened) => self.opened(session, opened),
            Frame::Flow(flow) => {
                if let (Some(key), Some(name)) = (self.ids.get(&flow.call).copied(), flow.parameter) {
                    self.acknowledged(session, key, &name, flow.got);
                }
            }
            Frame::Resumed(resumed) => self.resumed(session, resumed, now),
            Frame::Ping(_) => session.socket.pong(),
            Frame::Bye(bye) => {
                session.bye = Some(bye);
                // The next calls have a new connection: perhaps to another server.
                self.mailbox.refuse_calls();
            }
            Frame::BadRequest(_) => {
                tracing::warn!("the server could not read a frame of this client");
                return Some(Ended::Lost);
            }
            // What a server does not send, or what asks for nothing.
            _ => {}
        }
        None
    }

    /// The call that a frame is about, if it is open.
    fn open_call(&mut self, target: &Target<'_>) -> Option<(u64, &mut Call)> {
        let key = *self.ids.get(&target.call)?;
        let call = self.calls.get_mut(&key)?;
        (call.phase == Phase::Open && call.is(target)).then_some((key, call))
    }

    /// A value, a fault or a gap of the method's stream.
    fn entry(&mut self, session: &mut Session, target: &Target<'_>, entry: Entry) {
        let Some((key, call)) = self.open_call(target) else { return };
        let is_fault = matches!(entry, Entry::Fault(_));
        let fits = match call.arrivals.count(is_fault) {
            Arrival::Known => true,
            // After a fault there is nothing but the close.
            Arrival::New if call.faulted => true,
            Arrival::New => {
                call.faulted = is_fault;
                call.is_well();
                call.inbox.push(entry)
            }
            Arrival::TooFar => false,
        };
        if !fits {
            tracing::warn!(%target.endpoint, %target.method, "the server sends more than was agreed");
            self.give_up(session, key, CallError::Overflow);
        }
    }

    /// A stream of a call ends.
    fn closed(&mut self, session: &mut Session, close: &Close<'_>, now: Instant) {
        let Some((key, call)) = self.open_call(&close.target) else { return };
        if let Some(name) = &close.parameter {
            if let Some(input) = call.inputs.iter_mut().find(|input| input.name() == name) {
                input.drop_source();
            }
            return;
        }
        if call.arrivals.count(true) == Arrival::Known {
            return;
        }
        if call.token.is_some() {
            // The server keeps the end of the stream until it knows that it came.
            session.socket.push(write_flow(call.id, None, call.arrivals.have()));
        }
        let again = close.why.map(|why| why.again);
        let after = match again {
            _ if !call.options.resume || call.faulted => None,
            Some(Again::Now) => Some(call.backoff.next()),
            Some(Again::After(time)) => Some(call.backoff.next_or_now().max(time.min(LONGEST_WAIT))),
            _ => None,
        };
        if let Some(after) = after {
            self.reopen(session, key, now + after);
        } else if let Some(call) = self.remove(key) {
            let failed = close.reason == CloseReason::Error && !call.faulted;
            call.end(if failed {
                Err(CallError::Closed {
                    why: close.why.map(|why| why.cause),
                    again: again.unwrap_or(Again::Never),
                })
            } else {
                Ok(())
            });
        }
    }

    /// The server has answered an opening.
    fn opened(&mut self, session: &mut Session, opened: Opened<'_>) {
        let Some(key) = self.ids.get(&opened.target.call).copied() else { return };
        let provider = Arc::clone(&self.shared.provider);
        let Some(call) = self.calls.get_mut(&key) else { return };
        if !matches!(call.phase, Phase::Opening(_)) || !call.is(&opened.target) {
            return;
        }
        match opened.result {
            OpenResult::Success => {
                let extra = opened.extra.unwrap_or_default();
                let agreed = session.agreed;
                let bytes = self.shared.agreed_bytes(agreed);
                let limits = agreed.map(|_| (u64::from(call.options.window), bytes));
                let inputs =
                    |name: &str| agreed.map(|agreed| (window(&agreed, extra.windows.get(name)), bytes));
                call.opened(limits, inputs, extra.token);
                session.pump_soon(key);
            }
            OpenResult::AuthenticationFailed if !call.refreshed && !call.options.anonymous => {
                call.phase = Phase::Asking;
                // One refresh serves all that were refused before it is done.
                if session.refreshing.is_empty() {
                    let renewed = provider.renew();
                    session.asked.push(Box::pin(async { Asked::Refresh(renewed.await) }));
                }
                session.refreshing.push(key);
            }
            refused => {
                if let Some(call) = self.remove(key) {
                    call.end(Err(CallError::Refused(refused)));
                }
            }
        }
    }

    fn acknowledged(&mut self, session: &mut Session, key: u64, name: &str, got: u64) {
        let Some(call) = self.calls.get_mut(&key).filter(|call| call.phase == Phase::Open) else { return };
        if let Some(input) = call.inputs.iter_mut().find(|input| input.name() == name) {
            input.acknowledge(got);
            session.pump_soon(key);
        }
    }

    /// A provider of credentials has answered.
    pub(crate) fn answered(&mut self, session: &mut Session, asked: Asked, now: Instant) {
        match asked {
            Asked::Open(key, Ok(auth)) => {
                let shown = auth.as_deref().map_or(Shown::Nothing, Shown::Credentials);
                self.ask_server(session, key, shown, now);
            }
            Asked::Open(key, Err(error)) => self.without_credentials(session, key, error, now),
            Asked::Resume(Ok(auth)) => self.resume(session, auth, now),
            Asked::Resume(Err(_)) => self.reopen_parked(session, now),
            Asked::Authenticate(Ok(Some(auth))) => {
                let auth = broker_streams_wire::Credential(auth);
                session.socket.push(write_data("auth", &broker_streams_wire::Authenticate { auth }));
            }
            Asked::Authenticate(_) => {}
            Asked::Refresh(renewed) => {
                for key in std::mem::take(&mut session.refreshing) {
                    self.refreshed(session, key, matches!(renewed, Ok(true)), now);
                }
            }
        }
    }

    fn refreshed(&mut self, session: &mut Session, key: u64, is_new: bool, now: Instant) {
        let Some(call) = self.calls.get_mut(&key).filter(|call| call.phase == Phase::Asking) else { return };
        call.refreshed = true;
        if is_new {
            self.renumber(key);
            self.begin(session, key, now);
        } else if let Some(call) = self.remove(key) {
            call.end(Err(CallError::Refused(OpenResult::AuthenticationFailed)));
        }
    }
}

/// The window of an input.
fn window(agreed: &Agreement, said: Option<&u32>) -> u64 {
    said.copied().or(agreed.window).unwrap_or(WINDOW).into()
}

impl crate::client::Shared {
    /// Bytes of a stream that may be under way: what the server says, but no more than the client holds.
    pub(crate) fn agreed_bytes(&self, agreed: Option<Agreement>) -> usize {
        let said = agreed.and_then(|agreed| agreed.bytes).unwrap_or(BYTES);
        usize::try_from(said).unwrap_or(usize::MAX).min(self.max_buffered)
    }
}

/// The longest time for which the server can put off the next opening or connection.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// How long the server has to answer an opening or a resumption.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);
