//! Call: what the application says about a call before it is opened.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    task::Waker,
    time::Duration,
};

use broker_model::{Failure, Unreadable, Value};
use broker_streams_wire::CallId;
use futures_core::Stream;
use serde::Serialize;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    CallError, CallStream,
    backoff::{Backoff, random},
    calls::{Begins, Call, CallOptions, Phase},
    client::Lifeline,
    inbox::Inbox,
    inputs::{self, Input, Source},
    window::Arrivals,
};

/// A call that is not open yet. By [`Client::call`](crate::Client::call).
#[must_use = "a call does nothing until it is opened"]
pub struct CallBuilder {
    client: Arc<Lifeline>,
    endpoint: Box<str>,
    method: Box<str>,
    args: Box<str>,
    /// Streams need not be `Sync`; this is.
    inputs: Mutex<Vec<(Box<str>, Source)>>,
    deadline: Option<Duration>,
    traceparent: Option<String>,
    window: u32,
    anonymous: bool,
    resume: bool,
    cursor: Option<Box<str>>,
}

impl CallBuilder {
    pub(crate) fn new(client: Arc<Lifeline>, endpoint: &str, method: &str) -> Self {
        let window = client.shared().window;
        Self {
            client,
            endpoint: endpoint.into(),
            method: method.into(),
            args: "{}".into(),
            inputs: Mutex::default(),
            deadline: None,
            traceparent: None,
            window,
            anonymous: false,
            resume: false,
            cursor: None,
        }
    }

    /// The arguments: what serde writes as a JSON object, or `()`.
    ///
    /// # Errors
    /// [`CallError::Unwritable`].
    pub fn args(mut self, args: &(impl Serialize + ?Sized)) -> Result<Self, CallError> {
        let json =
            serde_json::to_string(args).map_err(|error| CallError::Unwritable(error.to_string().into()))?;
        self.args = match json.as_bytes() {
            [b'{', ..] => json.into(),
            b"null" => "{}".into(),
            _ => {
                return Err(CallError::Unwritable(
                    "the arguments are not a JSON object: pass a struct, a map or `()`".into(),
                ));
            }
        };
        Ok(self)
    }

    /// A stream of values for the input of a name. The client pulls it only while the server has room for
    /// more; if the server knows no windows, while less than 64 KiB wait to be written. It is dropped when the
    /// server does not want it, or the call ends.
    pub fn input<T: Value>(self, name: &str, stream: impl Stream<Item = T> + Send + 'static) -> Self {
        self.source(name, inputs::values(stream))
    }

    /// The same of a stream that may fail. A [fault](broker_model::Fault) reaches the method as what it is,
    /// any other failure without its text.
    pub fn try_input<T: Value, E: Into<Failure> + 'static>(
        self,
        name: &str,
        stream: impl Stream<Item = Result<T, E>> + Send + 'static,
    ) -> Self {
        self.source(name, inputs::results(stream))
    }

    fn source(mut self, name: &str, source: Source) -> Self {
        self.inputs.get_mut().unwrap_or_else(PoisonError::into_inner).push((name.into(), source));
        self
    }

    /// The time that the call has, from its opening to its end. After it the call ends as closed for
    /// [`Cause::Deadline`](crate::Cause::Deadline).
    pub const fn deadline(mut self, time: Duration) -> Self {
        self.deadline = Some(time);
        self
    }

    /// Shows no credentials for this call.
    pub const fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    /// Goes on when the socket is lost, or the server asks to call again: with the same call if the server
    /// has kept it, else with a new one. [`CallStream::events`] shows which.
    ///
    /// The client tries for ever, with growing waits. A call that was never opened does not wait: it fails
    /// with the first attempt to connect that fails. In a new call, values of the inputs that the server has
    /// not acknowledged are sent again; it may have seen them.
    pub const fn resume(mut self) -> Self {
        self.resume = true;
        self
    }

    /// Begins behind a position that an earlier call has had, as [`CallStream::cursor`] gives it. Only a method that takes a
    /// cursor looks at it, and only with a server that supports the extension.
    pub fn cursor(mut self, cursor: &str) -> Self {
        self.cursor = Some(cursor.into());
        self
    }

    /// The W3C trace context of the call, for a server that supports the extension.
    pub fn traceparent(mut self, traceparent: &str) -> Self {
        self.traceparent = Some(traceparent.to_owned());
        self
    }

    /// Opens the call. Cancel safe: if the future is dropped the call is cancelled.
    ///
    /// # Errors
    /// [`CallError::Refused`], or why there was no answer.
    pub async fn open<T: Value>(self) -> Result<CallStream<T>, CallError> {
        let (stream, opened) = self.start()?;
        opened.await.unwrap_or(Err(CallError::Stopped))?;
        Ok(stream)
    }

    /// Opens the call of a method that gives one value, and returns that. Of a method that gives a stream it
    /// returns the first value, and ends the call at the second. Cancel safe, as [`open`](Self::open).
    ///
    /// # Errors
    /// As [`open`](Self::open), why the method failed, or [`CallError::NoValue`].
    pub async fn single<T: Value>(self) -> Result<T, CallError> {
        let mut stream = self.open::<T>().await?;
        let mut value = None;
        loop {
            match stream.next().await {
                // More than one is not what was asked for; the first is.
                Some(Ok(first)) if value.is_none() => value = Some(first),
                Some(Ok(_)) | None => return value.ok_or(CallError::NoValue),
                // A new call gives its value, too.
                Some(Err(CallError::Restarted)) => {}
                Some(Err(error)) => return Err(error),
            }
        }
    }

    /// Opens the call of a method that gives no value, and returns when it has ended. Cancel safe, as
    /// [`open`](Self::open).
    ///
    /// # Errors
    /// As [`open`](Self::open), or why the method failed.
    pub async fn void(self) -> Result<(), CallError> {
        let mut stream = self.open::<Nothing>().await?;
        loop {
            match stream.next().await {
                Some(Ok(Nothing) | Err(CallError::Restarted)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
    }

    fn start<T>(self) -> Result<(CallStream<T>, Outcome), CallError> {
        let shared = Arc::clone(self.client.shared());
        let inputs = self.inputs.into_inner().unwrap_or_else(PoisonError::into_inner);
        let is_double = |at: &usize| inputs[..*at].iter().any(|(name, _)| *name == inputs[*at].0);
        if let Some(double) = (0..inputs.len()).find(is_double) {
            let why = format!("the input {:?} is given twice; give each name once", inputs[double].0);
            return Err(CallError::Unwritable(why.into()));
        }
        let slot = shared.slot()?;
        let key = shared.next_key();
        let inbox = Arc::new(Inbox::new(key, shared.max_buffered, Arc::default(), self.cursor));
        let (opener, opened) = oneshot::channel();
        let call = Call {
            key,
            id: CallId::from_random(random()),
            endpoint: self.endpoint,
            method: self.method,
            args: self.args,
            inputs: inputs.into_iter().map(|(name, source)| Input::new(&name, source)).collect(),
            options: CallOptions {
                anonymous: self.anonymous,
                resume: self.resume,
                deadline: self.deadline.and_then(|time| Instant::now().checked_add(time)),
                traceparent: self.traceparent,
                window: self.window,
            },
            waker: Waker::from(Arc::clone(&inbox)),
            inbox: Arc::clone(&inbox),
            phase: Phase::New(None),
            begins: Begins::First,
            opener: Some(opener),
            token: None,
            arrivals: Arrivals::default(),
            refreshed: false,
            faulted: false,
            look_at: None,
            backoff: Backoff::default(),
            since: None,
            slot,
        };
        // Before the call begins: whatever happens from here on, dropping the stream cancels it.
        let stream = CallStream::new(inbox, self.client);
        shared.open(call);
        Ok((stream, opened))
    }
}

impl fmt::Debug for CallBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallBuilder")
            .field("endpoint", &self.endpoint)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// How the opening went.
type Outcome = oneshot::Receiver<Result<(), CallError>>;

/// Any value, which is of no interest.
struct Nothing;

impl Value for Nothing {
    fn class_name(&self) -> std::borrow::Cow<'static, str> {
        "null".into()
    }

    fn encode(&self, json: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        json.extend_from_slice(b"null");
        Ok(())
    }

    fn decode(_: &str, _: &str) -> Result<Self, Unreadable> {
        Ok(Self)
    }
}
