//! Inputs: the streams that the client sends into a call, pulled only while the server has room for more.

use std::{
    borrow::Cow,
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use broker_model::{Failure, Value};
use broker_streams_wire::{CloseReason, Target, Values, write_close, write_fault};
use futures_core::Stream;
use futures_util::StreamExt;

use crate::{
    foreign::{Panicked, discard, guarded},
    socket::Socket,
    window::Departures,
};

/// What an input sends next.
#[derive(Clone, Debug)]
pub(crate) enum Departure {
    Value { class_name: Cow<'static, str>, json: Box<[u8]> },
    Fault { class_name: Box<str>, json: Box<str> },
    Close(CloseReason),
}

/// What the application's stream gives.
#[derive(Debug)]
pub(crate) enum Given {
    Value {
        class_name: Cow<'static, str>,
        json: Vec<u8>,
    },
    Failed(Failure),
    /// A value that cannot be written, and why.
    Unwritable(Box<str>),
}

/// The application's stream, with its type taken away.
pub(crate) type Source = Pin<Box<dyn Stream<Item = Given> + Send>>;

/// A stream of values.
pub(crate) fn values<T: Value>(stream: impl Stream<Item = T> + Send + 'static) -> Source {
    Box::pin(stream.map(|value| written(&value)))
}

/// A stream of values that may fail. The first failure ends it.
pub(crate) fn results<T: Value, E: Into<Failure>>(
    stream: impl Stream<Item = Result<T, E>> + Send + 'static,
) -> Source {
    Box::pin(stream.map(|item| match item {
        Ok(value) => written(&value),
        Err(error) => Given::Failed(error.into()),
    }))
}

/// The error of what makes a frame longer than it may be.
pub(crate) fn too_long(what: &str, bytes: usize, limit: usize) -> Box<str> {
    format!("{what} makes a frame of {bytes} bytes, and {limit} are allowed; send less at once, or raise max_frame")
        .into()
}

fn written<T: Value>(value: &T) -> Given {
    let mut json = Vec::new();
    match value.encode(&mut json) {
        Ok(()) => Given::Value { class_name: value.class_name(), json },
        Err(error) => Given::Unwritable(error.to_string().into()),
    }
}

/// One input of a call.
pub(crate) struct Input {
    name: Box<str>,
    /// `None`: it has ended, or the server does not want it.
    source: Option<Source>,
    /// What goes before anything else of the source.
    backlog: VecDeque<Departure>,
    flight: Departures<Option<Departure>>,
    values: Option<Values>,
}

/// Why no more is sent for now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Until the source gives something, the server acknowledges something, or for ever.
    Waiting,
    /// Others have their turn, or too much waits to be written.
    Turn,
    /// A value cannot be written; this ends the call.
    Unwritable(Box<str>),
}

impl Input {
    /// Values that one input sends before others have their turn.
    const TURN: usize = 32;

    pub(crate) fn new(name: &str, source: Source) -> Self {
        Self {
            name: name.into(),
            source: Some(source),
            backlog: VecDeque::new(),
            flight: Departures::new(None),
            values: None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A call begins, perhaps anew. What the call before did not acknowledge goes again, and so does the end.
    pub(crate) fn begin(&mut self, target: &Target<'_>, limits: Option<(u64, usize)>) {
        self.take_back(0);
        let ends = self.backlog.iter().any(|departure| matches!(departure, Departure::Close(_)));
        if self.source.is_none() && !ends {
            self.backlog.push_back(Departure::Close(CloseReason::Done));
        }
        self.flight = Departures::new(limits);
        self.values = Some(Values::new(target, Some(&self.name)));
    }

    /// The call goes on. The server has `got` frames; less than none if it does not want the input any more.
    pub(crate) fn resume(&mut self, got: i64) {
        match u64::try_from(got) {
            Err(_) => self.drop_source(),
            Ok(got) => self.take_back(got),
        }
    }

    fn take_back(&mut self, received: u64) {
        for departure in self.flight.take_back(received).rev().flatten() {
            self.backlog.push_front(departure);
        }
    }

    pub(crate) fn acknowledge(&mut self, got: u64) {
        self.flight.acknowledge(got);
    }

    /// The server does not want it any more.
    pub(crate) fn drop_source(&mut self) {
        self.backlog.clear();
        drop(self.flight.take_back(0));
        if let Some(source) = self.source.take() {
            discard(source);
        }
    }

    /// Sends what there is. `keep`: what is sent may have to be sent again.
    pub(crate) fn pump(
        &mut self,
        target: &Target<'_>,
        socket: &mut Socket,
        limit: usize,
        keep: bool,
        cx: &mut Context<'_>,
    ) -> Pause {
        for _ in 0..Self::TURN {
            if !self.flight.has_room() {
                return Pause::Waiting;
            }
            if socket.is_full() {
                return Pause::Turn;
            }
            let departure = match self.next(cx) {
                Ok(departure) => departure,
                Err(pause) => return pause,
            };
            let text = match self.frame(target, &departure) {
                Ok(text) if text.len() <= limit => text,
                Ok(text) => {
                    let what = format!("a value of the input {:?}", self.name);
                    return Pause::Unwritable(too_long(&what, text.len(), limit));
                }
                Err(error) => return Pause::Unwritable(error),
            };
            self.flight.sent(text.len(), keep.then_some(departure));
            socket.push(text);
        }
        Pause::Turn
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Result<Departure, Pause> {
        if let Some(departure) = self.backlog.pop_front() {
            return Ok(departure);
        }
        let Some(source) = &mut self.source else { return Err(Pause::Waiting) };
        let given = match guarded(|| source.as_mut().poll_next(cx)) {
            Ok(Poll::Pending) => return Err(Pause::Waiting),
            Ok(Poll::Ready(given)) => given,
            Err(Panicked) => Some(Given::Failed(Failure::internal("the stream of an input has panicked"))),
        };
        match given {
            Some(Given::Value { class_name, json }) => {
                return Ok(Departure::Value { class_name, json: json.into() });
            }
            Some(Given::Unwritable(why)) => return Err(Pause::Unwritable(why)),
            Some(Given::Failed(failure)) => self.fail(&failure),
            None => self.backlog.push_back(Departure::Close(CloseReason::Done)),
        }
        if let Some(source) = self.source.take() {
            discard(source);
        }
        self.backlog.pop_front().ok_or(Pause::Waiting)
    }

    /// A fault travels. Any other failure is only said to be one.
    fn fail(&mut self, failure: &Failure) {
        match failure.fault() {
            Some((class_name, json)) => {
                self.backlog.push_back(Departure::Fault { class_name: class_name.into(), json: json.into() });
            }
            None => tracing::debug!(input = %self.name, %failure, "an input of a call has failed"),
        }
        self.backlog.push_back(Departure::Close(CloseReason::Error));
    }

    fn frame(&self, target: &Target<'_>, departure: &Departure) -> Result<String, Box<str>> {
        match departure {
            Departure::Value { class_name, json } => {
                let values = self.values.as_ref().ok_or("the call is not open")?;
                let text = values.write(class_name, None, |text| {
                    text.extend_from_slice(json);
                    Ok::<(), Box<str>>(())
                })?;
                String::from_utf8(text).map_err(|error| error.to_string().into())
            }
            Departure::Fault { class_name, json } => {
                Ok(write_fault(target, Some(&self.name), class_name, json))
            }
            Departure::Close(reason) => Ok(write_close(target, Some(&self.name), *reason, None)),
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if let Some(source) = self.source.take() {
            discard(source);
        }
    }
}
