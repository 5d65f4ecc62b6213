//! A server process that is killed and started again on its port: calls go on by their cursor, or anew, or end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{future::Future, process::Stdio, time::Duration};

use broker_streams::{Cursor, Endpoint, Failure, Incoming, Out, Streams, method};
use broker_streams_client::{CallError, CallEvents, Client, Event, Resumption, Status};
use futures_util::stream;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
    time::timeout,
};

/// A limit against hangs.
async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(60), future).await.expect("it hangs")
}

/// Where the process listens. Only that of a server has this.
const ADDRESS: &str = "BROKER_TEST_SERVER_ADDRESS";
const LISTENS: &str = "listens at ";

/// Numbers from the cursor on, for ever.
async fn by_cursor(Cursor(cursor): Cursor, out: Out<i64>) -> Result<(), Failure> {
    let next = cursor.map_or(Ok(0), |cursor| cursor.parse::<i64>()).map_err(Failure::internal)?;
    for number in next.. {
        out.send_at(number, number + 1).await?;
    }
    Ok(())
}

async fn without_cursor(out: Out<i64>) -> Result<(), Failure> {
    for number in 0.. {
        out.send(number).await?;
    }
    Ok(())
}

async fn echo(mut input: Incoming<i64>, out: Out<i64>) -> Result<(), Failure> {
    while let Some(number) = input.next().await {
        out.send(number?).await?;
    }
    Ok(())
}

/// The server: what the tests start as a process of its own. It ends with whoever has started it.
#[tokio::test]
#[ignore = "the other tests start it"]
async fn server_process() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let endpoint = Endpoint::new("test")
        .method("byCursor", method(by_cursor).resumable())
        .method("withoutCursor", method(without_cursor).resumable())
        .method("echo", method(echo).inputs(["input"]).resumable());
    let broker = broker::connect("memory:").await.unwrap();
    let streams = Streams::builder(broker).endpoint(endpoint).build().unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    println!("\n{LISTENS}{}", listener.local_addr().unwrap());
    let app = axum::Router::<()>::new().route_service("/v1/websocket", streams.service());
    let mut parent = tokio::io::stdin();
    tokio::select! {
        served = async { axum::serve(listener, app).await } => served.unwrap(),
        _ = parent.read_u8() => {}
    }
}

/// Starts a server, and returns when it listens.
async fn start(address: &str) -> (Child, String) {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "server_process", "--ignored", "--nocapture"])
        .env(ADDRESS, address)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let address = within(async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it listens");
            if let Some((_, address)) = line.split_once(LISTENS) {
                return address.to_owned();
            }
        }
    })
    .await;
    // Nobody reads what it prints from here on, and it prints no more.
    (process, address)
}

async fn next(events: &mut CallEvents<i64>) -> Event<i64> {
    within(events.next()).await.unwrap().unwrap()
}

/// Reads numbers up to one.
async fn read(events: &mut CallEvents<i64>, numbers: std::ops::Range<i64>) {
    for number in numbers {
        assert_eq!(next(events).await, Event::Value(number));
    }
}

/// Reads numbers from one on, until something else comes, which is returned with the number that would have been next.
async fn read_on(events: &mut CallEvents<i64>, mut number: i64) -> (i64, Event<i64>) {
    loop {
        match next(events).await {
            Event::Value(value) => assert_eq!(value, number),
            other => return (number, other),
        }
        number += 1;
    }
}

#[tokio::test]
async fn calls_go_on_by_cursor_or_anew_after_a_kill_of_the_server_and_others_end() {
    const PART: i64 = 500;
    let (mut process, address) = start("127.0.0.1:0").await;
    let client = Client::builder(&format!("ws://{address}/v1/websocket")).build().unwrap();
    let open = async |method: &str| {
        within(client.call("test", method).resume().open::<i64>()).await.unwrap().events()
    };
    let (mut by_cursor, mut anew) = (open("byCursor").await, open("withoutCursor").await);
    let call = client.call("test", "echo").input("input", stream::iter(0..i64::MAX)).resume();
    let mut echo = within(call.open::<i64>()).await.unwrap().events();
    let (mut position, mut sent) = (0, 0);
    for _ in 0..3 {
        let mut ends = within(client.call("test", "withoutCursor").open::<i64>()).await.unwrap().events();
        read(&mut ends, 0..PART).await;
        read(&mut by_cursor, position..position + PART).await;
        read(&mut anew, 0..PART).await;
        read(&mut echo, sent..sent + PART).await;
        (position, sent) = (position + PART, sent + PART);

        within(process.kill()).await.unwrap();
        let last = loop {
            match within(ends.next()).await.unwrap() {
                Ok(event) => assert!(matches!(event, Event::Value(_)), "{event:?}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(last, CallError::SocketLost), "{last:?}");
        let mut status = client.status_changes();
        let waits = async { while !matches!(status.next().await, Some(Status::Waiting { .. })) {} };
        within(waits).await;
        (process, _) = start(&address).await;

        let (number, event) = read_on(&mut by_cursor, position).await;
        assert_eq!(event, Event::Resumed(Resumption::Cursor));
        position = number;
        let (_, event) = read_on(&mut anew, PART).await;
        assert_eq!(event, Event::Restarted);
        // What was not acknowledged is sent again; what was, is not.
        let (number, event) = read_on(&mut echo, sent).await;
        assert_eq!(event, Event::Restarted);
        let Event::Value(first) = next(&mut echo).await else { panic!("a value comes next") };
        assert!(first > 0 && first <= number + 1 + 64, "{first} behind {number}");
        sent = first + 1;
    }
    within(process.kill()).await.unwrap();
}
