//! The revocation log of a backend, read and written by links without a broker.

use crate::{
    case::{Case, Outcome, case},
    harness::Harness,
    log_checks as checks,
    log_link::Opener,
};

pub(super) const CASES: &[Case] = &[
    case!(a_new_log_is_there_and_empty, [9]),
    case!(what_was_appended_is_read_through_any_link, [9]),
    case!(a_cursor_of_a_link_is_good_on_the_next, [9]),
    case!(a_cursor_that_fell_behind_stays_good, [9]),
    case!(four_who_append_at_once_make_one_log_for_all, [9]),
    case!(a_long_log_is_read_in_pages, [9]),
    case!(a_record_is_bytes_up_to_its_limit, [9]),
    case!(text_that_is_no_cursor_is_no_place_in_the_log, [9]),
    case!(a_deleted_log_is_told_to_who_had_not_read_it, [9]),
    case!(a_deleted_log_that_has_grown_is_told_as_a_whole, [9]),
    case!(who_finds_no_log_is_told_that_it_is_new, [9]),
    case!(records_dropped_unread_are_told, [9]),
    case!(a_log_that_does_not_answer_is_an_error_within_the_limit, [9]),
];

async fn a_new_log_is_there_and_empty(h: &dyn Harness) -> Outcome {
    checks::a_new_log(&Opener::of(h)?).await
}

async fn what_was_appended_is_read_through_any_link(h: &dyn Harness) -> Outcome {
    checks::read_your_writes(&Opener::of(h)?).await
}

async fn a_cursor_of_a_link_is_good_on_the_next(h: &dyn Harness) -> Outcome {
    checks::a_cursor_of_another_link(&Opener::of(h)?).await
}

async fn a_cursor_that_fell_behind_stays_good(h: &dyn Harness) -> Outcome {
    checks::an_old_cursor(&Opener::of(h)?).await
}

async fn four_who_append_at_once_make_one_log_for_all(h: &dyn Harness) -> Outcome {
    checks::writers_at_once(&Opener::of(h)?).await
}

async fn a_long_log_is_read_in_pages(h: &dyn Harness) -> Outcome {
    checks::pages(&Opener::of(h)?).await
}

async fn a_record_is_bytes_up_to_its_limit(h: &dyn Harness) -> Outcome {
    checks::opaque_records(&Opener::of(h)?).await
}

async fn text_that_is_no_cursor_is_no_place_in_the_log(h: &dyn Harness) -> Outcome {
    checks::foreign_cursors(&Opener::of(h)?).await
}

async fn a_deleted_log_is_told_to_who_had_not_read_it(h: &dyn Harness) -> Outcome {
    checks::wiped(&Opener::of(h)?, h.wipe_log()).await
}

async fn a_deleted_log_that_has_grown_is_told_as_a_whole(h: &dyn Harness) -> Outcome {
    checks::wiped_and_grown(&Opener::of(h)?, h.wipe_log()).await
}

async fn who_finds_no_log_is_told_that_it_is_new(h: &dyn Harness) -> Outcome {
    checks::created(&Opener::of(h)?, h).await
}

async fn records_dropped_unread_are_told(h: &dyn Harness) -> Outcome {
    checks::trimmed(&Opener::of(h)?, h.trim_log()).await
}

async fn a_log_that_does_not_answer_is_an_error_within_the_limit(h: &dyn Harness) -> Outcome {
    let line = h.line().await?;
    checks::no_answer(&Opener::at(h, &line.url())?, &*line).await
}
