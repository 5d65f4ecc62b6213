//! The types of a server's methods for TypeScript. What is written here is compiled against the client by its own tests.

#![allow(clippy::unwrap_used, dead_code, reason = "a test, of types of which only the form is looked at")]

use std::{collections::BTreeMap, env, fs, path::Path};

use broker_streams::{
    Args, BigInt, ByteData, Choice, DateTime, Endpoint, Failure, Incoming, Milliseconds, Model, Out, Streams,
    Uri, UuidValue, method, typescript::Api,
};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

#[derive(Clone, Serialize, Deserialize, Model, TS)]
#[serde(rename_all = "camelCase")]
struct Image {
    pixels: ByteData,
    taken_at: DateTime,
    shown_for: Milliseconds,
    owner: Option<Owner>,
    layers: Vec<Layer>,
    labels: BTreeMap<String, u64>,
}

#[derive(Clone, Serialize, Deserialize, TS)]
struct Owner {
    id: UuidValue,
    page: Uri,
    votes: BigInt,
}

#[derive(Clone, Serialize, Deserialize, TS)]
enum Layer {
    Plain,
    Coloured(u8),
    Named { name: String },
}

#[derive(Clone, Serialize, Deserialize, Model, TS)]
#[model(name = "board.Update")]
struct Update {
    pixel: u64,
    colour: u8,
}

#[derive(Choice)]
enum Picture {
    Whole(Image),
    Pixel(Update),
}

#[derive(Deserialize, TS)]
struct Room {
    room: String,
}

#[derive(Debug, Serialize, Deserialize, TS)]
struct NoSuchPixel {
    pixel: u64,
}

async fn image_updates(out: Out<Picture>) {
    drop(out);
}

async fn set_pixel(Args(_): Args<Update>) {}

async fn room(Args(_): Args<Room>, _: Incoming<Update>, _: Option<Incoming<i64>>, out: Out<Option<Update>>) {
    drop(out);
}

async fn sum(_: Incoming<f64>) -> Result<f64, Failure> {
    Ok(0.0)
}

async fn lists(_: Option<Incoming<Vec<String>>>) -> Result<Option<Vec<i64>>, Failure> {
    Ok(None)
}

fn streams() -> Streams {
    let board = Endpoint::new("board").method("imageUpdates", image_updates).method("setPixel", set_pixel);
    let chat = Endpoint::new("module.chat")
        .method("room", method(room).inputs(["updates", "numbers"]))
        .method("sum", method(sum).inputs(["values"]))
        .method("lists", method(lists).inputs(["lists"]));
    Streams::builder(broker::Broker::local()).endpoint(board).endpoint(chat).build().unwrap()
}

fn api() -> Api {
    let mut api = Api::new("broker-streams");
    api.method("board", "imageUpdates").stream::<Image>().stream::<Update>();
    api.method("board", "setPixel").args::<Update>();
    let mut room = api.method("module.chat", "room");
    room.args::<Room>()
        .input::<Update>("updates")
        .optional_input::<i64>("numbers")
        .stream::<Option<Update>>();
    api.method("module.chat", "sum").input::<f64>("values").value::<f64>();
    api.method("module.chat", "lists").optional_input::<Vec<String>>("lists").value::<Option<Vec<i64>>>();
    api.declare::<NoSuchPixel>();
    api
}

#[test]
fn the_types_that_the_client_is_compiled_with_are_those_of_the_server() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/typescript/test/types/server.ts");
    let text = api().write(&streams()).unwrap();
    if env::var_os("BLESS").is_some() {
        fs::write(&file, &text).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == text, "{} is stale: run this test with BLESS=1\n{text}", file.display());
}

#[test]
fn a_description_that_is_not_that_of_the_server_is_refused() {
    type Change = fn(&mut Api);
    let changes: [(Change, &str); 4] = [
        (
            |api| _ = api.method("board", "clear"),
            "there is no method `board.clear`: take it out, or add it to the server",
        ),
        (
            |api| _ = api.method("board", "setPixel").stream::<Update>(),
            "the method `board.setPixel` gives nothing: leave `stream` and `value` out",
        ),
        (
            |api| _ = api.method("module.chat", "sum").input::<f64>("value"),
            r#"the method `module.chat.sum` has the inputs {"values"}: describe each by `input`"#,
        ),
        (
            |api| _ = api.method("module.chat", "sum").stream::<f64>(),
            "the method `module.chat.sum` gives a single value: describe it by `value`",
        ),
    ];
    for (change, said) in changes {
        let mut api = api();
        change(&mut api);
        assert_eq!(api.write(&streams()).unwrap_err().to_string(), said);
    }
    let refused = Api::new("broker-streams").write(&streams()).unwrap_err();
    assert!(refused.to_string().ends_with("is not described: call `Api::method`"), "{refused}");
}
