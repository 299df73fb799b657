//! Configuration files in both notations, `--set`, and values of every property.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use watershed_broker::configs::{BROKER_ROWS, TOPIC_ROWS};
use watershed_broker::settings::{Asked, Machine, resolve};

static MACHINE: LazyLock<Machine> = LazyLock::new(Machine::probe);
static FILES: LazyLock<[PathBuf; 2]> = LazyLock::new(|| {
    let folder = std::env::temp_dir();
    ["toml", "properties"].map(|kind| folder.join(format!("watershed-fuzz-{}.{kind}", std::process::id())))
});

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    for file in FILES.iter() {
        std::fs::write(file, rest).unwrap();
        let asked = Asked { config: Some(file.clone()), ..Asked::default() };
        _ = resolve(&asked, &MACHINE);
    }
    let set = text.lines().map(str::to_owned).collect();
    _ = resolve(&Asked { set, ..Asked::default() }, &MACHINE);
    _ = BROKER_ROWS[usize::from(*choice) % BROKER_ROWS.len()].check(&text);
    _ = TOPIC_ROWS[usize::from(*choice) % TOPIC_ROWS.len()].check(&text);
});
