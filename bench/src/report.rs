//! Rows of figures: medians over rounds, the share of the floor, and how they are printed.

use serde::Serialize;

use crate::latency::Tally;
use crate::process::Usage;

/// Figures of one row in one round, or their medians over several.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) mb_per_s: f64,
    pub(crate) ops_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// CPU-seconds of the server per GB (1e9 bytes) that was answered.
    pub(crate) cpu_s_per_gb: f64,
    pub(crate) cpu_us_per_op: f64,
    /// Bytes that the server sent to storage per answered byte; absent where it cannot be known.
    pub(crate) written_per_byte: Option<f64>,
    /// Bytes that the server took from storage per answered byte.
    pub(crate) read_per_byte: Option<f64>,
    pub(crate) resident_mib: f64,
}

impl Figures {
    /// What `tally` means for a server that used `usage` in `seconds`.
    pub(crate) fn new(tally: &Tally, usage: Usage, seconds: f64) -> Figures {
        let (bytes, count) = (tally.bytes.max(1) as f64, tally.completed_count.max(1) as f64);
        let cpu = usage.cpu.as_secs_f64();
        Figures {
            mb_per_s: tally.bytes as f64 / 1e6 / seconds,
            ops_per_s: tally.completed_count as f64 / seconds,
            p50_us: tally.latency_us(50.0),
            p99_us: tally.latency_us(99.0),
            p999_us: tally.latency_us(99.9),
            cpu_s_per_gb: cpu * 1e9 / bytes,
            cpu_us_per_op: cpu * 1e6 / count,
            written_per_byte: usage.written_bytes.map(|written| written as f64 / bytes),
            read_per_byte: usage.read_bytes.map(|read| read as f64 / bytes),
            resident_mib: usage.resident_bytes as f64 / 1_048_576.0,
        }
    }

    /// The median of each figure on its own.
    pub(crate) fn median(rounds: &[Figures]) -> Figures {
        let of = |field: fn(&Figures) -> f64| median(rounds.iter().map(field));
        let known = |field: fn(&Figures) -> Option<f64>| {
            let values: Vec<f64> = rounds.iter().filter_map(field).collect();
            (!values.is_empty()).then(|| median(values.into_iter()))
        };
        Figures {
            mb_per_s: of(|round| round.mb_per_s),
            ops_per_s: of(|round| round.ops_per_s),
            p50_us: of(|round| round.p50_us),
            p99_us: of(|round| round.p99_us),
            p999_us: of(|round| round.p999_us),
            cpu_s_per_gb: of(|round| round.cpu_s_per_gb),
            cpu_us_per_op: of(|round| round.cpu_us_per_op),
            written_per_byte: known(|round| round.written_per_byte),
            read_per_byte: known(|round| round.read_per_byte),
            resident_mib: of(|round| round.resident_mib),
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    (at(sorted.len().saturating_sub(1) / 2) + at(sorted.len() / 2)) / 2.0
}

/// One line of a report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) figures: Figures,
    pub(crate) rounds: usize,
    pub(crate) mb_per_s_min: f64,
    pub(crate) mb_per_s_max: f64,
    /// Throughput as a share of the floor's in the same run.
    pub(crate) percent_of_floor: Option<f64>,
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, rounds: &[Figures]) -> Row {
        let throughput = || rounds.iter().map(|round| round.mb_per_s);
        Row {
            name: name.into(),
            figures: Figures::median(rounds),
            rounds: rounds.len(),
            mb_per_s_min: throughput().fold(f64::INFINITY, f64::min),
            mb_per_s_max: throughput().fold(0.0, f64::max),
            percent_of_floor: None,
        }
    }

    /// Compares completions, not bytes: a floor frame may be rounded up to whole blocks.
    pub(crate) fn beside(mut self, floor: &Row) -> Row {
        let floor_ops = floor.figures.ops_per_s;
        self.percent_of_floor = (floor_ops > 0.0).then(|| 100.0 * self.figures.ops_per_s / floor_ops);
        self
    }

    fn line(&self) -> String {
        let figures = &self.figures;
        let dash = || "-".to_owned();
        let written = figures.written_per_byte.map_or_else(dash, |written| format!("{written:.2}"));
        let percent = self.percent_of_floor.map_or_else(dash, |percent| format!("{percent:.0} %"));
        format!(
            "{:<26} {:>9.1} {:>15} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>9.3} {:>8.2} {:>7} {:>8.0} {:>8}",
            self.name,
            figures.mb_per_s,
            format!("{:.0}-{:.0}", self.mb_per_s_min, self.mb_per_s_max),
            figures.ops_per_s,
            figures.p50_us,
            figures.p99_us,
            figures.p999_us,
            figures.cpu_s_per_gb,
            figures.cpu_us_per_op,
            written,
            figures.resident_mib,
            percent,
        )
    }
}

/// Prints rows: a table for people, or one JSON array.
pub(crate) fn print(rows: &[Row], json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(rows)?);
        return Ok(());
    }
    println!(
        "{:<26} {:>9} {:>15} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>7} {:>8} {:>8}",
        "row",
        "MB/s",
        "range",
        "ops/s",
        "p50 us",
        "p99 us",
        "p99.9",
        "CPU-s/GB",
        "CPU us",
        "wr/ack",
        "RSS MiB",
        "of floor"
    );
    for row in rows {
        println!("{}", row.line());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn figures_are_rates_of_what_was_answered() {
        let mut tally = Tally::default();
        for _ in 0..1000 {
            tally.complete(1_000_000, Duration::from_micros(200));
        }
        let usage = Usage {
            cpu: Duration::from_millis(500),
            written_bytes: Some(1_100_000_000),
            read_bytes: Some(0),
            resident_bytes: 1 << 20,
        };
        let figures = Figures::new(&tally, usage, 2.0);
        assert_eq!((figures.mb_per_s, figures.ops_per_s), (500.0, 500.0));
        assert_eq!((figures.cpu_s_per_gb, figures.cpu_us_per_op), (0.5, 500.0));
        assert_eq!((figures.written_per_byte, figures.resident_mib), (Some(1.1), 1.0));
    }

    #[test]
    fn nothing_answered_is_no_division_by_zero() {
        let figures = Figures::new(&Tally::default(), Usage::default(), 1.0);
        assert_eq!((figures.mb_per_s, figures.cpu_s_per_gb), (0.0, 0.0));
    }

    #[test]
    fn medians_and_shares() {
        let round = |ops_per_s| Figures { ops_per_s, mb_per_s: ops_per_s, ..Figures::default() };
        let floor = Row::new("floor", &[round(100.0), round(300.0), round(200.0)]);
        assert_eq!((floor.figures.ops_per_s, floor.mb_per_s_min, floor.mb_per_s_max), (200.0, 100.0, 300.0));
        let row = Row::new("row", &[round(100.0), round(180.0)]).beside(&floor);
        assert_eq!(row.percent_of_floor, Some(70.0));
    }
}
