//! Report: the block for people and the `ready` line for programs, on standard output.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Instant;

use crate::lifecycle::Serving;
use crate::settings::{Cores, Key, Settings};

/// What the start knows before the server serves.
pub(super) struct Report {
    pub settings: Settings,
    pub admin: Option<SocketAddr>,
    pub started: Instant,
}

impl Report {
    /// Prints both. A closed standard output is no reason not to serve.
    pub(super) fn print(&self, serving: &Serving) {
        let start_ms = self.started.elapsed().as_millis();
        let text = format!("{}{}", self.block(serving), self.ready_line(serving, start_ms));
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            tracing::warn!(%error, "standard output");
        }
    }

    fn block(&self, serving: &Serving) -> String {
        let settings = &self.settings;
        let admin = self.admin.map_or_else(|| "off".to_owned(), |at| format!("http://{at}"));
        let pinned = match &settings.cores {
            Cores::Pinned(_) => format!("pinned to CPU {}", settings.cores.to_string().trim_end_matches(',')),
            Cores::Unbound(_) => "not pinned".to_owned(),
        };
        let lines = [
            ("address", format!("{} (clients are told {})", serving.listen, settings.advertised(serving.listen))),
            ("admin", admin),
            ("data", settings.data_dir.display().to_string()),
            ("durability", self.durability().1.to_owned()),
            ("memory", format!("{} ({})", settings.shown(Key::Memory), settings.source(Key::Memory))),
            ("shards", format!("{}, {pinned}", serving.shards)),
            ("runtime", settings.shown(Key::Runtime)),
        ];
        let notes = serving.notes.iter().map(|note| ("note", note.clone()));
        let warnings = settings.warnings.iter().chain(&serving.warnings).map(|warning| ("warning", warning.clone()));
        let mut block = format!("Watershed broker {}\n", env!("CARGO_PKG_VERSION"));
        for (name, value) in lines.into_iter().chain(notes).chain(warnings) {
            let _ = writeln!(block, "  {name:<11} {value}");
        }
        block
    }

    fn ready_line(&self, serving: &Serving, start_ms: u128) -> String {
        let admin = self.admin.map_or_else(|| "none".to_owned(), |at| at.to_string());
        let fields = [
            ("listen", serving.listen.to_string()),
            ("advertise", self.settings.advertised(serving.listen).to_string()),
            ("admin", admin),
            ("node_id", self.settings.node_id.to_string()),
            ("shards", serving.shards.to_string()),
            ("durability", self.durability().0.to_owned()),
            ("memory_bytes", self.settings.memory_bytes.to_string()),
            ("data_dir", self.settings.data_dir.display().to_string()),
            ("pid", std::process::id().to_string()),
            ("start_ms", start_ms.to_string()),
        ];
        let words = fields.map(|(name, value)| format!(" {name}={}", word(&value)));
        format!("ready{}\n", words.concat())
    }

    /// The word of the ready line, and the sentence of the block.
    fn durability(&self) -> (&'static str, &'static str) {
        let every = self.settings.kafka.get("log.flush.interval.messages");
        match every.is_none_or(|given| given.value == "1") {
            true => ("flush", "acknowledged means flushed to disk, unless a topic relaxes it"),
            false => ("relaxed", "acknowledged means written; flushed later (log.flush.interval.messages)"),
        }
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
    use crate::settings::{Asked, Machine, resolve};

    fn report(flags: &[(Key, &str)]) -> Report {
        let flags = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let asked = Asked { flags, ..Asked::default() };
        let settings = resolve(&asked, &Machine::probe()).unwrap();
        Report { settings, admin: None, started: Instant::now() }
    }

    fn serving() -> Serving {
        Serving {
            listen: "127.0.0.1:19092".parse().unwrap(),
            shards: 3,
            notes: vec!["replayed 17 frames".to_owned()],
            warnings: vec!["disk nearly full".to_owned()],
        }
    }

    #[test]
    fn the_ready_line_is_one_line_of_words() {
        let report = report(&[(Key::DataDir, "/tmp/a b"), (Key::Cores, "unbound:3"), (Key::Memory, "1 GiB")]);
        let line = report.ready_line(&serving(), 42);
        assert!(
            line.starts_with("ready listen=127.0.0.1:19092 advertise=127.0.0.1:19092 admin=none node_id=1 shards=3 ")
        );
        assert!(line.contains(" durability=flush memory_bytes=1073741824 data_dir=\"/tmp/a b\" pid="), "{line}");
        assert!(line.ends_with(" start_ms=42\n") && line.matches('\n').count() == 1);
    }

    #[test]
    fn the_block_says_what_matters() {
        let block = report(&[(Key::Cores, "unbound:3"), (Key::Memory, "1 GiB")]).block(&serving());
        for part in [
            "address     127.0.0.1:19092",
            "1 GiB (--memory)",
            "3, not pinned",
            "runtime     ring",
            "note        replayed 17 frames",
            "warning     shards are not pinned",
            "warning     disk nearly full",
        ] {
            assert!(block.contains(part), "{part} is missing in\n{block}");
        }
    }
}
