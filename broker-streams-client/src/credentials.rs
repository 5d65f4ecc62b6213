//! Credentials: what the client shows to be let in, asked for anew at every attempt.

use std::{error::Error, future::Future, pin::Pin, time::Duration};

use tokio::time::timeout;

use crate::{
    CallError,
    foreign::{Foreign, Panicked},
};

/// The error of a provider. It is logged, and never sent or displayed.
pub type ProviderError = Box<dyn Error + Send + Sync>;

/// Gives the credentials of calls, as the header `Authorization` has them: `Bearer …` or `Basic …`.
///
/// A closure that returns a future of `Option<String>` is one, too. A panic in it is a failure of it.
pub trait Credentials: Send + Sync + 'static {
    /// The credentials of now; `None` means to call without any. It has ten seconds.
    ///
    /// It is called for every opening of a call, once for all calls that are resumed on a new socket, and for
    /// [`Client::authenticate_again`](crate::Client::authenticate_again). Not for anonymous calls.
    fn credentials(&self) -> impl Future<Output = Result<Option<String>, ProviderError>> + Send;

    /// Obtains new credentials, because the server has refused the last. `false` if there is no way to; the
    /// call then fails. It is called once for each refused call, and once for several that were refused
    /// together.
    fn refresh(&self) -> impl Future<Output = Result<bool, ProviderError>> + Send {
        async { Ok(false) }
    }
}

impl<F, Fut> Credentials for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Option<String>> + Send,
{
    async fn credentials(&self) -> Result<Option<String>, ProviderError> {
        Ok(self().await)
    }
}

/// No credentials at all.
pub(crate) struct Nobody;

impl Credentials for Nobody {
    async fn credentials(&self) -> Result<Option<String>, ProviderError> {
        Ok(None)
    }
}

pub(crate) type Asking<T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send>>;

/// How long a provider has.
const LIMIT: Duration = Duration::from_secs(10);

/// A provider behind a pointer. Its futures own what they need.
pub(crate) trait Provider: Send + Sync {
    fn ask(self: std::sync::Arc<Self>) -> Asking<Option<String>>;
    fn renew(self: std::sync::Arc<Self>) -> Asking<bool>;
}

impl<C: Credentials> Provider for C {
    fn ask(self: std::sync::Arc<Self>) -> Asking<Option<String>> {
        Box::pin(within_limit(async move { self.credentials().await }))
    }

    fn renew(self: std::sync::Arc<Self>) -> Asking<bool> {
        Box::pin(within_limit(async move { self.refresh().await }))
    }
}

async fn within_limit<T>(
    asked: impl Future<Output = Result<T, ProviderError>> + Send + 'static,
) -> Result<T, CallError> {
    match timeout(LIMIT, Foreign::new(asked)).await {
        Ok(Ok(Ok(answer))) => return Ok(answer),
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the provider of credentials failed"),
        Ok(Err(Panicked)) => tracing::error!("the provider of credentials has panicked"),
        Err(_) => tracing::warn!("the provider of credentials did not answer in time"),
    }
    Err(CallError::Credentials)
}
