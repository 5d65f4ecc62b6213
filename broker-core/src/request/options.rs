//! RequestOptions: how long a request waits, and how far it goes.

use std::time::Duration;

use crate::Scope;

/// How long a request waits for a reply, and how far it goes. A [`Duration`] alone is one, with [`Scope::Auto`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use broker::{Model, Received, RequestOptions, Scope};
///
/// #[derive(serde::Serialize, serde::Deserialize, Model)]
/// struct Add { a: u32, b: u32 }
/// #[derive(serde::Serialize, serde::Deserialize, Model)]
/// struct Sum(u32);
///
/// let broker = broker::connect("memory:").await?;
/// broker.reply_to("sums", |add: Received<Add>| Sum(add.a + add.b)).await?;
/// let here = RequestOptions::new(Duration::from_secs(2)).with_scope(Scope::Local);
/// let sum: Received<Sum> = broker.request("sums", Add { a: 1, b: 2 }, here).await?;
/// assert_eq!(sum.0, 3);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestOptions {
    /// How long the call takes at most, all of it: subscribing to replies, posting, and waiting.
    pub timeout: Duration,
    /// Who receives the request. The reply goes the same way: that to a local request stays in the process.
    pub scope: Scope,
}

impl RequestOptions {
    /// So long, with [`Scope::Auto`].
    #[must_use]
    pub const fn new(timeout: Duration) -> Self {
        Self { timeout, scope: Scope::Auto }
    }

    /// The same in another scope.
    #[must_use]
    pub const fn with_scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }
}

impl From<Duration> for RequestOptions {
    fn from(timeout: Duration) -> Self {
        Self::new(timeout)
    }
}
