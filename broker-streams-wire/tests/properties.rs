//! For all texts: the scanner agrees with the reader, no text panics, and what is written is read as what it was.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use broker_streams_wire::{
    Again, Agreement, Authenticate, Authenticated, Bye, CallId, Cause, CloseReason, Credential, Extension,
    Frame, OpenExtra, OpenResult, OpenedExtra, Resume, ResumeCall, Resumed, ResumedCall, Target, Token,
    Values, Why, scan, write_bad_request, write_close, write_data, write_fault, write_flow, write_gap,
    write_open, write_opened, write_ping, write_pong,
};
use proptest::{collection::btree_map, option, prelude::*, sample::select};

/// Pieces of frames, of which hostile ones are made.
const PIECES: &[&str] = &[
    r#"{"type":"msm","data":{"en":"chat","m":"room","cid":"6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11""#,
    r#","p":"said""#,
    r#","o":{"className":"int","data":"#,
    r#"{"type":"#,
    r#"{"type":"ping""#,
    r#","data":"#,
    r#","k":"5""#,
    r#","en":"other""#,
    r#","data":8"#,
    r#""}}}""#,
    "}}}",
    "}}",
    "}",
    "{",
    "[",
    "]",
    "7",
    "null",
    "\"",
    "\\",
    "\\u0022",
    "\\ud83d",
    "\u{0}",
    "\u{7f}",
    "😀",
    " ",
    "\n",
    ",",
    ":",
    "x",
];

/// A value's frame, as a scanner takes it, with a payload that may be anything.
fn value_frame() -> impl Strategy<Value = String> {
    let payload = prop_oneof![
        prop::collection::vec(select(PIECES), 0..6).prop_map(|pieces| pieces.concat()),
        json().prop_map(|json| json.to_string()),
        ".*",
    ];
    (payload, any::<bool>(), "[a-z\"\\\\\u{1}é]{0,3}").prop_map(|(payload, is_input, name)| {
        let p = if is_input { PIECES[1] } else { "" };
        format!("{}{p}{}{payload}}}}}}}", PIECES[0].replace("room", &name), PIECES[2])
    })
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            btree_map(any::<String>(), inner, 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Where the scanner finds a value that is JSON as a whole, the reader finds the same.
fn agree(text: &str) {
    for extension in [Extension::Plain, Extension::X1] {
        let read = Frame::read(text, extension);
        if let Some(item) = scan(text).filter(|item| is_json(item.json)) {
            assert_eq!(read, Ok(Frame::Value(item)), "{text}");
        }
    }
}

/// Any text, control characters, quotes and characters beyond the first plane among them.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[\u{0}-\u{1f}\"\\\\/\u{7f}é\u{2028}😀]{0,8}"]
}

fn target() -> impl Strategy<Value = Target<'static>> {
    (text(), text(), any::<[u8; 16]>()).prop_map(|(endpoint, method, random)| Target {
        endpoint: Cow::Owned(endpoint),
        method: Cow::Owned(method),
        call: CallId::from_random(random),
    })
}

fn reason() -> impl Strategy<Value = CloseReason> {
    select(&[CloseReason::Done, CloseReason::Error][..])
}

fn result() -> impl Strategy<Value = OpenResult> {
    select(&OpenResult::ALL[..])
}

fn why() -> impl Strategy<Value = Why> {
    let causes = [Cause::Revoked, Cause::Doubt, Cause::Gone, Cause::Other, Cause::Internal];
    let again = prop_oneof![
        Just(Again::Now),
        Just(Again::SignIn),
        Just(Again::Never),
        any::<u32>().prop_map(|time| Again::After(Duration::from_millis(time.into()))),
    ];
    (select(causes.to_vec()), again).prop_map(|(cause, again)| Why { cause, again })
}

fn agreement() -> impl Strategy<Value = Agreement> {
    (any::<u32>(), any::<Option<u32>>(), any::<Option<u32>>(), any::<Option<u32>>())
        .prop_map(|(x, window, bytes, park)| Agreement { x, window, bytes, park })
}

proptest! {
    #[test]
    fn the_scanner_agrees_with_the_reader(text in value_frame()) {
        agree(&text);
    }

    #[test]
    fn no_text_panics(
        pieces in prop::collection::vec(select(PIECES), 0..12),
        text in ".*",
    ) {
        agree(&pieces.concat());
        agree(&text);
    }

    #[test]
    fn an_open_comes_back(
        target in target(),
        args in text(),
        inputs in prop::collection::vec(text(), 0..4),
        (auth, mode) in (option::of(text()), option::of(text())),
        extra in option::of((any::<Option<u32>>(), any::<Option<u32>>(), option::of(text()), option::of(text()), any::<bool>())),
    ) {
        let extra = extra.map(|(window, deadline, traceparent, cursor, resumable)| {
            OpenExtra { window, deadline, traceparent, cursor, resumable }
        });
        let names: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let written = write_open(&target, &args, &names, auth.as_deref(), mode.as_deref(), extra.as_ref());
        let Ok(Frame::Open(open)) = Frame::read(&written, Extension::X1) else { panic!("{written}") };
        prop_assert_eq!((&open.target, &*open.args), (&target, &*args));
        prop_assert_eq!(&open.inputs, &names);
        prop_assert_eq!((open.auth.as_deref(), open.auth_mode.as_deref()), (auth.as_deref(), mode.as_deref()));
        prop_assert_eq!(open.extra, extra);
    }

    #[test]
    fn an_answer_comes_back(
        target in target(),
        result in result(),
        extra in option::of((btree_map(text(), any::<u32>(), 0..3), option::of(text()))),
    ) {
        let extra = extra.map(|(windows, token)| OpenedExtra { windows, token: token.map(Token) });
        let written = write_opened(&target, result, extra.as_ref());
        let Ok(Frame::Opened(opened)) = Frame::read(&written, Extension::X1) else { panic!("{written}") };
        prop_assert_eq!((opened.target, opened.result, opened.extra), (target, result, extra));
    }

    #[test]
    fn a_close_comes_back(
        target in target(),
        parameter in option::of(text()),
        reason in reason(),
        why in option::of(why()),
    ) {
        let written = write_close(&target, parameter.as_deref(), reason, why.as_ref());
        let Ok(Frame::Close(close)) = Frame::read(&written, Extension::X1) else { panic!("{written}") };
        prop_assert_eq!(close.parameter.as_deref(), parameter.as_deref());
        prop_assert_eq!((close.target, close.reason, close.why), (target, reason, why));
    }

    #[test]
    fn a_value_and_a_fault_come_back(
        target in target(),
        parameter in option::of(text()),
        (class, cursor) in (text(), option::of(text())),
        json in json(),
    ) {
        let json = json.to_string();
        let written = Values::new(&target, parameter.as_deref()).write(&class, cursor.as_deref(), |text| {
            text.extend_from_slice(json.as_bytes());
            Ok::<_, ()>(())
        });
        let written = String::from_utf8(written.unwrap()).unwrap();
        let Ok(Frame::Value(item)) = Frame::read(&written, Extension::X1) else { panic!("{written}") };
        prop_assert_eq!((&item.target, item.parameter.as_deref()), (&target, parameter.as_deref()));
        prop_assert_eq!((&*item.class_name, item.json), (&*class, &*json));
        prop_assert_eq!(item.cursor.as_deref(), cursor.as_deref());
        agree(&written);

        let written = write_fault(&target, parameter.as_deref(), &class, &json);
        let Ok(Frame::Fault(item)) = Frame::read(&written, Extension::X1) else { panic!("{written}") };
        prop_assert_eq!((&item.target, item.parameter.as_deref()), (&target, parameter.as_deref()));
        prop_assert_eq!((&*item.class_name, item.json), (&*class, &*json));
    }

    #[test]
    fn pings_and_requests_come_back(agreement in option::of(agreement()), request in text()) {
        let (ping, pong) = (write_ping(agreement.as_ref()), write_pong(agreement.as_ref()));
        prop_assert_eq!(Frame::read(&ping, Extension::Plain), Ok(Frame::Ping(agreement)));
        prop_assert_eq!(Frame::read(&pong, Extension::Plain), Ok(Frame::Pong(agreement)));
        let bad = write_bad_request(&request);
        prop_assert_eq!(Frame::read(&bad, Extension::Plain), Ok(Frame::BadRequest(request.into())));
    }

    #[test]
    fn flows_and_gaps_come_back(
        target in target(),
        parameter in option::of(text()),
        got in any::<u64>(),
        (missed, cause) in (any::<Option<u64>>(), text()),
    ) {
        let written = write_flow(target.call, parameter.as_deref(), got);
        let Ok(Frame::Flow(flow)) = Frame::read(&written, Extension::X1) else { panic!("{written}") };
        prop_assert_eq!((flow.call, flow.parameter.as_deref(), flow.got), (target.call, parameter.as_deref(), got));
        let written = write_gap(&target, missed, &cause);
        let Ok(Frame::Gap(gap)) = Frame::read(&written, Extension::X1) else { panic!("{written}") };
        prop_assert_eq!((gap.target, gap.missed, &*gap.cause), (target, missed, &*cause));
    }

    #[test]
    fn the_rare_frames_come_back(
        secret in text(),
        (res, until) in (result(), any::<Option<u64>>()),
        calls in prop::collection::vec((any::<[u8; 16]>(), text(), btree_map(text(), any::<u32>(), 0..3)), 0..3),
        (within, spread, ok) in any::<(u32, u32, bool)>(),
    ) {
        let auth = Authenticate { auth: Credential(secret.clone()) };
        let written = write_data("auth", &auth);
        prop_assert_eq!(Frame::read(&written, Extension::X1), Ok(Frame::Authenticate(auth)));
        let answer = Authenticated { res, until };
        let written = write_data("authr", &answer);
        prop_assert_eq!(Frame::read(&written, Extension::X1), Ok(Frame::Authenticated(answer)));
        let id = |random: &[u8; 16]| CallId::from_random(*random);
        let asked = calls.iter().map(|(random, token, got)| ResumeCall {
            cid: id(random),
            t: Token(token.clone()),
            got: got.iter().map(|(name, got)| (name.clone(), u64::from(*got))).collect(),
        });
        let resume = Resume { calls: asked.collect(), auth: Some(Credential(secret)) };
        let written = write_data("rsm", &resume);
        prop_assert_eq!(Frame::read(&written, Extension::X1), Ok(Frame::Resume(resume)));
        let answered = calls.iter().map(|(random, token, got)| ResumedCall {
            cid: id(random),
            ok,
            t: ok.then(|| Token(token.clone())),
            got: got.iter().map(|(name, got)| (name.clone(), i64::from(*got) - 1)).collect::<BTreeMap<_, _>>(),
        });
        let resumed = Resumed { calls: answered.collect() };
        let written = write_data("rsr", &resumed);
        prop_assert_eq!(Frame::read(&written, Extension::X1), Ok(Frame::Resumed(resumed)));
        let bye = Bye { within, spread };
        let written = write_data("bye", &bye);
        prop_assert_eq!(Frame::read(&written, Extension::X1), Ok(Frame::Bye(bye)));
    }
}
