//! Tests of the watch, on a link that does what it is told.

use std::sync::Arc;

use broker_core::{
    ErrorKind,
    driver::{Capabilities, Reach},
};

use super::*;

/// Refuses names with `refused` in them, and suspends those with `away` while it subscribes.
#[derive(Debug)]
struct Scripted;

struct ScriptedLink(Inbox);

fn with(part: &str, channels: &[ChannelName]) -> Vec<ChannelName> {
    channels.iter().filter(|name| name.as_str().contains(part)).cloned().collect()
}

#[async_trait]
impl Driver for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn connect(&self, context: ConnectContext) -> Result<Box<dyn Link>> {
        Ok(Box::new(ScriptedLink(context.inbox)))
    }
}

#[async_trait]
impl Link for ScriptedLink {
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<Receipt>> {
        batch.iter().map(|_| Ok(Receipt::new())).collect()
    }

    async fn subscribe(&self, channels: &[ChannelName]) -> Result<()> {
        self.0.suspended(&with("away", channels));
        self.0.unsubscribed(&with("gone", channels));
        if with("refused", channels).is_empty() {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Forbidden, "no"))
        }
    }

    async fn unsubscribe(&self, _channels: &[ChannelName]) -> Result<()> {
        Ok(())
    }

    fn log(&self) -> Option<&dyn DurableLog> {
        None
    }

    fn probe_channels(&self, own: &ChannelName) -> Vec<ChannelName> {
        vec![own.clone()]
    }

    fn info(&self) -> LinkInfo {
        LinkInfo::new(Capabilities::new(Reach::Process))
    }

    async fn inspect(&self, _log: &LogSpec) -> Inspection {
        Inspection::default()
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

fn names(names: &[&str]) -> Vec<ChannelName> {
    names.iter().map(|name| ChannelName::new(*name).expect("a name")).collect()
}

/// Two links, watched together.
async fn links() -> (Watch, [Box<dyn Link>; 2], Inbox) {
    let watch = Watch::new();
    let driver = watch.around(Arc::new(Scripted));
    let inbox = Inbox::discard();
    let mut links = Vec::new();
    for _ in 0..2 {
        links.push(driver.connect(ConnectContext::new(inbox.clone())).await.expect("a link"));
    }
    (watch, links.try_into().ok().expect("two"), inbox)
}

#[tokio::test]
async fn a_name_is_there_while_some_link_is_subscribed() {
    let (watch, [one, two], _) = links().await;
    one.subscribe(&names(&["b", "a"])).await.expect("subscribed");
    two.subscribe(&names(&["b"])).await.expect("subscribed");
    assert_eq!(watch.channels(), ["a", "b"]);
    one.unsubscribe(&names(&["b"])).await.expect("unsubscribed");
    assert_eq!(watch.channels(), ["a", "b"]);
    two.close().await.expect("closed");
    assert_eq!(watch.channels(), ["a"]);
    drop(one);
    assert!(watch.channels().is_empty() && watch.links().is_empty());
}

#[tokio::test]
async fn what_is_refused_or_suspended_is_not_there() {
    let (watch, [one, _two], inbox) = links().await;
    one.subscribe(&names(&["refused", "a"])).await.expect_err("refused");
    assert!(watch.channels().is_empty());
    one.subscribe(&names(&["away", "a"])).await.expect("subscribed");
    assert_eq!(watch.channels(), ["a"]);
    one.subscribe(&names(&["gone"])).await.expect("subscribed");
    assert_eq!(watch.channels(), ["a", "gone"]);
    assert!(!inbox.is_lost());
}

#[tokio::test]
async fn a_link_that_is_lost_holds_nothing_whatever_comes_late() {
    let watch = Watch::new();
    let place = Arc::new(Place { watch: watch.clone(), id: 1 });
    watch.links().insert(1, Held::default());
    let sink = WatchedInbox { inbox: Inbox::discard(), place: Arc::clone(&place) };
    let link = WatchedLink { link: Box::new(ScriptedLink(Inbox::discard())), entry: Entry(place) };
    link.subscribe(&names(&["a"])).await.expect("subscribed");
    Sink::lost(&sink, Error::new(ErrorKind::Unavailable, "gone"));
    link.subscribe(&names(&["b"])).await.expect("subscribed");
    assert!(watch.channels().is_empty());
}
