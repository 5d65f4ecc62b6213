//! Clusters: our entries of the suite on brokers of several members, a file below this one for each topology. Node *i*
//! of a case is on member *i*. The suite takes minutes on each: where none is named, only what members do to each
//! other is tested, and RabbitMQ's not at all, which takes most of a minute to start.

use broker_conformance::Entry;

pub mod nats_cluster;
pub mod postgres_standby;
pub mod rabbitmq_cluster;
pub mod redis_cluster;
pub mod redis_sentinel;
pub mod redis_sharded;

/// Every topology of the suite.
pub const CLUSTERS: &[Entry] = &[
    nats_cluster::ENTRY,
    postgres_standby::ENTRY,
    rabbitmq_cluster::ENTRY,
    redis_cluster::ENTRY,
    redis_sentinel::ENTRY,
    redis_sharded::ENTRY,
];

/// The cases that run on a cluster where nobody names it: those about what one member has to tell another, or about one
/// that is gone. All others hold on a cluster as they do on one server.
const ACROSS_MEMBERS: &[&str] = &[
    // First posts.
    "subscribed_means_subscribed",
    "subscribing_under_load_leaves_no_hole",
    "every_subscribing_call_returns_subscribed",
    "what_is_posted_after_a_late_beginning_arrives",
    "three_nodes_receive_each_others_posts",
    "a_request_is_answered_wherever_it_is_made",
    // Order.
    "many_publishers_each_keep_their_order",
    "all_nodes_receive_one_order",
    "order_holds_when_the_readers_link_breaks",
    "order_holds_when_the_publishers_link_breaks",
    // Gaps.
    "the_gap_stands_before_everything_posted_after_the_break",
    "a_broken_link_affects_no_other_node",
    "links_dropped_by_the_server_reconnect_with_a_gap",
    "after_a_restart_streams_and_listeners_continue_with_a_gap",
    "posts_accepted_by_a_killed_server_arrive_or_lie_in_a_gap",
    "a_hanging_server_is_detected_and_recovers",
    "the_last_messages_of_a_killed_node_are_reported",
    // Revocation.
    "a_revoked_user_is_signed_out_on_every_node",
    "a_revocation_survives_a_server_restart",
];
