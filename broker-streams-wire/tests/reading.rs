//! What is read, what is ignored, and what is a bad frame: hostile texts, and the extension where it is not agreed on.

use broker_streams_wire::{Again, Agreement, BadFrame, CallId, Cause, Extension, Frame, Why, scan};

const CID: &str = "6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11";

fn plain(text: &str) -> Result<Frame<'_>, BadFrame> {
    Frame::read(text, Extension::Plain)
}

fn x1(text: &str) -> Result<Frame<'_>, BadFrame> {
    Frame::read(text, Extension::X1)
}

/// The frame of a value, with other members in its data, and others again behind them.
fn value(json: &str, in_data: &str, behind: &str) -> String {
    format!(
        r#"{{"type":"msm","data":{{"en":"chat","m":"room","cid":"{CID}","o":{{"className":"int","data":{json}}}{in_data}}}{behind}}}"#
    )
}

#[test]
fn members_may_stand_in_any_order_and_unknown_ones_are_ignored() {
    let text = format!(
        r#" {{ "later" : [1] , "data" : {{ "new":{{}}, "o":{{"v":1,"data":[ 7 ],"className":"List<int>"}}, "cid":"{CID}", "m":"r\u006fom", "en":"chat" }} , "type" : "msm" }} "#
    );
    let Ok(Frame::Value(item)) = plain(&text) else { panic!("{text}") };
    assert_eq!((&*item.target.method, &*item.class_name, item.json), ("room", "List<int>", "[ 7 ]"));
    assert_eq!(scan(&text), None);
}

#[test]
fn the_type_may_have_escapes() {
    assert_eq!(plain(r#"{"type":"\u0070ing"}"#), Ok(Frame::Ping(None)));
}

#[test]
fn members_that_are_not_what_they_should_be_are_bad() {
    let cid = format!(r#""cid":"{CID}""#);
    for (kind, data, name) in [
        ("omsc", r#""en":7,"m":"m",CID,"args":"{}","is":[]"#, "en"),
        ("omsc", r#""en":"e","m":null,CID,"args":"{}","is":[]"#, "m"),
        ("omsc", r#""en":"e","m":"m","cid":7,"args":"{}","is":[]"#, "cid"),
        ("omsc", r#""en":"e","m":"m",CID,"args":{},"is":[]"#, "args"),
        ("omsc", r#""en":"e","m":"m",CID,"args":"{}""#, "is"),
        ("omsc", r#""en":"e","m":"m",CID,"args":"{}","is":"a""#, "is"),
        ("omsc", r#""en":"e","m":"m",CID,"args":"{}","is":["a",7]"#, "is"),
        ("omsc", r#""en":"e","m":"m",CID,"args":"{}","is":[],"auth":{}"#, "auth"),
        ("omsr", r#""en":"e","m":"m",CID,"res":"maybe""#, "res"),
        ("cmsc", r#""en":"e","m":"m",CID,"cr":"DONE""#, "cr"),
        ("cmsc", r#""en":"e","m":"m",CID,"p":7,"cr":"done""#, "p"),
        ("msm", r#""en":"e","m":"m",CID"#, "o"),
        ("msm", r#""en":"e","m":"m",CID,"o":{"data":7}"#, "o"),
        ("msm", r#""en":"e","m":"m",CID,"o":{"className":"int"}"#, "o"),
        ("msm", r#""en":"e","m":"m",CID,"o":{"className":7,"data":7}"#, "className"),
        ("msm", r#""en":"e","m":"m",CID,"o":{"className":"int","data":7,"data":8}"#, "o"),
        ("msse", r#""en":"e","m":"m",CID,"o":{"className":"int","data":7}"#, "ex"),
        ("brm", r#""req":{}"#, "req"),
        ("brm", "", "req"),
    ] {
        let text = format!(r#"{{"type":"{kind}","data":{{{}}}}}"#, data.replace("CID", &cid));
        assert_eq!(plain(&text), Err(BadFrame::Member(name)), "{text}");
    }
}

#[test]
fn data_that_are_no_object_are_bad_but_for_ping_and_pong() {
    for data in ["7", "null", "[]", "\"x\"", "{\"en\":1}"] {
        let text = format!(r#"{{"type":"ping","data":{data}}}"#);
        assert_eq!(plain(&text), Ok(Frame::Ping(None)), "{text}");
        let text = format!(r#"{{"type":"cmsc","data":{data}}}"#);
        assert!(matches!(plain(&text), Err(BadFrame::Member(_))), "{text}");
        let text = format!(r#"{{"type":"nothing","data":{data}}}"#);
        assert_eq!(plain(&text), Err(BadFrame::UnknownType), "{text}");
    }
}

#[test]
fn a_member_that_stands_twice_is_bad() {
    assert_eq!(plain(r#"{"type":"ping","type":"pong"}"#), Err(BadFrame::Format));
    for text in [value("7", r#","en":"other""#, ""), value("7", "", r#","type":"ping""#)] {
        assert!(plain(&text).is_err(), "{text}");
        assert_eq!(scan(&text).filter(|item| is_json(item.json)), None, "{text}");
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// What a scanner could take for a value: it must not be JSON as a whole unless the frame is that value's.
#[test]
fn hostile_values_are_not_taken_for_others() {
    for (json, is_value) in [
        ("7}}}", false),
        (r#"7,"data":8"#, false),
        (r#"7}},"type":"ping","x":{"y":{"z":8"#, false),
        (r#"7},"p":"said","q":{"className":"int","data":8"#, false),
        (r#""}}}""#, true),
        (r#""\"}}}""#, true),
        (r#""a\u0000b""#, true),
        ("\"a\u{0}b\"", false),
        (r#""\ud800""#, true),
        (r#""\x""#, false),
        (" 7 ", true),
        ("\n[ 7 ]\t\r", true),
        ("7 8", false),
        ("", false),
        ("}", false),
        (r#"{"a":{"b":{}}}"#, true),
        ("1e999999", true),
        ("-", false),
        ("01", false),
        ("\u{a0}7", false),
        ("\u{feff}7", false),
        ("\u{b}7", false),
        ("nul", false),
    ] {
        let text = value(json, "", "");
        let item = scan(&text).unwrap();
        assert_eq!(is_json(item.json), is_value, "{text}");
        if is_value {
            assert_eq!(plain(&text), Ok(Frame::Value(item)), "{text}");
        } else {
            assert_ne!(plain(&text), Ok(Frame::Value(item)), "{text}");
        }
    }
}

#[test]
fn what_is_nested_deep_is_left_to_whoever_decodes_it() {
    let open = "[".repeat(100_000);
    assert!(plain(&value(&open, "", "")).is_err());
    let closed = open + &"]".repeat(100_000);
    assert!(matches!(plain(&value(&closed, "", "")), Ok(Frame::Value(_))));
}

#[test]
fn an_array_is_no_object() {
    let item = format!(r#"["chat","room","{CID}",null,{{"className":"int","data":7}}]"#);
    for text in [
        r#"["ping"]"#.to_owned(),
        format!(r#"["msm",{item}]"#),
        format!(r#"{{"type":"msm","data":{item}}}"#),
        value("7", "", "").replace(r#"{"className":"int","data":7}"#, r#"["int",7]"#),
    ] {
        assert!(x1(&text).is_err(), "{text}: {:?}", x1(&text));
    }
    assert_eq!(plain(r#"{"type":"ping","data":[1]}"#), Ok(Frame::Ping(None)));
    assert!(x1(r#"{"type":"bye","data":[1,2]}"#).is_err());
}

#[test]
fn a_scanner_leaves_other_forms_to_the_reader() {
    for text in [
        value("7", r#","k":"5""#, ""),
        value("7", "", "") + " ",
        value("7", "", "").replace("int", "i\\u006et"),
        value("7", "", "").replace("int", "i\u{1}t"),
        value("7", "", "").replace(CID, "seven"),
        value("7", "", "").replace("msm", "msse"),
        r#"{"type":"msm","data":{"en":"chat"#.to_owned(),
    ] {
        assert_eq!(scan(&text), None, "{text}");
    }
    assert!(plain(&value("7", "", "").replace("int", "i\u{1}t")).is_err());
}

#[test]
fn members_of_the_extension_are_read_only_where_it_is_agreed_on() {
    let text = value("7", r#","k":"1042""#, "");
    let Ok(Frame::Value(item)) = plain(&text) else { panic!("{text}") };
    assert_eq!(item.cursor, None);
    let Ok(Frame::Value(item)) = x1(&text) else { panic!("{text}") };
    assert_eq!(item.cursor.as_deref(), Some("1042"));

    let text = format!(
        r#"{{"type":"cmsc","data":{{"en":"e","m":"m","cid":"{CID}","cr":"error","why":{{"c":"draining","again":250,"new":1}}}}}}"#
    );
    let Ok(Frame::Close(close)) = plain(&text) else { panic!("{text}") };
    assert_eq!(close.why, None);
    let Ok(Frame::Close(close)) = x1(&text) else { panic!("{text}") };
    let again = Again::After(std::time::Duration::from_millis(250));
    assert_eq!(close.why, Some(Why { cause: Cause::Draining, again }));

    let text = format!(
        r#"{{"type":"omsc","data":{{"en":"e","m":"m","cid":"{CID}","args":"{{}}","is":[],"x":{{"w":"many"}}}}}}"#
    );
    assert!(matches!(plain(&text), Ok(Frame::Open(_))));
    assert_eq!(x1(&text), Err(BadFrame::Member("x")));
}

#[test]
fn frames_of_the_extension_are_unknown_where_it_is_not_agreed_on() {
    for text in [
        format!(r#"{{"type":"flow","data":{{"cid":"{CID}","got":96}}}}"#),
        format!(r#"{{"type":"gap","data":{{"en":"e","m":"m","cid":"{CID}","n":null,"c":"overflow"}}}}"#),
        r#"{"type":"auth","data":{"auth":"Bearer t"}}"#.to_owned(),
        r#"{"type":"authr","data":{"res":"success"}}"#.to_owned(),
        r#"{"type":"rsm","data":{"calls":[]}}"#.to_owned(),
        r#"{"type":"rsr","data":{"calls":[]}}"#.to_owned(),
        r#"{"type":"bye","data":{"within":8000,"spread":5000}}"#.to_owned(),
    ] {
        assert_eq!(plain(&text), Err(BadFrame::UnknownType), "{text}");
        assert!(x1(&text).is_ok(), "{text}: {:?}", x1(&text));
    }
}

#[test]
fn a_number_of_frames_is_whole_and_not_negative() {
    for got in ["-1", "1.5", "1e3", "\"5\"", "null", "18446744073709551616"] {
        let text = format!(r#"{{"type":"flow","data":{{"cid":"{CID}","got":{got}}}}}"#);
        assert_eq!(x1(&text), Err(BadFrame::Member("got")), "{text}");
    }
}

#[test]
fn what_a_ping_offers_is_read_or_ignored() {
    let offered = Agreement { x: 1, window: None, bytes: None, park: None };
    assert_eq!(plain(r#"{"type":"ping","data":{"x":1,"later":true}}"#), Ok(Frame::Ping(Some(offered))));
    for data in ["{}", r#"{"x":"1"}"#, r#"{"x":-1}"#, r#"{"x":1,"x":2}"#, r#"{"x":1,"window":"w"}"#, "null"] {
        let text = format!(r#"{{"type":"ping","data":{data}}}"#);
        assert_eq!(plain(&text), Ok(Frame::Ping(None)), "{text}");
    }
}

#[test]
fn an_error_says_nothing_of_the_text() {
    let text = r#"{"type":"omsc","data":{"auth":"Bearer secret","en":7}}"#;
    let error = plain(text).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
}

#[test]
fn secrets_are_not_shown() {
    let rsm = format!(
        r#"{{"type":"rsm","data":{{"calls":[{{"cid":"{CID}","t":"sesame"}}],"auth":"Bearer sesame"}}}}"#
    );
    for text in [&*rsm, r#"{"type":"auth","data":{"auth":"Bearer sesame"}}"#] {
        let frame = x1(text).unwrap();
        assert!(!format!("{frame:?}").contains("sesame"), "{frame:?}");
    }
    let open = format!(
        r#"{{"type":"omsc","data":{{"en":"e","m":"m","cid":"{CID}","args":"{{}}","is":[],"auth":"Bearer sesame"}}}}"#
    );
    let frame = plain(&open).unwrap();
    assert!(!format!("{frame:?}").contains("sesame"), "{frame:?}");
    assert!(CallId::new(CID).is_some());
}
