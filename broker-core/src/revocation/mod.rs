//! Identity, Revocation: whose session it is, what can be taken back, and what that hits. Follows Serverpod's
//! `authenticationRevoked`, which knows the same three forms.

pub(crate) mod log_state;
mod log_sync;
pub(crate) mod record;
pub(crate) mod registry;

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant, SystemTime},
};

use crate::{Error, ErrorKind, Result, channel::shown, driver::LogDiscontinuity};

/// The longest user or authentication id, in bytes.
const MAX_ID: usize = 512;
/// The longest name of a scope, in bytes, and the most of them.
const MAX_SCOPE: usize = 128;
const MAX_SCOPES: usize = 32;

/// Who a session belongs to, by what authentication, and since when. Given to
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
    user: String,
    auth_id: Option<String>,
    scopes: BTreeSet<String>,
    authenticated_at: AuthenticatedAt,
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
                        "the authentication is dated {ahead:.0?} in the future: check the clock of whoever issued it"
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
///   it: nobody can tell which. So a server that issues its own tokens better dates them in microseconds, in a claim of
///   its own, and says so with [`issued_here`](Self::issued_here): who signs in on the next line is let in.
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
/// // Issued by whomever, in whole seconds: the client has to wait, and to sign in again.
/// let other = |claims: &Claims| Identity::new(&claims.sub, UNIX_EPOCH + Duration::from_secs(claims.iat));
/// let error = broker.session_for(other(&issue())).await.unwrap_err();
/// let wait = error.retry_after().expect("a time to wait");
/// tokio::time::sleep(wait).await;
/// broker.session_for(other(&issue())).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AuthenticatedAt {
    wall: SystemTime,
    clock: Clock,
}

/// Whose clock has dated it.
#[derive(Clone, Copy, Debug)]
enum Clock {
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

/// What is taken back, and from whom. Given to
/// [`Session::revoke_authentication`](crate::Session::revoke_authentication).
///
/// ```
/// use broker::Revocation;
///
/// Revocation::user("ada");                       // every session of ada
/// Revocation::auth_id("ada", "key-7");           // those that were opened with this key
/// Revocation::scopes("ada", ["admin", "board"]); // those that require one of these scopes
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    user: String,
    what: Revoked,
    effective: Option<SystemTime>,
}

/// What was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Revoked {
    /// Every authentication of the user.
    User,
    /// One of them.
    AuthId(String),
    /// Scopes: it ends the sessions that require one of them.
    Scopes(BTreeSet<String>),
}

impl Revocation {
    /// Every authentication of a user: to sign out everywhere.
    pub fn user(user: impl Into<String>) -> Self {
        Self { user: user.into(), what: Revoked::User, effective: None }
    }

    /// One authentication of a user, by the id in [`Identity::with_auth_id`].
    pub fn auth_id(user: impl Into<String>, id: impl Into<String>) -> Self {
        Self { user: user.into(), what: Revoked::AuthId(id.into()), effective: None }
    }

    /// Scopes of a user: hits a session that requires any of them.
    pub fn scopes(user: impl Into<String>, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let scopes = scopes.into_iter().map(Into::into).collect();
        Self { user: user.into(), what: Revoked::Scopes(scopes), effective: None }
    }

    /// Says when it took effect, where that was not just now: whoever authenticated after that moment is not hit.
    /// Default: the moment of the call, by this server's clock.
    #[must_use]
    pub fn effective(mut self, at: SystemTime) -> Self {
        self.effective = Some(at);
        self
    }

    /// From whom.
    #[must_use]
    pub fn of(&self) -> &str {
        &self.user
    }

    /// What.
    #[must_use]
    pub fn what(&self) -> &Revoked {
        &self.what
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_id("user", &self.user)?;
        match &self.what {
            Revoked::User => Ok(()),
            Revoked::AuthId(id) => check_id("auth id", id),
            Revoked::Scopes(scopes) if scopes.is_empty() => {
                Err(invalid("no scopes: name one at least, or revoke the user".to_owned()))
            }
            Revoked::Scopes(scopes) => check_scopes(scopes),
        }
    }
}

impl Revoked {
    /// Whether it is about this identity, whenever that began.
    pub(crate) fn hits(&self, identity: &Identity) -> bool {
        match self {
            Self::User => true,
            Self::AuthId(id) => identity.auth_id.as_ref() == Some(id),
            Self::Scopes(scopes) => !scopes.is_disjoint(&identity.scopes),
        }
    }
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "every authentication of the user",
            Self::AuthId(_) => "this authentication of the user",
            Self::Scopes(_) => "a scope that the session requires",
        })
    }
}

/// How far a revocation that returned without an error has come. On this server it is in force in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RevocationOutcome {
    /// It is in the backend's log: every other server learns of it, also one that is cut off, down, or starts within
    /// [`revocation_retention`](crate::Options::revocation_retention).
    Logged,
    /// The server keeps no log. Every server that is connected now has been told; one that is cut off closes what it
    /// cannot vouch for when it is back, see [`on_unlogged_gap`](crate::Options::on_unlogged_gap).
    Announced,
    /// The broker has no backend: there is no other server.
    Local,
}

/// Why a server cannot tell any more whether an authentication still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Uncertainty {
    /// The revocation log lost records; see [`on_log_break`](crate::Options::on_log_break).
    LogBroken(LogDiscontinuity),
    /// The server was cut off from a backend that keeps no log; see
    /// [`on_unlogged_gap`](crate::Options::on_unlogged_gap).
    Unlogged,
    /// The log has been out of reach for longer than [`revocation_lease`](crate::Options::revocation_lease).
    LeaseExpired,
}

impl fmt::Display for Uncertainty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LogBroken(why) => write!(f, "the revocation log lost records: {why}"),
            Self::Unlogged => f.write_str("this server was cut off, and the backend keeps no revocation log"),
            Self::LeaseExpired => f.write_str("the revocation log was out of reach for too long"),
        }
    }
}

fn check_id(what: &str, id: &str) -> Result<()> {
    if (1..=MAX_ID).contains(&id.len()) {
        return Ok(());
    }
    Err(invalid(format!("the {what} {} has {} bytes: give 1 to {MAX_ID}", shown(id), id.len())))
}

fn check_scopes(scopes: &BTreeSet<String>) -> Result<()> {
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

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_hits_what_it_names() {
        let identity = Identity::new("ada", Instant::now()).with_auth_id("k1").with_scopes(["a", "b"]);
        let plain = Identity::new("ada", Instant::now());
        for (revocation, hit, hit_plain) in [
            (Revocation::user("ada"), true, true),
            (Revocation::auth_id("ada", "k1"), true, false),
            (Revocation::auth_id("ada", "k2"), false, false),
            (Revocation::scopes("ada", ["b", "c"]), true, false),
            (Revocation::scopes("ada", ["c"]), false, false),
        ] {
            assert_eq!(revocation.what().hits(&identity), hit, "{revocation:?}");
            assert_eq!(revocation.what().hits(&plain), hit_plain, "{revocation:?}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let long = "x".repeat(MAX_ID + 1);
        let many = (0..=MAX_SCOPES).map(|n| n.to_string());
        for revocation in [
            Revocation::user(""),
            Revocation::user(&long),
            Revocation::auth_id("ada", ""),
            Revocation::scopes("ada", Vec::<String>::new()),
            Revocation::scopes("ada", [""]),
            Revocation::scopes("ada", ["x".repeat(MAX_SCOPE + 1)]),
            Revocation::scopes("ada", many),
        ] {
            let error = revocation.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.message().contains("give") || error.message().contains("name one"), "{error}");
        }
        assert!(Identity::new("", Instant::now()).check().is_err());
        assert!(Identity::new("ada", Instant::now()).with_auth_id(long).check().is_err());
        assert!(Identity::new("ada", Instant::now()).with_scopes([""]).check().is_err());
    }
}
