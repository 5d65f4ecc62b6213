//! A page without a browser: the frames that the client of the streams would send, and what comes back.

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use crate::server::{LIMIT, Socket};

/// The calls that every page has open.
const IMAGE: u32 = 1;
const STATUS: u32 = 2;

/// The id of a call, by a number.
fn id(number: u32) -> String {
    format!("{number:08x}-8f0a-4a8e-9a50-2f0c9f5f0a11")
}

fn frame(kind: &str, data: &Value) -> Message {
    Message::text(json!({ "type": kind, "data": data }).to_string())
}

/// The open of a call without inputs.
pub(crate) fn open(number: u32, endpoint: &str, method: &str, args: &Value) -> Message {
    let (cid, args) = (id(number), args.to_string());
    frame("omsc", &json!({ "en": endpoint, "m": method, "cid": cid, "args": args, "is": [] }))
}

/// What the page shows now.
#[derive(Default)]
struct Shown {
    pixels: Vec<u8>,
    status: Value,
}

/// As a real one it reads all the time, also while nobody asks what it shows.
pub(crate) struct Page {
    frames: mpsc::UnboundedSender<Message>,
    /// No longer written once the server has hung up.
    shown: watch::Receiver<Shown>,
    /// All frames but the values of its two streams.
    answers: mpsc::UnboundedReceiver<Value>,
    tasks: [JoinHandle<()>; 2],
    calls: u32,
}

impl Drop for Page {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn write(mut to: SplitSink<Socket, Message>, mut frames: mpsc::UnboundedReceiver<Message>) {
    while let Some(frame) = frames.recv().await {
        if to.send(frame).await.is_err() {
            return;
        }
    }
}

/// Reads until the server hangs up, and acknowledges each value of the two streams.
async fn read(
    mut from: SplitStream<Socket>,
    frames: mpsc::UnboundedSender<Message>,
    shown: watch::Sender<Shown>,
    answers: mpsc::UnboundedSender<Value>,
) {
    let mut got = [0_u64; 2];
    while let Some(Ok(message)) = from.next().await {
        let Message::Text(text) = message else { continue };
        let frame_in: Value = serde_json::from_str(&text).unwrap();
        let cid = frame_in["data"]["cid"].as_str().unwrap_or_default().to_owned();
        let stream = [IMAGE, STATUS].into_iter().position(|number| id(number) == cid);
        let (Some(stream), "msm") = (stream, frame_in["type"].as_str().unwrap()) else {
            let _ = answers.send(frame_in);
            continue;
        };
        show(&frame_in["data"]["o"], &shown);
        got[stream] += 1;
        let _ = frames.send(frame("flow", &json!({ "cid": cid, "got": got[stream] })));
    }
}

fn show(value: &Value, shown: &watch::Sender<Shown>) {
    let data = &value["data"];
    match value["className"].as_str().unwrap() {
        "Status" => shown.send_modify(|shown| shown.status = data.clone()),
        "ImageData" => {
            let text = data["pixels"].as_str().unwrap();
            let base64 = text.strip_prefix("decode('").and_then(|text| text.strip_suffix("', 'base64')"));
            let pixels = STANDARD.decode(base64.unwrap()).unwrap();
            assert_eq!(pixels.len(), 64 * 64);
            shown.send_modify(|shown| shown.pixels = pixels);
        }
        "ImageUpdate" => {
            let index = data["pixelIndex"].as_u64().unwrap() as usize;
            let colour = data["colorIndex"].as_u64().unwrap() as u8;
            shown.send_modify(|shown| shown.pixels[index] = colour);
        }
        other => panic!("not a value of a page: {other}"),
    }
}

impl Page {
    pub(crate) fn open(socket: Socket) -> Self {
        let (sink, stream) = socket.split();
        let (show, shown) = watch::channel(Shown::default());
        let (answer, answers) = mpsc::unbounded_channel();
        let (frames, queue) = mpsc::unbounded_channel();
        let tasks =
            [tokio::spawn(write(sink, queue)), tokio::spawn(read(stream, frames.clone(), show, answer))];
        let page = Self { frames, shown, answers, tasks, calls: STATUS };
        page.send(frame("ping", &json!({ "x": 1 })));
        page.send(open(IMAGE, "pixorama", "imageUpdates", &json!({})));
        page.send(open(STATUS, "pixorama", "status", &json!({})));
        page
    }

    /// Sends whatever it is; the server may have hung up.
    pub(crate) fn send(&self, message: Message) {
        let _ = self.frames.send(message);
    }

    /// Waits until the server has hung up.
    pub(crate) async fn hung_up(mut self) {
        let ended = timeout(LIMIT, &mut self.tasks[1]).await;
        ended.expect("the server hangs up").unwrap();
    }

    /// The next frame of a call that is wanted.
    pub(crate) async fn until(
        &mut self,
        call: u32,
        what: &str,
        wanted: impl Fn(&Value) -> bool + Send + Sync,
    ) -> Value {
        timeout(LIMIT, async {
            loop {
                let frame = self.answers.recv().await.unwrap_or_else(|| panic!("hung up before: {what}"));
                if frame["data"]["cid"] == id(call) && wanted(&frame) {
                    return frame;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"))
    }

    /// Waits for a frame that is of no call.
    pub(crate) async fn until_type(&mut self, kind: &str) -> Value {
        timeout(LIMIT, async {
            loop {
                let frame = self.answers.recv().await.expect("a frame");
                if frame["type"] == kind {
                    return frame;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("not within {LIMIT:?}: {kind}"))
    }

    /// Opens a call. Gives its number, and the server's word.
    pub(crate) async fn call(&mut self, endpoint: &str, method: &str, args: &Value) -> (u32, String) {
        self.calls += 1;
        let number = self.calls;
        self.send(open(number, endpoint, method, args));
        (number, self.opened(number).await)
    }

    async fn opened(&mut self, number: u32) -> String {
        let opened = self.until(number, "the answer to an open", |frame| frame["type"] == "omsr").await;
        opened["data"]["res"].as_str().unwrap().to_owned()
    }

    /// Paints. Gives the fault, if there was one.
    pub(crate) async fn paint(&mut self, index: i64, colour: i64) -> Result<(), Value> {
        let args = json!({ "pixelIndex": index, "colorIndex": colour });
        let (call, res) = self.call("pixorama", "setPixel", &args).await;
        assert_eq!(res, "success");
        let ended = self
            .until(call, "the end of a stroke", |frame| frame["type"] == "cmsc" || frame["type"] == "msse");
        let ended = ended.await;
        if ended["type"] == "msse" { Err(ended["data"]["ex"].clone()) } else { Ok(()) }
    }

    /// Enters the room. The server's word, if it is not success, is the error.
    pub(crate) async fn chat(&mut self, token: &str) -> Result<u32, String> {
        self.calls += 1;
        let (number, args) = (self.calls, json!({ "room": "board" }).to_string());
        self.send(frame(
            "omsc",
            &json!({
                "en": "chat", "m": "room", "cid": id(number), "args": args, "is": ["outgoing"],
                "auth": format!("Bearer {token}"),
            }),
        ));
        let res = self.opened(number).await;
        if res == "success" { Ok(number) } else { Err(res) }
    }

    pub(crate) fn say(&self, call: u32, text: &str) {
        let say = json!({ "className": "Say", "data": { "text": text } });
        let data = json!({ "en": "chat", "m": "room", "cid": id(call), "p": "outgoing", "o": say });
        self.send(frame("msm", &data));
    }

    /// Waits until somebody has said that.
    pub(crate) async fn hears(&mut self, call: u32, name: &str, text: &str) {
        let said = json!({ "className": "Said", "data": { "name": name, "text": text } });
        self.until(call, &format!("{name}: {text}"), |frame| frame["data"]["o"] == said).await;
    }

    /// Why the server ends a call: the cause, and what can be done.
    pub(crate) async fn ended(&mut self, call: u32) -> (String, Value) {
        let end = |frame: &Value| frame["type"] == "cmsc" && frame["data"]["p"].is_null();
        let why = self.until(call, "the end of a call", end).await["data"]["why"].clone();
        (why["c"].as_str().unwrap_or_default().to_owned(), why["again"].clone())
    }

    async fn shows(&mut self, what: &str, wanted: impl Fn(&Shown) -> bool + Send + Sync) {
        let shown = timeout(LIMIT, self.shown.wait_for(wanted)).await;
        let shown = shown.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"));
        assert!(shown.is_ok(), "hung up before: {what}");
    }

    /// Waits until the line under the board says so.
    pub(crate) async fn status(&mut self, what: &str, wanted: impl Fn(&Value) -> bool + Send + Sync) {
        self.shows(what, |shown| wanted(&shown.status)).await;
    }

    /// Waits until a pixel has a colour.
    pub(crate) async fn sees(&mut self, index: usize, colour: u8) {
        self.shows(&format!("{index} is {colour}"), |shown| shown.pixels.get(index) == Some(&colour)).await;
    }
}
