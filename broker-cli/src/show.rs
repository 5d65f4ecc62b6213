//! Show: a message as a line, for people or for programs. What comes from the wire never moves the cursor.

use std::fmt::Write as _;

use base64::{Engine, engine::general_purpose::STANDARD};
use broker::{Codec, Event, Message};
use serde_json::{Map, Value, json};

/// A line for people: channel, type, payload, and the headers if they are asked for.
pub(crate) fn pretty(channel: &str, event: &Event, headers: bool) -> String {
    let mut line = printable(channel);
    match event {
        Event::Message(message) => {
            if let Some(name) = message.type_name() {
                let _ = write!(line, "  {}", printable(name));
            }
            if headers {
                for (name, value) in message.headers().iter() {
                    let _ = write!(line, "  {}={}", printable(name), printable(value));
                }
            }
            let _ = write!(line, "  {}", content(message));
        }
        Event::Gap(gap) => {
            let _ = write!(line, "  ! {gap}");
        }
        Event::Malformed(malformed) => {
            let _ = write!(line, "  ! {}", printable(&malformed.to_string()));
        }
        _ => line.push_str("  ! an event of a later version"),
    }
    line
}

fn content(message: &Message) -> String {
    match message.payload() {
        Ok(payload) => match std::str::from_utf8(&payload) {
            Ok(text) => printable(text),
            Err(_) => {
                let start: String = payload.iter().take(32).map(|byte| format!("{byte:02x}")).collect();
                let more = if payload.len() > 32 { "…" } else { "" };
                format!("({} bytes) {start}{more}", payload.len())
            }
        },
        Err(error) => format!("! {error}"),
    }
}

/// Control characters escaped: a payload must not be able to write over the line before it.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_debug()) } else { shown.push(c) }
    }
    shown
}

/// A line for programs: one JSON object, with `payload` as text or `payload_base64`.
pub(crate) fn json(channel: &str, event: &Event) -> String {
    let mut object = Map::from_iter([("channel".to_owned(), json!(channel))]);
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    match event {
        Event::Message(message) => {
            put("type", json!(message.type_name()));
            put("codec", json!(codec(message.codec())));
            let headers = message.headers().iter().map(|(name, value)| json!([name, value])).collect();
            put("headers", Value::Array(headers));
            put("id", json!(message.id().to_string()));
            match message.payload() {
                Ok(payload) => match std::str::from_utf8(&payload) {
                    Ok(text) => put("payload", json!(text)),
                    Err(_) => put("payload_base64", json!(STANDARD.encode(&payload))),
                },
                Err(error) => put("error", json!(error.to_string())),
            };
        }
        Event::Gap(gap) => {
            put("gap", json!({ "missed": gap.missed, "cause": format!("{:?}", gap.cause) }));
        }
        Event::Malformed(malformed) => {
            put("malformed", json!(malformed.reason()));
        }
        _ => {
            put("unknown", Value::Bool(true));
        }
    }
    Value::Object(object).to_string()
}

fn codec(codec: Codec) -> &'static str {
    match codec {
        Codec::Raw => "raw",
        Codec::Json => "json",
        Codec::MsgPack => "msgpack",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use broker::{Broker, Post, Scope};

    use super::*;

    async fn received(post: Post) -> Event {
        let broker = Broker::local();
        let mut news = broker.subscribe("news").await.expect("a subscription");
        broker.publish("news", post, Scope::Local).await.expect("a post");
        news.next().await.expect("an event")
    }

    #[tokio::test]
    async fn control_characters_are_escaped() {
        let event = received(Post::new("a\r\x1b[2Kb\nc")).await;
        assert_eq!(pretty("news", &event, false), "news  a\\r\\u{1b}[2Kb\\nc");
    }

    #[tokio::test]
    async fn bytes_are_shown_with_their_length_and_as_base64() {
        let event = received(Post::new(vec![0xff; 40])).await;
        assert!(pretty("news", &event, false).starts_with("news  (40 bytes) ffff"));
        let value: Value = serde_json::from_str(&json("news", &event)).expect("JSON");
        assert_eq!(value["payload_base64"], STANDARD.encode([0xff; 40]));
    }

    #[tokio::test]
    async fn headers_and_type_are_shown_on_request() {
        let post = Post::encoded("tick", Codec::Json, "{}").with_header("trace", "7");
        let event = received(post).await;
        assert_eq!(pretty("news", &event, true), "news  tick  trace=7  {}");
        let value: Value = serde_json::from_str(&json("news", &event)).expect("JSON");
        assert_eq!((&value["type"], &value["headers"][0][1]), (&json!("tick"), &json!("7")));
    }
}
