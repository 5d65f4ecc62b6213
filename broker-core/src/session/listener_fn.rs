//! What can be a listener: a function, async or not, and what it takes.

use std::future::{Future, Ready, ready};

use crate::{
    Event, Messages, Model, Received, StreamError, StreamItem,
    subscription::{several, stream},
};

/// A function that a listener can be.
///
/// It takes one [item](ListenerItem), or a state and an item, and returns nothing, or a future of nothing. It owns
/// what it uses. `Args` and `Kind` follow from the function.
#[diagnostic::on_unimplemented(
    message = "this function cannot be a listener",
    label = "not a listener",
    note = "a listener takes `Received<T>`, `StreamItem<T>` or `Event` by value (with `add_listener_with` the state before it, by value too): annotate the argument, `|item: Received<T>| …`",
    note = "it returns `()`, or is async and yields `()`: handle a `Result` inside, and write `-> ()` where it never returns",
    note = "it outlives this call and runs on another thread: write `move`, and move clones (or an `Arc`) of what it uses into it"
)]
pub trait ListenerFn<Args, Kind>: Send + 'static {
    /// One call.
    #[doc(hidden)]
    type Call: Future<Output = ()> + Send + 'static;

    /// Calls it.
    #[doc(hidden)]
    fn call(&mut self, arguments: Args) -> Self::Call;
}

/// The kind of a function that is async.
#[derive(Debug)]
#[doc(hidden)]
pub struct Async;

/// The kind of a function that is not.
#[derive(Debug)]
#[doc(hidden)]
pub struct Plain;

impl<I, F, Fut> ListenerFn<(I,), Async> for F
where
    F: FnMut(I) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    type Call = Fut;

    fn call(&mut self, (item,): (I,)) -> Fut {
        self(item)
    }
}

impl<I, F: FnMut(I) + Send + 'static> ListenerFn<(I,), Plain> for F {
    type Call = Ready<()>;

    fn call(&mut self, (item,): (I,)) -> Ready<()> {
        self(item);
        ready(())
    }
}

impl<S, I, F, Fut> ListenerFn<(S, I), Async> for F
where
    F: FnMut(S, I) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    type Call = Fut;

    fn call(&mut self, (state, item): (S, I)) -> Fut {
        self(state, item)
    }
}

impl<S, I, F: FnMut(S, I) + Send + 'static> ListenerFn<(S, I), Plain> for F {
    type Call = Ready<()>;

    fn call(&mut self, (state, item): (S, I)) -> Ready<()> {
        self(state, item);
        ready(())
    }
}

/// What a listener's function can take.
///
/// - [`StreamItem<T>`](crate::StreamItem): everything, gaps and unreadable messages included. Take this one where a loss matters.
/// - [`Received<T>`]: the values alone; gaps and unreadable messages are logged as warnings.
/// - An enum of [`Messages`], or a `Result` of one and [`StreamError`]: the same of a channel of several types.
/// - [`Event`]: everything, untyped.
#[diagnostic::on_unimplemented(
    message = "a listener cannot take `{Self}`",
    note = "it takes `Received<T>`, `StreamItem<T>` or `Event`, where `T` is a `Model`",
    note = "for a channel of several types it takes an enum that derives `Messages`"
)]
pub trait ListenerItem: Send + 'static + sealed::Sealed {
    /// What of an event the function is called with.
    #[doc(hidden)]
    fn from_event(event: Event) -> Result<Self, StreamError>
    where
        Self: Sized;
}

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for crate::Received<T> {}
    impl<T> Sealed for crate::StreamItem<T> {}
    impl Sealed for crate::Event {}
    impl<M: crate::Messages> Sealed for M {}
    impl<M: crate::Messages> Sealed for Result<M, crate::StreamError> {}
}

impl<T: Model> ListenerItem for Received<T> {
    fn from_event(event: Event) -> Result<Self, StreamError> {
        stream::item(event)
    }
}

impl<T: Model> ListenerItem for StreamItem<T> {
    fn from_event(event: Event) -> Result<Self, StreamError> {
        Ok(stream::item(event))
    }
}

impl<M: Messages> ListenerItem for M {
    fn from_event(event: Event) -> Result<Self, StreamError> {
        several::variant(event)
    }
}

impl<M: Messages> ListenerItem for Result<M, StreamError> {
    fn from_event(event: Event) -> Result<Self, StreamError> {
        Ok(several::variant(event))
    }
}

impl ListenerItem for Event {
    fn from_event(event: Event) -> Result<Self, StreamError> {
        Ok(event)
    }
}
