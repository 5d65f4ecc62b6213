//! Report: the rows of a run, as a table, as JSON, and as a chart.

use std::{borrow::Cow, fmt::Write as _};

use serde::{Deserialize, Serialize};

use crate::rounds::{Round, Spread};

/// Everything a run has shown.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    #[serde(skip)]
    wanted: Vec<String>,
}

/// One scenario: a figure of ours, one of a peer, and how they compare.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) scenario: String,
    pub(crate) unit: Cow<'static, str>,
    pub(crate) ours: f64,
    pub(crate) peer: Option<ErrorContext>,
    pub(crate) target: Option<Target>,
    /// Whatever else was seen.
    pub(crate) notes: String,
}

/// What ours is compared with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ErrorContext {
    pub(crate) name: Cow<'static, str>,
    pub(crate) figure: f64,
    /// Ours by theirs, pair by pair: the median, and the span of all pairs.
    pub(crate) ratio: Spread,
}

/// What was promised for a row.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Target {
    /// Of the ratio.
    AtLeast(f64),
    /// Of the ratio.
    AtMost(f64),
    /// Of our own figure.
    OursAtMost(f64),
}

impl Row {
    /// Of pairs of timed rounds.
    pub(crate) fn rates(
        scenario: String,
        unit: &'static str,
        peer: &'static str,
        pairs: &[(Round, Round)],
    ) -> Self {
        let median = |of: fn(&(Round, Round)) -> f64| Spread::of(pairs.iter().map(of)).median;
        let cpu = (median(|(ours, _)| ours.cpu_nanos()), median(|(_, theirs)| theirs.cpu_nanos()));
        Self {
            scenario,
            unit: unit.into(),
            ours: median(|(ours, _)| ours.rate()),
            peer: Some(ErrorContext {
                name: peer.into(),
                figure: median(|(_, theirs)| theirs.rate()),
                ratio: Spread::of(pairs.iter().map(|(ours, theirs)| ours.rate() / theirs.rate())),
            }),
            target: None,
            notes: format!("CPU {:.0} / {:.0} ns each", cpu.0, cpu.1),
        }
    }

    /// Of ours alone.
    pub(crate) fn alone(scenario: String, unit: &'static str, ours: f64) -> Self {
        Self { scenario, unit: unit.into(), ours, peer: None, target: None, notes: String::new() }
    }

    /// The CPU of pairs of timed rounds.
    pub(crate) fn cpu(scenario: String, peer: &'static str, pairs: &[(Round, Round)]) -> Self {
        let median = |of: fn(&(Round, Round)) -> f64| Spread::of(pairs.iter().map(of)).median;
        let rates = (median(|(ours, _)| ours.rate()), median(|(_, theirs)| theirs.rate()));
        Self {
            scenario,
            unit: "ns of CPU each".into(),
            ours: median(|(ours, _)| ours.cpu_nanos()),
            peer: Some(ErrorContext {
                name: peer.into(),
                figure: median(|(_, theirs)| theirs.cpu_nanos()),
                ratio: Spread::of(pairs.iter().map(|(ours, theirs)| ours.cpu_nanos() / theirs.cpu_nanos())),
            }),
            target: None,
            notes: format!("{:.0} / {:.0} k a second", rates.0 / 1000.0, rates.1 / 1000.0),
        }
    }

    pub(crate) fn target(mut self, target: impl Into<Option<Target>>) -> Self {
        self.target = target.into();
        self
    }

    pub(crate) fn notes(self, notes: String) -> Self {
        Self { notes, ..self }
    }

    /// What several passes have shown of one scenario. Of notes those of the first.
    fn of_passes(rows: &[&Self]) -> Option<Self> {
        let first = rows.first()?;
        let ours = Spread::of(rows.iter().map(|row| row.ours));
        let peers: Vec<&ErrorContext> = rows.iter().filter_map(|row| row.peer.as_ref()).collect();
        let peer = peers.first().map(|peer| ErrorContext {
            name: peer.name.clone(),
            figure: Spread::of(peers.iter().map(|peer| peer.figure)).median,
            ratio: Spread {
                low: Spread::of(peers.iter().map(|peer| peer.ratio.low)).low,
                median: Spread::of(peers.iter().map(|peer| peer.ratio.median)).median,
                high: Spread::of(peers.iter().map(|peer| peer.ratio.high)).high,
            },
        });
        let notes = match &peer {
            None if ours.low < ours.high => {
                let span = format!("{} to {}", figure_text(ours.low), figure_text(ours.high));
                if first.notes.is_empty() { span } else { format!("{span}; {}", first.notes) }
            }
            _ => first.notes.clone(),
        };
        let (scenario, unit) = (first.scenario.clone(), first.unit.clone());
        Some(Self { scenario, unit, ours: ours.median, peer, target: first.target, notes })
    }

    fn is_met(&self) -> Option<bool> {
        let ratio = self.peer.as_ref().map(|peer| peer.ratio.median);
        match self.target? {
            Target::AtLeast(least) => ratio.map(|ratio| ratio >= least),
            Target::AtMost(most) => ratio.map(|ratio| ratio <= most),
            Target::OursAtMost(most) => Some(self.ours <= most),
        }
    }

    fn cells(&self) -> [String; 8] {
        let (name, figure, ratio, spread) = match &self.peer {
            None => Default::default(),
            Some(ErrorContext { name, figure, ratio }) => (
                name.to_string(),
                figure_text(*figure),
                format!("{:.2}", ratio.median),
                format!("{:.2} to {:.2}", ratio.low, ratio.high),
            ),
        };
        let met = |text: String| match self.is_met() {
            Some(true) => format!("{text}: met"),
            Some(false) => format!("{text}: missed"),
            None => text,
        };
        let target = match self.target {
            None => String::new(),
            Some(Target::AtLeast(least)) => met(format!("ratio ≥ {least}")),
            Some(Target::AtMost(most)) => met(format!("ratio ≤ {most}")),
            Some(Target::OursAtMost(most)) => met(format!("≤ {most}")),
        };
        let ours = format!("{} {}", figure_text(self.ours), self.unit);
        [self.scenario.clone(), ours, figure, name, ratio, spread, target, self.notes.clone()]
    }
}

const HEADS: [&str; 8] = [
    "scenario",
    "ours",
    "peer",
    "which is",
    "ratio",
    "of all rounds",
    "target",
    "also seen, in the first pass",
];

impl Report {
    pub(crate) fn new(wanted: Vec<String>) -> Self {
        Self { rows: Vec::new(), wanted }
    }

    /// What several passes have shown, each in a process of its own.
    pub(crate) fn of_passes(passes: &[Self]) -> Self {
        let names = passes.first().into_iter().flat_map(|first| &first.rows).map(|row| &row.scenario);
        let rows_of = |name: &String| -> Vec<&Row> {
            passes.iter().flat_map(|pass| &pass.rows).filter(|row| row.scenario == *name).collect()
        };
        let rows = names.filter_map(|name| Row::of_passes(&rows_of(name)));
        Self { rows: rows.collect(), wanted: Vec::new() }
    }

    /// Whether a scenario is to run.
    pub(crate) fn wants(&self, scenario: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|part| scenario.contains(part.as_str()))
    }

    /// Whether a scenario is to run, which it now does.
    pub(crate) fn starts(&self, scenario: &str) -> bool {
        let wanted = self.wants(scenario);
        if wanted {
            eprintln!("… {scenario}");
        }
        wanted
    }

    /// Adds a row, and prints it: a run takes minutes.
    pub(crate) fn add(&mut self, row: Row) {
        let cells = row.cells();
        println!("{:<44} {:>22}  {:>9} {:<34} {}", cells[0], cells[1], cells[4], cells[6], cells[7]);
        self.rows.push(row);
    }

    /// The table for a terminal.
    pub(crate) fn table(&self) -> String {
        let rows: Vec<[String; 8]> =
            [HEADS.map(str::to_owned)].into_iter().chain(self.rows.iter().map(Row::cells)).collect();
        let width =
            |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
        let mut text = String::new();
        for row in rows {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
        text
    }

    /// The table for a page.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("| {} |\n|{}\n", HEADS.join(" | "), "---|".repeat(HEADS.len()));
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.cells().join(" | "));
        }
        text
    }

    /// A bar for each ratio, in the order of the table, and a line at 1: as fast as the peer.
    pub(crate) fn chart(&self) -> String {
        const LEFT: f64 = 360.0;
        const WIDE: f64 = 420.0;
        const TALL: usize = 20;
        /// What goes beyond is written, not drawn: the line at 1 has to stay in sight.
        const MOST: f64 = 4.0;
        let bars: Vec<(&Row, &ErrorContext)> =
            self.rows.iter().filter_map(|row| Some((row, row.peer.as_ref()?))).collect();
        let at = |ratio: f64| LEFT + WIDE * ratio.min(MOST) / MOST;
        let height = TALL * (bars.len() + 2);
        let mut svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 900 {height}' font-family='sans-serif' font-size='12'>\n\
             <rect width='900' height='{height}' fill='white'/>\n\
             <text x='10' y='15'>ours by the peer's; the thin line spans all rounds; nothing is drawn beyond {MOST}</text>\n"
        );
        for (number, (row, peer)) in bars.iter().enumerate() {
            let y = TALL * (number + 1) + 4;
            let colour = match row.is_met() {
                Some(false) => "#c2410c",
                Some(true) => "#15803d",
                None => "#64748b",
            };
            let Spread { low, median, high } = peer.ratio;
            let (middle, text) = (y + 6, y + 11);
            let _ = writeln!(
                svg,
                "<text x='{:.0}' y='{text}' text-anchor='end'>{}</text>\
                 <rect x='{LEFT}' y='{y}' width='{:.1}' height='13' fill='{colour}'/>\
                 <path d='M{:.1} {middle}H{:.1}' stroke='black'/>\
                 <text x='{:.1}' y='{text}'>{median:.2}</text>",
                LEFT - 8.0,
                row.scenario,
                at(median) - LEFT,
                at(low),
                at(high),
                at(high.max(median)) + 6.0,
            );
        }
        let _ = writeln!(
            svg,
            "<path d='M{0:.1} 20V{height}' stroke='black' stroke-dasharray='3'/>\n</svg>",
            at(1.0)
        );
        svg
    }
}

/// Three figures of it.
fn figure_text(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e4 => format!("{:.1} k", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// With a ratio that spans half of one to either side.
    pub(crate) fn row(scenario: &str, ours: f64, ratio: Option<f64>) -> Row {
        let peer = ratio.map(|ratio| ErrorContext {
            name: "peer".into(),
            figure: 10.0,
            ratio: Spread { low: ratio - 0.5, median: ratio, high: ratio + 0.5 },
        });
        let notes = String::new();
        Row { scenario: scenario.to_owned(), unit: "s".into(), ours, peer, target: None, notes }
    }

    fn pass(ours: f64, ratio: Option<f64>) -> Report {
        Report { rows: vec![row("one", ours, ratio)], wanted: Vec::new() }
    }

    #[test]
    fn passes_become_one_row_with_the_span_of_all_values() {
        let passes = [(1.0, 2.0), (4.0, 3.0), (2.0, 7.0)].map(|(ours, ratio)| pass(ours, Some(ratio)));
        // As one process tells the other.
        let passes = passes.map(|pass| serde_json::from_str(&serde_json::to_string(&pass).unwrap()).unwrap());
        let report = Report::of_passes(&passes);
        let [row] = &report.rows[..] else { panic!("{report:?}") };
        let Spread { low, median, high } = row.peer.as_ref().unwrap().ratio;
        assert_eq!((row.ours, low, median, high), (2.0, 1.5, 3.0, 7.5));
        let alone = Report::of_passes(&[pass(1.0, None), pass(3.0, None)]);
        assert_eq!((alone.rows[0].ours, &*alone.rows[0].notes), (2.0, "1.00 to 3.00"));
        assert_eq!(Report::of_passes(&[]).rows.len(), 0);
    }
}
