//! Who a token is: `user/id/scope/milliseconds`, of which all but the user may be missing.

use std::time::{Duration, SystemTime};

use broker_streams::{Authenticated, Authenticator, Credentials, Failure, Scheme};

use crate::Notes;

pub(crate) struct Tokens(pub(crate) Notes);

impl Authenticator for Tokens {
    async fn authenticate(&self, shown: Credentials) -> Result<Option<Authenticated>, Failure> {
        self.0.add(format!("asked at {}", shown.uri()));
        let token = match shown.scheme() {
            Scheme::Cookie => shown.cookie("token").unwrap_or_default(),
            _ => shown.secret(),
        };
        let mut parts = token.split('/').map(str::to_owned);
        let Some(user) = parts.next().filter(|user| !user.is_empty() && user != "nobody") else {
            return Ok(None);
        };
        let mut known = Authenticated::new(user);
        if let Some(id) = parts.next().filter(|id| !id.is_empty()) {
            known = known.with_auth_id(id);
        }
        known = known.with_scopes(parts.next().filter(|scope| !scope.is_empty()));
        if let Some(left) = parts.next().and_then(|ms| ms.parse().ok()) {
            known = known.until(SystemTime::now() + Duration::from_millis(left));
        }
        Ok(Some(known))
    }
}
