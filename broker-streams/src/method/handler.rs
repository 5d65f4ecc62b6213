//! Handlers: functions whose parameters are extractors and whose result is a reply.

use std::{fmt, future::Future, marker::PhantomData, pin::Pin};

use broker_model::Failure;
use broker_streams_wire::OpenResult;

use super::{
    entry::Signature,
    extract::{FromCall, Start},
    reply::{Reply, Sender},
};

/// A call that runs.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// A function that can be a streaming method: async, or one that returns a stream; its parameters are
/// [extractors](FromCall), at most one of them an [`Out`](crate::Out), and what it gives back is a [`Reply`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a streaming method",
    note = "each parameter has to be one of Call, Args<T: Deserialize>, State<T: Clone>, Incoming<T: Value>, Out<T: Value>, Who, Cursor",
    note = "its future has to be `Send`, and its result a reply: (), a value, a stream of results, or a `Result` of these whose error becomes a `Failure`",
    note = "a value is a type that derives `Model` or `Choice`, a number up to 64 bits (not u64, usize), a text, a list, a map, an `Option`"
)]
pub trait Handler<Parameters, Kind>: Send + Sync + 'static {
    /// What the types of the function say.
    #[doc(hidden)]
    fn signature() -> Signature;

    /// Makes the parameters of one call, and what runs it. Calls nothing of the function yet.
    #[doc(hidden)]
    fn start(&self, start: &mut Start<'_>) -> Result<Running, OpenResult>;
}

macro_rules! handlers {
    ($($parameter:ident)*) => {
        impl<Function, R, Kind, $($parameter,)*> Handler<($($parameter,)*), Kind> for Function
        where
            Function: Fn($($parameter),*) -> R + Clone + Send + Sync + 'static,
            R: Reply<Kind>,
            $($parameter: FromCall,)*
        {
            fn signature() -> Signature {
                #[allow(unused_mut)]
                let mut signature = Signature::default();
                $($parameter::declare(&mut signature);)*
                R::declare(&mut signature);
                signature
            }

            #[allow(non_snake_case, unused_variables)]
            fn start(&self, start: &mut Start<'_>) -> Result<Running, OpenResult> {
                let (function, sender) = (self.clone(), Sender(start.state.clone()));
                $(let $parameter = $parameter::from_call(start)?;)*
                Ok(Box::pin(async move { function($($parameter),*).deliver(sender).await }))
            }
        }
    };
}

handlers!();
handlers!(P1);
handlers!(P1 P2);
handlers!(P1 P2 P3);
handlers!(P1 P2 P3 P4);
handlers!(P1 P2 P3 P4 P5);
handlers!(P1 P2 P3 P4 P5 P6);
handlers!(P1 P2 P3 P4 P5 P6 P7);
handlers!(P1 P2 P3 P4 P5 P6 P7 P8);

/// A [`Handler`] of any type.
pub(crate) trait AnyMethod: Send + Sync + 'static {
    fn start(&self, start: &mut Start<'_>) -> Result<Running, OpenResult>;
}

impl fmt::Debug for dyn AnyMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyMethod")
    }
}

/// A function, with the types that tell which kind of handler it is.
pub(crate) struct Shaped<F, A, K> {
    function: F,
    shape: PhantomData<fn() -> (A, K)>,
}

impl<F, A, K> Shaped<F, A, K> {
    pub(crate) const fn new(function: F) -> Self {
        Self { function, shape: PhantomData }
    }
}

impl<F, A, K> AnyMethod for Shaped<F, A, K>
where
    F: Handler<A, K>,
    A: 'static,
    K: 'static,
{
    fn start(&self, start: &mut Start<'_>) -> Result<Running, OpenResult> {
        self.function.start(start)
    }
}
