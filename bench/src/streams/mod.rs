//! Streams to clients, beside bare WebSockets of axum: the CPU of the server alone, in alternating rounds.

mod bare;
mod echo;
mod fan_out;
mod frameworks;
mod grpc;
mod host;
pub(crate) mod idle;
mod methods;
mod opens;
mod raw;
mod resume;
mod revocation;
mod stopped;

use serde_json::json;

use crate::{Outcome, report::Report, rounds::Scale};
use methods::Said;
use raw::{Client, frame};

pub(crate) async fn run(scale: Scale, report: &mut Report) -> Outcome {
    echo::run(scale, report).await?;
    fan_out::run(scale, report).await?;
    idle::run(scale, report).await?;
    opens::run(scale, report).await?;
    resume::run(scale, report).await?;
    revocation::run(scale, report).await?;
    stopped::run(scale, report).await
}

/// A call of ours.
struct Ours<'a> {
    endpoint: &'a str,
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
        self.open_for(client, number, None).await
    }

    /// With a token, or none.
    async fn open_for(&self, client: &mut Client, number: usize, token: Option<&str>) -> Outcome {
        let Self { endpoint, method, inputs } = self;
        let mut open = json!({"type": "omsc", "data": {"en": endpoint, "m": method, "cid": id(number), "args": "{}", "is": inputs}});
        if let Some(token) = token {
            open["data"]["auth"] = format!("Bearer {token}").into();
        }
        client.write(&frame(&open.to_string())).await?;
        let answer = client.next().await?;
        if answer.contains(r#""res":"success""#) { Ok(()) } else { Err(answer.into()) }
    }

    async fn cancel(&self, client: &mut Client, number: usize) -> Outcome {
        let close = json!({"type": "cmsc", "data": {"en": self.endpoint, "m": self.method, "cid": id(number), "cr": "done"}});
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
