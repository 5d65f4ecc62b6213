//! What a cluster costs does not grow faster than it should: small runs of the scenarios.

use std::time::Duration;

use broker_core::Options;
use simulation::{
    Costs,
    cluster::Shape,
    scenarios::{churn, steady, storm},
};

fn shape(nodes: usize, channels: usize) -> Shape {
    Shape { nodes, channels, listeners: 5, active: 20, seed: 1, options: Options::default() }
}

#[tokio::test(start_paused = true)]
async fn digests_grow_as_the_nodes_and_each_reaches_every_node_once() {
    for nodes in [8, 16, 32] {
        let steady =
            steady(shape(nodes, 40), Duration::from_secs(15), Duration::from_secs(20)).await.unwrap();
        // One in five seconds.
        let each = steady.digests.posts as f64 / nodes as f64 / steady.seconds;
        assert!((0.15..=0.25).contains(&each), "{nodes} nodes: {each} a second from each, {steady:?}");
        assert_eq!(steady.digests.deliveries, steady.digests.posts * nodes as u64);
        assert_eq!(steady.needless, 0, "{nodes} nodes");
    }
}

#[tokio::test(start_paused = true)]
async fn no_node_receives_many_more_than_a_hundred_digests_a_second() {
    let options = Options::default().with(|options| options.digest_interval = Duration::from_millis(100));
    let shape = Shape { active: 50, options, ..shape(30, 50) };
    // Without the limit it were three hundred.
    let steady = steady(shape, Duration::from_secs(5), Duration::from_secs(5)).await.unwrap();
    let received = steady.digests.posts as f64 / steady.seconds;
    assert!((50.0..=130.0).contains(&received), "{received} a second, {steady:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_each_name_is_asked_for_once_and_everybody_is_told() {
    for (nodes, lost) in [(10, 10), (30, 30), (30, 10)] {
        let storm = storm(shape(nodes, 40), Costs::default(), lost, Duration::ZERO).await.unwrap();
        assert_eq!(storm.counts.connects.iter().sum::<u64>(), lost as u64);
        // Its channels, its own one, and that of the digests.
        assert_eq!(storm.counts.names.iter().sum::<u64>(), (lost * 42) as u64);
        assert!(storm.told.is_some(), "{storm:?}");
        assert_eq!(storm.needless, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_too_slow_for_all_names_at_once_gets_them_one_after_the_other() {
    // 4,000 names take 40 s, and a call may take ten.
    let costs = Costs { name: Duration::from_millis(10), ..Costs::default() };
    let storm = storm(shape(10, 400), costs, 10, Duration::ZERO).await.unwrap();
    assert!(storm.told.is_some(), "{storm:?}");
    assert_eq!(storm.counts.connects.iter().sum::<u64>(), 10, "no link is given up");
}

#[tokio::test(start_paused = true)]
async fn what_comes_and_goes_costs_only_itself() {
    let (steady, counts) = churn(shape(10, 40), 10, 1, 2).await.unwrap();
    // In each second 42 names for the node that starts, and two for each of nine others.
    let names = counts.names.iter().sum::<u64>();
    assert!(names <= 10 * (42 + 18), "{names}");
    assert_eq!(steady.needless, 0);
}
