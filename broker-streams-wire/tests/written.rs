//! What is written, byte for byte, with members in the order of Serverpod's encoder; and that it is read again.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use broker_streams_wire::{
    Again, Agreement, Authenticate, Authenticated, Bye, CallId, Cause, CloseReason, Credential, Extension,
    Frame, OpenExtra, OpenResult, OpenedExtra, Resume, ResumeCall, Resumed, ResumedCall, Target, Token,
    Values, Why, write_bad_request, write_close, write_data, write_fault, write_flow, write_gap, write_open,
    write_opened, write_ping, write_pong,
};

const CID: &str = "6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11";

fn call() -> CallId {
    CallId::new(CID).unwrap()
}

fn target() -> Target<'static> {
    Target { endpoint: "chat".into(), method: "room".into(), call: call() }
}

/// Equal to a text with the id of the call in it, and read as a frame.
fn is(written: &str, expected: &str) {
    assert_eq!(written, expected.replace("CID", CID));
    let read = Frame::read(written, Extension::X1);
    assert!(read.is_ok(), "{written}: {read:?}");
}

#[test]
fn omsc() {
    is(
        &write_open(&target(), r#"{"room":"a"}"#, &["said", "drawn"], Some("Bearer t"), Some("cookie"), None),
        r#"{"type":"omsc","data":{"en":"chat","m":"room","cid":"CID","args":"{\"room\":\"a\"}","is":["said","drawn"],"auth":"Bearer t","am":"cookie"}}"#,
    );
    is(
        &write_open(&target(), "{}", &[], None, None, None),
        r#"{"type":"omsc","data":{"en":"chat","m":"room","cid":"CID","args":"{}","is":[]}}"#,
    );
    let extra = OpenExtra {
        window: Some(64),
        deadline: Some(30_000),
        traceparent: Some("00-1-2-01".into()),
        cursor: Some("1042".into()),
        resumable: true,
    };
    is(
        &write_open(&target(), "{}", &[], None, None, Some(&extra)),
        r#"{"type":"omsc","data":{"en":"chat","m":"room","cid":"CID","args":"{}","is":[],"x":{"w":64,"d":30000,"tp":"00-1-2-01","k":"1042","r":true}}}"#,
    );
    is(
        &write_open(&target(), "{}", &[], None, None, Some(&OpenExtra::default())),
        r#"{"type":"omsc","data":{"en":"chat","m":"room","cid":"CID","args":"{}","is":[],"x":{}}}"#,
    );
}

#[test]
fn omsr() {
    is(
        &write_opened(&target(), OpenResult::Success, None),
        r#"{"type":"omsr","data":{"cid":"CID","res":"success","en":"chat","m":"room"}}"#,
    );
    let extra =
        OpenedExtra { windows: BTreeMap::from([("said".into(), 64)]), token: Some(Token("sesame".into())) };
    is(
        &write_opened(&target(), OpenResult::Success, Some(&extra)),
        r#"{"type":"omsr","data":{"cid":"CID","res":"success","en":"chat","m":"room","x":{"w":{"said":64},"t":"sesame"}}}"#,
    );
    for (result, word) in OpenResult::ALL.into_iter().zip([
        "success",
        "endpointNotFound",
        "authenticationFailed",
        "authorizationDeclined",
        "invalidArguments",
    ]) {
        let text = r#"{"type":"omsr","data":{"cid":"CID","res":"RES","en":"chat","m":"room"}}"#;
        is(&write_opened(&target(), result, None), &text.replace("RES", word));
    }
}

#[test]
fn cmsc() {
    is(
        &write_close(&target(), None, CloseReason::Done, None),
        r#"{"type":"cmsc","data":{"en":"chat","m":"room","cid":"CID","cr":"done"}}"#,
    );
    is(
        &write_close(&target(), Some("said"), CloseReason::Error, Some(&Why::new(Cause::Revoked))),
        r#"{"type":"cmsc","data":{"en":"chat","m":"room","cid":"CID","p":"said","cr":"error","why":{"c":"revoked","again":"signin"}}}"#,
    );
    let later = Why { cause: Cause::Overloaded, again: Again::After(Duration::from_millis(250)) };
    is(
        &write_close(&target(), None, CloseReason::Error, Some(&later)),
        r#"{"type":"cmsc","data":{"en":"chat","m":"room","cid":"CID","cr":"error","why":{"c":"overloaded","again":250}}}"#,
    );
}

#[test]
fn every_cause_says_whether_to_call_again() {
    for (cause, text) in [
        (Cause::Revoked, r#"{"c":"revoked","again":"signin"}"#),
        (Cause::Expired, r#"{"c":"expired","again":"signin"}"#),
        (Cause::Doubt, r#"{"c":"doubt","again":"signin"}"#),
        (Cause::Identity, r#"{"c":"identity","again":"signin"}"#),
        (Cause::Deadline, r#"{"c":"deadline","again":"never"}"#),
        (Cause::Limit, r#"{"c":"limit","again":"never"}"#),
        (Cause::Internal, r#"{"c":"internal","again":"never"}"#),
        (Cause::Overloaded, r#"{"c":"overloaded","again":"now"}"#),
        (Cause::Draining, r#"{"c":"draining","again":"now"}"#),
        (Cause::Gone, r#"{"c":"gone","again":"now"}"#),
        (Cause::Gap, r#"{"c":"gap","again":"now"}"#),
    ] {
        assert_eq!(serde_json::to_string(&Why::new(cause)).unwrap(), text);
        assert_eq!(serde_json::from_str::<Why>(text).unwrap(), Why::new(cause));
        assert!(text.contains(&format!("\"{}\"", cause.as_str())), "{text}");
    }
}

fn value(values: &Values, class: &str, cursor: Option<&str>, json: &str) -> String {
    let text = values.write(class, cursor, |text| {
        text.extend_from_slice(json.as_bytes());
        Ok::<_, ()>(())
    });
    String::from_utf8(text.unwrap()).unwrap()
}

#[test]
fn a_value_that_is_written_already_takes_as_much_room_as_it_needs() {
    let values = Values::new(&target(), None);
    let wrapped = values.wrap("Said", br#"{"text":"hello"}"#);
    assert_eq!(wrapped.capacity(), wrapped.len());
    assert_eq!(String::from_utf8(wrapped).unwrap(), value(&values, "Said", None, r#"{"text":"hello"}"#));
    // Of names with something to escape only the text is promised.
    let wrapped = values.wrap("g\"h", b"7");
    assert_eq!(String::from_utf8(wrapped).unwrap(), value(&values, "g\"h", None, "7"));
}

#[test]
fn msm() {
    let (returned, said) = (Values::new(&target(), None), Values::new(&target(), Some("said")));
    is(
        &value(&returned, "int", None, "7"),
        r#"{"type":"msm","data":{"en":"chat","m":"room","cid":"CID","o":{"className":"int","data":7}}}"#,
    );
    is(
        &value(&said, "List<int>?", None, "[7]"),
        r#"{"type":"msm","data":{"en":"chat","m":"room","cid":"CID","p":"said","o":{"className":"List<int>?","data":[7]}}}"#,
    );
    is(
        &value(&returned, "null", Some("10\"42"), "null"),
        r#"{"type":"msm","data":{"en":"chat","m":"room","cid":"CID","o":{"className":"null","data":null},"k":"10\"42"}}"#,
    );
    assert_eq!(returned.write("int", None, |_| Err::<(), _>("no")), Err("no"));
}

#[test]
fn msse() {
    is(
        &write_fault(&target(), None, "NoSuchPixel", r#"{"index":7}"#),
        r#"{"type":"msse","data":{"en":"chat","m":"room","cid":"CID","ex":{"className":"NoSuchPixel","data":{"index":7}}}}"#,
    );
    is(
        &write_fault(&target(), Some("said"), "Full", "{}"),
        r#"{"type":"msse","data":{"en":"chat","m":"room","cid":"CID","p":"said","ex":{"className":"Full","data":{}}}}"#,
    );
}

/// Control characters, quotes and all else stand as Dart writes them.
#[test]
fn brm() {
    is(
        &write_bad_request("a\"b\\c/\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}ü\u{2028}😀"),
        "{\"type\":\"brm\",\"data\":{\"req\":\"a\\\"b\\\\c/\\b\\f\\n\\r\\t\\u0000\\u001f\u{7f}ü\u{2028}😀\"}}",
    );
}

#[test]
fn ping_and_pong() {
    is(&write_ping(None), r#"{"type":"ping"}"#);
    is(&write_pong(None), r#"{"type":"pong"}"#);
    let offered = Agreement { x: 1, window: None, bytes: None, park: None };
    is(&write_ping(Some(&offered)), r#"{"type":"ping","data":{"x":1}}"#);
    let agreed = Agreement { x: 1, window: Some(64), bytes: Some(262_144), park: Some(30_000) };
    is(
        &write_pong(Some(&agreed)),
        r#"{"type":"pong","data":{"x":1,"window":64,"bytes":262144,"park":30000}}"#,
    );
    assert_eq!(
        Frame::read(&write_pong(Some(&agreed)), Extension::Plain),
        Ok(Frame::Pong(Some(agreed))),
        "it is read before it is agreed on"
    );
}

#[test]
fn flow_and_gap() {
    is(&write_flow(call(), Some("said"), 96), r#"{"type":"flow","data":{"cid":"CID","p":"said","got":96}}"#);
    is(
        &write_flow(call(), None, u64::MAX),
        r#"{"type":"flow","data":{"cid":"CID","got":18446744073709551615}}"#,
    );
    is(
        &write_gap(&target(), Some(12), "overflow"),
        r#"{"type":"gap","data":{"en":"chat","m":"room","cid":"CID","n":12,"c":"overflow"}}"#,
    );
    is(
        &write_gap(&target(), None, "link_lost"),
        r#"{"type":"gap","data":{"en":"chat","m":"room","cid":"CID","n":null,"c":"link_lost"}}"#,
    );
}

#[test]
fn auth_and_authr() {
    is(
        &write_data("auth", &Authenticate { auth: Credential("Bearer t".into()) }),
        r#"{"type":"auth","data":{"auth":"Bearer t"}}"#,
    );
    is(
        &write_data("authr", &Authenticated { res: OpenResult::Success, until: Some(1_790_000_000_000) }),
        r#"{"type":"authr","data":{"res":"success","until":1790000000000}}"#,
    );
    is(
        &write_data("authr", &Authenticated { res: OpenResult::AuthenticationFailed, until: None }),
        r#"{"type":"authr","data":{"res":"authenticationFailed"}}"#,
    );
}

#[test]
fn rsm_and_rsr() {
    let got = BTreeMap::from([(String::new(), 17)]);
    let asked = ResumeCall { cid: call(), t: Token("sesame".into()), got };
    is(
        &write_data("rsm", &Resume { calls: vec![asked], auth: Some(Credential("Bearer t".into())) }),
        r#"{"type":"rsm","data":{"calls":[{"cid":"CID","t":"sesame","got":{"":17}}],"auth":"Bearer t"}}"#,
    );
    let got = BTreeMap::from([("drawn".to_owned(), -1), ("said".to_owned(), 5)]);
    let goes_on = ResumedCall { cid: call(), ok: true, t: Some(Token("open".into())), got };
    let gone = ResumedCall { cid: call(), ok: false, t: None, got: BTreeMap::new() };
    is(
        &write_data("rsr", &Resumed { calls: vec![goes_on, gone] }),
        r#"{"type":"rsr","data":{"calls":[{"cid":"CID","ok":true,"t":"open","got":{"drawn":-1,"said":5}},{"cid":"CID","ok":false}]}}"#,
    );
}

#[test]
fn bye() {
    is(
        &write_data("bye", &Bye { within: 8000, spread: 5000 }),
        r#"{"type":"bye","data":{"within":8000,"spread":5000}}"#,
    );
}

#[test]
fn names_are_escaped() {
    let odd = Target { endpoint: "a\"b".into(), method: "c\\d\n".into(), call: call() };
    is(
        &write_close(&odd, Some("e\"f"), CloseReason::Done, None),
        r#"{"type":"cmsc","data":{"en":"a\"b","m":"c\\d\n","cid":"CID","p":"e\"f","cr":"done"}}"#,
    );
    is(
        &value(&Values::new(&odd, Some("e\"f")), "g\"h", None, "7"),
        r#"{"type":"msm","data":{"en":"a\"b","m":"c\\d\n","cid":"CID","p":"e\"f","o":{"className":"g\"h","data":7}}}"#,
    );
    let text = write_gap(&odd, None, "i\"j");
    let Ok(Frame::Gap(gap)) = Frame::read(&text, Extension::X1) else { panic!("{text}") };
    assert_eq!((gap.target, gap.cause), (odd, Cow::Borrowed("i\"j")));
}
