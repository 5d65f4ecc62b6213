//! How Serverpod's servers tell each other of a revocation: a model of one of three classes, on a channel of the user.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Revocation, Revoked};
use crate::{ChannelName, Result, message::raw::envelope};

/// What stands before the user in the name of the channel.
const CHANNEL: &str = "_serverpod_revoked_authentication_";

const USER: &str = "serverpod.RevokedAuthenticationUser";
const AUTH_ID: &str = "serverpod.RevokedAuthenticationAuthId";
const SCOPES: &str = "serverpod.RevokedAuthenticationScope";

/// What the three classes hold, all together.
#[derive(Default, Serialize, Deserialize)]
struct Data {
    #[serde(rename = "authId", default, skip_serializing_if = "Option::is_none")]
    auth_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
}

/// The channel of a user's revocations.
pub(crate) fn channel(user: &str) -> Result<ChannelName> {
    ChannelName::new(format!("{CHANNEL}{user}"))
}

/// The user whose revocations come on a channel.
pub(crate) fn user_of(channel: &str) -> Option<&str> {
    channel.strip_prefix(CHANNEL)
}

/// The payload of a revocation. It has no date: it holds for what is open when it arrives.
pub(crate) fn encode(what: &Revoked) -> Bytes {
    let (class, data) = match what {
        Revoked::User => (USER, Data::default()),
        Revoked::AuthId(id) => (AUTH_ID, Data { auth_id: Some(id.clone()), ..Data::default() }),
        Revoked::Scopes(scopes) => {
            (SCOPES, Data { scopes: Some(scopes.iter().cloned().collect()), ..Data::default() })
        }
    };
    // Text and lists of it: this never fails.
    envelope::write(class, &serde_json::to_vec(&data).unwrap_or_else(|_| b"{}".to_vec()))
}

/// Reads what may be anybody's; an error says what is wrong with it.
pub(crate) fn decode(user: &str, payload: &[u8]) -> Result<Revocation, &'static str> {
    let (class, data) = envelope::read(payload).ok_or(envelope::NONE)?;
    let data = || serde_json::from_str::<Data>(data).map_err(|_| "not the members of the class");
    let revocation = match &*class {
        USER => Revocation::user(user),
        AUTH_ID => Revocation::auth_id(user, data()?.auth_id.ok_or("no `authId`")?),
        SCOPES => Revocation::scopes(user, data()?.scopes.ok_or("no `scopes`")?),
        _ => return Err("none of the three classes of a revocation"),
    };
    revocation.check().map_err(|_| "a revocation that breaks the rules for users and scopes")?;
    Ok(revocation)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_serverpods() {
        for (what, bytes) in [
            (
                Revocation::user("ada"),
                r#"{"className":"serverpod.RevokedAuthenticationUser","data":{"__className__":"serverpod.RevokedAuthenticationUser"}}"#,
            ),
            (
                Revocation::auth_id("ada", "k1"),
                r#"{"className":"serverpod.RevokedAuthenticationAuthId","data":{"__className__":"serverpod.RevokedAuthenticationAuthId","authId":"k1"}}"#,
            ),
            (
                Revocation::scopes("ada", ["admin", "board"]),
                r#"{"className":"serverpod.RevokedAuthenticationScope","data":{"__className__":"serverpod.RevokedAuthenticationScope","scopes":["admin","board"]}}"#,
            ),
        ] {
            assert_eq!(encode(what.what()), bytes);
            assert_eq!(decode("ada", bytes.as_bytes()), Ok(what));
        }
        assert_eq!(user_of(channel("42").unwrap().as_str()), Some("42"));
        assert!(channel("a b").is_err());
    }

    #[test]
    fn those_before_version_3_name_their_class_once() {
        let bytes = br#"{"className":"serverpod.RevokedAuthenticationAuthId","data":{"authId":"k1"}}"#;
        assert_eq!(decode("ada", bytes), Ok(Revocation::auth_id("ada", "k1")));
    }

    #[test]
    fn what_is_no_revocation_is_refused() {
        for text in [
            "",
            r#"{"className":"RevokedAuthenticationUser","data":{}}"#,
            r#"{"className":"serverpod.Other","data":{}}"#,
            r#"{"className":"serverpod.RevokedAuthenticationAuthId","data":{}}"#,
            r#"{"className":"serverpod.RevokedAuthenticationAuthId","data":7}"#,
            r#"{"className":"serverpod.RevokedAuthenticationAuthId","data":{"authId":""}}"#,
            r#"{"className":"serverpod.RevokedAuthenticationScope","data":{"scopes":[]}}"#,
            r#"{"className":"serverpod.RevokedAuthenticationScope","data":{"scopes":"admin"}}"#,
        ] {
            assert!(decode("ada", text.as_bytes()).is_err(), "{text}");
        }
        assert!(decode("", encode(&Revoked::User).as_ref()).is_err());
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>, user: String) {
            let _ = decode(&user, &bytes);
        }
    }
}
