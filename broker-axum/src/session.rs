//! RequestSession, UserSession, UserRejection: a session for one request, of the user whom the application has authenticated.

use std::{fmt, ops::Deref};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use broker_core::{Broker, Identity, Session};

use crate::{HttpError, error::body};

const UNAUTHENTICATED: &str = "the request is not authenticated; sign in";

/// A session for this request: of the [`Identity`] in the request's extensions, which a middleware of the application has
/// put there; else an anonymous one, which no revocation ends.
///
/// It ends with the handler, unless a stream [owns](broker_core::MessageStream::owning) it, or a WebSocket's function
/// does.
///
/// # Rejections
/// As [`HttpError`]: 401 when the authentication was revoked since its check began; 503 when it cannot be known what is
/// revoked, and when the broker is closed. All other errors of [`Broker::session_for`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
/// use std::time::Instant;
/// use axum::{Router, body::Body, extract::Request, http::StatusCode, middleware, routing::get};
/// use broker::{Identity, Revocation};
/// use broker_axum::RequestSession;
/// use tower::ServiceExt;
///
/// async fn authenticate(mut request: Request) -> Request {
///     let began = Instant::now(); // before the token is looked at
///     // … check the token …
///     request.extensions_mut().insert(Identity::new("ada", began));
///     request
/// }
///
/// async fn name(session: RequestSession) -> String {
///     session.identity().map_or_else(String::new, |identity| identity.user().to_owned())
/// }
///
/// let broker = broker::connect("memory:").await?;
/// let app = Router::new()
///     .route("/name", get(name))
///     .layer(middleware::map_request(authenticate))
///     .with_state(broker.clone());
/// let request = Request::get("/name").body(Body::empty()).unwrap();
/// assert_eq!(app.oneshot(request).await.unwrap().status(), StatusCode::OK);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "dropping it ends its streams and listeners"]
pub struct RequestSession(pub Session);

/// The same for a user alone. Its session always has an [`identity`](Session::identity).
///
/// # Rejections
/// As [`UserRejection`]: 401 for a request without an [`Identity`]; else those of [`RequestSession`].
///
/// ```
/// use broker::{Channel, Model, Scope};
/// use broker_axum::{HttpError, UserSession};
///
/// #[derive(serde::Serialize, serde::Deserialize, Model)]
/// struct Said { by: String, text: String }
///
/// async fn say(user: UserSession, text: String) -> Result<(), HttpError> {
///     let said = Said { by: user.name().to_owned(), text };
///     user.post_message("room", said, Scope::Global).await?;
///     Ok(())
/// }
/// # let _: axum::Router<broker::Broker> = axum::Router::new().route("/", axum::routing::post(say));
/// ```
#[derive(Debug)]
#[must_use = "dropping it ends its streams and listeners"]
pub struct UserSession(Session);

impl UserSession {
    /// The user.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.identity().map_or("", Identity::user)
    }

    /// The session.
    pub fn into_session(self) -> Session {
        self.0
    }
}

/// Why a request has no [`UserSession`].
///
/// As a response, the first is 401 with the body
/// `{"error":"unauthenticated","message":"the request is not authenticated; sign in"}`. A page can distinguish it from
/// `revoked`, the 401 of a sign-in that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UserRejection {
    /// The request has no [`Identity`]: it is of no user.
    Unauthenticated,
    /// The session of its user cannot be opened.
    Session(HttpError),
}

impl IntoResponse for UserRejection {
    fn into_response(self) -> Response {
        match self {
            Self::Unauthenticated => {
                (StatusCode::UNAUTHORIZED, body("unauthenticated", UNAUTHENTICATED)).into_response()
            }
            Self::Session(error) => error.into_response(),
        }
    }
}

impl fmt::Display for UserRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unauthenticated => f.write_str(UNAUTHENTICATED),
            Self::Session(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for UserRejection {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unauthenticated => None,
            Self::Session(error) => error.source(),
        }
    }
}

impl<S> FromRequestParts<S> for RequestSession
where
    Broker: FromRef<S>,
    S: Sync,
{
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let broker = Broker::from_ref(state);
        match parts.extensions.get::<Identity>().cloned() {
            Some(identity) => Ok(Self(broker.session_for(identity).await?)),
            None => Ok(Self(broker.session())),
        }
    }
}

impl<S> FromRequestParts<S> for UserSession
where
    Broker: FromRef<S>,
    S: Sync,
{
    type Rejection = UserRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, UserRejection> {
        if parts.extensions.get::<Identity>().is_none() {
            return Err(UserRejection::Unauthenticated);
        }
        let session = RequestSession::from_request_parts(parts, state).await;
        session.map(|session| Self(session.0)).map_err(UserRejection::Session)
    }
}

impl Deref for RequestSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl Deref for UserSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}
