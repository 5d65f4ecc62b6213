//! Authentication: who a client is, by what it shows with a call.

use std::{
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    time::{Instant, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use broker_core::{AuthenticatedAt, Identity};
use broker_model::Failure;
use futures_util::FutureExt;
use http::{HeaderMap, Uri};
use tokio::time::timeout;

use crate::server::Server;

/// Identifies a client by its credentials.
///
/// It is asked once for every call of an endpoint that requires a login, beside the other calls of the socket, and when a
/// client shows new credentials or resumes calls. An
/// error refuses that call alone, and is logged; a panic and a time-out do the same.
pub trait Authenticator: Send + Sync + 'static {
    /// Who shows these credentials; `None` if they are no user's. What was read of a token before this was called is
    /// covered: a revocation after the call began ends the session that it leads to.
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> impl Future<Output = Result<Option<Authenticated>, Failure>> + Send;
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Option<Authenticated>, Failure>> + Send + 'a>>;

/// An [`Authenticator`] of any type.
pub(crate) trait AnyAuthenticator: Send + Sync + 'static {
    fn ask(&self, credentials: Credentials) -> Answer<'_>;
}

impl<A: Authenticator> AnyAuthenticator for A {
    fn ask(&self, credentials: Credentials) -> Answer<'_> {
        Box::pin(self.authenticate(credentials))
    }
}

/// Who a client is.
#[derive(Clone, Debug)]
pub struct Authenticated {
    pub(crate) user: String,
    pub(crate) auth_id: Option<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) until: Option<SystemTime>,
    issued: Option<AuthenticatedAt>,
}

impl Authenticated {
    /// That user.
    pub fn new(user: impl Into<String>) -> Self {
        Self { user: user.into(), auth_id: None, scopes: Vec::new(), until: None, issued: None }
    }

    /// Names the authentication that can be revoked by itself: an id, never the secret.
    #[must_use]
    pub fn with_auth_id(mut self, id: impl Into<String>) -> Self {
        self.auth_id = Some(id.into());
        self
    }

    /// What the user may do.
    #[must_use]
    pub fn with_scopes(mut self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.scopes.extend(scopes.into_iter().map(Into::into));
        self
    }

    /// Dates the authentication by when its token was issued. **Say this where the token itself is proof**, and nothing is
    /// looked up: else a token from before a revocation is good again right after it. See [`AuthenticatedAt`], which a
    /// [`SystemTime`] becomes.
    #[must_use]
    pub fn issued(mut self, at: impl Into<AuthenticatedAt>) -> Self {
        self.issued = Some(at.into());
        self
    }

    /// The identity of a session, whose authentication began to be checked at that time.
    pub(crate) fn identity(&self, began: Instant) -> Identity {
        let identity = Identity::new(&self.user, self.issued.unwrap_or_else(|| began.into()));
        match &self.auth_id {
            Some(id) => identity.with_auth_id(id),
            None => identity,
        }
    }

    /// When the authentication expires. Its calls end then.
    #[must_use]
    pub fn until(mut self, time: SystemTime) -> Self {
        self.until = Some(time);
        self
    }
}

/// How the credentials were shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// `Basic`, decoded.
    Basic,
    /// `Bearer`.
    Bearer,
    /// No scheme: only where the format is [not checked](crate::StreamsBuilder::any_credential_format), and for the key of a
    /// client of streaming endpoints.
    Raw,
    /// By the cookies of the request.
    Cookie,
}

/// What a client shows with a call. `Debug` shows none of it.
#[derive(Clone)]
pub struct Credentials {
    scheme: Scheme,
    secret: String,
    head: Arc<Head>,
}

impl Credentials {
    pub(crate) const fn new(scheme: Scheme, secret: String, head: Arc<Head>) -> Self {
        Self { scheme, secret, head }
    }

    /// How they were shown.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The token or key, without its scheme; empty for [`Scheme::Cookie`].
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The value of a cookie of the request by which the socket was opened.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let headers = self.head.headers.get_all(http::header::COOKIE).into_iter();
        let mut pairs = headers.filter_map(|header| header.to_str().ok()).flat_map(|text| text.split(';'));
        pairs.find_map(|pair| {
            pair.trim().split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value)
        })
    }

    /// The headers of the request by which the socket was opened, without those of the WebSocket handshake.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Where that request went.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.head.uri
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

/// What is kept of the request by which a socket was opened.
pub(crate) struct Head {
    headers: HeaderMap,
    uri: Uri,
}

impl Head {
    /// Copies what an authenticator may want to see. A copy, since the values of a request share its read buffer.
    pub(crate) fn of<B>(request: &http::Request<B>) -> Self {
        let handshake =
            |name: &str| name.starts_with("sec-websocket-") || name == "upgrade" || name == "connection";
        let kept = request.headers().iter().filter(|(name, _)| !handshake(name.as_str()));
        let copied = kept.filter_map(|(name, value)| {
            Some((name.clone(), http::HeaderValue::from_bytes(value.as_bytes()).ok()?))
        });
        Self { headers: copied.collect(), uri: request.uri().to_string().parse().unwrap_or_default() }
    }
}

/// Who shows these credentials; `None` also where that cannot be found out, which is logged.
pub(crate) async fn ask(server: &Server, credentials: Credentials) -> Option<Authenticated> {
    let authenticator = server.authenticator.as_ref()?;
    // All of it within the future: what panics before there is one, or when it is dropped, is caught, too.
    let asked = async { timeout(server.limits.authenticate, authenticator.ask(credentials)).await };
    match AssertUnwindSafe(asked).catch_unwind().await {
        Ok(Ok(Ok(known))) => known,
        Ok(Ok(Err(failure))) => {
            tracing::error!(%failure, "an authenticator failed");
            None
        }
        Ok(Err(_)) => {
            tracing::error!("an authenticator takes too long");
            None
        }
        Err(_) => {
            tracing::error!("an authenticator panicked");
            None
        }
    }
}

/// Splits what was shown into its scheme and its secret; `None` if that is no known form.
pub(crate) fn unwrap(shown: &str, any_format: bool) -> Option<(Scheme, String)> {
    let by_scheme = shown.split_once(' ').and_then(|(scheme, rest)| {
        if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() && !rest.contains(' ') {
            Some((Scheme::Bearer, rest.to_owned()))
        } else if scheme.eq_ignore_ascii_case("basic") {
            let decoded = STANDARD.decode(rest).ok()?;
            Some((Scheme::Basic, String::from_utf8(decoded).ok()?))
        } else {
            None
        }
    });
    by_scheme.or_else(|| any_format.then(|| (Scheme::Raw, shown.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_is_taken_off() {
        assert_eq!(unwrap("Bearer abc", false), Some((Scheme::Bearer, "abc".to_owned())));
        assert_eq!(unwrap("basic YTpi", false), Some((Scheme::Basic, "a:b".to_owned())));
        for wrong in ["abc", "Bearer ", "Bearer a b", "Basic %%%", "Digest abc", ""] {
            assert_eq!(unwrap(wrong, false), None, "{wrong}");
        }
        assert_eq!(unwrap("abc", true), Some((Scheme::Raw, "abc".to_owned())));
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let request = http::Request::builder().header("cookie", "asid=1; sid=2").body(()).unwrap();
        let credentials = Credentials::new(Scheme::Cookie, String::new(), Arc::new(Head::of(&request)));
        assert_eq!(credentials.cookie("sid"), Some("2"));
        assert_eq!(credentials.cookie("id"), None);
        assert!(!format!("{credentials:?}").contains('2'));
    }
}
