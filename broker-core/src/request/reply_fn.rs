//! What can answer requests: a function, async or not, and what it returns.

use std::{
    fmt::Display,
    future::{Future, Ready, ready},
};

use futures_util::{FutureExt, future::Map};

use crate::{Model, TypedPost};

/// A function that answers requests.
///
/// It takes one request, [`Received<Req>`](crate::Received), or a state and a request, and returns what is
/// [a reply](IntoReply), or a future of it. It owns what it uses. `Args` and `Kind` follow from the function.
#[diagnostic::on_unimplemented(
    message = "this function cannot answer requests",
    label = "does not answer requests",
    note = "it takes `Received<Req>` by value (with `reply_to_with` the state before it, by value too): annotate the argument, `|request: Received<Ask>| …`",
    note = "it returns the reply, a `Model`; a `TypedPost` of one; or a `Result` of either, whose error is shown as text; or it is async and yields one of these",
    note = "it outlives this call and runs on another thread: write `move`, and move clones (or an `Arc`) of what it uses into it"
)]
pub trait ReplyFn<Args, Kind>: Send + 'static {
    /// What it replies.
    type Reply: Model;

    /// One call.
    #[doc(hidden)]
    type Call: Future<Output = Result<TypedPost<Self::Reply>, String>> + Send + 'static;

    /// Calls it.
    #[doc(hidden)]
    fn call(&mut self, arguments: Args) -> Self::Call;
}

/// What can be a reply: a value; a [`TypedPost`] of one, with headers; or a [`Result`] of either. The text of the error is
/// what the requester receives, as [`RequestError::Refused`](crate::RequestError::Refused).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a reply",
    note = "reply with a `Model`, with a `TypedPost` of one, or with a `Result` of either"
)]
pub trait IntoReply<Kind>: Send + 'static {
    /// The type of the value.
    type Reply: Model;

    /// The reply, or the text of the refusal.
    #[doc(hidden)]
    fn into_reply(self) -> Result<TypedPost<Self::Reply>, String>;
}

/// The kind of a reply that is a value.
#[derive(Debug)]
#[doc(hidden)]
pub struct Value;

/// The kind of a reply that has headers.
#[derive(Debug)]
#[doc(hidden)]
pub struct WithHeaders;

/// The kind of a reply that may refuse.
#[derive(Debug)]
#[doc(hidden)]
pub struct Fallible<K>(std::marker::PhantomData<K>);

impl<T: Model> IntoReply<Value> for T {
    type Reply = T;

    fn into_reply(self) -> Result<TypedPost<T>, String> {
        Ok(TypedPost::new(self))
    }
}

impl<T: Model> IntoReply<WithHeaders> for TypedPost<T> {
    type Reply = T;

    fn into_reply(self) -> Result<Self, String> {
        Ok(self)
    }
}

impl<R: IntoReply<K>, E: Display + Send + 'static, K> IntoReply<Fallible<K>> for Result<R, E> {
    type Reply = R::Reply;

    fn into_reply(self) -> Result<TypedPost<R::Reply>, String> {
        self.map_err(|error| error.to_string()).and_then(R::into_reply)
    }
}

/// The kind of a function that is async.
#[derive(Debug)]
#[doc(hidden)]
pub struct Async<K>(std::marker::PhantomData<K>);

/// The kind of a function that is not.
#[derive(Debug)]
#[doc(hidden)]
pub struct Plain<K>(std::marker::PhantomData<K>);

type Outcome<R, K> = Result<TypedPost<<R as IntoReply<K>>::Reply>, String>;

impl<Req, F, Fut, R, K> ReplyFn<(Req,), Async<K>> for F
where
    F: FnMut(Req) -> Fut + Send + 'static,
    Fut: Future<Output = R> + Send + 'static,
    R: IntoReply<K>,
{
    type Reply = R::Reply;
    type Call = Map<Fut, fn(R) -> Outcome<R, K>>;

    fn call(&mut self, (request,): (Req,)) -> Self::Call {
        self(request).map(R::into_reply)
    }
}

impl<Req, F, R, K> ReplyFn<(Req,), Plain<K>> for F
where
    F: FnMut(Req) -> R + Send + 'static,
    R: IntoReply<K>,
{
    type Reply = R::Reply;
    type Call = Ready<Outcome<R, K>>;

    fn call(&mut self, (request,): (Req,)) -> Self::Call {
        ready(self(request).into_reply())
    }
}

impl<S, Req, F, Fut, R, K> ReplyFn<(S, Req), Async<K>> for F
where
    F: FnMut(S, Req) -> Fut + Send + 'static,
    Fut: Future<Output = R> + Send + 'static,
    R: IntoReply<K>,
{
    type Reply = R::Reply;
    type Call = Map<Fut, fn(R) -> Outcome<R, K>>;

    fn call(&mut self, (state, request): (S, Req)) -> Self::Call {
        self(state, request).map(R::into_reply)
    }
}

impl<S, Req, F, R, K> ReplyFn<(S, Req), Plain<K>> for F
where
    F: FnMut(S, Req) -> R + Send + 'static,
    R: IntoReply<K>,
{
    type Reply = R::Reply;
    type Call = Ready<Outcome<R, K>>;

    fn call(&mut self, (state, request): (S, Req)) -> Self::Call {
        ready(self(state, request).into_reply())
    }
}
