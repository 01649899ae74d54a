//! From values to a table: medians, ratios, goals; text for a terminal, Markdown for `docs/figures.md`. Pure.

use std::fmt::Write as _;

/// What a line is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// Nothing was set.
    None,
    /// Our median is at most this.
    AtMost(f64),
    /// Our median is at most this many times the first peer's.
    Times(f64),
}

/// One thing that was measured.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// What was done, and what of it is counted.
    pub(crate) what: String,
    /// Of the values.
    pub(crate) unit: &'static str,
    /// Our value in each round.
    pub(crate) ours: Vec<f64>,
    /// Each peer with its value in each round; the first is the one that `Goal::Times` means.
    pub(crate) beside: Vec<(String, Vec<f64>)>,
    /// What we are to reach.
    pub(crate) goal: Goal,
}

impl Line {
    /// A line with one peer.
    pub(crate) fn new(
        what: impl Into<String>,
        unit: &'static str,
        ours: Vec<f64>,
        peer: &str,
        theirs: Vec<f64>,
        goal: Goal,
    ) -> Self {
        Self { what: what.into(), unit, ours, beside: vec![(peer.to_owned(), theirs)], goal }
    }

    /// Whether the goal is met; nothing without a goal.
    fn met(&self) -> Option<bool> {
        let ours = median(&self.ours);
        let bound = match self.goal {
            Goal::None => return None,
            Goal::AtMost(bound) => bound,
            Goal::Times(times) => times * self.beside.first().map(|(_, values)| median(values))?,
        };
        Some(ours <= bound)
    }

    fn goal_text(&self) -> String {
        match self.goal {
            Goal::None => String::new(),
            Goal::AtMost(bound) => format!("≤ {}", figure(bound)),
            Goal::Times(times) => format!("≤ {}×", figure(times)),
        }
    }
}

/// All that one part measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    /// Its heading.
    pub(crate) title: String,
    /// What ran, each with its version.
    pub(crate) versions: Vec<String>,
    /// Date and machine; filled in by the frame.
    pub(crate) machine: String,
    /// The table.
    pub(crate) lines: Vec<Line>,
    /// How it was measured, and what is to be known when the figures are read.
    pub(crate) notes: Vec<String>,
}

const HEAD: [&str; 8] = ["what", "unit", "ours", "beside", "theirs", "ours ÷ theirs", "goal", ""];

impl Section {
    fn cells(&self) -> Vec<[String; 8]> {
        let mut rows = Vec::new();
        for line in &self.lines {
            let ours = median(&line.ours);
            let verdict = match line.met() {
                None => "",
                Some(true) => "met",
                Some(false) => "missed",
            };
            let mut first = true;
            for (name, values) in &line.beside {
                let theirs = median(values);
                let (what, unit, own, goal, verdict) = if first {
                    (line.what.clone(), line.unit.to_owned(), figure(ours), line.goal_text(), verdict.to_owned())
                } else {
                    Default::default()
                };
                rows.push([what, unit, own, name.clone(), figure(theirs), figure(ours / theirs), goal, verdict]);
                first = false;
            }
            if first {
                let none = String::new;
                let (what, unit) = (line.what.clone(), line.unit.to_owned());
                rows.push([what, unit, figure(ours), none(), none(), none(), line.goal_text(), verdict.to_owned()]);
            }
        }
        rows
    }

    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        let mut rows = vec![HEAD.map(str::to_owned)];
        rows.extend(self.cells());
        let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
        let mut text = format!("\n{}\n{}\n", self.title, self.machine);
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell}{}  ", " ".repeat(width - cell.chars().count()));
            }
            text.extend([line.trim_end(), "\n"]);
        }
        for note in &self.notes {
            text.extend(["* ", note, "\n"]);
        }
        text
    }

    /// For `docs/figures.md`.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n{}", self.title, self.machine);
        if !self.versions.is_empty() {
            text.extend(["  \n", &self.versions.join(" · ")]);
        }
        text.push_str("\n\n");
        text.extend(["| ", &HEAD.join(" | "), " |\n|---|---|--:|---|--:|--:|---|---|\n"]);
        for row in self.cells() {
            text.extend(["| ", &row.join(" | "), " |\n"]);
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        for note in &self.notes {
            text.extend(["* ", note, "\n"]);
        }
        text
    }
}

/// The value in the middle; of an even number, the mean of the two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

/// The smallest value that at least `share` of the values do not exceed.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a position among a few million values"
)]
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// What is less is not told apart from it, but it is not nothing.
const SMALLEST: f64 = 0.001;

/// Three digits that count.
pub(crate) fn figure(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => "–".to_owned(),
        _ if size == 0.0 => "0".to_owned(),
        _ if size >= 100.0 => format!("{value:.0}"),
        _ if size >= 10.0 => trimmed(&format!("{value:.1}")),
        _ if size >= 1.0 => trimmed(&format!("{value:.2}")),
        _ if size >= SMALLEST => trimmed(&format!("{value:.3}")),
        _ => format!("< {SMALLEST}"),
    }
}

fn trimmed(text: &str) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Puts a part's section between its marks; a part that has none yet comes last.
pub(crate) fn refresh(document: &str, part: &str, section: &str) -> String {
    let (begin, end) = (format!("<!-- figures of {part} -->\n"), format!("<!-- end of {part} -->\n"));
    let block = format!("{begin}\n{section}\n{end}");
    match document.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1))) {
        Some((before, after)) => format!("{before}{block}{after}"),
        None if document.is_empty() => block,
        None => format!("{}\n\n{block}", document.trim_end()),
    }
}
