//! The revocation log of a backend, read and written by links without a broker.

use crate::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    log_checks as checks,
    log_link::Opener,
};

pub(super) const CASES: &[Case] = &[
    case!(a_new_log_is_empty, [9]).needs(&[Need::Log]),
    case!(appended_records_are_read_through_any_link, [9]).needs(&[Need::Log]),
    case!(a_cursor_is_valid_on_the_next_link, [9]).needs(&[Need::Log]),
    case!(an_old_cursor_stays_valid, [9]).needs(&[Need::Log]),
    case!(concurrent_appends_make_one_log, [9]).needs(&[Need::Log]),
    case!(a_long_log_is_read_in_pages, [9]).needs(&[Need::Log]),
    case!(a_record_holds_any_bytes_up_to_its_limit, [9]).needs(&[Need::Log]),
    case!(an_invalid_cursor_reports_a_break_and_reads_the_whole_log, [9]).needs(&[Need::Log]),
    case!(a_deleted_log_is_reported_to_late_readers, [9]).needs(&[Need::Log]),
    case!(a_deleted_and_regrown_log_is_reported_and_read_in_full, [9]).needs(&[Need::Log]),
    case!(a_missing_log_is_reported_as_new, [9]).needs(&[Need::Log]),
    case!(records_dropped_unread_are_reported, [9]).needs(&[Need::Log]),
    case!(a_silent_log_fails_within_the_limit, [9]).needs(&[Need::Log]),
];

async fn a_new_log_is_empty(h: &dyn Harness) -> Outcome {
    checks::a_new_log(&Opener::of(h)?).await
}

async fn appended_records_are_read_through_any_link(h: &dyn Harness) -> Outcome {
    checks::read_your_writes(&Opener::of(h)?).await
}

async fn a_cursor_is_valid_on_the_next_link(h: &dyn Harness) -> Outcome {
    checks::a_cursor_of_another_link(&Opener::of(h)?).await
}

async fn an_old_cursor_stays_valid(h: &dyn Harness) -> Outcome {
    checks::an_old_cursor(&Opener::of(h)?).await
}

async fn concurrent_appends_make_one_log(h: &dyn Harness) -> Outcome {
    checks::writers_at_once(&Opener::of(h)?).await
}

async fn a_long_log_is_read_in_pages(h: &dyn Harness) -> Outcome {
    checks::pages(&Opener::of(h)?).await
}

async fn a_record_holds_any_bytes_up_to_its_limit(h: &dyn Harness) -> Outcome {
    checks::opaque_records(&Opener::of(h)?).await
}

async fn an_invalid_cursor_reports_a_break_and_reads_the_whole_log(h: &dyn Harness) -> Outcome {
    checks::foreign_cursors(&Opener::of(h)?).await
}

async fn a_deleted_log_is_reported_to_late_readers(h: &dyn Harness) -> Outcome {
    checks::wiped(&Opener::of(h)?, h.wipe_log()).await
}

async fn a_deleted_and_regrown_log_is_reported_and_read_in_full(h: &dyn Harness) -> Outcome {
    checks::wiped_and_grown(&Opener::of(h)?, h.wipe_log()).await
}

async fn a_missing_log_is_reported_as_new(h: &dyn Harness) -> Outcome {
    checks::created(&Opener::of(h)?, h).await
}

async fn records_dropped_unread_are_reported(h: &dyn Harness) -> Outcome {
    checks::trimmed(&Opener::of(h)?, h.trim_log()).await
}

async fn a_silent_log_fails_within_the_limit(h: &dyn Harness) -> Outcome {
    let line = h.line().await?;
    checks::no_answer(&Opener::at(h, &line.url())?, &*line).await
}
