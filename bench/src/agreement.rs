//! Agreement: whether a run says what an earlier one has said, within the spread that the earlier one states.

use std::fmt::Write as _;

use crate::report::Report;

/// A line for every ratio that lies outside, and how many do not. A scenario that only one of the two has is left out.
pub(crate) fn text(earlier: &Report, now: &Report) -> String {
    let (mut text, mut within, mut compared) = (String::new(), 0, 0);
    for row in &now.rows {
        let before = earlier.rows.iter().find(|before| before.scenario == row.scenario);
        let (Some(before), Some(peer)) = (before.and_then(|before| before.peer.as_ref()), &row.peer) else {
            continue;
        };
        let (median, span) = (peer.ratio.median, before.ratio);
        compared += 1;
        if (span.low..=span.high).contains(&median) {
            within += 1;
            continue;
        }
        let edge = if median < span.low { span.low } else { span.high };
        let (low, high, beyond) = (span.low, span.high, (median / edge - 1.0) * 100.0);
        let _ = writeln!(text, "{}: {median:.2} was {low:.2} to {high:.2}, {beyond:+.1} %", row.scenario);
    }
    if compared == 0 {
        return "no ratio of this run is in the earlier one\n".to_owned();
    }
    let _ = writeln!(text, "{within} of {compared} ratios lie within the spread of the earlier run");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::row;

    fn report(ratios: &[(&str, Option<f64>)]) -> Report {
        let mut report = Report::default();
        report.rows = ratios.iter().map(|(name, ratio)| row(name, 1.0, *ratio)).collect();
        report
    }

    #[test]
    fn values_outside_the_span_are_named_and_unmatched_rows_omitted() {
        let earlier =
            report(&[("a", Some(1.0)), ("b", Some(1.0)), ("c", Some(1.0)), ("d", None), ("e", Some(1.0))]);
        let now = report(&[
            ("a", Some(1.5)),
            ("b", Some(1.65)),
            ("c", Some(0.4)),
            ("d", Some(9.0)),
            ("f", Some(9.0)),
        ]);
        let expected = "b: 1.65 was 0.50 to 1.50, +10.0 %\n\
                    c: 0.40 was 0.50 to 1.50, -20.0 %\n\
                    1 of 3 ratios lie within the spread of the earlier run\n";
        assert_eq!(text(&earlier, &now), expected);
        let other = report(&[("f", Some(1.0))]);
        assert_eq!(text(&earlier, &other), "no ratio of this run is in the earlier one\n");
    }
}
