//! Progress of long work, on standard error and only where that is a terminal.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Bars are drawn at most this often.
const DRAWS_PER_SECOND: u8 = 10;
/// How often what was written is measured.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A bar over bytes; a bar of unknown length only counts.
pub(super) fn bytes_bar(total_bytes: Option<u64>, what: &'static str) -> ProgressBar {
    const KNOWN: &str = "{msg} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    const UNKNOWN: &str = "{msg} {spinner} {bytes} {bytes_per_sec}";
    bar(total_bytes, what, KNOWN, UNKNOWN)
}

/// A bar over records.
pub(super) fn records_bar(total_count: Option<u64>, what: &'static str) -> ProgressBar {
    const KNOWN: &str = "{msg} [{bar:40}] {human_pos}/{human_len} {per_sec} {eta}";
    const UNKNOWN: &str = "{msg} {spinner} {human_pos} {per_sec}";
    bar(total_count, what, KNOWN, UNKNOWN)
}

fn bar(total: Option<u64>, what: &'static str, known: &str, unknown: &str) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
    let bar = ProgressBar::with_draw_target(total, target).with_message(what);
    let template = if total.is_some() { known } else { unknown };
    // Templates are constants; a wrong one would only look plain.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    if total.is_none() {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}

/// Does `work`, which writes files below `to` from those below `from`, under a bar over their bytes.
pub(super) fn copying<T>(from: &Path, to: &Path, what: &'static str, work: impl FnOnce() -> T) -> T {
    if !io::stderr().is_terminal() {
        return work();
    }
    let bar = bytes_bar(Some(bytes_below(from)), what);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                bar.set_position(bytes_below(to));
                thread::sleep(LOOK_EVERY);
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        bar.finish_and_clear();
        result
    })
}

/// Bytes of all files below a directory; what cannot be read counts for nothing.
fn bytes_below(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_all_folders_count() {
        let folder = std::env::temp_dir().join(format!("watershed-progress-{}", std::process::id()));
        fs::create_dir_all(folder.join("inner")).unwrap();
        fs::write(folder.join("one"), [0; 10]).unwrap();
        fs::write(folder.join("inner/two"), [0; 7]).unwrap();
        assert_eq!(bytes_below(&folder), 17);
        assert_eq!(bytes_below(&folder.join("missing")), 0);
        assert_eq!(copying(&folder, &folder, "copying", || 5), 5);
        fs::remove_dir_all(&folder).unwrap();
    }
}
