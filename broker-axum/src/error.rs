//! HttpError: an error of the broker as a response.

use std::{fmt, time::Duration};

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use broker_core::{Error, ErrorKind};
use serde_json::json;

/// When a client tries again where nothing better is known.
const SOON: Duration = Duration::from_secs(2);

/// An error of the broker as a response: with `?`, in a handler that returns `Result<_, HttpError>`.
///
/// | kind | status | |
/// |---|---|---|
/// | `InvalidInput` | 400 | |
/// | `Codec` | 422 | |
/// | `Revoked` | 401 | `Retry-After`, if a new sign-in would be refused until then |
/// | `TooLarge` | 413 | |
/// | `NoBackend`, `Unsupported` | 501 | |
/// | `Interrupted` | 502 | the message may have been delivered or not |
/// | `Unavailable`, `Overloaded`, `Closed` | 503 | `Retry-After` |
/// | `Timeout` | 504 | |
/// | `Forbidden`, `Misconfigured`, `Protocol`, `Other` | 500 | of the first: the backend refuses this service, whoever the client is |
///
/// The body is JSON: `error`, the kind, and `message`, the error's
/// [`public_message`](Error::public_message), which reveals nothing about the backend. What went wrong on the server's
/// side is logged in full, as a warning.
///
/// ```
/// use axum::{http::StatusCode, response::IntoResponse};
/// use broker::{Error, ErrorKind};
/// use broker_axum::HttpError;
///
/// let error = Error::new(ErrorKind::Unavailable, "no connection to 10.0.0.7:6379");
/// let response = HttpError::from(error).into_response();
/// assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct HttpError(pub Error);

impl HttpError {
    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.0.kind() {
            ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
            ErrorKind::Codec => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Revoked => StatusCode::UNAUTHORIZED,
            ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::NoBackend | ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
            ErrorKind::Interrupted => StatusCode::BAD_GATEWAY,
            ErrorKind::Unavailable | ErrorKind::Overloaded | ErrorKind::Closed => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// When the client may try again.
    fn retry_after(&self) -> Option<Duration> {
        let soon = self.status() == StatusCode::SERVICE_UNAVAILABLE;
        self.0.retry_after().or(soon.then_some(SOON))
    }

    /// Whether an operator has to learn of it, and would not by other means.
    fn is_a_fault(&self) -> bool {
        // After the end, every call fails.
        self.status().is_server_error() && self.0.kind() != ErrorKind::Closed
    }
}

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        if self.is_a_fault() {
            tracing::warn!("a request failed: {}", self.0);
        }
        let body = body(&self.0.kind().to_string(), self.0.public_message());
        let mut response = (self.status(), body).into_response();
        if let Some(wait) = self.retry_after() {
            // In whole seconds, and not too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

/// The body of every error: a word for a program, and a sentence.
pub(crate) fn body(error: &str, message: &str) -> impl IntoResponse + use<> {
    let body = json!({ "error": error, "message": message }).to_string();
    ([(CONTENT_TYPE, "application/json")], body)
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for HttpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
