//! Only: what the cases about one backend alone have in common: ways to connect, and to be refused.

use std::{path::Path, time::Duration};

use broker::{Broker, Error, ErrorKind, Scope};
use futures_util::{FutureExt, future::join_all};
use tokio::task::coop::unconstrained;

use super::steps::{hears, post};
use crate::{case::Outcome, harness::Harness, wait::within};

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
            if shown.contains("s3cret") || error.backend() != Some(h.backend()) {
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

/// Two brokers hear each other. Both listen all the while and hear every post, so that none of them is still on
/// its way when the next subscription to the channel begins.
pub(super) async fn hear_each_other(one: &Broker, two: &Broker) -> Result<(), String> {
    let mut ends = Vec::new();
    for node in [one, two] {
        ends.push(node.subscribe("news").await.map_err(|error| error.to_string())?);
    }
    for from in [one, two] {
        for word in ["hello", "that was all"] {
            post(from, "news", word).await?;
            for end in &mut ends {
                hears(end, word).await?;
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

/// What one node posts on many channels is heard by another in that order, across all of them.
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
    // The last one heard means that all are there.
    let last = all.last_mut().ok_or("no channel")?;
    for n in (999..5000).step_by(1000) {
        hears(last, &n.to_string()).await?;
    }
    // Nobody waits for anything from here on.
    for (n, subscription) in all.iter_mut().enumerate().take(999) {
        for round in 0..5 {
            let expected = (round * 1000 + n).to_string();
            let heard = unconstrained(hears(subscription, &expected)).now_or_never();
            heard.ok_or_else(|| format!("room {n} is behind the last one"))??;
        }
    }
    Ok(())
}
