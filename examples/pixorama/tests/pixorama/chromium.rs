//! A real browser without a screen, driven through its own debugging protocol.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use crate::server::LIMIT;

/// Where the program is; `None` when this machine has none.
pub(crate) fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join("chromium")).find(|program| program.is_file())
}

pub(crate) struct Chromium {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next: u64,
    _process: Child,
    _profile: TempDir,
}

/// One tab.
pub(crate) struct Tab(String);

fn evaluation(expression: &str) -> Value {
    json!({ "expression": expression, "returnByValue": true, "awaitPromise": true })
}

impl Chromium {
    pub(crate) async fn start(program: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        // Without its sandbox, which a container's root may not have: it loads nothing but our own pages.
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]);
        command.args(["--remote-debugging-port=0", "--hide-scrollbars"]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let place = profile.path().join("DevToolsActivePort");
        let written = timeout(LIMIT, async {
            loop {
                match std::fs::read_to_string(&place) {
                    Ok(text) if text.lines().count() >= 2 => return text,
                    _ => sleep(Duration::from_millis(50)).await,
                }
            }
        });
        let written = written.await.expect("the browser starts");
        let (port, path) = written.split_once('\n').unwrap();
        let address = format!("ws://127.0.0.1:{port}{}", path.trim());
        // A picture is one message.
        let config =
            WebSocketConfig::default().max_message_size(Some(64 << 20)).max_frame_size(Some(64 << 20));
        let (socket, _) = connect_async_with_config(address, Some(config), false).await.unwrap();
        Self { socket, next: 0, _process: process, _profile: profile }
    }

    async fn call(&mut self, tab: Option<&Tab>, method: &str, params: Value) -> Value {
        let answer = self.answer(tab, method, params).await;
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// What the browser answers, which may be an error.
    async fn answer(&mut self, tab: Option<&Tab>, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut call = json!({ "id": self.next, "method": method, "params": params });
        if let Some(Tab(session)) = tab {
            call["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(call.to_string())).await.unwrap();
        let answered = async {
            loop {
                let message = self.socket.next().await.expect("the browser lives").unwrap();
                let Message::Text(text) = message else { continue };
                let answer: Value = serde_json::from_str(&text).unwrap();
                if answer["id"] == self.next {
                    return answer;
                }
            }
        };
        timeout(LIMIT, answered).await.unwrap_or_else(|_| panic!("no answer to {method}"))
    }

    /// A window of its own: one behind another is not drawn.
    pub(crate) async fn open(&mut self, url: &str, width: u32, height: u32) -> Tab {
        let size = json!({ "url": url, "newWindow": true, "width": width, "height": height });
        let target = self.call(None, "Target.createTarget", size).await["targetId"].clone();
        let attach = json!({ "targetId": target, "flatten": true });
        let session = self.call(None, "Target.attachToTarget", attach).await;
        Tab(session["sessionId"].as_str().unwrap().to_owned())
    }

    /// What an expression of the page's script is.
    pub(crate) async fn evaluate(&mut self, tab: &Tab, expression: &str) -> Value {
        let result = self.call(Some(tab), "Runtime.evaluate", evaluation(expression)).await;
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&mut self, tab: &Tab, expression: &str) {
        // The page may not be there yet, or its script may not have made what is asked for.
        let attempt = format!("(() => {{ try {{ return {expression} }} catch {{ return false }} }})()");
        let mut answer = Value::Null;
        let holds = async {
            // A page that is left while it is asked answers with an error.
            while answer["result"]["result"]["value"] != json!(true) {
                sleep(Duration::from_millis(20)).await;
                answer = self.answer(Some(tab), "Runtime.evaluate", evaluation(&attempt)).await;
            }
        };
        if timeout(LIMIT, holds).await.is_err() {
            let page =
                self.answer(Some(tab), "Runtime.evaluate", evaluation("document.body.innerText")).await;
            panic!("never: {expression}; the last answer was {answer}; the page says: {page}");
        }
    }

    /// Presses the mouse where it is, in pixels of the page.
    pub(crate) async fn click(&mut self, tab: &Tab, x: f64, y: f64) {
        for kind in ["mousePressed", "mouseReleased"] {
            let params = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.call(Some(tab), "Input.dispatchMouseEvent", params).await;
        }
    }

    /// From now on a phone: this large, in dark colours, with a finger for a mouse.
    pub(crate) async fn become_a_phone_in_the_dark(&mut self, tab: &Tab, width: u32, height: u32) {
        let screen = json!({ "width": width, "height": height, "deviceScaleFactor": 2, "mobile": true });
        self.call(Some(tab), "Emulation.setDeviceMetricsOverride", screen).await;
        let touch = json!({ "enabled": true });
        self.call(Some(tab), "Emulation.setTouchEmulationEnabled", touch).await;
        let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
        self.call(Some(tab), "Emulation.setEmulatedMedia", dark).await;
    }

    /// Puts a finger down, moves it from place to place, and lifts it.
    pub(crate) async fn stroke(&mut self, tab: &Tab, places: &[(f64, f64)]) {
        for (number, (x, y)) in places.iter().enumerate() {
            let kind = if number == 0 { "touchStart" } else { "touchMove" };
            let params = json!({ "type": kind, "touchPoints": [{ "x": x, "y": y }] });
            self.call(Some(tab), "Input.dispatchTouchEvent", params).await;
        }
        let lifted = json!({ "type": "touchEnd", "touchPoints": [] });
        self.call(Some(tab), "Input.dispatchTouchEvent", lifted).await;
    }

    /// Presses a key.
    pub(crate) async fn key(&mut self, tab: &Tab, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.call(Some(tab), "Input.dispatchKeyEvent", json!({ "type": kind, "key": key })).await;
        }
    }

    pub(crate) async fn picture(&mut self, tab: &Tab) -> Vec<u8> {
        let picture = self.call(Some(tab), "Page.captureScreenshot", json!({ "format": "png" })).await;
        STANDARD.decode(picture["data"].as_str().unwrap()).unwrap()
    }
}
