//! The recorded traces of real clients and the Java servers: what was sent, in bytes and in fields.
//!
//! `golden/*.jsonl` holds the smaller messages of six jobs (Spark 3.5.9; client 0.9.1, in `netty-0.10` 0.10.0).
//! `WATERSHED_TRACES` names a directory of more of them.

use std::path::Path;

use serde_json::Value;

/// One line of a trace.
pub(crate) struct Line {
    pub(crate) place: String,
    pub(crate) json: Value,
}

impl Line {
    pub(crate) fn str(&self, key: &str) -> &str {
        self.json[key].as_str().unwrap()
    }

    pub(crate) fn hex(&self, key: &str) -> Vec<u8> {
        from_hex(self.str(key))
    }
}

pub(crate) fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// The lines of this kind (`grpc`, `netty`) in all traces.
pub(crate) fn lines(kind: &str) -> Vec<Line> {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let directory = std::env::var("WATERSHED_TRACES").unwrap_or(golden.to_owned());
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(Path::new(&directory)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        for text in std::fs::read_to_string(&path).unwrap().lines() {
            let json: Value = serde_json::from_str(text).unwrap();
            if json["kind"] == kind {
                let place = format!("{}, message {}", path.display(), json["n"]);
                lines.push(Line { place, json });
            }
        }
    }
    lines
}
