//! Several servers, one board; people who talk over it; and pages that mean no good.

use std::time::Duration;

use broker::Options;
use futures_util::SinkExt;
use integration_tests::{
    harness::memory,
    servers::{
        Server,
        postgres::{self, config::PostgresConfig, process::PostgresServer},
    },
};
use pixorama::Limits;
use serde_json::json;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    browser::is_there,
    page::open,
    server::{LIMIT, Pixorama},
};

#[tokio::test(flavor = "multi_thread")]
async fn servers_share_one_board_and_a_new_one_receives_it() {
    share_one_board("memory://one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_over_postgres_share_one_board() {
    if !is_there("postgres", postgres::process::available()) {
        return;
    }
    let server = PostgresServer::start(PostgresConfig::default()).await.unwrap();
    share_one_board(&server.url_at(server.addr())).await;
}

async fn share_one_board(url: &str) {
    let (one, two) = (Pixorama::start(url).await, Pixorama::start(url).await);
    let (mut ada, mut bob) = (one.page().await, two.page().await);
    ada.paint(259, 7).await.unwrap();
    bob.paint(4095, 0).await.unwrap();
    for page in [&mut ada, &mut bob] {
        page.sees(259, 7).await;
        page.sees(4095, 0).await;
    }
    let three = Pixorama::start(url).await;
    let mut late = three.page().await;
    late.sees(259, 7).await;
    late.sees(4095, 0).await;
    late.status("three servers and three people", |status| {
        status["servers"] == 3 && status["everywhere"] == 3 && status["here"] == 1
    })
    .await;
    for server in [one, two, three] {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strokes_painted_while_disconnected_reach_both_boards() {
    let cluster = (memory::ENTRY.start)(&[]).await.unwrap();
    let (line, other) = (cluster.line().await.unwrap(), cluster.line().await.unwrap());
    let one = Pixorama::start_with(&line.url(), cluster.options(), Limits::default()).await;
    let two = Pixorama::start_with(&other.url(), cluster.options(), Limits::default()).await;
    let (mut ada, mut bob) = (one.page().await, two.page().await);
    ada.status("connected", |status| status["connected"] == true).await;
    line.cut();
    ada.status("cut off", |status| status["connected"] == false).await;
    ada.paint(65, 4).await.unwrap();
    ada.sees(65, 4).await;
    // Who comes now is served, too.
    let mut late = one.page().await;
    late.sees(65, 4).await;
    late.paint(66, 4).await.unwrap();
    ada.sees(66, 4).await;
    bob.paint(130, 9).await.unwrap();
    bob.sees(130, 9).await;
    line.heal();
    bob.sees(65, 4).await;
    bob.sees(66, 4).await;
    ada.sees(130, 9).await;
    ada.status("the gap is told", |status| status["gaps"].as_u64() > Some(0)).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_on_two_servers_talk_to_each_other() {
    let (one, two) = (Pixorama::start("memory://talk").await, Pixorama::start("memory://talk").await);
    let (mut ada, mut bob) = (one.page().await, two.page().await);
    // A token of one server is good on the other.
    let to_ada = ada.chat(&two.sign_in("ada").await).await.unwrap();
    let to_bob = bob.chat(&two.sign_in("bob").await).await.unwrap();
    // A call is open before its method has subscribed, and the chat keeps nothing. A page that receives its own message has
    // subscribed.
    for (page, call, name) in [(&mut ada, to_ada, "ada"), (&mut bob, to_bob, "bob")] {
        page.say(call, "here");
        page.hears(call, name, "here").await;
    }
    ada.say(to_ada, "red or blue?");
    ada.hears(to_ada, "ada", "red or blue?").await;
    bob.hears(to_bob, "ada", "red or blue?").await;
    bob.say(to_bob, " both ");
    ada.hears(to_ada, "bob", "both").await;
    bob.hears(to_bob, "bob", "both").await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_everywhere_ends_exactly_the_calls_of_that_user() {
    let (one, two) = (Pixorama::start("memory://out").await, Pixorama::start("memory://out").await);
    let (mut tab, mut other, mut bob) = (one.page().await, two.page().await, two.page().await);
    let token = one.sign_in("ada").await;
    let (here, there) = (tab.chat(&token).await.unwrap(), other.chat(&token).await.unwrap());
    let bobs = bob.chat(&one.sign_in("bob").await).await.unwrap();
    assert_eq!(two.sign_out_everywhere(&token).await, 204);
    for (page, call) in [(&mut tab, here), (&mut other, there)] {
        assert_eq!(page.ended(call).await, ("revoked".to_owned(), json!("signin")));
    }
    // Its boards go on, and so does everything of the others.
    other.paint(5, 5).await.unwrap();
    tab.sees(5, 5).await;
    bob.say(bobs, "still here");
    bob.hears(bobs, "bob", "still here").await;
    for server in [&one, &two] {
        let mut page = server.page().await;
        assert_eq!(page.chat(&token).await, Err("authenticationFailed".to_owned()));
        assert_eq!(server.sign_out_everywhere(&token).await, 401);
    }
    // The same person may come back at once.
    let token = one.sign_in("ada").await;
    let back = other.chat(&token).await.unwrap();
    other.say(back, "back");
    bob.hears(bobs, "ada", "back").await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_by_name() {
    let server = Pixorama::start("memory://nonsense").await;
    let mut page = server.page().await;
    for (index, colour, name, data) in [
        (4096, 0, "NoSuchPixel", json!({ "pixelIndex": 4096 })),
        (-1, 0, "NoSuchPixel", json!({ "pixelIndex": -1 })),
        (70_000, 0, "NoSuchPixel", json!({ "pixelIndex": 70_000 })),
        (0, 16, "NoSuchColor", json!({ "colorIndex": 16 })),
        (0, -1, "NoSuchColor", json!({ "colorIndex": -1 })),
    ] {
        let fault = page.paint(index, colour).await.unwrap_err();
        assert_eq!(fault, json!({ "className": name, "data": data }));
    }
    let args = json!({ "pixelIndex": "one", "colorIndex": 0 });
    assert_eq!(page.call("pixorama", "setPixel", &args).await.1, "invalidArguments");
    assert_eq!(page.call("chat", "room", &json!({ "room": "board" })).await.1, "authenticationFailed");
    for token in ["", "ada", "YWRh.1x", "YWRh.99999999999999"] {
        assert!(page.chat(token).await.is_err(), "{token}");
    }
    for name in ["", "  ", "a\tb", &"a".repeat(25)] {
        assert_eq!(server.post_name(name).await.0, 400, "{name}");
    }
    assert_eq!(server.post_name(&"a".repeat(300)).await.0, 413);
    let token = server.sign_in("eve").await;
    for text in ["", " ", "a\nb", &"a".repeat(201)] {
        let call = page.chat(&token).await.unwrap();
        page.say(call, text);
        let fault = page.until(call, "a fault", |frame| frame["type"] == "msse").await;
        assert_eq!(fault["data"]["ex"]["className"], "NotSaid", "{text}");
    }
    // And after all that the page is as it was.
    page.paint(0, 1).await.unwrap();
    page.sees(0, 1).await;
    page.send(Message::text("x".repeat(1 << 20)));
    page.hung_up().await;
    let bad = server.page().await;
    bad.send(Message::text("{"));
    bad.hung_up().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_strokes_is_cut_and_who_looks_is_not_affected() {
    // The budget does not fill up again, however long the flood takes.
    let limits = Limits { strokes_a_second: 0.0, strokes_at_once: 100.0, ..Limits::default() };
    let server = Pixorama::start_with("memory://flood", Options::default(), limits).await;
    let (mut flood, mut ada) = (server.page().await, server.page().await);
    for n in 0..100 {
        flood.paint(n, 1 + n % 14).await.unwrap();
    }
    assert_eq!(flood.paint(100, 1).await.unwrap_err()["className"], "TooFast");
    ada.sees(99, 2).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_pages_see_what_one_paints() {
    let server = Pixorama::start("memory://crowd").await;
    let mut crowd = Vec::new();
    for _ in 0..1000 {
        crowd.push(server.page().await);
    }
    let mut ada = server.page().await;
    ada.paint(2014, 2).await.unwrap();
    for page in &mut crowd {
        page.sees(2014, 2).await;
    }
    ada.status("all are counted", |status| status["here"] == 1001).await;
    drop(crowd);
    ada.status("and gone", |status| status["here"] == 1).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_sends_its_pages_elsewhere() {
    let server = Pixorama::start("memory://stop").await;
    let mut page = server.page().await;
    let call = page.chat(&server.sign_in("ada").await).await.unwrap();
    let stopping = tokio::spawn(server.stop());
    page.until_type("bye").await;
    assert_eq!(page.ended(call).await.0, "draining");
    page.hung_up().await;
    timeout(LIMIT, stopping).await.expect("it stops").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_loads_nothing_from_elsewhere() {
    let server = Pixorama::start("memory://page").await;
    for (path, part) in [
        ("/", "<canvas"),
        ("/app.js", "imageUpdates"),
        ("/board.js", "palette"),
        ("/chat.js", "room"),
        ("/style.css", "canvas {"),
        ("/client/index.js", "connect"),
    ] {
        let (status, text) = server.get(path).await;
        assert!(status == 200 && text.contains(part), "{path}: {text}");
        assert!(text.contains("content-security-policy: default-src 'self'"), "{path}: {text}");
    }
    for path in ["/client/index.d.ts", "/client/..%2fpackage.json", "/live"] {
        assert_eq!(server.get(path).await.0, 404, "{path}");
    }
    server.stop().await;
}

/// One that asks and never reads: the answers fill its socket, and then only itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_does_not_read_is_disconnected() {
    let mut limits = Limits::default();
    limits.streams.stall = Duration::from_secs(2);
    // So many that each is answered by a whole board.
    limits.streams.calls_per_socket = 100_000;
    let server = Pixorama::start_with("memory:", Options::default(), limits).await;
    let (mut ada, mut bob) = (server.page().await, server.page().await);
    let mut slow = server.socket().await;
    slow.send(open(1, "pixorama", "status", &json!({}))).await.unwrap();
    ada.status("three are here", |status| status["here"] == 3).await;
    let asking = tokio::spawn(async move {
        for number in 2.. {
            if slow.send(open(number, "pixorama", "imageUpdates", &json!({}))).await.is_err() {
                return;
            }
        }
    });
    for index in 0..50 {
        ada.paint(index, 3).await.unwrap();
        bob.sees(index as usize, 3).await;
        bob.paint(100 + index, 5).await.unwrap();
        ada.sees(100 + index as usize, 5).await;
    }
    ada.status("the one that does not read is gone", |status| status["here"] == 2).await;
    timeout(LIMIT, asking).await.expect("its socket is closed").unwrap();
    server.stop().await;
}
