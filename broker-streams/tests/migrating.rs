//! The code that `docs/migrating-streams.md` shows. A test of `broker` finds each block here.

#![allow(clippy::unwrap_used, dead_code, reason = "a test, of code of which some is only shown")]

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::fmt;

use broker::Scope;
use broker_streams::{
    Any, Args, Call, DateTime, Endpoint, Failure, Fault, Incoming, InputError, Model, Out, Peer,
    StreamingEndpoint, Streams, method,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use support::{Raw, Server, close, open, value};

#[derive(Clone, Serialize, Deserialize, Model)]
#[model(name = "weather.Reading")]
#[serde(rename_all = "camelCase")]
struct Reading {
    station_name: String,
    degrees: f64,
    taken_at: DateTime,
}

#[derive(Deserialize)]
struct Station {
    station: String,
}

async fn readings(
    call: Call,
    Args(Station { station }): Args<Station>,
    out: Out<Reading>,
) -> Result<(), Failure> {
    let mut readings = call.session().create_stream::<Reading>(&format!("readings.{station}")).await?;
    while let Some(reading) = readings.next().await {
        out.send(reading?.into_inner()).await?;
    }
    Ok(())
}

async fn average(mut values: Incoming<f64>) -> Result<f64, Failure> {
    let (mut sum, mut count) = (0.0, 0.0);
    while let Some(value) = values.next().await {
        sum += value?; // a fault of the client, or a value of another type
        count += 1.0;
    }
    Ok(sum / count)
}

async fn report(call: Call, mut reports: Incoming<Reading>, out: Out<Reading>) -> Result<(), Failure> {
    while let Some(report) = reports.next().await {
        let report = report?;
        if report.degrees < -273.15 {
            return Err(TooCold { degrees: report.degrees }.into());
        }
        call.session().post_message("reports", report.clone(), Scope::Auto).await?;
        out.send(report).await?;
    }
    Ok(())
}

#[derive(Debug, Serialize, Deserialize, Fault)]
struct TooCold {
    degrees: f64,
}

impl fmt::Display for TooCold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} degrees are too cold", self.degrees)
    }
}

impl std::error::Error for TooCold {}

fn look(item: &Result<Reading, InputError>) {
    if let Err(InputError::Fault(fault)) = &item
        && let Some(Ok(cold)) = fault.read::<TooCold>()
    {
        tracing::info!(cold.degrees, "a station is broken");
    }
}

struct Counter;

impl StreamingEndpoint for Counter {
    type User = u64; // setUserObject, getUserObject: dropped with the connection

    async fn stream_opened(&self, _: &Peer) -> Result<u64, Failure> {
        Ok(0)
    }

    async fn handle_stream_message(&self, peer: &Peer, count: &mut u64, message: Any) -> Result<(), Failure> {
        if message.is::<Reading>() {
            *count += 1;
            peer.send_stream_message(&message.read::<Reading>()?).await?;
        }
        Ok(())
    }

    async fn stream_closed(&self, _: &Peer, count: u64) {
        tracing::info!(count, "a client has gone");
    }
}

async fn started() -> Server {
    let broker = broker::connect("memory:").await.unwrap();
    let weather = Endpoint::new("weather")
        .method("readings", readings)
        .method("average", method(average).inputs(["values"]))
        .method("report", method(report).inputs(["reports"]));
    let streams =
        Streams::builder(broker).endpoint(weather).endpoint(Endpoint::new("counter").streaming(Counter));
    Server::serve(streams.build().unwrap(), "127.0.0.1:0").await
}

/// What a client of Serverpod sends and receives.
fn reading(degrees: f64) -> Value {
    json!({"stationName": "Säntis", "degrees": degrees, "takenAt": "2026-01-31T12:00:00.000Z"})
}

fn weather(mut frame: Value) -> Value {
    frame["data"]["en"] = "weather".into();
    frame
}

#[tokio::test]
async fn a_model_of_a_module_travels_as_there() {
    let server = started().await;
    let mut raw = server.connect().await;
    raw.json(&open(1, "weather", "report", &json!({}), &["reports"])).await;
    assert_eq!(raw.frames(1).await, ["success"]);
    raw.json(&weather(value(1, "report", "reports", "weather.Reading", &reading(-3.5)))).await;
    let frame = raw.next().await;
    assert_eq!(frame["data"]["o"], json!({"className": "weather.Reading", "data": reading(-3.5)}));
    raw.json(&weather(value(1, "report", "reports", "weather.Reading", &reading(-300.0)))).await;
    assert_eq!(
        raw.frames(3).await,
        [r#"fault TooCold {"degrees":-300.0}"#, "close error", "close error of reports"]
    );
}

#[tokio::test]
async fn a_single_result_is_one_value() {
    let server = started().await;
    let mut raw = server.connect().await;
    raw.json(&open(1, "weather", "average", &json!({}), &["values"])).await;
    for degrees in [1.0, 2.0] {
        raw.json(&weather(value(1, "average", "values", "double", &json!(degrees)))).await;
    }
    raw.json(&weather(close(1, "average", Some("values"), "done"))).await;
    assert_eq!(raw.frames(3).await, ["success", "double 1.5", "close done"]);
}

#[tokio::test]
async fn a_message_of_the_older_kind_is_counted_and_sent_back() {
    let server = started().await;
    let mut raw = Raw::connect(&server.url.replace("/v1/websocket", "/websocket")).await;
    raw.1 = true;
    let message =
        json!({"endpoint": "counter", "object": {"className": "weather.Reading", "data": reading(4.0)}});
    raw.json(&message).await;
    assert_eq!(raw.next().await, message);
}
