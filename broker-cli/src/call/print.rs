//! Print: what happens in a call, as lines for people or for programs. Nothing of the server moves the cursor.

use std::fmt::Write as _;

use broker_streams_client::{Again, CallError, Event, Resumption};
use serde_json::{Map, Value, json, value::RawValue};

use super::value::AnyValue;
use crate::failure::Failure;

/// Makes lines; JSON objects, if it is told to.
#[derive(Clone, Copy)]
pub(super) struct Printer(pub(super) bool);

/// What else an end says: the word for it, and the value.
type More = (&'static str, Value);

impl Printer {
    pub(super) fn event(self, event: &Event<AnyValue>) -> String {
        match event {
            Event::Value(value) if self.0 => {
                let json = one_line(&value.json);
                let value_of = RawValue::from_string(json).ok();
                let class = one_line(&Value::from(&*value.class_name).to_string());
                format!(
                    r#"{{"event":"value","class":{class},"value":{}}}"#,
                    value_of.as_deref().map_or("null", RawValue::get)
                )
            }
            Event::Value(value) => one_line(&value.json),
            Event::Gap { missed, cause } => {
                self.line("gap", &[("missed", json!(missed)), ("cause", json!(cause))])
            }
            Event::Resumed(how) => {
                let how = if *how == Resumption::Exact { "exactly" } else { "by cursor" };
                self.line("resumed", &[("how", json!(how))])
            }
            Event::Restarted => self.line("restarted", &[]),
            _ => self.line("unknown", &[]),
        }
    }

    /// A value that cannot be read.
    pub(super) fn unreadable(self, error: &CallError) -> String {
        self.line("unreadable", &[("why", json!(error.to_string()))])
    }

    /// The last line.
    pub(super) fn end(self, how: &'static str, more: Vec<More>) -> String {
        let mut members = vec![("how", json!(how))];
        members.extend(more);
        self.line("end", &members)
    }

    fn line(self, event: &str, members: &[More]) -> String {
        if self.0 {
            let members = members.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
            let object: Map<_, _> = [("event".to_owned(), json!(event))].into_iter().chain(members).collect();
            return one_line(&Value::Object(object).to_string());
        }
        let mut line = event.to_owned();
        for (name, value) in members {
            match value {
                Value::Null => {}
                Value::String(word) if *name == "how" => _ = write!(line, " {word}"),
                Value::String(word) if is_word(word) => _ = write!(line, " {name}={word}"),
                value => _ = write!(line, " {name}={value}"),
            }
        }
        one_line(&line)
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// JSON on one line. Control characters stand between its tokens, where they are white space, or in its texts, where
/// they can be escaped.
fn one_line(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            c if c.is_control() => _ = write!(line, "\\u{:04x}", u32::from(c)),
            c => line.push(c),
        }
    }
    line
}

/// The exit status for an error of a call, the word for how the call ended, and what else there is to say. Without a
/// word it was not the server that ended it, if there was a call.
pub(super) fn kind(error: &CallError) -> (u8, Option<&'static str>, Vec<More>) {
    match error {
        CallError::Fault(fault) => {
            let data = serde_json::from_str(fault.json()).unwrap_or(Value::Null);
            (3, Some("fault"), vec![("class", json!(fault.class_name())), ("data", data)])
        }
        CallError::Refused(result) => (4, Some("refused"), vec![("why", json!(result.as_str()))]),
        CallError::Closed { why, again } => {
            let why = why.map(|why| why.as_str());
            (5, Some("closed"), vec![("why", json!(why)), ("again", self::again(*again))])
        }
        CallError::Overflow => (5, Some("closed"), vec![("why", json!("overflow"))]),
        CallError::Unwritable(_) => (Failure::USAGE, None, Vec::new()),
        CallError::SocketLost
        | CallError::SocketClosed
        | CallError::ConnectFailed(_)
        | CallError::ConnectTimedOut
        | CallError::OpenTimedOut
        | CallError::IdleTimeout => (6, Some("lost"), Vec::new()),
        _ => (1, Some("failed"), Vec::new()),
    }
}

fn again(again: Again) -> Value {
    match again {
        Again::Now => json!("now"),
        Again::After(time) => json!(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        Again::SignIn => json!("signin"),
        _ => json!("never"),
    }
}
