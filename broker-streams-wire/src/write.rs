//! Writing: frames as text, with their members in the order of Serverpod's encoder.

use std::fmt::{self, Write};

use serde::Serialize;

use crate::{Agreement, CallId, CloseReason, OpenExtra, OpenResult, OpenedExtra, Target, Why};

/// A string of JSON.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}

/// A value that serde always can write.
struct Json<'a, T>(&'a T);

impl<T: Serialize> fmt::Display for Json<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}

/// The members that say which call a frame is about.
struct Head<'a>(&'a Target<'a>);

impl fmt::Display for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { endpoint, method, call } = self.0;
        write!(f, r#""en":{},"m":{},"cid":"{call}""#, Quoted(endpoint), Quoted(method))
    }
}

/// One more member, if there is one.
struct Member<'a, T>(&'a str, Option<&'a T>);

impl<T: Serialize> fmt::Display for Member<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.1.map_or(Ok(()), |value| write!(f, r#","{}":{}"#, self.0, Json(value)))
    }
}

/// Writes of this module go to a string, which takes them all.
fn frame(arguments: fmt::Arguments<'_>) -> String {
    let mut text = String::with_capacity(192);
    // What serde cannot write is none of the types of this crate.
    let _ = text.write_fmt(arguments);
    text
}

/// `omsc`: opens a call.
#[must_use]
pub fn write_open(
    target: &Target<'_>,
    args: &str,
    inputs: &[&str],
    auth: Option<&str>,
    auth_mode: Option<&str>,
    extra: Option<&OpenExtra>,
) -> String {
    frame(format_args!(
        r#"{{"type":"omsc","data":{{{},"args":{},"is":{}{}{}{}}}}}"#,
        Head(target),
        Quoted(args),
        Json(&inputs),
        Member("auth", auth.as_ref()),
        Member("am", auth_mode.as_ref()),
        Member("x", extra),
    ))
}

/// `omsr`: answers an open.
#[must_use]
pub fn write_opened(target: &Target<'_>, result: OpenResult, extra: Option<&OpenedExtra>) -> String {
    let Target { endpoint, method, call } = target;
    frame(format_args!(
        r#"{{"type":"omsr","data":{{"cid":"{call}","res":"{}","en":{},"m":{}{}}}}}"#,
        result.as_str(),
        Quoted(endpoint),
        Quoted(method),
        Member("x", extra),
    ))
}

/// `cmsc`: ends a stream of a call.
#[must_use]
pub fn write_close(
    target: &Target<'_>,
    parameter: Option<&str>,
    reason: CloseReason,
    why: Option<&Why>,
) -> String {
    frame(format_args!(
        r#"{{"type":"cmsc","data":{{{}{},"cr":"{}"{}}}}}"#,
        Head(target),
        Member("p", parameter.as_ref()),
        reason.as_str(),
        Member("why", why),
    ))
}

/// `msse`: a fault, whose data are JSON.
#[must_use]
pub fn write_fault(target: &Target<'_>, parameter: Option<&str>, class_name: &str, json: &str) -> String {
    frame(format_args!(
        r#"{{"type":"msse","data":{{{}{},"ex":{{"className":{},"data":{json}}}}}}}"#,
        Head(target),
        Member("p", parameter.as_ref()),
        Quoted(class_name),
    ))
}

/// `brm`: says that a text could not be read.
#[must_use]
pub fn write_bad_request(request: &str) -> String {
    frame(format_args!(r#"{{"type":"brm","data":{{"req":{}}}}}"#, Quoted(request)))
}

/// `ping`, with what this end can do beyond the eight frames.
#[must_use]
pub fn write_ping(agreement: Option<&Agreement>) -> String {
    agreement.map_or_else(|| r#"{"type":"ping"}"#.to_owned(), |agreement| write_data("ping", agreement))
}

/// `pong`, with what both ends will do.
#[must_use]
pub fn write_pong(agreement: Option<&Agreement>) -> String {
    agreement.map_or_else(|| r#"{"type":"pong"}"#.to_owned(), |agreement| write_data("pong", agreement))
}

/// `flow`, of `x1`.
#[must_use]
pub fn write_flow(call: CallId, parameter: Option<&str>, got: u64) -> String {
    let parameter = Member("p", parameter.as_ref());
    frame(format_args!(r#"{{"type":"flow","data":{{"cid":"{call}"{parameter},"got":{got}}}}}"#))
}

/// `gap`, of `x1`.
#[must_use]
pub fn write_gap(target: &Target<'_>, missed: Option<u64>, cause: &str) -> String {
    frame(format_args!(
        r#"{{"type":"gap","data":{{{},"n":{},"c":{}}}}}"#,
        Head(target),
        Json(&missed),
        Quoted(cause),
    ))
}

/// Any frame of `x1` whose data serde writes: `auth`, `authr`, `rsm`, `rsr`, `bye`.
#[must_use]
pub fn write_data(kind: &str, data: &impl Serialize) -> String {
    frame(format_args!(r#"{{"type":"{kind}","data":{}}}"#, Json(data)))
}

/// What is behind a value, if there is no position.
const END: &[u8] = b"}}}";

/// Writes the values of one stream. All that is the same in each was written once.
#[derive(Clone, Debug)]
pub struct Values {
    before: Box<str>,
}

impl Values {
    /// For the stream that the method returns, or an input of it.
    #[must_use]
    pub fn new(target: &Target<'_>, parameter: Option<&str>) -> Self {
        let before = frame(format_args!(
            r#"{{"type":"msm","data":{{{}{},"o":{{"className":"#,
            Head(target),
            Member("p", parameter.as_ref()),
        ));
        Self { before: before.into() }
    }

    /// The frame of one value. `json` appends it to what it is given.
    ///
    /// # Errors
    /// That of `json`.
    pub fn write<E>(
        &self,
        class_name: &str,
        cursor: Option<&str>,
        json: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Vec<u8>, E> {
        let mut text = self.begin(class_name, 128);
        json(&mut text)?;
        match cursor {
            None => text.extend_from_slice(END),
            Some(cursor) => text.extend_from_slice(format!(r#"}},"k":{}}}}}"#, Quoted(cursor)).as_bytes()),
        }
        Ok(text)
    }

    /// The frame of a value that is written already, as JSON. It has no room for more, as a rule, so that it can be shared
    /// without another allocation.
    #[must_use]
    pub fn wrap(&self, class_name: &str, json: &[u8]) -> Vec<u8> {
        let mut text = self.begin(class_name, json.len() + END.len());
        text.extend_from_slice(json);
        text.extend_from_slice(END);
        text
    }

    /// The frame as far as its value, with room for so much more.
    fn begin(&self, class_name: &str, room: usize) -> Vec<u8> {
        const BETWEEN: &[u8] = br#","data":"#;
        let quoted = class_name.len() + 2;
        let mut text = Vec::with_capacity(self.before.len() + quoted + BETWEEN.len() + room);
        text.extend_from_slice(self.before.as_bytes());
        // Names of types have nothing to escape, as a rule.
        if class_name.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            text.push(b'"');
            text.extend_from_slice(class_name.as_bytes());
            text.push(b'"');
        } else {
            text.extend_from_slice(Quoted(class_name).to_string().as_bytes());
        }
        text.extend_from_slice(BETWEEN);
        text
    }
}
