//! What the raw client does on a socket with the extension.

use serde_json::{Value, json};

use crate::support::{Raw, id, open};

impl Raw {
    /// A socket on which the extension was agreed on.
    pub(crate) async fn extended(url: &str) -> (Self, Value) {
        let mut raw = Self(Self::connect(url).await.0, true);
        raw.text(r#"{"type":"ping","data":{"x":1}}"#).await;
        let pong = raw.next().await;
        assert_eq!((&pong["type"], &pong["data"]["x"]), (&json!("pong"), &json!(1)));
        (raw, pong)
    }

    /// Says that so many frames of a call's stream were consumed.
    pub(crate) async fn flow(&mut self, number: u32, got: u64) {
        self.json(&json!({"type": "flow", "data": {"cid": id(number), "got": got}})).await;
    }
}

/// An open with what the extension adds.
pub(crate) fn open_with(number: u32, method: &str, inputs: &[&str], extra: &Value) -> Value {
    let mut frame = open(number, "test", method, &json!({}), inputs);
    frame["data"]["x"] = extra.clone();
    frame
}
