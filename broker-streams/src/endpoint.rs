//! Endpoints: groups of methods, and who may call them.

use std::{collections::BTreeMap, fmt};

use crate::method::{IntoMethod, Method};

/// A group of methods that share a name and a rule of who may call them.
#[must_use = "it is given to `StreamsBuilder::endpoint`"]
pub struct Endpoint {
    pub(crate) name: String,
    pub(crate) access: Access,
    pub(crate) methods: BTreeMap<String, Method>,
    /// Names that were given twice.
    pub(crate) doubled: Vec<String>,
    #[cfg(feature = "endpoints")]
    pub(crate) streaming: Option<std::sync::Arc<dyn crate::endpoints::erased::AnyEndpoint>>,
}

/// Who may call the methods of an endpoint.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    pub(crate) login: bool,
    pub(crate) scopes: Vec<String>,
}

impl Endpoint {
    /// An endpoint that everybody may call. One of a module is called `module.endpoint`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            access: Access::default(),
            methods: BTreeMap::new(),
            doubled: Vec::new(),
            #[cfg(feature = "endpoints")]
            streaming: None,
        }
    }

    /// Only users who are signed in may call it. Each call is then a session of that user, and ends when the user's
    /// authentication is revoked.
    pub fn requires_login(mut self) -> Self {
        self.access.login = true;
        self
    }

    /// Only users who have all of these scopes may call it. Each call ends when one of them is taken from the user.
    pub fn requires_scopes(mut self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.access.login = true;
        self.access.scopes.extend(scopes.into_iter().map(Into::into));
        self
    }

    /// Adds a method: an async function, a function that returns a stream, or one with options, made by
    /// [`method()`](crate::method()).
    pub fn method<K>(mut self, name: impl Into<String>, method: impl IntoMethod<K>) -> Self {
        let name = name.into();
        if self.methods.insert(name.clone(), method.into_method()).is_some() {
            self.doubled.push(name);
        }
        self
    }
    /// Makes it a streaming endpoint of the older kind, beside its methods. A second call takes the place of the first.
    #[cfg(feature = "endpoints")]
    #[cfg_attr(docsrs, doc(cfg(feature = "endpoints")))]
    pub fn streaming(mut self, endpoint: impl crate::StreamingEndpoint) -> Self {
        self.streaming = Some(std::sync::Arc::new(endpoint));
        self
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, access, methods, .. } = self;
        f.debug_struct("Endpoint")
            .field("name", name)
            .field("access", access)
            .field("methods", methods)
            .finish_non_exhaustive()
    }
}
