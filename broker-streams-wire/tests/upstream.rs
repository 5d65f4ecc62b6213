//! What Serverpod's own tests ask of frames, by the numbers of the list of behaviours.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use broker_streams_wire::{BadFrame, CallId, CloseReason, Extension, Frame, OpenResult, Target};

const CID: &str = "6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11";

/// A text with the id of the call in it.
fn with_id(text: &str) -> String {
    text.replace("CID", CID)
}

fn read(text: &str) -> Result<Frame<'_>, BadFrame> {
    let plain = Frame::read(text, Extension::Plain);
    assert_eq!(
        plain,
        Frame::read(text, Extension::X1),
        "a frame of the eight is the same with the extension"
    );
    plain
}

fn target() -> Target<'static> {
    Target { endpoint: "chat".into(), method: "room".into(), call: CallId::new(CID).unwrap() }
}

#[test]
fn wm_2_ping_parses() {
    assert_eq!(read(r#"{"type":"ping"}"#), Ok(Frame::Ping(None)));
}

#[test]
fn wm_3_pong_parses() {
    assert_eq!(read(r#"{"type":"pong"}"#), Ok(Frame::Pong(None)));
}

#[test]
fn wm_4_brm_parses() {
    let frame = read(r#"{"type":"brm","data":{"req":"what\u0021"}}"#);
    assert_eq!(frame, Ok(Frame::BadRequest("what!".into())));
}

#[test]
fn wm_6_an_upper_cased_frame_is_bad() {
    assert_eq!(read(r#"{"TYPE":"PING"}"#), Err(BadFrame::Format));
    assert_eq!(read(r#"{"type":"PING"}"#), Err(BadFrame::UnknownType));
    let open = with_id(r#"{"type":"omsc","data":{"EN":"chat","M":"room","CID":"CID","ARGS":"{}","IS":[]}}"#);
    assert!(matches!(read(&open), Err(BadFrame::Member(_))));
}

#[test]
fn wm_8_what_is_not_json_is_bad_for_its_format() {
    for text in ["", "hello", "{", r#"{"type":"ping"} x"#, r#"{"type":"ping""#, "[]", "null", "7", "{}"] {
        assert_eq!(read(text), Err(BadFrame::Format), "{text}");
    }
}

#[test]
fn wm_10_omsc_parses() {
    let text = with_id(
        r#"{"type":"omsc","data":{"en":"chat","m":"room","cid":"CID","args":"{\"a\":1}","is":["said","x"],"auth":"Bearer t"}}"#,
    );
    let Ok(Frame::Open(open)) = read(&text) else { panic!("{text}") };
    assert_eq!(open.target, target());
    assert_eq!((&*open.args, &open.inputs[..]), (r#"{"a":1}"#, &["said".into(), "x".into()][..]));
    assert_eq!(open.auth.as_deref(), Some("Bearer t"));
    assert_eq!(open.extra, None);
}

/// An open with more members.
fn open(more: &str) -> String {
    with_id(&format!(
        r#"{{"type":"omsc","data":{{"en":"chat","m":"room","cid":"CID","args":"{{}}","is":[]{more}}}}}"#
    ))
}

#[test]
fn wm_11_am_is_kept() {
    let text = open(r#","am":"cookie""#);
    let Ok(Frame::Open(open)) = read(&text) else { panic!("{text}") };
    assert_eq!(open.auth_mode.as_deref(), Some("cookie"));
}

#[test]
fn wm_12_am_absent_is_none() {
    for text in [open(""), open(r#","am":null"#)] {
        let Ok(Frame::Open(open)) = read(&text) else { panic!("{text}") };
        assert_eq!((open.auth_mode, open.auth), (None, None));
    }
}

#[test]
fn wm_14_omsc_without_en_is_bad() {
    let text = with_id(r#"{"type":"omsc","data":{"m":"room","cid":"CID","args":"{}","is":[]}}"#);
    assert_eq!(read(&text), Err(BadFrame::Member("en")));
}

#[test]
fn wm_15_omsr_parses() {
    for result in OpenResult::ALL {
        let text = with_id(r#"{"type":"omsr","data":{"cid":"CID","res":"RES","en":"chat","m":"room"}}"#);
        let text = text.replace("RES", result.as_str());
        let Ok(Frame::Opened(opened)) = read(&text) else { panic!("{text}") };
        assert_eq!((opened.target, opened.result, opened.extra), (target(), result, None));
    }
}

#[test]
fn wm_17_cmsc_parses() {
    for (parameter, reason) in [(None, CloseReason::Done), (Some("said"), CloseReason::Error)] {
        let p = parameter.map_or_else(String::new, |name| format!(r#","p":"{name}""#));
        let text = format!(
            r#"{{"type":"cmsc","data":{{"en":"chat","m":"room","cid":"{CID}"{p},"cr":"{}"}}}}"#,
            reason.as_str()
        );
        let Ok(Frame::Close(close)) = read(&text) else { panic!("{text}") };
        assert_eq!((close.target, close.reason, close.why), (target(), reason, None));
        assert_eq!(close.parameter.as_deref(), parameter);
    }
}

#[test]
fn wm_18_a_cmsc_without_cid_is_bad() {
    let text = r#"{"type":"cmsc","data":{"en":"chat","m":"room","cr":"done"}}"#;
    assert_eq!(read(text), Err(BadFrame::Member("cid")));
    let text = r#"{"type":"cmsc","data":{"en":"chat","m":"room","cid":"seven","cr":"done"}}"#;
    assert_eq!(read(text), Err(BadFrame::Member("cid")));
}

#[test]
fn wm_20_msm_parses() {
    let text = with_id(
        r#"{"type":"msm","data":{"en":"chat","m":"room","cid":"CID","p":"said","o":{"className":"int","data":7}}}"#,
    );
    let Ok(Frame::Value(item)) = read(&text) else { panic!("{text}") };
    assert_eq!((&item.target, item.parameter.as_deref()), (&target(), Some("said")));
    assert_eq!((&*item.class_name, item.json, &item.cursor), ("int", "7", &None));
}

#[test]
fn wm_22_an_msm_without_en_is_bad() {
    let text = with_id(r#"{"type":"msm","data":{"m":"room","cid":"CID","o":{"className":"int","data":7}}}"#);
    assert_eq!(read(&text), Err(BadFrame::Member("en")));
}

#[test]
fn wm_23_msse_parses() {
    let text = with_id(
        r#"{"type":"msse","data":{"en":"chat","m":"room","cid":"CID","ex":{"className":"Full","data":{"seats":3}}}}"#,
    );
    let Ok(Frame::Fault(item)) = read(&text) else { panic!("{text}") };
    assert_eq!((&item.target, &item.parameter), (&target(), &None));
    assert_eq!((&*item.class_name, item.json), ("Full", r#"{"seats":3}"#));
}
