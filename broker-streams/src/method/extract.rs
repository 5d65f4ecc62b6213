//! Extractors: what the parameters of a method may be.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    ops::Deref,
    sync::Arc,
};

use broker_core::Identity;
use broker_model::Value;
use broker_streams_wire::OpenResult;
use serde::de::DeserializeOwned;

use super::entry::Signature;
use crate::{Call, Incoming, Out, call::state::CallState};

/// A parameter of a method: [`Call`], [`Args`], [`State`], [`Incoming`] (or an `Option` of it), [`Out`], [`Who`],
/// [`Cursor`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a streaming method",
    note = "one can be: Call, Args<T>, State<T>, Incoming<T>, Option<Incoming<T>>, Out<T>, Who, Cursor"
)]
pub trait FromCall: Sized + Send + 'static {
    /// Says what the method needs to have this parameter.
    #[doc(hidden)]
    fn declare(signature: &mut Signature);

    /// Makes the parameter for one call.
    #[doc(hidden)]
    fn from_call(start: &mut Start<'_>) -> Result<Self, OpenResult>;
}

/// What parameters are made of.
#[derive(Debug)]
pub struct Start<'a> {
    pub(crate) call: &'a Call,
    pub(crate) state: &'a Arc<CallState>,
    pub(crate) args: &'a str,
    pub(crate) states: &'a States,
    /// The place of the next input in the declaration, and where each declared input is in the call.
    pub(crate) next_input: usize,
    pub(crate) inputs: &'a [Option<usize>],
}

impl Start<'_> {
    fn input(&mut self) -> Option<usize> {
        let place = self.inputs.get(self.next_input).copied().flatten();
        self.next_input += 1;
        place
    }
}

/// States of the application, by their types.
#[derive(Debug, Default)]
pub(crate) struct States(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

impl States {
    pub(crate) fn insert<T: Clone + Send + Sync + 'static>(&mut self, state: T) {
        self.0.insert(TypeId::of::<T>(), Box::new(state));
    }

    pub(crate) fn has(&self, id: TypeId) -> bool {
        self.0.contains_key(&id)
    }

    fn get<T: Clone + 'static>(&self) -> Option<T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref::<T>().cloned()
    }
}

/// The arguments that are no streams: an object with a member for each field of `T`. A call whose arguments do not fit is
/// refused with `invalidArguments`.
#[derive(Clone, Copy, Debug)]
pub struct Args<T>(pub T);

impl<T: DeserializeOwned + Send + 'static> FromCall for Args<T> {
    fn declare(_: &mut Signature) {}

    fn from_call(start: &mut Start<'_>) -> Result<Self, OpenResult> {
        serde_json::from_str(start.args).map(Self).map_err(|error| {
            // What does not fit is shown by no one: it may be a secret of the client.
            let (line, column) = (error.line(), error.column());
            tracing::debug!(call = ?start.call, line, column, "arguments do not fit");
            OpenResult::InvalidArguments
        })
    }
}

/// A state of the application, given to [`StreamsBuilder::state`](crate::StreamsBuilder::state).
#[derive(Clone, Copy, Debug)]
pub struct State<T>(pub T);

impl<T: Clone + Send + Sync + 'static> FromCall for State<T> {
    fn declare(signature: &mut Signature) {
        signature.states.push((TypeId::of::<T>(), type_name::<T>()));
    }

    fn from_call(start: &mut Start<'_>) -> Result<Self, OpenResult> {
        // It is there: that was checked when the server was built.
        start.states.get().map(Self).ok_or(OpenResult::EndpointNotFound)
    }
}

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Who calls. Its endpoint has to require a login.
#[derive(Clone, Debug)]
pub struct Who(pub Identity);

impl FromCall for Who {
    fn declare(signature: &mut Signature) {
        signature.who = true;
    }

    fn from_call(start: &mut Start<'_>) -> Result<Self, OpenResult> {
        start.call.who().cloned().map(Self).ok_or(OpenResult::AuthenticationFailed)
    }
}

/// The position from which the client would go on: that of the last value it has received from an earlier call, if the
/// method gave one by [`Out::send_at`].
#[derive(Clone, Debug)]
pub struct Cursor(pub Option<String>);

impl FromCall for Cursor {
    fn declare(_: &mut Signature) {}

    fn from_call(start: &mut Start<'_>) -> Result<Self, OpenResult> {
        Ok(Self(start.state.lock().cursor.as_deref().map(str::to_owned)))
    }
}

impl FromCall for Call {
    fn declare(_: &mut Signature) {}

    fn from_call(start: &mut Start<'_>) -> Result<Self, OpenResult> {
        Ok(start.call.clone())
    }
}

impl<T: Value> FromCall for Out<T> {
    fn declare(signature: &mut Signature) {
        signature.outs += 1;
    }

    fn from_call(start: &mut Start<'_>) -> Result<Self, OpenResult> {
        Ok(Self::new(Arc::clone(start.state)))
    }
}

impl<T: Value> FromCall for Incoming<T> {
    fn declare(signature: &mut Signature) {
        signature.inputs += 1;
    }

    fn from_call(start: &mut Start<'_>) -> Result<Self, OpenResult> {
        let place = start.input().ok_or(OpenResult::InvalidArguments)?;
        Ok(Self::new(Arc::clone(start.state), place))
    }
}

/// An input that a client may leave out.
impl<T: Value> FromCall for Option<Incoming<T>> {
    fn declare(signature: &mut Signature) {
        signature.inputs += 1;
    }

    fn from_call(start: &mut Start<'_>) -> Result<Self, OpenResult> {
        Ok(start.input().map(|place| Incoming::new(Arc::clone(start.state), place)))
    }
}
