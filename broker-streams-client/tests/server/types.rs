//! Values of every type, there and back.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    time::{Duration, SystemTime},
};

use broker_streams::{
    ByteData, DateTime, Endpoint, Incoming, InputError, Milliseconds, Model, Value, Wire, method,
};
use broker_streams_client::Client;
use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};

use crate::{Server, within};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Model)]
struct SimpleData {
    num: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Model)]
#[model(name = "module.ModuleData")]
struct ModuleData {
    name: String,
}

fn echo<T: Value>(input: Incoming<T>) -> impl Stream<Item = Result<T, InputError>> {
    input
}

/// Sends values to a method that echoes them, by a client with the extension and one without.
async fn there_and_back<T: Value + Clone + Debug + PartialEq + Sync>(values: Vec<T>) {
    let endpoint = |name: &str| Endpoint::new(name).method("echo", method(echo::<T>).inputs(["input"]));
    let server =
        Server::start(|streams| streams.endpoint(endpoint("test")).endpoint(endpoint("module.test"))).await;
    for client in server.clients() {
        for name in ["test", "module.test"] {
            assert_eq!(echoed(&client, name, values.clone()).await, values);
        }
    }
}

async fn echoed<T: Value + Sync>(client: &Client, endpoint: &str, values: Vec<T>) -> Vec<T> {
    let call = client.call(endpoint, "echo").input("input", stream::iter(values));
    let mut stream = within(call.open::<T>()).await.unwrap();
    let mut back = Vec::new();
    while let Some(value) = within(stream.next()).await {
        back.push(value.unwrap());
    }
    back
}

fn simple(num: i64) -> SimpleData {
    SimpleData { num }
}

#[tokio::test]
async fn cl_36_to_39_numbers_truth_and_text() {
    there_and_back(vec![0, -1, i64::MAX, i64::MIN]).await;
    there_and_back(vec![0.1, -1e300, f64::MIN_POSITIVE]).await;
    there_and_back(vec![true, false]).await;
    there_and_back(["", "\"quoted\" \\ \u{1F600}\u{2028}", "}}}"].map(String::from).to_vec()).await;
}

#[tokio::test]
async fn cl_40_to_45_what_json_has_no_word_for() {
    there_and_back(vec![ByteData(Bytes::from_static(b"\0\xff")), ByteData(Bytes::new())]).await;
    there_and_back(vec![DateTime(SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001))])
        .await;
    there_and_back(vec![Milliseconds(Duration::from_millis(1500))]).await;
    let text = |text: &str| serde_json::to_string(text).unwrap();
    fn read<T: Wire>(json: &str) -> T {
        serde_json::from_str(json).unwrap()
    }
    there_and_back::<broker_model::UuidValue>(vec![read(&text("6b1c0f0e-8f0a-4a8e-9a50-2f0c9f5f0a11"))])
        .await;
    there_and_back::<broker_model::Uri>(vec![read(&text("https://example.org/a?b=c#d"))]).await;
    there_and_back::<broker_model::BigInt>(vec![read(&text("123456789012345678901234567890"))]).await;
}

#[tokio::test]
async fn cl_9_to_16_and_57_collections() {
    there_and_back(vec![vec![1_i64, 2], vec![]]).await;
    there_and_back(vec![Some(vec![simple(1)]), None]).await;
    there_and_back(vec![vec![Some(simple(1)), None]]).await;
    there_and_back(vec![vec![ModuleData { name: "a".into() }]]).await;
    there_and_back(vec![vec![simple(1), simple(2)]]).await;
    there_and_back(vec![BTreeSet::from([simple(1), simple(2)])]).await;
    there_and_back(vec![vec![BTreeSet::from([1_i64, 2]), BTreeSet::from([3])]]).await;
    there_and_back(vec![simple(1)]).await;
    there_and_back(vec![ModuleData { name: "a".into() }]).await;
}
