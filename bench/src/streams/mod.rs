//! Streams to clients, beside bare WebSockets of axum: the CPU of the server alone, in alternating rounds.

mod echo;
mod fan_out;
mod host;
pub(crate) mod idle;
mod raw;

use serde_json::json;

use crate::{Outcome, report::Report, rounds::Scale};
use host::Said;
use raw::{Client, frame};

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    echo::run(scale, report).await?;
    fan_out::run(scale, report).await?;
    idle::run(scale, report).await
}

/// A call of ours.
struct Ours<'a> {
    method: &'a str,
    inputs: &'a [&'a str],
}

fn id(number: usize) -> String {
    format!("{number:08x}-8f0a-4a8e-9a50-2f0c9f5f0a11")
}

impl Ours<'_> {
    async fn open(&self, client: &mut Client) -> Outcome {
        self.open_as(client, 0).await
    }

    async fn open_as(&self, client: &mut Client, number: usize) -> Outcome {
        let Self { method, inputs } = self;
        let open = json!({"type": "omsc", "data": {"en": "bench", "m": method, "cid": id(number), "args": "{}", "is": inputs}});
        client.write(&frame(&open.to_string())).await?;
        let answer = client.next().await?;
        if answer.contains(r#""res":"success""#) { Ok(()) } else { Err(answer.into()) }
    }

    async fn cancel(&self, client: &mut Client, number: usize) -> Outcome {
        let close = json!({"type": "cmsc", "data": {"en": "bench", "m": self.method, "cid": id(number), "cr": "done"}});
        client.write(&frame(&close.to_string())).await
    }
}

/// The frame of a value, as clients write it.
fn value(method: &str, input: Option<&str>, said: &Said) -> String {
    let input = input.map(|input| format!(r#","p":"{input}""#)).unwrap_or_default();
    format!(
        r#"{{"type":"msm","data":{{"en":"bench","m":"{method}","cid":"{}"{input},"o":{{"className":"Said","data":{{"text":"{}"}}}}}}}}"#,
        id(0),
        said.text
    )
}
