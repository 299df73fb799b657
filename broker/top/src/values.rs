//! Values: what readings come to between two scrapes, row by row.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::panel::{Column, Panel, Reading};
use crate::scrape::{Sample, Scrape};

/// Points of history that a line keeps.
const HISTORY: usize = 240;

/// The state of the view: the last two scrapes and the history of every line.
#[derive(Debug)]
pub struct View {
    panels: &'static [Panel],
    before: Option<Scrape>,
    now: Scrape,
    elapsed: Duration,
    /// By panel and line.
    history: BTreeMap<(usize, usize), VecDeque<f64>>,
    /// Why the last scrape failed.
    pub(crate) trouble: Option<String>,
}

/// A row of a table: the values of its labels, and one number a column where there is one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) key: Vec<String>,
    pub(crate) values: Vec<Option<f64>>,
}

impl View {
    /// Shows nothing yet.
    pub fn new(panels: &'static [Panel]) -> View {
        View {
            panels,
            before: None,
            now: Scrape::default(),
            elapsed: Duration::ZERO,
            history: BTreeMap::new(),
            trouble: None,
        }
    }

    pub(crate) fn panels(&self) -> &'static [Panel] {
        self.panels
    }

    /// Takes a scrape that was made so long after the one before.
    pub fn take(&mut self, scrape: Scrape, elapsed: Duration) {
        self.before = Some(std::mem::replace(&mut self.now, scrape));
        self.elapsed = elapsed;
        self.trouble = None;
        for (at, panel) in self.panels.iter().enumerate() {
            let Panel::Lines { lines, .. } = panel else { continue };
            for (number, line) in lines.iter().enumerate() {
                if let Some(value) = self.read(line.reading, &|_| true) {
                    let history = self.history.entry((at, number)).or_default();
                    history.push_back(value);
                    if history.len() > HISTORY {
                        history.pop_front();
                    }
                }
            }
        }
    }

    /// The scrape failed: what is shown is old.
    pub fn failed(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// The history of a line, oldest first.
    pub(crate) fn history(&self, panel: usize, line: usize) -> Vec<f64> {
        self.history.get(&(panel, line)).map(|history| history.iter().copied().collect()).unwrap_or_default()
    }

    /// The rows of a table, the largest in the first column first.
    pub(crate) fn rows(&self, by: &[&str], columns: &[Column]) -> Vec<Row> {
        let mut keys: Vec<Vec<String>> = Vec::new();
        for column in columns {
            for sample in self.now.samples(&primary(column.reading)) {
                let key = key(sample, by);
                if let Some(key) = key.filter(|key| !keys.contains(key)) {
                    keys.push(key);
                }
            }
        }
        let row = |key: Vec<String>| {
            let is_mine = |sample: &Sample| self::key(sample, by).as_ref() == Some(&key);
            let values = columns.iter().map(|column| self.read(column.reading, &is_mine)).collect();
            Row { values, key }
        };
        let mut rows: Vec<Row> = keys.into_iter().map(row).collect();
        let first = |row: &Row| row.values.first().copied().flatten().unwrap_or(f64::NEG_INFINITY);
        rows.sort_by(|one, other| first(other).total_cmp(&first(one)).then_with(|| one.key.cmp(&other.key)));
        rows
    }

    /// What a reading comes to over these series; `None` where nothing is known.
    fn read(&self, reading: Reading, is_mine: &dyn Fn(&Sample) -> bool) -> Option<f64> {
        match reading {
            Reading::Gauge(name) => sum(&self.now, name, is_mine),
            Reading::Rate(name) => {
                let seconds = self.elapsed.as_secs_f64();
                let gained = self.gained(&format!("{name}_total"), is_mine)?;
                (seconds > 0.0).then(|| gained / seconds)
            }
            Reading::Quantile(name, quantile) => self.quantile(name, quantile, is_mine),
            Reading::Share(part, whole) => {
                let whole = sum(&self.now, whole, is_mine).filter(|whole| *whole > 0.0)?;
                sum(&self.now, part, is_mine).map(|part| part / whole)
            }
        }
    }

    /// A counter that went back was begun anew: all of it was gained.
    fn gained(&self, name: &str, is_mine: &dyn Fn(&Sample) -> bool) -> Option<f64> {
        let before = self.before.as_ref().filter(|_| self.elapsed > Duration::ZERO)?;
        let now = sum(&self.now, name, is_mine)?;
        let then = sum(before, name, is_mine).unwrap_or(0.0);
        Some(if now >= then { now - then } else { now })
    }

    /// Interpolated inside the bucket, as Prometheus does; beyond the last bound it is that bound.
    fn quantile(&self, name: &str, quantile: f64, is_mine: &dyn Fn(&Sample) -> bool) -> Option<f64> {
        let name = format!("{name}_bucket");
        let mut bounds: Vec<f64> =
            self.now.samples(&name).iter().filter(|sample| is_mine(sample)).filter_map(bound).collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        let up_to = |wanted: f64| self.gained(&name, &|sample| is_mine(sample) && bound(sample) == Some(wanted));
        let counts: Vec<f64> = bounds.iter().map(|wanted| up_to(*wanted)).collect::<Option<_>>()?;
        let total = counts.last().copied().filter(|total| *total > 0.0)?;
        let rank = quantile * total;
        let (mut below, mut lower) = (0.0, 0.0);
        for (upper, count) in bounds.iter().copied().zip(counts) {
            if count >= rank {
                let inside = if count > below { (rank - below) / (count - below) } else { 1.0 };
                return Some(if upper.is_finite() { lower + (upper - lower) * inside } else { lower });
            }
            (below, lower) = (count, upper);
        }
        None
    }
}

/// The name whose series make the rows.
fn primary(reading: Reading) -> String {
    match reading {
        Reading::Gauge(name) | Reading::Share(name, _) => name.to_owned(),
        Reading::Rate(name) => format!("{name}_total"),
        Reading::Quantile(name, _) => format!("{name}_count"),
    }
}

fn key(sample: &Sample, by: &[&str]) -> Option<Vec<String>> {
    by.iter().map(|label| sample.labels.get(*label).cloned()).collect()
}

fn bound(sample: &Sample) -> Option<f64> {
    sample.labels.get("le")?.parse().ok()
}

fn sum(scrape: &Scrape, name: &str, is_mine: &dyn Fn(&Sample) -> bool) -> Option<f64> {
    let mut values = scrape.samples(name).iter().filter(|sample| is_mine(sample)).map(|sample| sample.value).peekable();
    values.peek().is_some().then(|| values.sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::{Line, Unit};

    const PANELS: &[Panel] = &[Panel::Lines {
        title: "all",
        lines: &[Line { name: "in", reading: Reading::Rate("in_bytes"), unit: Unit::BytesPerSecond }],
    }];
    const COLUMNS: &[Column] = &[
        Column { head: "rate", reading: Reading::Rate("req"), unit: Unit::PerSecond },
        Column { head: "p50", reading: Reading::Quantile("took", 0.5), unit: Unit::Duration },
    ];

    fn view(scrapes: &[&str]) -> View {
        let mut view = View::new(PANELS);
        for text in scrapes {
            view.take(Scrape::parse(text).unwrap(), Duration::from_secs(2));
        }
        view
    }

    fn text(api: &str, count: u32, fast: u32) -> String {
        format!(
            "req_total{{api=\"{api}\"}} {count}\ntook_bucket{{le=\"0.1\",api=\"{api}\"}} {fast}\n\
             took_bucket{{le=\"0.3\",api=\"{api}\"}} {count}\ntook_bucket{{le=\"+Inf\",api=\"{api}\"}} {count}\n\
             took_count{{api=\"{api}\"}} {count}\n"
        )
    }

    #[test]
    fn rates_and_quantiles_are_of_what_came_between_the_scrapes() {
        let before = text("A", 100, 100) + &text("B", 10, 0);
        let after = text("A", 104, 102) + &text("B", 30, 0);
        let rows = view(&[&before, &after]).rows(&["api"], COLUMNS);
        assert_eq!(rows[0], Row { key: vec!["B".to_owned()], values: vec![Some(10.0), Some(0.2)] });
        assert_eq!(rows[1].key, ["A"]);
        assert_eq!(rows[1].values[0], Some(2.0));
        assert!((rows[1].values[1].unwrap() - 0.1).abs() < 1e-9, "half of four are within the first bucket");
    }

    #[test]
    fn nothing_is_known_before_the_second_scrape_or_without_observations() {
        let one = text("A", 4, 4);
        let mut first = View::new(PANELS);
        first.take(Scrape::parse(&one).unwrap(), Duration::ZERO);
        assert_eq!(first.rows(&["api"], COLUMNS)[0].values, [None, None]);
        assert_eq!(view(&[&one, &one]).rows(&["api"], COLUMNS)[0].values, [Some(0.0), None]);
    }

    #[test]
    fn a_counter_that_began_anew_has_gained_all_of_it() {
        let rows = view(&[&text("A", 100, 0), &text("A", 6, 6)]).rows(&["api"], COLUMNS);
        assert_eq!(rows[0].values[0], Some(3.0));
    }

    #[test]
    fn lines_keep_their_history() {
        let scrapes: Vec<String> = (0..300).map(|at| format!("in_bytes_total{{shard=\"0\"}} {}\n", at * 4)).collect();
        let view = view(&scrapes.iter().map(String::as_str).collect::<Vec<_>>());
        let history = view.history(0, 0);
        assert_eq!((history.len(), history[0], history[HISTORY - 1]), (HISTORY, 2.0, 2.0));
    }
}
