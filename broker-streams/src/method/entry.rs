//! Entry: one method as the server knows it, and what its function says about itself.

use std::{any::TypeId, sync::Arc};

use super::handler::AnyMethod;
use crate::meter::Calls;

/// The names of a method's endpoint and of itself.
#[derive(Clone, Debug)]
pub(crate) struct MethodName {
    pub(crate) endpoint: Arc<str>,
    pub(crate) method: Arc<str>,
}

/// One method of an endpoint.
pub(crate) struct Entry {
    pub(crate) name: MethodName,
    pub(crate) run: Box<dyn AnyMethod>,
    /// The names of its inputs, in the order in which its function takes them.
    pub(crate) inputs: Vec<Box<str>>,
    /// Whether it takes or gives a stream.
    pub(crate) streams: bool,
    /// What the client gets.
    #[cfg_attr(
        not(feature = "typescript"),
        expect(dead_code, reason = "only the types for TypeScript tell it")
    )]
    pub(crate) reply: Reply,
    pub(crate) on_task: bool,
    pub(crate) resumable: bool,
    /// Those that are open.
    pub(crate) calls: Calls,
}

/// What the author says about a method.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) inputs: Vec<String>,
    pub(crate) on_task: bool,
    pub(crate) resumable: bool,
}

/// What the types of a function say about it. Filled by its parameters and its reply.
#[derive(Debug, Default)]
pub struct Signature {
    /// Parameters that are inputs.
    pub(crate) inputs: usize,
    /// Parameters that send to the method's stream.
    pub(crate) outs: usize,
    pub(crate) reply: Reply,
    /// Whether it takes the user.
    pub(crate) who: bool,
    /// States that have to be there: their types and the names of these.
    pub(crate) states: Vec<(TypeId, &'static str)>,
}

/// What a function gives back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reply {
    #[default]
    Nothing,
    Value,
    Stream,
}

impl Signature {
    /// Whether the method takes or gives a stream.
    pub(crate) fn streams(&self) -> bool {
        self.inputs > 0 || self.outs > 0 || self.reply == Reply::Stream
    }
}
