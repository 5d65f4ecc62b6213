//! Tests of the private RabbitMQ, and of what its driver makes of what only a real server says. Ignored, with
//! a word on standard error, where the program is missing.

use std::{sync::Arc, time::Duration};

use broker::{Broker, Error, ErrorKind, Options, Scope, State, Subscription};

use super::{RabbitServer, available};
use crate::{
    server::{eventually, required},
    wait::{LIMIT, next_gap, next_message, text, until, until_is},
};

/// A server, or `None` where there is no program and nobody insists on one. One for many checks: it is slow.
async fn start() -> Option<RabbitServer> {
    if let Err(reason) = available() {
        assert!(!required("rabbitmq"), "{reason}");
        eprintln!("ignored: {reason}");
        return None;
    }
    Some(RabbitServer::start().await.unwrap())
}

fn options() -> Options {
    let mut options = Options::default();
    options.heartbeat = Duration::from_millis(200);
    options
}

/// A virtual host with a user of its name, and the URL.
async fn vhost(server: &RabbitServer, name: &str) -> String {
    server.control().add_vhost(name).await.unwrap();
    format!("amqp://{name}:{name}@{}/{name}", server.addr())
}

async fn connect(url: &str) -> Broker {
    broker::connect_with(url, options()).await.unwrap()
}

async fn refusal(url: &str, kind: ErrorKind, part: &str) {
    let error = broker::connect_with(url, options()).await.expect_err("a refusal");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.message().contains(part), "{error}");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
}

/// Waits until the broker has lost its link and has another, and returns why.
async fn lost(broker: &Broker) -> Error {
    until("another link", || broker.health().links >= 2 && broker.health().state == State::Connected)
        .await
        .unwrap();
    broker.health().last_error.expect("why the link was lost")
}

async fn hears_again(broker: &Broker, news: &mut Subscription) {
    next_gap(news).await.unwrap();
    broker.publish("news", "again", Scope::Global).await.unwrap();
    assert_eq!(text(&next_message(news).await.unwrap()).unwrap(), "again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_real_server_says_is_understood() {
    let Some(server) = start().await else { return };
    let server = Arc::new(server);
    refusals_to_open(&server).await;
    a_queue_that_is_deleted(&server).await;
    an_exchange_that_is_deleted(&server).await;
    an_exchange_of_another_type(&server).await;
    permissions(&server).await;
    an_alarm(&server).await;
    nothing_is_left_of_a_dropped_link(&server).await;
}

async fn refusals_to_open(server: &RabbitServer) {
    let (addr, _) = (server.addr(), vhost(server, "open").await);
    refusal(&format!("amqp://open:s3cret@{addr}/open"), ErrorKind::Forbidden, "\"open\"").await;
    refusal(&format!("amqp://nobody:s3cret@{addr}/open"), ErrorKind::Forbidden, "\"nobody\"").await;
    refusal(&format!("amqp://open:open@{addr}/elsewhere"), ErrorKind::Misconfigured, "\"elsewhere\"").await;
    refusal(&format!("amqp://open:open@{addr}"), ErrorKind::Forbidden, "\"/\"").await;
}

async fn a_queue_that_is_deleted(server: &RabbitServer) {
    let broker = connect(&vhost(server, "queue").await).await;
    let mut news = broker.subscribe("news").await.unwrap();
    let queues = server.control().get("queues/queue").await.unwrap();
    let queue = queues[0]["name"].as_str().unwrap();
    assert!(queue.starts_with("broker."), "{queue}");
    // Nobody else may delete an exclusive queue, but the server itself.
    let queue = format!("rabbit_misc:r(<<\"queue\">>, queue, <<\"{queue}\">>)");
    let delete = "{ok, Q} -> rabbit_amqqueue:delete(Q, false, false, <<\"operator\">>)";
    server.evaluate(&format!("case rabbit_amqqueue:lookup({queue}) of {delete} end")).unwrap();
    let error = lost(&broker).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("deleted the queue"), "{error}");
    hears_again(&broker, &mut news).await;
    broker.close().await;
}

async fn an_exchange_that_is_deleted(server: &RabbitServer) {
    let broker = connect(&vhost(server, "exchange").await).await;
    let mut news = broker.subscribe("news").await.unwrap();
    server.control().call("DELETE", "exchanges/exchange/broker", None).await.unwrap();
    let error = lost(&broker).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("deleted"), "{error}");
    hears_again(&broker, &mut news).await;
    broker.close().await;
}

async fn an_exchange_of_another_type(server: &RabbitServer) {
    let url = vhost(server, "type").await;
    let fanout = serde_json::json!({ "type": "fanout", "durable": true });
    server.control().call("PUT", "exchanges/type/broker", Some(&fanout)).await.unwrap();
    refusal(&url, ErrorKind::Misconfigured, "\"broker\"").await;
    let broker = connect(&format!("{url}?exchange=other")).await;
    broker.close().await;
}

async fn permissions(server: &RabbitServer) {
    let url = vhost(server, "permissions").await;
    let allow = async |configure: &str, write: &str, read: &str| {
        let rights = serde_json::json!({ "configure": configure, "write": write, "read": read });
        server.control().call("PUT", "permissions/permissions/permissions", Some(&rights)).await.unwrap();
    };
    // What the documentation says is enough.
    let all = r"^broker(\..*)?$";
    allow(all, all, all).await;
    let broker = connect(&url).await;
    let mut news = broker.subscribe("news").await.unwrap();
    broker.publish("news", "allowed", Scope::Global).await.unwrap();
    assert_eq!(text(&next_message(&mut news).await.unwrap()).unwrap(), "allowed");

    // Reading the exchange is what a binding needs; those that are there stay, and the link lives on.
    allow(all, all, r"^broker\.").await;
    // The server looks at permissions anew when an AMQP channel has been idle for a second; asking all the
    // time would keep it from that.
    let mut names = 0;
    let refused = eventually("a refusal", LIMIT, || {
        names += 1;
        let name = format!("other.{names}");
        let broker = &broker;
        async move {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            match broker.subscribe(name).await {
                Ok(_) => Err("subscribed".to_owned()),
                Err(error) => Ok(error),
            }
        }
    });
    let error = refused.await.unwrap();
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(error.message().contains("\"permissions\""), "{error}");
    broker.publish("news", "still", Scope::Global).await.unwrap();
    assert_eq!(text(&next_message(&mut news).await.unwrap()).unwrap(), "still");
    assert_eq!(broker.health().links, 1);
    allow(all, all, all).await;
    broker.subscribe("other").await.unwrap();
    assert_eq!(broker.health().links, 1);
    broker.close().await;

    for (configure, write, read) in
        [("^$", all, all), (all, "^$", all), (all, all, "^$"), (all, r"^broker\.", all)]
    {
        allow(configure, write, read).await;
        refusal(&url, ErrorKind::Forbidden, "\"permissions\"").await;
    }
}

/// While the server is short of memory it takes no post; whoever waits is told why, and goes on afterwards.
async fn an_alarm(server: &RabbitServer) {
    let broker = connect(&vhost(server, "alarm").await).await;
    let mut news = broker.subscribe("news").await.unwrap();
    server.evaluate("rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []})").unwrap();
    until_is("the alarm to be told", true, || async {
        let told = broker.health().last_error.is_some_and(|error| error.message().contains("low on memory"));
        Ok(told)
    })
    .await
    .unwrap();
    let error = broker.publish("news", "lost", Scope::Global).await.expect_err("no link");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    server.evaluate("rabbit_alarm:clear_alarm({resource_limit, memory, node()})").unwrap();
    until("the link", || broker.health().state == State::Connected).await.unwrap();
    hears_again(&broker, &mut news).await;
    broker.close().await;
}

/// The client has a thread of its own for every connection.
fn client_threads() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads
        .filter(|thread| {
            let name = std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
            name.starts_with("lapin")
        })
        .count()
}

/// Also of one whose peer has fallen silent, and of an attempt to connect that is given up.
async fn nothing_is_left_of_a_dropped_link(server: &RabbitServer) {
    let url = vhost(server, "drop").await;
    let proxy = crate::proxy::Proxy::start(server.addr()).await.unwrap();
    let through = url.replace(&server.addr().to_string(), &proxy.addr().to_string());
    let threads = client_threads();
    let brokers = [connect(&through).await, connect(&through).await];
    proxy.stall();
    let mut impatient = options();
    impatient.connect_timeout = Duration::from_millis(100);
    let error = broker::connect_with(&through, impatient).await.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    // Closing waits a while for an answer, and then gives up.
    for broker in &brokers {
        broker.close().await;
    }
    eventually("the client's threads to end", LIMIT, || async {
        let now = client_threads();
        if now <= threads { Ok(()) } else { Err(format!("{now} threads, {threads} before")) }
    })
    .await
    .unwrap();
    drop(proxy);
    until_is("the server to forget them", 0, || async {
        Ok(server.control().connections("drop").await?.len())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn kills_pauses_and_starts_again_empty() {
    let Some(server) = start().await else { return };
    let before = server.addr();
    vhost(&server, "once").await;
    server.pause().unwrap();
    assert!(server.is_alive());
    server.resume().unwrap();
    server.control().get("vhosts/once").await.unwrap();
    server.kill().await.unwrap();
    server.kill().await.unwrap();
    assert!(!server.is_alive());
    server.control().get("vhosts").await.unwrap_err();
    server.start_again().await.unwrap();
    server.start_again().await.unwrap_err();
    assert_ne!(server.addr(), before);
    let missing = server.control().get("vhosts/once").await.unwrap_err();
    assert!(missing.contains("404"), "{missing}");
}
