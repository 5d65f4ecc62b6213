//! Scanning: the frame of a value, in the form in which every known client writes it, without a JSON parser.

use std::borrow::Cow;

use crate::{CallId, Item, Target};

/// Finds the parts of a value's frame by the text between them. The value itself is the rest of the text before
/// `}}}`, whatever that is: **whoever reads it as JSON must read all of it**. Then the frame was valid, too, and is the one that
/// [`Frame::read`](crate::Frame::read) finds; else that one has to look.
///
/// `None` for every other frame, and for a value's frame in another form.
#[must_use]
pub fn scan(text: &str) -> Option<Item<'_>> {
    let rest = text.strip_prefix(r#"{"type":"msm","data":{"en":""#)?;
    let (endpoint, rest) = plain(rest)?;
    let (method, rest) = plain(rest.strip_prefix(r#","m":""#)?)?;
    let (call, rest) = plain(rest.strip_prefix(r#","cid":""#)?)?;
    let (parameter, rest) = match rest.strip_prefix(r#","p":""#) {
        Some(rest) => plain(rest).map(|(parameter, rest)| (Some(Cow::Borrowed(parameter)), rest))?,
        None => (None, rest),
    };
    let (class_name, rest) = plain(rest.strip_prefix(r#","o":{"className":""#)?)?;
    let json = rest.strip_prefix(r#","data":"#)?.strip_suffix("}}}")?.trim_matches([' ', '\t', '\n', '\r']);
    Some(Item {
        target: Target { endpoint: endpoint.into(), method: method.into(), call: CallId::new(call)? },
        parameter,
        class_name: class_name.into(),
        json,
        cursor: None,
    })
}

/// The text before the next quote, and that behind it. `None` if there are escapes, or what JSON does not allow in a
/// string.
fn plain(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().position(|byte| byte == b'"' || byte == b'\\' || byte < b' ')?;
    let (inner, rest) = text.split_at(end);
    Some((inner, rest.strip_prefix('"')?))
}
