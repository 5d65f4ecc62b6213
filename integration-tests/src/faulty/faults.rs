//! The faults: what is wrong with each faulty driver, which promise that breaks, and which cases must notice.

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is described in `FAULTS`")]
pub enum Wrong {
    /// The driver itself.
    Nothing,
    /// The driver around it, which passes everything on.
    NothingAtAll,
    ConfirmsEarly,
    SubscribesTheFirst,
    ForgetsTheOldest,
    UnsubscribesNeighbours,
    DeliversTwice,
    SkipsThePublisher,
    CrossesChannels,
    SwapsTwo,
    ReversesBatches,
    LosesOneInTwenty,
    DropsAndReportsSent,
    ConfirmsUnasked,
    ReconnectsSilently,
    StarvesOthers,
    SendsAndReportsFailure,
    KeepsUnsentPosts,
    Panics,
    NeverAnswers,
    LosesCount,
    ForgetsRecords,
    ClaimsToHaveNoLog,
    ReadsNothing,
    SkipsTheLastRecord,
    HidesBreaks,
    HidesNewLogs,
    StopsAfterOnePage,
    StaysAtTheBeginning,
    AnswersProbesItself,
    RetriesByItself,
    Mangles,
    CutsOff,
    LosesEmpty,
    WritesElsewhere,
    TakesOnlySmallOnes,
    ReversesOutcomes,
    HidesRefusals,
    NeverUnsubscribes,
    LeavesItsLink,
    Busy,
    ClaimsTooMuch,
}

/// A faulty driver.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What is wrong, for the driver.
    pub wrong: Wrong,
    /// The promise that it breaks.
    pub promise: u8,
    /// What is wrong, in words.
    pub does: &'static str,
    /// The cases that must fail. Each says why by its name.
    pub caught_by: &'static [&'static str],
}

const fn fault(wrong: Wrong, promise: u8, does: &'static str, caught_by: &'static [&'static str]) -> Fault {
    Fault { wrong, promise, does, caught_by }
}

/// Every faulty driver.
pub const FAULTS: &[Fault] = &[
    fault(
        Wrong::ConfirmsEarly,
        1,
        "confirms a subscription before the bus has it",
        &["subscribed_means_subscribed", "every_subscribing_call_returns_subscribed"],
    ),
    fault(
        Wrong::SubscribesTheFirst,
        1,
        "subscribes only the first channel of each call",
        &["five_thousand_channels_are_resubscribed_with_a_gap"],
    ),
    fault(
        Wrong::ForgetsTheOldest,
        1,
        "gives up the oldest channel when it has more than 200",
        &["five_thousand_channels_are_resubscribed_with_a_gap"],
    ),
    fault(
        Wrong::UnsubscribesNeighbours,
        1,
        "also unsubscribes channels whose names begin with the name of the unsubscribed one",
        &["unsubscribing_keeps_channels_with_similar_names"],
    ),
    fault(
        Wrong::DeliversTwice,
        2,
        "delivers a copy of each message, as if another node had posted it",
        &["own_posts_come_back_exactly_once", "every_subscriber_on_every_node_receives_a_post_once"],
    ),
    fault(
        Wrong::SkipsThePublisher,
        2,
        "does not deliver to a node what the node itself posted",
        &["own_posts_come_back_exactly_once"],
    ),
    fault(
        Wrong::CrossesChannels,
        2,
        "delivers the messages of `a.b` on `a` too",
        &["channels_with_similar_names_are_isolated"],
    ),
    fault(
        Wrong::SwapsTwo,
        3,
        "delivers some messages after the ones that follow them",
        &["one_publisher_keeps_its_order_under_load", "many_publishers_each_keep_their_order"],
    ),
    fault(
        Wrong::ReversesBatches,
        3,
        "sends each batch in reverse",
        &["one_publisher_keeps_its_order_under_load"],
    ),
    fault(
        Wrong::LosesOneInTwenty,
        4,
        "loses one message in twenty on the way to a node",
        &["heartbeats_keep_a_healthy_link", "one_publisher_keeps_its_order_under_load"],
    ),
    fault(
        Wrong::DropsAndReportsSent,
        4,
        "reports one message in twenty as sent without sending it",
        &["heartbeats_keep_a_healthy_link"],
    ),
    fault(
        Wrong::ConfirmsUnasked,
        6,
        "confirms posts that the bus has refused, or not answered",
        &[
            "a_post_that_never_reaches_the_server_fails",
            "a_post_into_a_stalled_line_ends_and_is_not_kept",
            "a_post_without_an_answer_is_neither_accepted_nor_refused",
            "a_blocked_full_outbox_fails_posts_within_the_limit",
        ],
    ),
    fault(
        Wrong::ReconnectsSilently,
        4,
        "reconnects a lost link and resubscribes without reporting a gap",
        &["the_gap_stands_before_everything_posted_after_the_break"],
    ),
    fault(
        Wrong::StarvesOthers,
        5,
        "loses the messages of other channels while one is busy",
        &["busy_channels_do_not_disturb_the_order_of_another"],
    ),
    fault(
        Wrong::SendsAndReportsFailure,
        6,
        "reports one message in twenty as not sent and sends it",
        &["posts_accepted_before_the_publisher_disconnects_arrive"],
    ),
    fault(
        Wrong::KeepsUnsentPosts,
        6,
        "keeps posts that it cannot send, reports them as sent, and sends them later",
        &["a_post_into_a_stalled_line_ends_and_is_not_kept"],
    ),
    fault(
        Wrong::ForgetsRecords,
        9,
        "reports a revocation as stored without storing it",
        &[
            "a_revocation_while_a_node_is_down_is_applied_when_it_starts",
            "appended_records_are_read_through_any_link",
        ],
    ),
    fault(
        Wrong::ClaimsToHaveNoLog,
        9,
        "reports that the bus keeps no revocation log",
        &["appended_records_are_read_through_any_link"],
    ),
    fault(
        Wrong::ReadsNothing,
        9,
        "reads the revocation log as empty",
        &["appended_records_are_read_through_any_link"],
    ),
    fault(
        Wrong::SkipsTheLastRecord,
        9,
        "omits the last record of each page of the log",
        &["appended_records_are_read_through_any_link"],
    ),
    fault(
        Wrong::HidesBreaks,
        9,
        "does not report that the log was wiped, trimmed or rolled back",
        &["a_wiped_log_is_detected_and_repaired", "a_deleted_log_is_reported_to_late_readers"],
    ),
    fault(
        Wrong::HidesNewLogs,
        9,
        "does not report that it has created the log",
        &["a_node_started_after_a_wipe_recovers_the_revocations", "a_missing_log_is_reported_as_new"],
    ),
    fault(
        Wrong::StopsAfterOnePage,
        9,
        "reports the end of the log after one page",
        &["a_long_log_is_read_in_pages"],
    ),
    fault(
        Wrong::StaysAtTheBeginning,
        9,
        "never advances its cursor in the log",
        &["a_cursor_is_valid_on_the_next_link"],
    ),
    fault(
        Wrong::AnswersProbesItself,
        10,
        "echoes the broker's own posts without sending them to the bus",
        &["a_stalled_line_is_not_connected", "a_stalled_line_is_detected_and_recovers"],
    ),
    fault(
        Wrong::RetriesByItself,
        10,
        "retries to connect by itself without reporting the failures",
        &["health_reports_the_last_error_and_the_failures"],
    ),
    fault(Wrong::Mangles, 11, "changes the last byte of a payload", &["payloads_arrive_bit_for_bit"]),
    fault(
        Wrong::CutsOff,
        11,
        "truncates messages longer than 100,000 bytes",
        &["payloads_arrive_bit_for_bit"],
    ),
    fault(Wrong::LosesEmpty, 11, "drops empty messages", &["an_empty_payload_is_a_message"]),
    fault(
        Wrong::WritesElsewhere,
        11,
        "posts to the name of a channel in lower case",
        &["every_legal_name_works"],
    ),
    fault(
        Wrong::TakesOnlySmallOnes,
        11,
        "refuses messages longer than 64 KiB",
        &["the_largest_payload_arrives_and_one_byte_more_is_refused"],
    ),
    fault(
        Wrong::ReversesOutcomes,
        11,
        "returns the outcomes of a batch in the wrong order",
        &["a_refused_post_fails_and_no_other"],
    ),
    fault(
        Wrong::HidesRefusals,
        11,
        "confirms a channel that the bus has refused",
        &["a_refused_channel_affects_no_other"],
    ),
    fault(
        Wrong::Panics,
        5,
        "panics occasionally while it publishes",
        &["an_unread_stream_slows_nothing_down", "two_hundred_subscribers_of_one_channel_receive_every_post"],
    ),
    fault(
        Wrong::NeverAnswers,
        5,
        "occasionally never returns from publishing",
        &["one_publisher_keeps_its_order_under_load"],
    ),
    fault(
        Wrong::LosesCount,
        3,
        "occasionally returns one outcome too few",
        &["one_publisher_keeps_its_order_under_load"],
    ),
    fault(
        Wrong::NeverUnsubscribes,
        12,
        "leaves channels subscribed at the bus",
        &[
            "the_last_subscriber_unsubscribes_at_the_server",
            "ten_thousand_subscriptions_leave_the_table_empty",
        ],
    ),
    fault(
        Wrong::LeavesItsLink,
        12,
        "leaves its link open when it closes",
        &["closing_leaves_nothing_behind"],
    ),
    fault(
        Wrong::ClaimsTooMuch,
        10,
        "claims to reach other processes",
        &["a_link_reports_the_declared_capabilities"],
    ),
    fault(Wrong::Busy, 12, "leaves a task behind for each link", &["a_flapping_line_leaks_nothing"]),
];
