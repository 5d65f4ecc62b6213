//! Record: a revocation as it stands in the log and in the announcement: JSON, so that an operator can read it.
//!
//! A reader passes over members that it does not know. A revocation of a kind that it does not know has neither
//! `auth_id` nor `scopes`, and so revokes the user: rather too much than too little.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Revocation, Revoked};
use crate::{Error, ErrorKind, NodeId, Result, driver::MAX_RECORD};

const VERSION: u8 = 1;

/// A record's id: the node that revoked, and which of its revocations it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RecordId {
    pub(crate) node: NodeId,
    pub(crate) number: u64,
}

/// One revocation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) id: RecordId,
    /// When it took effect, by the clock of the node that revoked.
    pub(crate) at: SystemTime,
    pub(crate) user: String,
    pub(crate) what: Revoked,
}

#[derive(Serialize, Deserialize)]
struct Json {
    v: u8,
    node: String,
    n: u64,
    /// Nanoseconds since 1970.
    at: u64,
    user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scopes: Option<BTreeSet<String>>,
}

impl Record {
    pub(crate) fn new(revocation: Revocation, id: RecordId) -> Self {
        let Revocation { user, what, effective } = revocation;
        // To the resolution of the wire, so that the record means the same here.
        let at = from_nanos(nanos(effective.unwrap_or_else(SystemTime::now)));
        Self { id, at, user, what }
    }

    pub(crate) fn encode(&self) -> Result<Bytes> {
        let (auth_id, scopes) = match &self.what {
            Revoked::User => (None, None),
            Revoked::AuthId(id) => (Some(id.clone()), None),
            Revoked::Scopes(scopes) => (None, Some(scopes.clone())),
        };
        let json = Json {
            v: VERSION,
            node: self.id.node.to_string(),
            n: self.id.number,
            at: nanos(self.at),
            user: self.user.clone(),
            auth_id,
            scopes,
        };
        let text = serde_json::to_vec(&json);
        text.map(Bytes::from).map_err(|error| Error::new(ErrorKind::Codec, error.to_string()))
    }

    /// Reads what may be anybody's; an error says what is wrong with it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() > MAX_RECORD {
            return Err("longer than any record");
        }
        let json: Json = serde_json::from_slice(bytes).map_err(|_| "not a revocation")?;
        if json.v != VERSION {
            return Err("a revocation of another version; upgrade this node");
        }
        let node = u64::from_str_radix(&json.node, 16).map_err(|_| "a revocation without a node")?;
        let what = match (json.auth_id, json.scopes) {
            (Some(id), None) => Revoked::AuthId(id),
            (None, Some(scopes)) => Revoked::Scopes(scopes),
            _ => Revoked::User,
        };
        let revocation = Revocation { user: json.user, what, effective: Some(from_nanos(json.at)) };
        revocation.check().map_err(|_| "a revocation that breaks the rules for users and scopes")?;
        Ok(Self::new(revocation, RecordId { node: NodeId::from_u64(node), number: json.n }))
    }
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn from_nanos(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: RecordId = RecordId { node: NodeId::from_u64(0x0102_0304_0506_0708), number: 9 };

    #[test]
    fn the_specified_text() {
        let at = UNIX_EPOCH + Duration::from_nanos(1_790_000_000_000_000_001);
        let record = Record::new(Revocation::auth_id("ada", "k1").effective(at), ID);
        let text =
            r#"{"v":1,"node":"0102030405060708","n":9,"at":1790000000000000001,"user":"ada","auth_id":"k1"}"#;
        assert_eq!(record.encode().unwrap(), text);
        assert_eq!(Record::decode(text.as_bytes()).unwrap(), record);
    }

    #[test]
    fn a_kind_of_later_versions_revokes_the_user() {
        let text = r#"{"v":1,"node":"1","n":9,"at":1,"user":"ada","device":"phone"}"#;
        assert_eq!(Record::decode(text.as_bytes()).unwrap().what, Revoked::User);
    }

    #[test]
    fn the_largest_record_fits() {
        let scopes: Vec<String> = (0..32).map(|n| format!("{n:02}{}", "\u{1}".repeat(126))).collect();
        let record = Record::new(Revocation::scopes("\u{1}".repeat(512), scopes), ID);
        assert!(record.encode().unwrap().len() <= MAX_RECORD);
    }

    #[test]
    fn an_invalid_record_is_refused() {
        for text in [
            "",
            "hello",
            r#"{"v":2,"node":"1","n":9,"at":1,"user":"ada"}"#,
            r#"{"v":1,"node":"x","n":9,"at":1,"user":"ada"}"#,
            r#"{"v":1,"node":"1","n":9,"at":-1,"user":"ada"}"#,
            r#"{"v":1,"node":"1","n":9,"at":1,"user":""}"#,
            r#"{"v":1,"node":"1","n":9,"at":1,"user":"ada","scopes":[]}"#,
        ] {
            assert!(Record::decode(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Record::decode(&vec![b' '; MAX_RECORD + 1]).is_err());
    }

    fn revocations() -> impl Strategy<Value = Revocation> {
        let what = prop_oneof![
            Just(Revoked::User),
            ".{1,80}".prop_map(Revoked::AuthId),
            prop::collection::btree_set(".{1,20}", 1..5).prop_map(Revoked::Scopes),
        ];
        (".{1,80}", what, any::<u64>()).prop_map(|(user, what, at)| Revocation {
            user,
            what,
            effective: Some(from_nanos(at)),
        })
    }

    proptest! {
        #[test]
        fn writing_and_reading_round_trips(revocation in revocations(), node: u64, number: u64) {
            let record = Record::new(revocation, RecordId { node: NodeId::from_u64(node), number });
            prop_assert_eq!(Record::decode(&record.encode().unwrap()).unwrap(), record);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Record::decode(&bytes);
        }
    }
}
