//! Report: what a service says on standard output once it serves: a block for people and the `ready` line for programs.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Instant;

use crate::Service;

/// Both, as names and values in their order.
pub struct Report {
    pub service: Service,
    /// The lines of the block.
    pub lines: Vec<(&'static str, String)>,
    /// The words of the `ready` line; the process's id and the time that the start took follow them.
    pub fields: Vec<(&'static str, String)>,
}

impl Report {
    /// Prints both. A closed standard output is no reason not to serve.
    pub fn print(&self, started: Instant) {
        let start_ms = started.elapsed().as_millis();
        let text = format!("{}{}", self.block(), self.ready_line(start_ms));
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            tracing::warn!(%error, "standard output");
        }
    }

    /// The block for people.
    pub fn block(&self) -> String {
        let mut block = format!("Watershed {} {}\n", self.service.noun, self.service.version);
        for (name, value) in &self.lines {
            let _ = writeln!(block, "  {name:<11} {value}");
        }
        block
    }

    /// The line for programs: `ready` and words of the form `name=value`.
    pub fn ready_line(&self, start_ms: u128) -> String {
        let own = self.fields.iter().map(|(name, value)| format!(" {name}={}", word(value)));
        let words: String = own.collect();
        format!("ready{words} pid={} start_ms={start_ms}\n", std::process::id())
    }
}

/// The value as one word: quoted if it would not be one.
fn word(value: &str) -> String {
    match value.is_empty() || value.contains(|letter: char| letter.is_whitespace() || letter == '"') {
        true => format!("{value:?}"),
        false => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TESTED;

    #[test]
    fn a_value_that_is_no_word_is_quoted() {
        let fields =
            vec![("listen", "127.0.0.1:1".to_owned()), ("data_dir", "/a b\n".to_owned()), ("none", String::new())];
        let report = Report { service: TESTED, lines: vec![("address", "here".to_owned())], fields };
        let line = report.ready_line(7);
        let (own, rest) = line.split_at("ready listen=127.0.0.1:1 data_dir=\"/a b\\n\" none=\"\" ".len());
        assert_eq!(own, "ready listen=127.0.0.1:1 data_dir=\"/a b\\n\" none=\"\" ");
        assert_eq!(rest, format!("pid={} start_ms=7\n", std::process::id()));
        assert_eq!(report.block(), "Watershed gauge 1.2.3\n  address     here\n");
    }
}
