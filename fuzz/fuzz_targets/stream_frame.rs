//! Frames of streams, which come from clients and from servers: none panics, the scanner agrees with the reader, and what
//! reads is written and read again, and is the same.
#![no_main]

use broker_streams_wire::{
    Extension, Frame, Item, Values, scan, write_bad_request, write_close, write_fault, write_open,
};
use serde_json::value::RawValue;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let scanned = scan(text).filter(|item| serde_json::from_str::<&RawValue>(item.json).is_ok());
    for extension in [Extension::Plain, Extension::X1] {
        let read = Frame::read(text, extension);
        if let Some(item) = &scanned {
            assert!(
                matches!(&read, Ok(Frame::Value(read)) if read == item),
                "{read:?}, but scanned {item:?}"
            );
        }
        if let Some(again) = read.as_ref().ok().and_then(written) {
            assert_eq!(Frame::read(&again, Extension::X1), read, "{again}");
        }
    }
});

/// The text of a frame of a kind that has much in it.
fn written(frame: &Frame<'_>) -> Option<String> {
    Some(match frame {
        Frame::Value(item) => value(item),
        Frame::Fault(item) => {
            write_fault(&item.target, item.parameter.as_deref(), &item.class_name, item.json)
        }
        Frame::Close(close) => {
            write_close(&close.target, close.parameter.as_deref(), close.reason, close.why.as_ref())
        }
        Frame::Open(open) => {
            let inputs: Vec<&str> = open.inputs.iter().map(|name| &**name).collect();
            let (auth, mode) = (open.auth.as_deref(), open.auth_mode.as_deref());
            write_open(&open.target, &open.args, &inputs, auth, mode, open.extra.as_ref())
        }
        Frame::BadRequest(request) => write_bad_request(request),
        _ => return None,
    })
}

fn value(item: &Item<'_>) -> String {
    let values = Values::new(&item.target, item.parameter.as_deref());
    let text = values.write(&item.class_name, item.cursor.as_deref(), |text| {
        text.extend_from_slice(item.json.as_bytes());
        Ok::<_, ()>(())
    });
    text.ok().and_then(|text| String::from_utf8(text).ok()).expect("text in, text out")
}
