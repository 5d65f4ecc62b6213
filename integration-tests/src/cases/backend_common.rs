//! Backend-common: what the cases about one backend alone have in common: ways to connect, and to be refused.

use std::{net::SocketAddr, path::Path, time::Duration};

use broker::{Broker, Error, ErrorKind, Event, Scope};
use broker_conformance::{
    case::Outcome,
    harness::Harness,
    steps::{post, receives, receives_link_loss, wait_for_link},
    wait::{fence, next_event, text, until, within},
};
use futures_util::{
    FutureExt,
    future::{join_all, try_join_all},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::coop::unconstrained,
};

use crate::servers::Server;

/// Connects in the background.
pub(super) fn open(h: &dyn Harness, url: &str) -> Result<Broker, Error> {
    broker::open(url, h.options())
}

/// Connects once, and says why not.
pub(super) async fn connect(h: &dyn Harness, url: &str) -> Result<Broker, Error> {
    broker::connect_with(url, h.options()).await
}

/// Why one cannot connect; every such error is within the limit, names the place and shows no secret.
pub(super) async fn refusal(h: &dyn Harness, url: &str, place: &str) -> Result<Error, String> {
    refusal_within(h, url, place, h.options().connect_timeout).await
}

/// The same, of those who wait only so long for an answer.
pub(super) async fn refusal_within(
    h: &dyn Harness,
    url: &str,
    place: &str,
    limit: Duration,
) -> Result<Error, String> {
    let mut options = h.options();
    options.connect_timeout = limit;
    match within("a refusal", broker::connect_with(url, options)).await? {
        Ok(broker) => {
            broker.close().await;
            Err("connected".to_owned())
        }
        Err(error) => {
            let shown = format!("{error} {error:?}");
            if shown.contains("s3cret") || error.backend() != Some(h.backend().name) {
                return Err(format!("not as it should be: {shown}"));
            }
            // Who gave up waiting knows nothing of the place.
            if error.kind() != ErrorKind::Timeout && !shown.contains(place) {
                return Err(format!("does not name {place}: {shown}"));
            }
            Ok(error)
        }
    }
}

/// Two brokers receive each other. Both listen all the while and receive every post, so that none of them is still on
/// its way when the next subscription to the channel begins.
pub(super) async fn receive_from_each_other(one: &Broker, two: &Broker) -> Result<(), String> {
    let mut ends = Vec::new();
    for node in [one, two] {
        ends.push(node.subscribe("news").await.map_err(|error| error.to_string())?);
    }
    for from in [one, two] {
        for word in ["hello", "that was all"] {
            post(from, "news", word).await?;
            for end in &mut ends {
                receives(end, word).await?;
            }
        }
    }
    Ok(())
}

/// A URL with these files behind it.
pub(super) fn with_keys(url: &str, keys: &[(&str, &Path)]) -> String {
    let keys: Vec<String> = keys.iter().map(|(key, path)| format!("{key}={}", path.display())).collect();
    format!("{url}?{}", keys.join("&"))
}

/// What one node posts on many channels is received by another in that order, across all of them.
pub(super) async fn a_thousand_channels_keep_one_order(h: &dyn Harness) -> Outcome {
    let (here, there) = (h.node().await?, h.node().await?);
    let mut all = Vec::new();
    for n in 0..1000 {
        all.push(here.subscribe(format!("room.{n}")));
    }
    let mut all = join_all(all).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let posts = (0..5000).map(|n| there.publish(format!("room.{}", n % 1000), n.to_string(), Scope::Global));
    for outcome in within("the posts", join_all(posts)).await? {
        outcome?;
    }
    // The last one received means that all are there.
    let last = all.last_mut().ok_or("no channel")?;
    for n in (999..5000).step_by(1000) {
        receives(last, &n.to_string()).await?;
    }
    // Nobody waits for anything from here on.
    for (n, subscription) in all.iter_mut().enumerate().take(999) {
        for round in 0..5 {
            let expected = (round * 1000 + n).to_string();
            let received = unconstrained(receives(subscription, &expected)).now_or_never();
            received.ok_or_else(|| format!("room {n} is behind the last one"))??;
        }
    }
    Ok(())
}

/// How many of so many first posts were not received: each is posted right after its channel was subscribed, at another
/// server, by `callers` at a time.
pub(super) async fn first_posts_lost(
    here: &Broker,
    there: &Broker,
    posts: usize,
    callers: usize,
) -> Result<usize, String> {
    let caller = async |caller: usize| {
        let mut all = Vec::new();
        for n in 0..posts / callers {
            let name = format!("first.{caller}.{n}");
            let subscription = here.subscribe(&name).await.map_err(|error| error.to_string())?;
            post(there, &name, "first").await?;
            all.push((name, subscription));
        }
        Ok::<_, String>(all)
    };
    let mut all: Vec<_> = try_join_all((0..callers).map(caller)).await?.into_iter().flatten().collect();
    // By now every server knows everything.
    for part in all.chunks(1000) {
        let last = part.iter().map(|(name, _)| there.publish(name, "last", Scope::Global));
        within("the last posts", try_join_all(last)).await?.map_err(|error| error.to_string())?;
    }
    let mut lost = 0;
    for (_, subscription) in &mut all {
        let first = next_event(subscription).await?;
        let is_first = matches!(&first, Event::Message(message) if text(message)? == "first");
        if is_first {
            receives(subscription, "last").await?;
        } else {
            lost += 1;
        }
    }
    Ok(lost)
}

/// Answers every connection in one way: with a text, or by silence, or by closing at once.
pub(super) async fn impostor(answer: Option<&'static str>, close: bool) -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
    let addr = listener.local_addr().map_err(|error| error.to_string())?;
    // Ends with the case's runtime.
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut asked = [0; 64];
            if let Some(answer) = answer {
                // Whoever hangs up early has seen enough.
                let _ = socket.read(&mut asked).await;
                let _ = socket.write_all(answer.as_bytes()).await;
            }
            if !close {
                open.push(socket);
            }
        }
    });
    Ok(addr)
}

/// What two nodes receive of each other again, after `lose` has broken their links.
pub(super) async fn receives_again_after(
    one: &Broker,
    two: &Broker,
    lose: impl Future<Output = Result<(), String>> + Send,
) -> Outcome {
    let mut received = one.subscribe("news").await?;
    lose.await?;
    wait_for_link(one, 2).await?;
    wait_for_link(two, 2).await?;
    post(two, "news", "again").await?;
    receives_link_loss(&mut received).await?;
    Ok(receives(&mut received, "again").await?)
}

/// A server ends, and is started again.
pub(super) async fn restart(server: &dyn Server) -> Result<(), String> {
    server.kill().await?;
    server.start_again().await
}

/// A server that has room for one link: a second node waits, and gets in when the first has gone.
pub(super) async fn there_is_room_for_one(h: &dyn Harness, server: &dyn Server) -> Outcome {
    let url = server.url_at(server.addr());
    // Whoever waited for the server to start may still be there.
    let first = open(h, &url)?;
    within("the first link", first.ready()).await??;
    let error = refusal(h, &url, &server.addr().to_string()).await?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let second = open(h, &url)?;
    until("two attempts", || second.health().failures >= 2).await?;
    let mut received = first.subscribe("news").await?;
    fence(&first, &mut received).await?;
    assert_eq!(first.health().links, 1);
    first.close().await;
    within("room for the second", second.ready()).await??;
    Ok(())
}

/// Runs a case up to three times, as long as it fails with this text: that of what a busy machine may cause, so that the attempt
/// proves nothing.
pub(super) async fn again_after<F>(text: &str, attempt: impl Fn() -> F) -> Outcome
where
    F: Future<Output = Outcome>,
{
    for _ in 0..2 {
        match attempt().await {
            Err(error) if format!("{error:?}").contains(text) => eprintln!("once more: {error:?}"),
            outcome => return outcome,
        }
    }
    attempt().await
}
