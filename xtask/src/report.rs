//! What test programs print about each test, and the table of it that ends a run.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::{self, Write},
    time::Duration,
};

/// So many of the last lines of a test that failed stand in the summary: its assertion is among them.
const LINES_OF_A_FAILURE: usize = 8;

/// What one step of a run came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    passed: Vec<String>,
    failed: Vec<String>,
    ignored: Vec<(String, Option<String>)>,
    /// Why tests of the suite do not apply, by their names: printed before the tests run.
    reasons: BTreeMap<String, String>,
    /// The last lines of what tests that failed printed, by their names.
    last_lines: BTreeMap<String, VecDeque<String>>,
    /// Whose output the lines that come are.
    output_of: Option<String>,
}

impl Report {
    /// Reads a line of a test program: of Rust's own harness, or of the suite's.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some((name, reason)) = line.split_once(": not applicable: ") {
            self.reasons.insert(name.to_owned(), format!("not applicable: {reason}"));
        }
        let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
        else {
            self.read_output(line);
            return;
        };
        let name = name.trim().to_owned();
        match outcome.split_once(", ").unwrap_or((outcome, "")) {
            ("ok", _) => self.passed.push(name),
            ("FAILED", _) => self.failed.push(name),
            ("ignored", "") => self.ignored.push((name, None)),
            ("ignored", reason) => self.ignored.push((name, Some(reason.to_owned()))),
            _ => {}
        }
    }

    /// Reads a line of the part where a test program repeats what its failed tests printed.
    fn read_output(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----")) {
            self.output_of = Some(name.trim_end_matches(" stdout").to_owned());
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.output_of = None;
        } else if let Some(name) = &self.output_of
            && !line.trim().is_empty()
            && !is_of_a_backtrace(line)
        {
            let lines = self.last_lines.entry(name.clone()).or_default();
            lines.push_back(line.to_owned());
            if lines.len() > LINES_OF_A_FAILURE {
                lines.pop_front();
            }
        }
    }

    /// Whether there was no test at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.passed.is_empty() && self.failed.is_empty() && self.ignored.is_empty()
    }

    /// `31 passed, 0 failed, 2 skipped`.
    pub(crate) fn counts(&self) -> String {
        let [passed, failed, skipped] = self.numbers(|_| true);
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }

    fn numbers(&self, of: impl Fn(&str) -> bool) -> [usize; 3] {
        let count = |names: &[String]| names.iter().filter(|name| of(name)).count();
        [count(&self.passed), count(&self.failed), self.ignored.iter().filter(|(name, _)| of(name)).count()]
    }

    /// The backends of the suite that it has tests of, in order.
    fn backends(&self) -> Vec<&str> {
        let ignored = self.ignored.iter().map(|(name, _)| name);
        let names = self.passed.iter().chain(&self.failed).chain(ignored);
        let mut backends: Vec<&str> = names.filter_map(|name| Some(name.split_once("::")?.0)).collect();
        backends.sort_unstable();
        backends.dedup();
        backends
    }

    /// Why tests were skipped, and which.
    fn skipped(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ignored.iter().map(|(name, reason)| {
            let reason = reason.as_ref().or_else(|| self.reasons.get(name));
            (reason.map_or("no reason given", String::as_str), name.as_str())
        })
    }
}

/// A step that has run.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) name: String,
    /// Whether its tests are the suite's, which has a row for each backend.
    pub(crate) by_backend: bool,
    pub(crate) report: Report,
    pub(crate) took: Duration,
    /// How it ended, if it did not succeed.
    pub(crate) error: Option<String>,
}

impl Done {
    /// One that has succeeded, and runs no tests.
    pub(crate) fn without_tests(name: &str, took: Duration) -> Self {
        Self { name: name.to_owned(), by_backend: false, report: Report::default(), took, error: None }
    }
}

/// The end of a run: a table of its steps, then what failed, then what was skipped and why.
pub(crate) struct Summary<'a>(pub(crate) &'a [Done]);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table(f)?;
        self.failures(f)?;
        self.skipped(f)
    }
}

impl Summary<'_> {
    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|done| done.name.chars().count()).max().unwrap_or(0).max(16);
        writeln!(f, "{:width$}  {:>7}  {:>7}  {:>7}  {:>8}", "step", "passed", "failed", "skipped", "took")?;
        let mut sum = ([0; 3], Duration::ZERO);
        for done in self.0 {
            let numbers = done.report.numbers(|_| true);
            row(f, width, &done.name, numbers, Some(done.took))?;
            let backends = if done.by_backend { done.report.backends() } else { Vec::new() };
            for backend in backends {
                let of = |name: &str| name.split_once("::").is_some_and(|(start, _)| start == backend);
                row(f, width, &format!("  {backend}"), done.report.numbers(of), None)?;
            }
            (0..3).for_each(|at| sum.0[at] += numbers[at]);
            sum.1 += done.took;
        }
        row(f, width, "all", sum.0, Some(sum.1))
    }

    fn failures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut failed = self.0.iter().filter(|done| done.error.is_some()).peekable();
        if failed.peek().is_some() {
            writeln!(f, "\nfailed:")?;
        }
        for done in failed {
            for name in &done.report.failed {
                writeln!(f, "  {}: {name}", done.name)?;
                let lines = done.report.last_lines.get(name);
                lines.into_iter().flatten().try_for_each(|line| writeln!(f, "      {line}"))?;
            }
            if let (true, Some(error)) = (done.report.failed.is_empty(), &done.error) {
                writeln!(f, "  {}: {error}", done.name)?;
            }
        }
        Ok(())
    }

    fn skipped(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (reason, name) in self.0.iter().flat_map(|done| done.report.skipped()) {
            reasons.entry(reason).or_default().push(name);
        }
        if !reasons.is_empty() {
            writeln!(f, "\nskipped:")?;
        }
        for (reason, names) in reasons {
            writeln!(f, "  {} × {reason}: {}", names.len(), names.join(", "))?;
        }
        Ok(())
    }
}

/// Whether a line is one of a backtrace, which follows what the test says itself.
fn is_of_a_backtrace(line: &str) -> bool {
    let text = line.trim_start();
    let depth = line.len() - text.len();
    let frame = text.split_once(": ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
    (depth > 0 && frame)
        || (depth > 8 && text.starts_with("at "))
        || text == "stack backtrace:"
        || text.starts_with("note: ")
}

fn row(
    f: &mut fmt::Formatter<'_>,
    width: usize,
    name: &str,
    [passed, failed, skipped]: [usize; 3],
    took: Option<Duration>,
) -> fmt::Result {
    let mut line = format!("{name:width$}  {passed:>7}  {failed:>7}  {skipped:>7}");
    if let Some(took) = took {
        write!(line, "  {:>8}", minutes(took))?;
    }
    writeln!(f, "{line}")
}

/// `1 m 05 s`, or `5.2 s`.
pub(crate) fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} m {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::{Done, Report, Summary, minutes};
    use std::time::Duration;

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::default();
        lines.iter().for_each(|line| report.read(line));
        report
    }

    fn done(name: &str, by_backend: bool, lines: &[&str], error: Option<&str>) -> Done {
        let error = error.map(str::to_owned);
        Done {
            name: name.to_owned(),
            by_backend,
            report: report(lines),
            took: Duration::from_secs(65),
            error,
        }
    }

    #[test]
    fn both_harnesses_are_read() {
        let report = report(&[
            "redis::one_order: not applicable: it orders per publisher",
            "running 6 tests",
            "test redis::one_order            ... ignored",
            "test memory::gap                 ... ok",
            "test memory::order               ... FAILED",
            "test tests::slow ... ignored, takes minutes",
            "test broker/src/lib.rs - (line 12) - compile ... ok",
            "test tests::panics - should panic ... ok",
            "test result: FAILED. 3 passed; 1 failed; 2 ignored",
            "something else ... ok",
        ]);
        assert_eq!(report.counts(), "3 passed, 1 failed, 2 skipped");
        assert_eq!(report.failed, ["memory::order"]);
        let skipped: Vec<_> = report.skipped().collect();
        assert_eq!(
            skipped,
            [
                ("not applicable: it orders per publisher", "redis::one_order"),
                ("takes minutes", "tests::slow")
            ]
        );
        assert_eq!(report.backends(), ["memory", "redis", "tests"]);
    }

    #[test]
    fn the_summary_names_failures_and_the_reasons_of_skips() {
        let suite = [
            "test memory::a ... ok",
            "test redis::a ... FAILED",
            "failures:",
            "",
            "---- redis::a stdout ----",
            "",
            "a gap of 1",
            "    at cases/outage.rs:77:5",
            "stack backtrace:",
            "   0: core::panicking::panic_fmt",
            "             at /rustc/panicking.rs:75:14",
            "note: Some details are omitted",
            "",
            "failures:",
            "    redis::a",
            "test result: FAILED. 1 passed; 1 failed",
        ];
        let steps = [
            done("suite", true, &suite, Some("status 101")),
            done("units", false, &["test b ... ok", "test c ... ignored, slow"], None),
            done("chat", false, &[], Some("it was killed")),
        ];
        let text = Summary(&steps).to_string();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let mut expected: Vec<Vec<&str>> = Vec::new();
        for line in [
            "step passed failed skipped took",
            "suite 1 1 0 1 m 05 s",
            "memory 1 0 0",
            "redis 0 1 0",
            "units 1 0 1 1 m 05 s",
            "chat 0 0 0 1 m 05 s",
            "all 2 1 1 3 m 15 s",
            "",
            "failed:",
            "suite: redis::a",
            "a gap of 1",
            "at cases/outage.rs:77:5",
            "chat: it was killed",
            "",
            "skipped:",
            "1 × slow: c",
        ] {
            expected.push(line.split_whitespace().collect());
        }
        assert_eq!(lines, expected, "{text}");
    }

    #[test]
    fn a_time_of_a_minute_or_more_is_in_minutes() {
        assert_eq!(minutes(Duration::from_millis(5240)), "5.2 s");
        assert_eq!(minutes(Duration::from_secs(600)), "10 m 00 s");
    }
}
