//! Building a server: its endpoints, and what they need.

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use broker_core::Broker;
use broker_model::Failure;
use http::{Extensions, HeaderMap};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Authenticator, Call, Endpoint, Limits, Streams,
    addresses::Addresses,
    auth::AnyAuthenticator,
    meter::Meter,
    method::{
        Method,
        entry::{Entry, MethodName, Reply},
        extract::States,
    },
    origin::Origins,
    park::Parking,
    server::{Methods, OnFailure, Server},
};

/// Builds [`Streams`].
#[must_use = "nothing is served before `build`"]
pub struct StreamsBuilder {
    broker: Broker,
    endpoints: Vec<Endpoint>,
    states: States,
    authenticator: Option<Box<dyn AnyAuthenticator>>,
    any_credential_format: bool,
    limits: Limits,
    origins: Origins,
    addresses: Option<Addresses>,
    on_failure: Option<OnFailure>,
    #[cfg(feature = "endpoints")]
    on_stream_failure: Option<crate::server::OnStreamFailure>,
}

impl StreamsBuilder {
    pub(crate) fn new(broker: Broker) -> Self {
        Self {
            broker,
            endpoints: Vec::new(),
            states: States::default(),
            authenticator: None,
            any_credential_format: false,
            limits: Limits::default(),
            origins: Origins::default(),
            addresses: None,
            on_failure: None,
            #[cfg(feature = "endpoints")]
            on_stream_failure: None,
        }
    }

    /// Adds an endpoint.
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// Adds a state for methods that take a [`State`](crate::State) of this type. A second one of a type takes the place of
    /// the first.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, state: T) -> Self {
        self.states.insert(state);
        self
    }

    /// Sets what identifies clients. Methods of an endpoint that requires a login need it.
    pub fn authenticator(mut self, authenticator: impl Authenticator) -> Self {
        self.authenticator = Some(Box::new(authenticator));
        self
    }

    /// Gives the authenticator credentials of any form. Without it they have to be `Basic …` or `Bearer …`, and a call with
    /// other ones is refused.
    pub fn any_credential_format(mut self) -> Self {
        self.any_credential_format = true;
        self
    }

    /// What one client may make the server keep or wait for.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Lets pages of these origins open sockets (`https://app.example.org`), besides those that this server itself has sent.
    pub fn allow_origins(mut self, origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.origins.listed.extend(origins.into_iter().map(Into::into));
        self
    }

    /// Lets pages of every origin open sockets. Where users are known by cookies, every page that they visit can then act in their
    /// name.
    pub fn any_origin(mut self) -> Self {
        self.origins.any = true;
        self
    }

    /// Limits the sockets of one address; one more is refused with 503. Without it there is no such limit. The function says where a
    /// request comes from, by its IP address; `None` is not counted. Who has an IPv6 network has many addresses: give the network's. What stands before the server
    /// decides where the address is: behind a proxy in a header that only the proxy can set, else with axum in the extensions.
    ///
    /// ```
    /// # use std::net::SocketAddr;
    /// # use axum::extract::ConnectInfo;
    /// # let broker = broker::Broker::local();
    /// let streams = broker_streams::Streams::builder(broker).sockets_per_address(20, |extensions, _headers| {
    ///     // There if the router is served by `into_make_service_with_connect_info::<SocketAddr>()`.
    ///     extensions.get::<ConnectInfo<SocketAddr>>().map(|connection| connection.0.ip())
    /// });
    /// # let _ = streams;
    /// ```
    pub fn sockets_per_address(
        mut self,
        most: usize,
        address_of: impl Fn(&Extensions, &HeaderMap) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.addresses = Some(Addresses::new(most, Box::new(address_of)));
        self
    }

    /// Calls a function for each failure of a method: faults, which the client receives, and errors, which it does not.
    pub fn on_failure(mut self, function: impl Fn(&Call, &Failure) + Send + Sync + 'static) -> Self {
        self.on_failure = Some(Box::new(function));
        self
    }

    /// Calls a function for each failure of a [`StreamingEndpoint`](crate::StreamingEndpoint), whose clients have no word for it.
    #[cfg(feature = "endpoints")]
    #[cfg_attr(docsrs, doc(cfg(feature = "endpoints")))]
    pub fn on_stream_failure(
        mut self,
        function: impl Fn(&crate::Peer, &Failure) + Send + Sync + 'static,
    ) -> Self {
        self.on_stream_failure = Some(Box::new(function));
        self
    }

    /// What is wrong with the options alone.
    fn check(&self) -> Result<(), BuildError> {
        if let Some((name, least)) = self.limits.wrong() {
            return Err(BuildError(format!("the limit `{name}` is too small: set it to {least} or more")));
        }
        if self.addresses.as_ref().is_some_and(Addresses::is_none) {
            return Err(BuildError(
                "`sockets_per_address` lets no socket in: set it to 1 or more".to_owned(),
            ));
        }
        if let Some(wrong) = self.origins.wrong() {
            let form = "write it as `https://app.example.org`, without a path";
            return Err(BuildError(format!("the origin {wrong:?} matches no page: {form}")));
        }
        Ok(())
    }

    /// Builds the server. Does no I/O.
    ///
    /// # Errors
    /// [`BuildError`], for what would be wrong at every call: a name that is empty or given twice, inputs without a name,
    /// a state that was not given, a second stream to the client, a limit of nothing, an origin that no page has, a login
    /// without an authenticator.
    pub fn build(self) -> Result<Streams, BuildError> {
        self.check()?;
        let has_authenticator = self.authenticator.is_some();
        let meter = Meter::new();
        let mut endpoints = HashMap::new();
        #[cfg(feature = "endpoints")]
        let mut streaming = Vec::new();
        for endpoint in self.endpoints {
            let name = endpoint.name.clone();
            if endpoint.access.login && !has_authenticator && !endpoint.methods.is_empty() {
                let remedy = "call `authenticator`";
                return Err(BuildError(format!(
                    "the endpoint {name:?} requires a login, and there is no authenticator: {remedy}"
                )));
            }
            #[cfg(feature = "endpoints")]
            let place = endpoint.streaming.clone().map(|streams| {
                streaming.push(crate::endpoints::Entry::new(&name, endpoint.access.clone(), streams));
                streaming.len() - 1
            });
            let methods = methods(endpoint, &self.states, &meter)?;
            #[cfg(feature = "endpoints")]
            let methods = Methods { streaming: place, ..methods };
            if name.is_empty() {
                return Err(BuildError("an endpoint has no name: give `Endpoint::new` one".to_owned()));
            }
            if endpoints.insert(name.clone().into_boxed_str(), methods).is_some() {
                let remedy = "put all methods on one `Endpoint`, or rename one";
                return Err(BuildError(format!("there are two endpoints {name:?}: {remedy}")));
            }
        }
        Ok(Streams(Arc::new(Server {
            broker: self.broker,
            limits: self.limits.bounded(),
            endpoints,
            states: self.states,
            authenticator: self.authenticator,
            any_credential_format: self.any_credential_format,
            origins: self.origins,
            addresses: self.addresses.map(Arc::new),
            on_failure: self.on_failure,
            meter,
            #[cfg(feature = "endpoints")]
            streaming,
            #[cfg(feature = "endpoints")]
            on_stream_failure: self.on_stream_failure,
            within: OnceLock::new(),
            draining: CancellationToken::new(),
            ending: CancellationToken::new(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            parking: Parking::default(),
            parked: TaskTracker::new(),
            next_socket: 0.into(),
        })))
    }
}

fn methods(endpoint: Endpoint, states: &States, meter: &Meter) -> Result<Methods, BuildError> {
    let Endpoint { name: endpoint, access, methods, doubled, .. } = endpoint;
    if let Some(name) = doubled.first() {
        return Err(BuildError(format!("there are two methods `{endpoint}.{name}`: rename one")));
    }
    let anonymous = !access.login;
    let shared: Arc<str> = endpoint.as_str().into();
    let mut entries = HashMap::new();
    for (name, method) in methods {
        let what = MethodName { endpoint: Arc::clone(&shared), method: name.as_str().into() };
        if anonymous && method.signature.who {
            let remedy = "call `requires_login` on it, or take `Call` and its `who`";
            return Err(BuildError(format!(
                "the method `{endpoint}.{name}` takes `Who`, and its endpoint requires no login: {remedy}"
            )));
        }
        let entry = entry(what, method, states, meter);
        let entry = entry.map_err(|why| BuildError(format!("the method `{endpoint}.{name}` {why}")))?;
        entries.insert(name.into_boxed_str(), Arc::new(entry));
    }
    Ok(Methods {
        access,
        methods: entries,
        #[cfg(feature = "endpoints")]
        streaming: None,
    })
}

fn entry(name: MethodName, method: Method, states: &States, meter: &Meter) -> Result<Entry, String> {
    let Method { run, signature, options } = method;
    let streams = signature.streams();
    if name.method.is_empty() {
        return Err("has no name: give `Endpoint::method` one".to_owned());
    }
    if signature.outs > 1 || (signature.outs == 1 && signature.reply != Reply::Nothing) {
        return Err("has two streams to the client: take one `Out`, and return nothing or a `Result<(), _>`"
            .to_owned());
    }
    if options.inputs.len() != signature.inputs {
        let (named, taken) = (options.inputs.len(), signature.inputs);
        let s = if taken == 1 { "" } else { "s" };
        return Err(format!(
            "takes {taken} input{s}, and names {named}: name each by `method(…).inputs([…])`"
        ));
    }
    let mut seen = std::collections::HashSet::new();
    if let Some(twice) = options.inputs.iter().find(|name| name.is_empty() || !seen.insert(name.as_str())) {
        return Err(format!(
            "has an input {twice:?} that is empty or given twice: give each input a name of its own"
        ));
    }
    if let Some((_, state)) = signature.states.iter().find(|(id, _)| !states.has(*id)) {
        return Err(format!("takes a state `{state}` that was not given: call `state` before `build`"));
    }
    let inputs = options.inputs.into_iter().map(String::into_boxed_str).collect();
    let calls = meter.calls(&name.endpoint, &name.method);
    let reply = if signature.outs > 0 { Reply::Stream } else { signature.reply };
    Ok(Entry {
        calls,
        name,
        run,
        inputs,
        streams,
        reply,
        on_task: options.on_task,
        resumable: options.resumable,
    })
}

impl fmt::Debug for StreamsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamsBuilder").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

/// What is wrong with a server that was to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError(String);

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for BuildError {}
