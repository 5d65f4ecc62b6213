//! Identity: whose session it is, and since when that has been known.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime},
};

use crate::{Error, ErrorKind, Result, channel::shown};

/// The longest user or authentication id, in bytes.
pub(super) const MAX_ID: usize = 512;
/// The longest name of a scope, in bytes, and the most of them.
pub(super) const MAX_SCOPE: usize = 128;
pub(super) const MAX_SCOPES: usize = 32;

/// The user of a session, the authentication, and its time. Given to
/// [`Broker::session_for`](crate::Broker::session_for).
///
/// ```
/// use std::time::Instant;
/// use broker::Identity;
///
/// let began = Instant::now(); // before the token is looked at
/// // … check the token …
/// let identity = Identity::new("ada", began).with_auth_id("key-7").with_scopes(["admin"]);
/// assert_eq!(identity.user(), "ada");
/// ```
#[derive(Clone, Debug)]
pub struct Identity {
    pub(super) user: String,
    pub(super) auth_id: Option<String>,
    pub(super) scopes: BTreeSet<String>,
    pub(super) authenticated_at: AuthenticatedAt,
}

impl Identity {
    /// An identity of a user whose check **began** at `authenticated_at`.
    ///
    /// A revocation after that moment cuts the session, also one that happened while the check was under way; one
    /// before it does not. So take the [`Instant`] before you look at the token. Where nothing is looked up, and the
    /// token itself is proof, it is the [`SystemTime`] at which the token was issued, by whatever server: that is
    /// compared with an allowance for clocks that differ ([`Options::clock_skew`](crate::Options::clock_skew)). If this
    /// server has issued it, say so: [`AuthenticatedAt::issued_here`].
    pub fn new(user: impl Into<String>, authenticated_at: impl Into<AuthenticatedAt>) -> Self {
        let (user, authenticated_at) = (user.into(), authenticated_at.into());
        Self { user, auth_id: None, scopes: BTreeSet::new(), authenticated_at }
    }

    /// Names the authentication: the one key, token or sign-in among the user's that can be revoked by itself. It is
    /// stored in the log and shown by `Debug`: an id, never the secret.
    #[must_use]
    pub fn with_auth_id(mut self, id: impl Into<String>) -> Self {
        self.auth_id = Some(id.into());
        self
    }

    /// Names the scopes that the session *requires*: when one of them is taken from the user, it ends.
    #[must_use]
    pub fn with_scopes(mut self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.scopes.extend(scopes.into_iter().map(Into::into));
        self
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The id of the authentication, if it has one.
    #[must_use]
    pub fn auth_id(&self) -> Option<&str> {
        self.auth_id.as_deref()
    }

    /// The scopes that the session requires.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(String::as_str)
    }

    /// When the check began, by this server's clock; or when the token was issued, by that of its issuer.
    #[must_use]
    pub fn authenticated_at(&self) -> SystemTime {
        self.authenticated_at.wall
    }

    /// The same, dated no later than now: else no revocation would reach it before that time. By as much as clocks may
    /// differ a token may be ahead; one that is further ahead is nothing that can be relied on.
    pub(crate) fn until_now(&self, skew: Duration) -> Result<Self> {
        let (mut identity, now) = (self.clone(), SystemTime::now());
        let AuthenticatedAt { wall, clock } = &mut identity.authenticated_at;
        match clock {
            Clock::Process(here) => *here = (*here).min(Instant::now()),
            Clock::Server | Clock::Any => {
                let ahead = wall.duration_since(now).unwrap_or_default();
                if ahead > skew {
                    return Err(invalid(format!(
                        "the authentication is dated {ahead:.0?} in the future: check the clock of its issuer"
                    )));
                }
                if matches!(clock, Clock::Server) {
                    *wall = (*wall).min(now);
                }
            }
        }
        Ok(identity)
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_id("user", &self.user)?;
        self.auth_id.iter().try_for_each(|id| check_id("auth id", id))?;
        check_scopes(&self.scopes)
    }
}

/// When an authentication began: an [`Instant`] of this process, a [`SystemTime`] of any server, or one of
/// [this server](Self::issued_here).
///
/// # JSON Web Tokens
///
/// A token that is proof by itself is as old as its issuing, `iat`. After a revocation it makes a difference how that is
/// dated:
///
/// - Most tokens have whole seconds. What was issued in the second of a revocation is then refused, before it and after
///   it, since they cannot be told apart. So a server that issues its own tokens better dates them in microseconds, in a claim of
///   its own, and passes them by [`issued_here`](Self::issued_here): a sign-in right after the revocation is accepted.
/// - The token of another issuer is refused for [`clock_skew`](crate::Options::clock_skew) longer.
///   [`Error::retry_after`](crate::Error::retry_after) says when to sign in again.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), broker::Error> {
/// use std::time::{Duration, SystemTime, UNIX_EPOCH};
/// use broker::{AuthenticatedAt, ErrorKind, Identity, Revocation};
///
/// /// What the token says, once its signature and `exp` have been checked.
/// struct Claims { sub: String, jti: String, iat: u64, issued_us: u64 }
///
/// let issue = || {
///     let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
///     Claims { sub: "ada".into(), jti: "key-7".into(), iat: now.as_secs(), issued_us: now.as_micros() as u64 }
/// };
///
/// let broker = broker::connect("memory:").await?;
/// let (old, _) = (issue(), broker.revoke(Revocation::user("ada")).await?);
///
/// // Issued by this server, in microseconds.
/// let own = |claims: &Claims| {
///     let issued = AuthenticatedAt::issued_here(UNIX_EPOCH + Duration::from_micros(claims.issued_us));
///     Identity::new(&claims.sub, issued).with_auth_id(&claims.jti)
/// };
/// assert_eq!(broker.session_for(own(&old)).await.unwrap_err().kind(), ErrorKind::Revoked);
/// broker.session_for(own(&issue())).await?;
///
/// // Issued elsewhere, in whole seconds: the client has to wait, and to sign in again.
/// let other = |claims: &Claims| Identity::new(&claims.sub, UNIX_EPOCH + Duration::from_secs(claims.iat));
/// let error = broker.session_for(other(&issue())).await.unwrap_err();
/// let wait = error.retry_after().expect("a time to wait");
/// tokio::time::sleep(wait).await;
/// broker.session_for(other(&issue())).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AuthenticatedAt {
    pub(super) wall: SystemTime,
    pub(super) clock: Clock,
}

/// Whose clock has dated it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// The monotonic clock of this process. It is never set.
    Process(Instant),
    /// The clock of this server.
    Server,
    /// That of any server; it may be off by `clock_skew`.
    Any,
}

impl AuthenticatedAt {
    /// When **this server** issued the token, by its own clock: compared without an allowance for other clocks. So who
    /// signs in on this server after a revocation is let in from the next line on, if the time is exact; one that was cut
    /// to whole seconds is refused until the second of the revocation is over.
    ///
    /// Not for a token of another server: it might be let in though it was revoked.
    #[must_use]
    pub const fn issued_here(at: SystemTime) -> Self {
        Self { wall: at, clock: Clock::Server }
    }
}

impl From<Instant> for AuthenticatedAt {
    fn from(here: Instant) -> Self {
        // Between two looks at one clock, a look at the other: again if this thread was interrupted there. What is
        // still uncertain makes the moment earlier than it was.
        const CLOSE: Duration = Duration::from_micros(5);
        let mut tries = 0..8;
        loop {
            let before = Instant::now();
            let wall = SystemTime::now();
            let after = Instant::now();
            if after.duration_since(before) < CLOSE || tries.next().is_none() {
                let age = after.saturating_duration_since(here);
                let ahead = here.saturating_duration_since(after);
                let wall = wall.checked_sub(age).and_then(|wall| wall.checked_add(ahead)).unwrap_or(wall);
                return Self { wall, clock: Clock::Process(here) };
            }
        }
    }
}

impl From<SystemTime> for AuthenticatedAt {
    fn from(wall: SystemTime) -> Self {
        Self { wall, clock: Clock::Any }
    }
}

pub(super) fn check_id(what: &str, id: &str) -> Result<()> {
    if (1..=MAX_ID).contains(&id.len()) {
        return Ok(());
    }
    Err(invalid(format!("the {what} {} has {} bytes: give 1 to {MAX_ID}", shown(id), id.len())))
}

pub(super) fn check_scopes(scopes: &BTreeSet<String>) -> Result<()> {
    if scopes.len() > MAX_SCOPES {
        return Err(invalid(format!("{} scopes: give at most {MAX_SCOPES}", scopes.len())));
    }
    match scopes.iter().find(|scope| !(1..=MAX_SCOPE).contains(&scope.len())) {
        None => Ok(()),
        Some(scope) => {
            let length = scope.len();
            Err(invalid(format!("the scope {} has {length} bytes: give 1 to {MAX_SCOPE}", shown(scope))))
        }
    }
}

pub(super) fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}
