//! Replies: what the function of a method may give back.

use std::future::Future;

use broker_model::{Failure, Value};
use futures_core::Stream;
use futures_util::{FutureExt, StreamExt};

use super::entry::{self, Signature};
use crate::Out;

/// What the function of a method gives back: nothing, a value, a stream of `Result`s, a `Result` of these, or a future of
/// one of them, which is what an async function gives back.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the reply of a streaming method",
    note = "one can be: (), a value, impl Stream<Item = Result<T, E>>, or a Result of these whose error is a Failure or becomes one"
)]
pub trait Reply<Kind>: Send + 'static {
    /// Says what kind of reply it is.
    #[doc(hidden)]
    fn declare(signature: &mut Signature);

    /// Sends it to the client.
    #[doc(hidden)]
    fn deliver(self, sender: Sender) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// By which a reply is sent.
#[derive(Debug)]
pub struct Sender(pub(crate) std::sync::Arc<crate::call::state::CallState>);

/// No value.
#[derive(Debug)]
pub struct Nothing;
/// One value.
#[derive(Debug)]
pub struct Single;
/// Any number of values.
#[derive(Debug)]
pub struct Many;
/// A reply that is awaited: that of an async function.
#[derive(Debug)]
pub struct Awaited<Kind>(std::marker::PhantomData<Kind>);
/// A reply or an error.
#[derive(Debug)]
pub struct Fallible<Kind>(std::marker::PhantomData<Kind>);

impl Reply<Nothing> for () {
    fn declare(_: &mut Signature) {}

    async fn deliver(self, _: Sender) -> Result<(), Failure> {
        Ok(())
    }
}

impl<T: Value> Reply<Single> for T {
    fn declare(signature: &mut Signature) {
        signature.reply = entry::Reply::Value;
    }

    async fn deliver(self, sender: Sender) -> Result<(), Failure> {
        Ok(Out::new(sender.0).send(self).await?)
    }
}

impl<S, T, E> Reply<Many> for S
where
    S: Stream<Item = Result<T, E>> + Send + 'static,
    T: Value,
    E: Into<Failure> + Send,
{
    fn declare(signature: &mut Signature) {
        signature.reply = entry::Reply::Stream;
    }

    async fn deliver(self, sender: Sender) -> Result<(), Failure> {
        let out = Out::new(sender.0);
        let mut stream = std::pin::pin!(self);
        while let Some(item) = stream.next().await {
            out.send(item.map_err(Into::into)?).await?;
        }
        Ok(())
    }
}

impl<Fut, K> Reply<Awaited<K>> for Fut
where
    Fut: Future + Send + 'static,
    Fut::Output: Reply<K>,
{
    fn declare(signature: &mut Signature) {
        Fut::Output::declare(signature);
    }

    /// Not an `async` function, which would have room for the future twice: each open call holds it.
    fn deliver(self, sender: Sender) -> impl Future<Output = Result<(), Failure>> + Send {
        self.then(move |reply| reply.deliver(sender))
    }
}

impl<R, E, K> Reply<Fallible<K>> for Result<R, E>
where
    R: Reply<K>,
    E: Into<Failure> + Send + 'static,
{
    fn declare(signature: &mut Signature) {
        R::declare(signature);
    }

    async fn deliver(self, sender: Sender) -> Result<(), Failure> {
        self.map_err(Into::into)?.deliver(sender).await
    }
}
