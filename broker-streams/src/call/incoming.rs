//! Incoming: the receiving end of an input of a call.

use std::{
    error::Error,
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use broker_model::{Failure, Fault, Unreadable, Value};
use broker_streams_wire::write_flow;
use futures_core::Stream;

use super::{
    input::{Item, Next, Typed},
    state::CallState,
};

/// A stream of values from the client: an input of a method, in the order of its parameters.
///
/// ```
/// # use broker_streams::{Failure, Incoming};
/// async fn sum(mut numbers: Incoming<i64>) -> Result<i64, Failure> {
///     let mut sum = 0;
///     while let Some(number) = numbers.next().await {
///         sum += number?;
///     }
///     Ok(sum)
/// }
/// # use broker_streams::{Endpoint, method};
/// # let _ = Endpoint::new("numbers").method("sum", method(sum).inputs(["numbers"]));
/// ```
///
/// When it is dropped, it is closed for the client, which can stop sending.
pub struct Incoming<T> {
    call: Arc<CallState>,
    place: usize,
    values: PhantomData<fn() -> T>,
}

impl<T> Incoming<T> {
    pub(crate) const fn new(call: Arc<CallState>, place: usize) -> Self {
        Self { call, place, values: PhantomData }
    }
}

impl<T: Value> Incoming<T> {
    /// The next value. `None` when the client has ended the stream. Cancel safe.
    ///
    /// # Errors
    /// [`InputError`]: for a value that is not a `T` or a fault of the client the stream goes on; after
    /// [`Failed`](InputError::Failed) it has ended.
    pub async fn next(&mut self) -> Option<Result<T, InputError>> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<T, InputError>>> {
        let mut changing = self.call.lock();
        let (x1, outbox) = (changing.is_x1(), Arc::clone(&changing.outbox));
        let Some(input) = changing.inputs.get_mut(self.place) else { return Poll::Ready(None) };
        let next = input.pop(cx.waker());
        let half = u64::from(self.call.server.limits.window / 2).max(1);
        if x1 && let Some(got) = input.news(half) {
            outbox.control(write_flow(self.call.id, Some(input.name()), got).into());
        } else if x1 && input.has_news() {
            outbox.note_news();
        }
        drop(changing);
        let item = match next {
            Next::Waiting => return Poll::Pending,
            Next::Ended => return Poll::Ready(None),
            Next::Failed => return Poll::Ready(Some(Err(InputError::Failed))),
            Next::Item(item) => item,
        };
        // The socket may wait for room in this input, or has to say later that something was consumed.
        outbox.wake();
        Poll::Ready(Some(match item {
            Item::Value(Typed { class_name, json }) => {
                T::decode(&class_name, &json).map_err(InputError::Unreadable)
            }
            Item::Fault(Typed { class_name, json }) => {
                Err(InputError::Fault(InputFault { class_name: class_name.into(), json: json.into() }))
            }
        }))
    }
}

impl<T: Value> Stream for Incoming<T> {
    type Item = Result<T, InputError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}

/// The client is told by what runs the call: if the method returns at once, the close of its own stream goes first.
impl<T> Drop for Incoming<T> {
    fn drop(&mut self) {
        self.call.drop_input(self.place);
    }
}

impl<T> fmt::Debug for Incoming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("call", &self.call.id).finish_non_exhaustive()
    }
}

/// What an input has instead of a value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum InputError {
    /// The value is of another type, or does not fit. The stream goes on.
    Unreadable(Unreadable),
    /// The client's stream has failed with a fault. [`Failed`](Self::Failed) comes behind it.
    Fault(InputFault),
    /// The client's stream has failed.
    Failed,
}

/// A fault that a client has sent.
#[derive(Clone, Debug)]
pub struct InputFault {
    class_name: String,
    json: String,
}

impl InputFault {
    /// The name under which it has travelled.
    #[must_use]
    pub fn class_name(&self) -> &str {
        &self.class_name
    }

    /// The fault, if it is one of that type.
    ///
    /// # Errors
    /// [`Unreadable`], if it has the name of that type and does not fit.
    pub fn read<E: Fault>(&self) -> Option<Result<E, Unreadable>> {
        E::decode(&self.class_name, &self.json)
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "a value of the client's stream: {why}"),
            Self::Fault(fault) => write!(f, "the client's stream has failed: {:?}", fault.class_name),
            Self::Failed => f.write_str("the client's stream has failed"),
        }
    }
}

impl Error for InputError {}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        Self::internal(error)
    }
}
