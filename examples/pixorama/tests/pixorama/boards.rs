//! Several servers, one board; and browsers that mean no good.

use broker::Options;
use futures_util::SinkExt;
use integration_tests::harness::memory;
use pixorama::Limits;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use crate::server::{LIMIT, Pixorama};

fn is(kind: &'static str) -> impl Fn(&Value) -> bool {
    move |word| word["is"] == kind
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_share_one_board_and_a_new_one_receives_it() {
    let (one, two) = (Pixorama::start("memory://one").await, Pixorama::start("memory://one").await);
    let (mut ada, mut bob) = (one.browser().await, two.browser().await);
    ada.sign_in("ada").await;
    bob.sign_in("bob").await;
    ada.paint(3, 4, 7).await;
    bob.paint(63, 63, 0).await;
    for browser in [&mut ada, &mut bob] {
        browser.sees(3, 4, '7').await;
        browser.sees(63, 63, '0').await;
    }
    let three = Pixorama::start("memory://one").await;
    let mut late = three.browser().await;
    late.sees(3, 4, '7').await;
    late.sees(63, 63, '0').await;
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
    let (mut ada, mut bob) = (one.browser().await, two.browser().await);
    ada.sign_in("ada").await;
    bob.sign_in("bob").await;
    ada.status("connected", |status| status["connected"] == true).await;
    line.cut();
    ada.status("cut off", |status| status["connected"] == false).await;
    ada.paint(1, 1, 4).await;
    ada.sees(1, 1, '4').await;
    bob.paint(2, 2, 9).await;
    bob.sees(2, 2, '9').await;
    line.heal();
    bob.sees(1, 1, '4').await;
    ada.sees(2, 2, '9').await;
    ada.status("the gap is told", |status| status["gaps"].as_u64() > Some(0)).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_everywhere_reaches_every_tab() {
    let (one, two) = (Pixorama::start("memory://out").await, Pixorama::start("memory://out").await);
    let (mut tab, mut other, mut bob) = (one.browser().await, two.browser().await, two.browser().await);
    let signed_in = tab.sign_in("ada").await;
    other.sign_in("ada").await;
    bob.sign_in("bob").await;
    tab.send(json!({ "do": "sign-out-everywhere" })).await;
    for browser in [&mut tab, &mut other] {
        let word = browser.until("signed out", is("signed-out")).await;
        assert_eq!(word["why"], "You were signed out everywhere.");
        browser.paint(0, 0, 1).await;
        assert_eq!(browser.until("refused", is("refused")).await["why"], "sign in to paint");
    }
    bob.paint(5, 5, 5).await;
    bob.sees(5, 5, '5').await;
    // It comes back with what it remembers, to a server that has never seen it.
    let mut back = two.browser().await;
    let since = signed_in["since"].as_u64().unwrap() - Options::default().clock_skew.as_millis() as u64;
    back.send(json!({ "do": "sign-in", "name": "ada", "since": since })).await;
    back.until("still signed out", is("signed-out")).await;
    back.sign_in("ada").await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_requests_are_refused_and_then_disconnected() {
    let server = Pixorama::start("memory://nonsense").await;
    let mut browser = server.browser().await;
    browser.sign_in("eve").await;
    for (wish, why) in [
        (json!({ "do": "paint", "x": 64, "y": 0, "colour": 0 }), "no such pixel"),
        (json!({ "do": "paint", "x": 0, "y": 0, "colour": 16 }), "no such pixel"),
        (json!({ "do": "paint", "x": -1, "y": 0, "colour": 0 }), "not understood"),
        (json!({ "do": "sign-in", "name": "  ", "since": null }), "1 to 24"),
        (json!(7), "not understood"),
    ] {
        browser.send(wish).await;
        let refused = browser.until("refused", is("refused")).await;
        assert!(refused["why"].as_str().unwrap().contains(why), "{refused}");
    }
    for _ in 0..40 {
        if !browser.send_anything("{".to_owned()).await {
            break;
        }
    }
    browser.hung_up().await;
    let mut large = server.browser().await;
    large.send_anything("x".repeat(1 << 20)).await;
    large.hung_up().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_limited_and_does_not_affect_others() {
    // Its budget does not fill up again, however long the flood takes.
    let limits = Limits { strokes_a_second: 0.0, ..Limits::default() };
    let server = Pixorama::start_with("memory://flood", Options::default(), limits).await;
    let (mut flood, mut ada) = (server.browser().await, server.browser().await);
    flood.sign_in("eve").await;
    ada.sign_in("ada").await;
    for n in 0..=Limits::default().strokes_at_once as usize {
        flood.paint(n % 64, n / 64, 1 + n % 14).await;
    }
    let refused = flood.until("too fast", is("refused")).await;
    assert!(refused["why"].as_str().unwrap().contains("too fast"), "{refused}");
    ada.paint(9, 60, 3).await;
    ada.sees(9, 60, '3').await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_browsers_see_what_one_paints() {
    let server = Pixorama::start("memory://crowd").await;
    let mut crowd = Vec::new();
    for _ in 0..1000 {
        crowd.push(server.browser().await);
    }
    let mut ada = server.browser().await;
    ada.sign_in("ada").await;
    ada.paint(30, 31, 2).await;
    for browser in &mut crowd {
        browser.sees(30, 31, '2').await;
    }
    ada.status("all are counted", |status| status["here"] == 1001).await;
    drop(crowd);
    ada.status("and gone", |status| status["here"] == 1).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_loads_nothing_from_elsewhere() {
    let server = Pixorama::start("memory://page").await;
    for (path, part) in [("/", "<canvas"), ("/app.js", "WebSocket"), ("/style.css", "canvas {")] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", server.address);
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        timeout(LIMIT, socket.read_to_string(&mut text)).await.unwrap().unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.contains(part), "{path}: {text}");
        assert!(text.contains("content-security-policy: default-src 'self'"), "{path}: {text}");
    }
    server.stop().await;
}

/// One that asks and never reads: the answers fill its socket, and then only itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_does_not_read_is_disconnected() {
    let server = Pixorama::start("memory:").await;
    let (mut ada, mut bob) = (server.browser().await, server.browser().await);
    ada.sign_in("ada").await;
    bob.sign_in("bob").await;
    let mut slow = server.socket().await;
    ada.status("three are here", |status| status["here"] == 3).await;
    let asking = tokio::spawn(async move {
        let wish = json!({ "do": "sign-in", "name": "slow", "since": null }).to_string();
        // Each is answered by a whole board.
        while slow.send(Message::text(wish.clone())).await.is_ok() {}
    });
    for x in 0..50 {
        ada.paint(x, 0, 3).await;
        bob.sees(x, 0, '3').await;
        bob.paint(x, 1, 5).await;
        ada.sees(x, 1, '5').await;
    }
    ada.status("the one that does not read is gone", |status| status["here"] == 2).await;
    timeout(LIMIT, asking).await.expect("its socket is closed").unwrap();
    server.stop().await;
}
