//! Identity, Revocation: whose session it is, what can be taken back, and what that hits. Follows Serverpod's
//! `authenticationRevoked`, which knows the same three forms.

mod failure;
mod identity;
pub(crate) mod log_state;
mod log_sync;
pub(crate) mod record;
pub(crate) mod registry;
pub(crate) mod serverpod;

use std::{collections::BTreeSet, fmt, time::SystemTime};

use crate::{Result, driver::LogDiscontinuity};
use identity::{check_id, check_scopes, invalid};

pub(crate) use identity::Clock;
pub use identity::{AuthenticatedAt, Identity};

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

    /// Sets when it took effect, if not now: sessions authenticated after that moment are not affected.
    /// Default: the moment of the call, by this server's clock.
    #[must_use]
    pub fn effective(mut self, at: SystemTime) -> Self {
        self.effective = Some(at);
        self
    }

    /// The user whose authentication is taken back.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user
    }

    /// What is taken back.
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
            Self::Unlogged => {
                f.write_str("this server was disconnected, and the backend keeps no revocation log")
            }
            Self::LeaseExpired => f.write_str("the revocation log was out of reach for too long"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{
        identity::{MAX_ID, MAX_SCOPE, MAX_SCOPES},
        *,
    };
    use crate::ErrorKind;

    #[test]
    fn a_revocation_matches_what_it_names() {
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
    fn values_out_of_bounds_are_named() {
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
