//! Methods: plain async functions, whose parameters are extractors and whose result is a reply.

pub(crate) mod entry;
pub(crate) mod extract;
pub(crate) mod handler;
pub(crate) mod reply;

use entry::{Options, Signature};
use handler::{AnyMethod, Handler, Shaped};

/// A streaming method with options. Made by [`method()`].
#[derive(Debug)]
#[must_use = "it is given to an endpoint"]
pub struct Method {
    pub(crate) run: Box<dyn AnyMethod>,
    pub(crate) signature: Signature,
    pub(crate) options: Options,
}

/// A streaming method with options, of an async function, or a function that returns a stream.
///
/// ```
/// # use broker_streams::{Endpoint, Failure, Incoming, method};
/// async fn sum(mut numbers: Incoming<i64>) -> Result<i64, Failure> {
///     let mut sum = 0;
///     while let Some(number) = numbers.next().await {
///         sum += number?;
///     }
///     Ok(sum)
/// }
///
/// let numbers = Endpoint::new("numbers").method("sum", method(sum).inputs(["numbers"]));
/// ```
pub fn method<F, A, K>(function: F) -> Method
where
    F: Handler<A, K>,
    A: 'static,
    K: 'static,
{
    Method {
        run: Box::new(Shaped::new(function)),
        signature: <F as Handler<A, K>>::signature(),
        options: Options::default(),
    }
}

impl Method {
    /// Names the inputs, in the order in which they stand among the parameters. A client sends values under these names.
    pub fn inputs(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.options.inputs = names.into_iter().map(Into::into).collect();
        self
    }

    /// Lets a client that has lost its socket resume the call: until it is back, for a time, the call waits with all that
    /// it has, and nothing is lost or sent twice. It costs the frames that the client has not yet consumed. Only
    /// clients of the extension `x1` do this.
    pub fn resumable(mut self) -> Self {
        self.options.resumable = true;
        self
    }

    /// Runs the method on a task of its own, not on the one of its socket: for a method that computes for long
    /// between its awaits, which would keep the socket and its other calls waiting. A [resumable](Self::resumable) one goes on
    /// while the call waits for its client, until the window is full.
    pub fn on_task(mut self) -> Self {
        self.options.on_task = true;
        self
    }
}

#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a method of an endpoint",
    note = "write `method(…)` around the function to see why, and look at docs/streams.md, \"When it does not compile\""
)]
/// What can be a method of an endpoint: an async function, a function that returns a stream, or a [`Method`].
pub trait IntoMethod<Kind> {
    /// The method.
    fn into_method(self) -> Method;
}

impl IntoMethod<Method> for Method {
    fn into_method(self) -> Method {
        self
    }
}

impl<F, A, K> IntoMethod<(A, K)> for F
where
    F: Handler<A, K>,
    A: 'static,
    K: 'static,
{
    fn into_method(self) -> Method {
        method(self)
    }
}
