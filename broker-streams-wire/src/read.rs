//! Reading: text to a frame, in one pass.

use std::{borrow::Cow, error::Error, fmt};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{CallId, Close, CloseReason, Flow, Frame, Gap, Item, Open, OpenResult, Opened, Target, object};

/// Whether both ends have agreed on the extension `x1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// The eight frames, without any member of the extension.
    Plain,
    /// The frames and members of the extension, too.
    X1,
}

/// Why a text is no frame. It says nothing of what the text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadFrame {
    /// It is not JSON, or not an object with a type.
    Format,
    /// There is no such type.
    UnknownType,
    /// A member is missing, or is not what it should be.
    Member(&'static str),
}

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str("it is not a JSON object with a type"),
            Self::UnknownType => f.write_str("there is no frame of its type"),
            Self::Member(name) => write!(f, "its member `{name}` is missing, or is not what it should be"),
        }
    }
}

impl Error for BadFrame {}

/// The whole of a frame. Every kind's members are read at once, as pieces of text: the type may come last, and what is no
/// member of its kind is of no interest.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: &'a RawValue,
    #[serde(borrow, default, deserialize_with = "object::optional")]
    data: Option<Members<'a>>,
}

#[derive(Default, Deserialize)]
struct Members<'a> {
    #[serde(borrow, default)]
    en: Option<&'a RawValue>,
    #[serde(borrow, default)]
    m: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cid: Option<&'a RawValue>,
    #[serde(borrow, default)]
    p: Option<&'a RawValue>,
    #[serde(borrow, default)]
    o: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ex: Option<&'a RawValue>,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "is")]
    inputs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    auth: Option<&'a RawValue>,
    #[serde(borrow, default)]
    am: Option<&'a RawValue>,
    #[serde(borrow, default)]
    res: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cr: Option<&'a RawValue>,
    #[serde(borrow, default)]
    req: Option<&'a RawValue>,
    // Of the extension.
    #[serde(borrow, default)]
    x: Option<&'a RawValue>,
    #[serde(borrow, default)]
    k: Option<&'a RawValue>,
    #[serde(borrow, default)]
    why: Option<&'a RawValue>,
    #[serde(borrow, default)]
    got: Option<&'a RawValue>,
    #[serde(borrow, default)]
    n: Option<&'a RawValue>,
    #[serde(borrow, default)]
    c: Option<&'a RawValue>,
}

/// The object of a value or fault.
#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(borrow, rename = "className")]
    class_name: &'a RawValue,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// A frame whose data are read later, or not at all.
#[derive(Deserialize)]
struct Bare<'a> {
    #[serde(borrow, rename = "type")]
    kind: &'a RawValue,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

impl<'a> Frame<'a> {
    /// Reads a frame.
    ///
    /// Members that are not known are ignored, those of the extension too, unless it is agreed on.
    ///
    /// # Errors
    /// [`BadFrame`]. Where one is read, `brm` is sent, and the socket is closed.
    pub fn read(text: &'a str, extension: Extension) -> Result<Self, BadFrame> {
        let Ok(envelope) = object::read::<Envelope<'a>>(text) else { return bare(text, extension) };
        let kind = string(envelope.kind).ok_or(BadFrame::Format)?;
        envelope.data.unwrap_or_default().into_frame(&kind, text, extension)
    }
}

/// A frame without data that count, beside which there is something that is no object.
fn bare(text: &str, extension: Extension) -> Result<Frame<'_>, BadFrame> {
    let bare: Bare<'_> = object::read(text).map_err(|_| BadFrame::Format)?;
    let kind = string(bare.kind).ok_or(BadFrame::Format)?;
    match &*kind {
        "ping" | "pong" if bare.data.is_some() => Members::default().into_frame(&kind, text, extension),
        "ping" | "pong" => Err(BadFrame::Format),
        _ if is_known(&kind, extension) => Err(BadFrame::Member("data")),
        _ => Err(BadFrame::UnknownType),
    }
}

fn is_known(kind: &str, extension: Extension) -> bool {
    matches!(kind, "omsc" | "omsr" | "cmsc" | "msm" | "msse" | "brm")
        || extension == Extension::X1
            && matches!(kind, "flow" | "gap" | "auth" | "authr" | "rsm" | "rsr" | "bye")
}

impl<'a> Members<'a> {
    fn into_frame(self, kind: &str, text: &'a str, extension: Extension) -> Result<Frame<'a>, BadFrame> {
        let x1 = extension == Extension::X1;
        match kind {
            "msm" => Ok(Frame::Value(self.item("o", self.o, x1)?)),
            "msse" => Ok(Frame::Fault(self.item("ex", self.ex, false)?)),
            "cmsc" => self.close(x1),
            "omsc" => self.open(x1),
            "omsr" => self.opened(x1),
            "brm" => Ok(Frame::BadRequest(required("req", self.req)?)),
            // The agreement is made here, so that it is read whatever was agreed.
            "ping" => Ok(Frame::Ping(agreement(text))),
            "pong" => Ok(Frame::Pong(agreement(text))),
            "flow" if x1 => Ok(Frame::Flow(Flow {
                call: call_id(self.cid)?,
                parameter: optional("p", self.p)?,
                got: number("got", self.got.ok_or(BadFrame::Member("got"))?)?,
            })),
            "gap" if x1 => Ok(Frame::Gap(Gap {
                missed: self.n.map(|n| number("n", n)).transpose()?,
                cause: required("c", self.c)?,
                target: self.target()?,
            })),
            "auth" if x1 => Ok(Frame::Authenticate(whole(text, "auth")?)),
            "authr" if x1 => Ok(Frame::Authenticated(whole(text, "res")?)),
            "rsm" if x1 => Ok(Frame::Resume(whole(text, "calls")?)),
            "rsr" if x1 => Ok(Frame::Resumed(whole(text, "calls")?)),
            "bye" if x1 => Ok(Frame::Bye(whole(text, "within")?)),
            _ => Err(BadFrame::UnknownType),
        }
    }

    fn target(&self) -> Result<Target<'a>, BadFrame> {
        Ok(Target {
            endpoint: required("en", self.en)?,
            method: required("m", self.m)?,
            call: call_id(self.cid)?,
        })
    }

    fn item(&self, name: &'static str, object: Option<&'a RawValue>, x1: bool) -> Result<Item<'a>, BadFrame> {
        let object = object.ok_or(BadFrame::Member(name))?;
        let typed: Typed<'a> = object::read(object.get()).map_err(|_| BadFrame::Member(name))?;
        Ok(Item {
            target: self.target()?,
            parameter: optional("p", self.p)?,
            class_name: string(typed.class_name).ok_or(BadFrame::Member("className"))?,
            json: typed.data.get(),
            cursor: if x1 { optional("k", self.k)? } else { None },
        })
    }

    fn close(&self, x1: bool) -> Result<Frame<'a>, BadFrame> {
        let reason = match &*required("cr", self.cr)? {
            "done" => CloseReason::Done,
            "error" => CloseReason::Error,
            _ => return Err(BadFrame::Member("cr")),
        };
        Ok(Frame::Close(Close {
            target: self.target()?,
            parameter: optional("p", self.p)?,
            reason,
            why: if x1 { typed("why", self.why)? } else { None },
        }))
    }

    fn open(&self, x1: bool) -> Result<Frame<'a>, BadFrame> {
        let inputs = self.inputs.ok_or(BadFrame::Member("is"))?;
        let inputs: Vec<&'a RawValue> =
            serde_json::from_str(inputs.get()).map_err(|_| BadFrame::Member("is"))?;
        let inputs = inputs.into_iter().map(string).collect::<Option<_>>();
        Ok(Frame::Open(Box::new(Open {
            target: self.target()?,
            args: required("args", self.args)?,
            inputs: inputs.ok_or(BadFrame::Member("is"))?,
            auth: optional("auth", self.auth)?,
            auth_mode: optional("am", self.am)?,
            extra: if x1 { typed("x", self.x)? } else { None },
        })))
    }

    fn opened(&self, x1: bool) -> Result<Frame<'a>, BadFrame> {
        let word = required("res", self.res)?;
        let result = OpenResult::of(&word);
        Ok(Frame::Opened(Opened {
            target: self.target()?,
            result: result.ok_or(BadFrame::Member("res"))?,
            extra: if x1 { typed("x", self.x)? } else { None },
        }))
    }
}

/// A string, borrowed where it has no escapes. `None` if it is none.
fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let text = raw.get();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str::<String>(text).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

fn required<'a>(name: &'static str, raw: Option<&'a RawValue>) -> Result<Cow<'a, str>, BadFrame> {
    raw.and_then(string).ok_or(BadFrame::Member(name))
}

fn optional<'a>(name: &'static str, raw: Option<&'a RawValue>) -> Result<Option<Cow<'a, str>>, BadFrame> {
    raw.map(|raw| string(raw).ok_or(BadFrame::Member(name))).transpose()
}

/// An object of the extension.
fn typed<T: DeserializeOwned>(name: &'static str, raw: Option<&RawValue>) -> Result<Option<T>, BadFrame> {
    raw.map(|raw| object::read(raw.get()).map_err(|_| BadFrame::Member(name))).transpose()
}

fn number(name: &'static str, raw: &RawValue) -> Result<u64, BadFrame> {
    raw.get().parse().map_err(|_| BadFrame::Member(name))
}

fn call_id(raw: Option<&RawValue>) -> Result<CallId, BadFrame> {
    raw.and_then(string).and_then(|text| CallId::new(&text)).ok_or(BadFrame::Member("cid"))
}

/// All data of a frame that is rare, read anew.
fn whole<T: DeserializeOwned>(text: &str, name: &'static str) -> Result<T, BadFrame> {
    let data = object::read::<Bare<'_>>(text).ok().and_then(|bare| object::read(bare.data?.get()).ok());
    data.ok_or(BadFrame::Member(name))
}

/// What a ping or pong offers. Something else is no error: the eight frames carry no data there, and ignore them.
fn agreement<T: DeserializeOwned>(text: &str) -> Option<T> {
    whole(text, "x").ok()
}
