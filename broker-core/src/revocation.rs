//! Identity, Revocation: whose session it is, what can be taken back, and what that hits. Follows Serverpod's
//! `authenticationRevoked`, which knows the same three forms.

pub(crate) mod record;
pub(crate) mod register;

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant, SystemTime},
};

use crate::{Error, ErrorKind, Result, channel::shown, driver::LogBreak};

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
    /// compared with an allowance for clocks that differ ([`Options::clock_skew`](crate::Options::clock_skew)).
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

    pub(crate) fn check(&self) -> Result<()> {
        check_id("user", &self.user)?;
        self.auth_id.iter().try_for_each(|id| check_id("auth id", id))?;
        check_scopes(&self.scopes)
    }
}

/// When an authentication began: an [`Instant`] of this process, or a [`SystemTime`] of any server.
#[derive(Clone, Copy, Debug)]
pub struct AuthenticatedAt {
    wall: SystemTime,
    /// Of this process; it knows no skew.
    here: Option<Instant>,
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
                return Self { wall, here: Some(here) };
            }
        }
    }
}

impl From<SystemTime> for AuthenticatedAt {
    fn from(wall: SystemTime) -> Self {
        Self { wall, here: None }
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
pub enum Doubt {
    /// The revocation log lost records; see [`on_log_break`](crate::Options::on_log_break).
    LogBroken(LogBreak),
    /// The server was cut off from a backend that keeps no log; see
    /// [`on_unlogged_gap`](crate::Options::on_unlogged_gap).
    Unlogged,
    /// The log has been out of reach for longer than [`revocation_lease`](crate::Options::revocation_lease).
    LeaseExpired,
}

impl fmt::Display for Doubt {
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
