//! Settings: everything a start is told, from text to values that know where they came from.
//!
//! Layers, the later wins: defaults, the file of `--config`, `--set key=value`, flags. A service names its settings by an
//! enum ([`SettingKey`]) and takes their values out of [`Layers`]. Nothing here opens a socket or writes a file, and nothing
//! is guessed: an unknown name, a bad unit or a value out of its range is a mistake that names its place and, where one
//! is close, the name that was meant. All mistakes are told at once.

mod address;
mod cores;
mod file;
mod layers;
mod machine;
mod memory;
mod quantity;
mod rows;
mod source;
mod standard;

pub use address::HostPort;
pub use cores::Cores;
pub use file::Item;
pub use layers::{Asked, Layers, SettingKey};
pub use machine::Machine;
pub use quantity::{parse_bytes, parse_duration_ms, parse_whole, show_bytes};
pub use rows::{Row, print as print_rows};
pub use source::{Given, Source, Sources};
pub use standard::parse_directory;

/// Settings that cannot be: one sentence with the place of each mistake.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct SettingsError(pub Vec<String>);

impl SettingsError {
    pub(crate) fn one(message: impl Into<String>) -> SettingsError {
        SettingsError(vec![message.into()])
    }
}
