//! Sign-in: a name gives a token, and a token says who calls, on every server.
//!
//! Names are believed, and tokens are not signed: this is a demonstration. What is real is the date in a token: one
//! that was made before its user signed out everywhere is refused on every server, also on one that was restarted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use broker::{Broker, ErrorKind, Identity, Revocation};
use broker_streams::{Authenticated, Authenticator, Credentials, Failure};

/// The longest name of a person, in characters.
const NAME: usize = 24;
/// A sign-in waits at most so long for the end of the time in which its date is that of a revocation.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes tokens and reads them.
#[derive(Clone)]
pub(crate) struct Tokens(Broker);

/// What a token says.
struct Token {
    name: String,
    since: SystemTime,
}

impl Tokens {
    pub(crate) fn new(broker: Broker) -> Self {
        Self(broker)
    }

    /// `POST /sign-in` with a name, and `POST /sign-out-everywhere` with a token.
    pub(crate) fn routes(&self) -> Router {
        Router::new()
            .route("/sign-in", post(sign_in))
            .route("/sign-out-everywhere", post(sign_out_everywhere))
            .layer(DefaultBodyLimit::max(256))
            .with_state(self.clone())
    }

    /// Whether the user has not signed out since. A session says so; it is not needed any further.
    async fn check(&self, token: &Token) -> Result<(), broker::Error> {
        let identity = Identity::new(&token.name, token.since);
        self.0.session_for(identity).await.map(|session| session.close())
    }

    /// Who shows this token; `None` if it is none, or not good any more.
    async fn read(&self, text: &str) -> Result<Option<String>, broker::Error> {
        let Some(token) = Token::read(text) else { return Ok(None) };
        match self.check(&token).await {
            Ok(()) => Ok(Some(token.name)),
            Err(error) if matches!(error.kind(), ErrorKind::Revoked | ErrorKind::InvalidInput) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A token that is good: just after a sign-out a date says nothing for a moment.
    async fn make(&self, name: String) -> Result<Token, broker::Error> {
        let mut token = Token { name, since: SystemTime::now() };
        let Err(error) = self.check(&token).await else { return Ok(token) };
        let Some(wait) = error.retry_after().filter(|wait| *wait <= PATIENCE) else { return Err(error) };
        tokio::time::sleep(wait).await;
        token.since = SystemTime::now();
        self.check(&token).await.map(|()| token)
    }
}

impl Token {
    fn write(&self) -> String {
        let since = self.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        format!("{}.{since}", URL_SAFE_NO_PAD.encode(&self.name))
    }

    fn read(text: &str) -> Option<Self> {
        let (name, since) = text.split_once('.')?;
        let name = String::from_utf8(URL_SAFE_NO_PAD.decode(name).ok()?).ok()?;
        let since = UNIX_EPOCH.checked_add(Duration::from_millis(since.parse().ok()?))?;
        is_name(&name).then_some(Self { name, since })
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.trim() == name
        && name.chars().count() <= NAME
        && !name.chars().any(char::is_control)
}

/// The server dates the session by the call, so that the date of the token is looked at here.
impl Authenticator for Tokens {
    async fn authenticate(&self, credentials: Credentials) -> Result<Option<Authenticated>, Failure> {
        Ok(self.read(credentials.secret()).await?.map(Authenticated::new))
    }
}

async fn sign_in(State(tokens): State<Tokens>, name: String) -> Response {
    let name = name.trim();
    if !is_name(name) {
        return (StatusCode::BAD_REQUEST, "a name has 1 to 24 characters").into_response();
    }
    match tokens.make(name.to_owned()).await {
        Ok(token) => ([(header::CACHE_CONTROL, "no-store")], token.write()).into_response(),
        Err(error) => unavailable(&error),
    }
}

async fn sign_out_everywhere(State(tokens): State<Tokens>, headers: HeaderMap) -> Response {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(text) = shown.and_then(|value| value.strip_prefix("Bearer ")) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let revoked = match tokens.read(text).await {
        Ok(Some(name)) => tokens.0.revoke(Revocation::user(name)).await,
        Ok(None) => return StatusCode::UNAUTHORIZED.into_response(),
        Err(error) => Err(error),
    };
    match revoked {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => unavailable(&error),
    }
}

fn unavailable(error: &broker::Error) -> Response {
    let text = error.public_message().to_owned();
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "2")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_was_written() {
        let since = UNIX_EPOCH + Duration::from_millis(1_790_000_000_123);
        let token = Token::read(&Token { name: "Ada Ł.".to_owned(), since }.write()).expect("a token");
        assert_eq!((token.name.as_str(), token.since), ("Ada Ł.", since));
    }

    #[test]
    fn anything_else_is_no_token() {
        let name = |name: &str| URL_SAFE_NO_PAD.encode(name);
        let good = format!("{}.1", name("ada"));
        assert!(Token::read(&good).is_some());
        let long = "a".repeat(NAME + 1);
        for text in [
            String::new(),
            ".".to_owned(),
            "ada.1".to_owned() + "x",
            format!("{}.1", name("")),
            format!("{}.1", name(" ada")),
            format!("{}.1", name("a\nb")),
            format!("{}.1", name(&long)),
            format!("{}.-1", name("ada")),
            format!("{}.{}0", name("ada"), u64::MAX),
        ] {
            assert!(Token::read(&text).is_none(), "{text}");
        }
    }
}
