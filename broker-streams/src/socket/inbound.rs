//! What arrives on a socket: each frame, and what it does.

use std::{borrow::Cow, collections::HashMap, hash::BuildHasher, sync::Arc, task::Waker, time::Duration};

use broker_streams_wire::{
    Agreement, CallId, Cause, Close, CloseReason, Extension, Frame, Item, Open, OpenResult, Target, Why,
    scan, write_close, write_opened, write_pong,
};
use serde::de::IgnoredAny;
use smallvec::SmallVec;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{Ending, Socket, Transport};
use crate::{
    call::{
        input::{self, Input, Typed},
        open::{OpenPermit, Request},
        run::run,
        state::{CallState, End, Opening},
    },
    method::entry::MethodName,
};

/// So much of a text that could not be read is sent back.
const MOST_ECHO: usize = 1024;
/// Streams of no open call that are remembered.
const MOST_STRAYS: usize = 64;

impl<S: Transport> Socket<S> {
    pub(super) fn on_text(&mut self, text: &str) -> Result<(), Ending> {
        self.link.clock.first_frame = None;
        let extension = self.extension.unwrap_or(Extension::Plain);
        // Most frames are values, and have this form. What is taken for the value has to be JSON as a whole; else the text is
        // another frame, or none.
        if let Some(item) = scan(text).filter(|item| serde_json::from_str::<IgnoredAny>(item.json).is_ok()) {
            self.server.meter.read_type("msm");
            return self.on_item(&item, text, input::Item::Value);
        }
        let frame = Frame::read(text, extension);
        if let Ok(frame) = &frame {
            self.server.meter.read_type(kind(frame));
        }
        match frame {
            Ok(Frame::Ping(offer)) => self.on_ping(offer),
            Ok(frame) => {
                self.extension.get_or_insert(Extension::Plain);
                self.on_frame(frame, text)?;
            }
            Err(_) => return Err(bad_request(text)),
        }
        Ok(())
    }

    fn on_frame(&mut self, frame: Frame<'_>, text: &str) -> Result<(), Ending> {
        match frame {
            Frame::Value(item) => self.on_item(&item, text, input::Item::Value),
            Frame::Fault(item) => self.on_item(&item, text, input::Item::Fault),
            Frame::Open(open) => self.on_open(*open, text),
            Frame::Close(close) => {
                self.on_close(&close);
                Ok(())
            }
            Frame::Flow(flow) => {
                self.retire_token(flow.call);
                match self.table.get(&flow.call) {
                    Some(call) if flow.parameter.is_none() => call.consumed(flow.got),
                    _ => self.consumed_tail(&flow),
                }
                Ok(())
            }
            Frame::Authenticate(shown) => {
                self.on_authenticate(shown);
                Ok(())
            }
            Frame::Resume(resume) => self.on_resume(resume, text),
            Frame::BadRequest(_) => Err(Ending::Close(CloseCode::Protocol, "bad request")),
            // What only a server sends, and what this server does not do.
            _ => Ok(()),
        }
    }

    /// The first frame decides about the extension.
    fn on_ping(&mut self, offer: Option<Agreement>) {
        let offers = offer.is_some_and(|offer| offer.x >= 1);
        let first = self.extension.is_none();
        let chosen = if offers { Extension::X1 } else { Extension::Plain };
        let agreed = *self.extension.get_or_insert(chosen) == Extension::X1;
        let limits = &self.server.limits;
        let agreement = Agreement {
            x: 1,
            window: Some(limits.window),
            bytes: u32::try_from(limits.window_bytes).ok(),
            park: u32::try_from(limits.park.as_millis()).ok().filter(|park| *park > 0),
        };
        let say = (first && agreed).then_some(&agreement);
        self.outbox.control(write_pong(say).into());
    }

    fn on_item(&mut self, item: &Item<'_>, text: &str, make: fn(Typed) -> input::Item) -> Result<(), Ending> {
        let Some(parameter) = &item.parameter else { return Err(bad_request(text)) };
        self.retire_token(item.target.call);
        let Some(call) = find(&self.table, &item.target) else {
            self.on_stray(&item.target, parameter);
            return Ok(());
        };
        let call = Arc::clone(call);
        let mut changing = call.lock();
        let x1 = changing.is_x1();
        let place = changing.inputs.iter().position(|input| *input.name() == **parameter);
        let Some(place) = place else {
            drop(changing);
            self.on_stray(&item.target, parameter);
            return Ok(());
        };
        if changing.is_ending() {
            return Ok(());
        }
        let limits = &self.server.limits;
        let input = &mut changing.inputs[place];
        let (waiting, length) = (input.waiting(), item.class_name.len() + item.json.len());
        let too_long = waiting > 0 && input.bytes() + length > limits.window_bytes;
        if x1 && (waiting >= limits.window.into() || too_long) {
            drop(changing);
            call.end(End::Why(Why::new(Cause::Limit)));
            return Ok(());
        }
        let typed = Typed { class_name: (*item.class_name).into(), json: item.json.into() };
        let (_, reader) = input.push(make(typed));
        let bytes = input.bytes();
        changing.timers.touch();
        drop(changing);
        reader.into_iter().for_each(Waker::wake);
        if !x1 && bytes >= limits.window_bytes {
            self.full = Some((call, place));
            self.link.clock.hold = Some(Instant::now() + limits.hold);
        }
        Ok(())
    }

    /// A value for no open call or input: its sender is told once. It may have been sent before the call ended.
    fn on_stray(&mut self, target: &Target<'_>, parameter: &str) {
        // Not the name itself, which may be long.
        let stray = (target.call, self.hasher.hash_one(parameter));
        if self.strays.contains(&stray) {
            return;
        }
        if self.strays.len() == MOST_STRAYS {
            self.strays.pop_front();
        }
        self.strays.push_back(stray);
        self.outbox.control(write_close(target, Some(parameter), CloseReason::Error, None).into());
    }

    fn on_close(&mut self, close: &Close<'_>) {
        self.retire_token(close.target.call);
        let Some(call) = find(&self.table, &close.target) else { return };
        let Some(parameter) = &close.parameter else {
            call.end(End::Cancelled);
            return;
        };
        let mut changing = call.lock();
        changing.timers.touch();
        let input = changing.inputs.iter_mut().find(|input| *input.name() == **parameter);
        let reader = input.and_then(|input| input.close(close.reason == CloseReason::Error).1);
        drop(changing);
        reader.into_iter().for_each(Waker::wake);
    }

    fn on_open(&mut self, open: Open<'_>, text: &str) -> Result<(), Ending> {
        let Open { target, args, inputs, auth, auth_mode, extra } = open;
        if self.table.contains_key(&target.call) {
            return Err(bad_request(text));
        }
        if self.server.draining.is_cancelled() {
            self.turn_away(&target, Cause::Draining);
            return Ok(());
        }
        if self.table.len() >= self.server.limits.calls_per_socket {
            self.turn_away(&target, Cause::Overloaded);
            return Ok(());
        }
        if inputs.len() > self.server.limits.inputs_per_call {
            self.server.meter.opened(OpenResult::InvalidArguments.as_str());
            self.outbox.control(write_opened(&target, OpenResult::InvalidArguments, None).into());
            return Ok(());
        }
        let extra = extra.unwrap_or_default();
        if extra.cursor.is_some() {
            self.server.meter.resumed("cursor");
        }
        let opening = Opening {
            x1: self.extension == Some(Extension::X1),
            window: extra.window,
            cursor: extra.cursor.map(String::into_boxed_str),
            resumable: extra.resumable,
            inputs: inputs.iter().map(|name| Input::new(name)).collect::<SmallVec<_>>(),
        };
        let name = self.name_of(&target);
        let (server, outbox) = (Arc::clone(&self.server), Arc::clone(&self.outbox));
        let state = Arc::new(CallState::new(target.call, name, server, outbox, opening));
        let request = Request {
            args: args.into_owned(),
            auth: auth.map(Cow::into_owned),
            by_cookie: auth_mode.as_deref() == Some("cookie"),
            traceparent: extra.traceparent,
            _permit: OpenPermit::new(&self.opens, &self.outbox),
        };
        let asked = extra.deadline.map(|milliseconds| Duration::from_millis(milliseconds.into()));
        let life = asked.into_iter().chain(self.server.limits.call_life).min();
        self.table.insert(target.call, Arc::clone(&state));
        self.run_call(run(state, request, Arc::clone(&self.head), life));
        Ok(())
    }

    /// A call that is not even tried. `omsr` has no word for it, so it is opened and ends at once.
    fn turn_away(&self, target: &Target<'_>, cause: Cause) {
        self.server.meter.opened(cause.as_str());
        let why = (self.extension == Some(Extension::X1)).then(|| Why::new(cause));
        self.outbox.control(write_opened(target, OpenResult::Success, None).into());
        self.outbox.control(write_close(target, None, CloseReason::Error, why.as_ref()).into());
    }

    /// The names of a method; those that exist are shared by all calls.
    fn name_of(&self, target: &Target<'_>) -> MethodName {
        let methods = self.server.endpoints.get(&*target.endpoint);
        let entry = methods.and_then(|methods| methods.methods.get(&*target.method));
        entry.map_or_else(
            || MethodName { endpoint: (*target.endpoint).into(), method: (*target.method).into() },
            |entry| entry.name.clone(),
        )
    }
}

/// The word for the type of a frame.
fn kind(frame: &Frame<'_>) -> &'static str {
    match frame {
        Frame::Value(_) => "msm",
        Frame::Fault(_) => "msse",
        Frame::Open(_) => "omsc",
        Frame::Opened(_) => "omsr",
        Frame::Close(_) => "cmsc",
        Frame::BadRequest(_) => "brm",
        Frame::Ping(_) => "ping",
        Frame::Pong(_) => "pong",
        Frame::Flow(_) => "flow",
        Frame::Gap(_) => "gap",
        Frame::Authenticate(_) => "auth",
        Frame::Authenticated(_) => "authr",
        Frame::Resume(_) => "rsm",
        Frame::Resumed(_) => "rsr",
        Frame::Bye(_) => "bye",
        _ => "other",
    }
}

/// The call that a frame is about. With another endpoint or method it is about none.
fn find<'a>(table: &'a HashMap<CallId, Arc<CallState>>, target: &Target<'_>) -> Option<&'a Arc<CallState>> {
    let call = table.get(&target.call)?;
    (*call.name.endpoint == *target.endpoint && *call.name.method == *target.method).then_some(call)
}

/// The text is sent back, as far as it is short.
pub(super) fn bad_request(text: &str) -> Ending {
    let end = (0..=text.len().min(MOST_ECHO)).rev().find(|end| text.is_char_boundary(*end));
    Ending::BadRequest(text[..end.unwrap_or_default()].to_owned())
}
