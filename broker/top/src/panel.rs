//! Panels: what to show, as data. A service's list of panels is the whole of what it says about its view.

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Count,
    PerSecond,
    Bytes,
    BytesPerSecond,
    /// The metric is in seconds.
    Duration,
    /// Of a whole: 1 is all of it.
    Share,
}

/// A number that is read off two scrapes.
#[derive(Clone, Copy, Debug)]
pub enum Reading {
    /// A gauge, summed over the series that a row stands for.
    Gauge(&'static str),
    /// What a counter gained in a second, by its name without `_total`.
    Rate(&'static str),
    /// A quantile of what a histogram observed between the scrapes, by its name without `_bucket`.
    Quantile(&'static str, f64),
    /// One gauge as a part of another.
    Share(&'static str, &'static str),
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub head: &'static str,
    pub reading: Reading,
    pub unit: Unit,
}

/// A line of rates with its recent history.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub name: &'static str,
    pub reading: Reading,
    pub unit: Unit,
}

/// One box of the view.
#[derive(Clone, Copy, Debug)]
pub enum Panel {
    /// Numbers of the whole process over time.
    Lines { title: &'static str, lines: &'static [Line] },
    /// A row for each value of these labels, the largest in the first column first.
    Table { title: &'static str, by: &'static [&'static str], columns: &'static [Column] },
}

impl Panel {
    pub fn title(&self) -> &'static str {
        match self {
            Panel::Lines { title, .. } | Panel::Table { title, .. } => title,
        }
    }
}
