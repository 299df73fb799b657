//! Report: what the broker says on standard output once it serves.

use std::net::SocketAddr;

use watershed_daemon::report::Report;

use crate::SERVICE;
use crate::lifecycle::Serving;
use crate::settings::{Cores, Key, Settings};

/// The block and the words of the ready line. `admin` is where admin HTTP was bound.
pub(super) fn report(settings: &Settings, admin: Option<SocketAddr>, serving: &Serving) -> Report {
    Report { service: SERVICE, lines: lines(settings, admin, serving), fields: fields(settings, admin, serving) }
}

fn lines(settings: &Settings, admin: Option<SocketAddr>, serving: &Serving) -> Vec<(&'static str, String)> {
    let admin = admin.map_or_else(|| "off".to_owned(), |at| format!("http://{at}"));
    let pinned = match &settings.cores {
        Cores::Pinned(_) => format!("pinned to CPU {}", settings.cores.to_string().trim_end_matches(',')),
        Cores::Unbound(_) => "not pinned".to_owned(),
    };
    let lines = [
        ("address", format!("{} (clients are told {})", serving.listen, settings.advertised(serving.listen))),
        ("admin", admin),
        ("data", settings.data_dir.display().to_string()),
        ("durability", durability(settings).1.to_owned()),
        ("memory", format!("{} ({})", settings.shown(Key::Memory), settings.source(Key::Memory))),
        ("shards", format!("{}, {pinned}", serving.shards)),
        ("runtime", settings.shown(Key::Runtime)),
    ];
    let notes = serving.notes.iter().map(|note| ("note", note.clone()));
    let warnings = settings.warnings.iter().chain(&serving.warnings).map(|warning| ("warning", warning.clone()));
    lines.into_iter().chain(notes).chain(warnings).collect()
}

fn fields(settings: &Settings, admin: Option<SocketAddr>, serving: &Serving) -> Vec<(&'static str, String)> {
    vec![
        ("listen", serving.listen.to_string()),
        ("advertise", settings.advertised(serving.listen).to_string()),
        ("admin", admin.map_or_else(|| "none".to_owned(), |at| at.to_string())),
        ("node_id", settings.node_id.to_string()),
        ("shards", serving.shards.to_string()),
        ("durability", durability(settings).0.to_owned()),
        ("memory_bytes", settings.memory_bytes.to_string()),
        ("data_dir", settings.data_dir.display().to_string()),
    ]
}

/// The word of the ready line, and the sentence of the block.
fn durability(settings: &Settings) -> (&'static str, &'static str) {
    let every = settings.kafka.get("log.flush.interval.messages");
    match every.is_none_or(|given| given.value == "1") {
        true => ("flush", "acknowledged means flushed to disk, unless a topic relaxes it"),
        false => ("relaxed", "acknowledged means written; flushed later (log.flush.interval.messages)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Asked, Machine, resolve};

    fn of(flags: &[(Key, &str)]) -> Report {
        let flags = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let asked = Asked { flags, ..Asked::default() };
        let serving = Serving {
            listen: "127.0.0.1:19092".parse().unwrap(),
            shards: 3,
            notes: vec!["replayed 17 frames".to_owned()],
            warnings: vec!["disk nearly full".to_owned()],
        };
        report(&resolve(&asked, &Machine::probe()).unwrap(), None, &serving)
    }

    #[test]
    fn the_ready_line_is_one_line_of_words() {
        let report = of(&[(Key::DataDir, "/tmp/a b"), (Key::Cores, "unbound:3"), (Key::Memory, "1 GiB")]);
        let line = report.ready_line(42);
        assert!(
            line.starts_with("ready listen=127.0.0.1:19092 advertise=127.0.0.1:19092 admin=none node_id=1 shards=3 ")
        );
        assert!(line.contains(" durability=flush memory_bytes=1073741824 data_dir=\"/tmp/a b\" pid="), "{line}");
        assert!(line.ends_with(" start_ms=42\n") && line.matches('\n').count() == 1);
    }

    #[test]
    fn the_block_says_what_matters() {
        let block = of(&[(Key::Cores, "unbound:3"), (Key::Memory, "1 GiB")]).block();
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
