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
    StaysSilentToThePoster,
    CrossesChannels,
    SwapsTwo,
    ReversesBatches,
    LosesOneInTwenty,
    SaysSentAndDoesNot,
    HealsInSilence,
    StarvesOthers,
    SaysUnsentAndDoes,
    Hoards,
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
        "confirms a subscription before the bus knows of it",
        &["subscribed_means_subscribed", "every_way_to_listen_is_subscribed_when_it_returns"],
    ),
    fault(
        Wrong::SubscribesTheFirst,
        1,
        "subscribes only the first channel of each call",
        &["five_thousand_channels_are_subscribed_again_and_told"],
    ),
    fault(
        Wrong::ForgetsTheOldest,
        1,
        "gives up the oldest channel when it has more than 200",
        &["five_thousand_channels_are_subscribed_again_and_told"],
    ),
    fault(
        Wrong::UnsubscribesNeighbours,
        1,
        "unsubscribes also the channels whose names begin with that of the one that is left",
        &["leaving_a_channel_leaves_those_with_similar_names"],
    ),
    fault(
        Wrong::DeliversTwice,
        2,
        "delivers a copy of each message, as if another node had posted it",
        &["own_posts_come_back_exactly_once", "every_subscriber_of_every_node_hears_a_post_once"],
    ),
    fault(
        Wrong::StaysSilentToThePoster,
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
        "sends each batch from its end",
        &["one_publisher_keeps_its_order_under_load"],
    ),
    fault(
        Wrong::LosesOneInTwenty,
        4,
        "loses one message in twenty on their way to a node",
        &["a_healthy_link_is_left_alone", "one_publisher_keeps_its_order_under_load"],
    ),
    fault(
        Wrong::SaysSentAndDoesNot,
        4,
        "says of one message in twenty that it was sent, and does not send it",
        &["a_healthy_link_is_left_alone"],
    ),
    fault(
        Wrong::HealsInSilence,
        4,
        "opens a lost link again by itself, subscribes again, and tells nobody",
        &["the_gap_stands_before_everything_posted_after_the_break"],
    ),
    fault(
        Wrong::StarvesOthers,
        5,
        "loses the messages of other channels while one is busy",
        &["busy_channels_do_not_disturb_the_order_of_another"],
    ),
    fault(
        Wrong::SaysUnsentAndDoes,
        6,
        "says of one message in twenty that it was not sent, and sends it",
        &["what_was_accepted_before_the_publisher_was_cut_off_is_heard"],
    ),
    fault(
        Wrong::Hoards,
        6,
        "keeps what it cannot send, says that it was sent, and sends it later",
        &["a_post_into_a_stalled_line_ends_and_is_not_hoarded"],
    ),
    fault(
        Wrong::ForgetsRecords,
        9,
        "says that a revocation is stored, and does not store it",
        &[
            "a_revocation_issued_while_a_node_is_down_is_known_when_it_starts_again",
            "what_was_appended_is_read_through_any_link",
        ],
    ),
    fault(
        Wrong::ClaimsToHaveNoLog,
        9,
        "says that the bus keeps no log of revocations",
        &["what_was_appended_is_read_through_any_link"],
    ),
    fault(
        Wrong::ReadsNothing,
        9,
        "reads an empty log of revocations",
        &["what_was_appended_is_read_through_any_link"],
    ),
    fault(
        Wrong::SkipsTheLastRecord,
        9,
        "leaves the last record of each page of the log out",
        &["what_was_appended_is_read_through_any_link"],
    ),
    fault(
        Wrong::HidesBreaks,
        9,
        "does not say that the log was wiped, trimmed or rolled back",
        &["a_log_that_was_wiped_is_noticed_and_repaired", "a_deleted_log_is_told_to_who_had_not_read_it"],
    ),
    fault(
        Wrong::HidesNewLogs,
        9,
        "does not say that it has found no log and made one",
        &[
            "a_node_that_starts_behind_a_wiped_log_knows_what_was_revoked",
            "who_finds_no_log_is_told_that_it_is_new",
        ],
    ),
    fault(
        Wrong::StopsAfterOnePage,
        9,
        "says after one page that the log was read to its end",
        &["a_long_log_is_read_in_pages"],
    ),
    fault(
        Wrong::StaysAtTheBeginning,
        9,
        "never moves its place in the log",
        &["a_cursor_of_a_link_is_good_on_the_next"],
    ),
    fault(
        Wrong::AnswersProbesItself,
        10,
        "answers the broker's own posts by itself, without the bus",
        &["while_a_line_is_stalled_it_is_not_connected", "a_stalled_line_is_found_and_recovers"],
    ),
    fault(
        Wrong::RetriesByItself,
        10,
        "tries to connect again and again by itself, and tells nobody",
        &["health_says_why_and_how_often_it_failed"],
    ),
    fault(Wrong::Mangles, 11, "changes the last byte of a payload", &["payloads_arrive_bit_for_bit"]),
    fault(Wrong::CutsOff, 11, "cuts off what is longer than 100,000 bytes", &["payloads_arrive_bit_for_bit"]),
    fault(Wrong::LosesEmpty, 11, "takes an empty message for none", &["an_empty_payload_is_a_message"]),
    fault(
        Wrong::WritesElsewhere,
        11,
        "posts to the name of a channel in lower case",
        &["every_legal_name_works"],
    ),
    fault(
        Wrong::TakesOnlySmallOnes,
        11,
        "refuses what is longer than 64 KiB",
        &["the_largest_payload_arrives_and_one_byte_more_is_refused"],
    ),
    fault(
        Wrong::ReversesOutcomes,
        11,
        "tells the outcomes of a batch in the wrong order",
        &["a_refused_post_among_others_is_told_to_its_poster"],
    ),
    fault(
        Wrong::HidesRefusals,
        11,
        "confirms a channel that the bus has refused",
        &["a_refused_channel_disturbs_no_other"],
    ),
    fault(
        Wrong::Panics,
        5,
        "panics now and then while it posts",
        &["a_stream_that_nobody_reads_slows_nobody", "two_hundred_subscribers_of_one_channel_all_hear"],
    ),
    fault(
        Wrong::NeverAnswers,
        5,
        "does not come back from posting now and then",
        &["one_publisher_keeps_its_order_under_load"],
    ),
    fault(
        Wrong::LosesCount,
        3,
        "returns one outcome too few now and then",
        &["one_publisher_keeps_its_order_under_load"],
    ),
    fault(
        Wrong::NeverUnsubscribes,
        12,
        "leaves channels subscribed at the bus",
        &["the_last_one_leaving_unsubscribes_at_the_server", "ten_thousand_rounds_leave_the_table_empty"],
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
        "promises to reach other processes",
        &["a_link_promises_what_its_backend_declares"],
    ),
    fault(Wrong::Busy, 12, "leaves a task behind for each link", &["a_flapping_line_leaks_nothing"]),
];
