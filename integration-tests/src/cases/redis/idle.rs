//! Cases about a Redis that closes connections which are idle for a while.

use std::time::Duration;

use broker::{ErrorKind, Options};
use broker_conformance::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    wait::{LIMIT, eventually, fence, until},
};

use crate::servers::{
    self,
    redis::{Redis, config::RedisConfig},
};

pub(super) const CASES: &[Case] = &[
    case!(an_idle_limit_below_the_heartbeat_keeps_the_link, [4, 10]).needs(&[Need::OwnServer]),
    case!(an_unreadable_idle_limit_is_named_when_it_ends_a_link, [10]).needs(&[Need::OwnServer]),
];

/// The user of the cases. Those of the tests themselves are another's.
const USER: &str = "app on >secret ~* &* +@all";

async fn server(user: &str) -> Result<Box<dyn Redis>, String> {
    servers::redis::start(RedisConfig::default().user(user).line("timeout 1")).await
}

fn url(server: &dyn Redis) -> String {
    format!("redis://app:secret@{}", server.addr())
}

/// A heartbeat that is much longer than the limit.
fn slow(h: &dyn Harness) -> Options {
    let mut options = h.options();
    options.heartbeat = Duration::from_secs(3600);
    options
}

async fn an_idle_limit_below_the_heartbeat_keeps_the_link(h: &dyn Harness) -> Outcome {
    let server = server(USER).await?;
    let node = broker::connect_with(&url(&*server), slow(h)).await?;
    let mut received = node.subscribe("news").await?;
    // Both connections outlive the limit several times.
    eventually("two connections to be old", LIMIT, || async {
        let list = server.command(&[b"CLIENT", b"LIST"]).await?;
        let list: String = redis::from_redis_value(list).map_err(|error| error.to_string())?;
        let own = list.lines().filter(|line| line.contains(" user=app "));
        let age = |line: &str| line.split(" age=").nth(1)?.split(' ').next()?.parse::<u32>().ok();
        let ages: Vec<u32> = own.filter_map(age).collect();
        let links = node.health().links;
        if ages.len() == 2 && ages.iter().all(|age| *age >= 4) {
            return Ok(());
        }
        Err(format!("{ages:?} s, {links} links, {:?}", node.health().last_error))
    })
    .await?;
    fence(&node, &mut received).await?;
    assert_eq!((node.health().links, node.health().failures), (1, 0), "{:?}", node.health().last_error);
    Ok(())
}

async fn an_unreadable_idle_limit_is_named_when_it_ends_a_link(h: &dyn Harness) -> Outcome {
    let server = server(&format!("{USER} -config")).await?;
    let node = broker::connect_with(&url(&*server), slow(h)).await?;
    until("a lost link", || node.health().links >= 2).await?;
    let error = node.health().last_error.ok_or("no reason")?;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    for part in ["idle", "`timeout`", "`heartbeat`"] {
        assert!(error.message().contains(part), "{part} is not in: {error}");
    }
    Ok(())
}
