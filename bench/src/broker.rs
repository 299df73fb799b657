//! A Watershed broker of our own for one run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::place::Place;
use crate::server_process::Server;

/// Starts the broker's program on an empty directory `name`, on the server's core.
pub(crate) fn start(program: Option<&Path>, place: &Place, name: &str, more: &[&str]) -> Result<Server> {
    place.fresh_directory(name)?;
    restart(program, place, name, more)
}

/// Starts it on what is in the directory.
pub(crate) fn restart(program: Option<&Path>, place: &Place, name: &str, more: &[&str]) -> Result<Server> {
    let mut command = command(program, place, name)?;
    command.args(["--log-level", "warn"]).args(more);
    Server::start(command)
}

/// The same after a crash; tells what it replayed, as its log says it.
pub(crate) fn recover(program: Option<&Path>, place: &Place, name: &str) -> Result<(Server, String)> {
    let log = place.directory("logs")?.join(name);
    let mut command = command(program, place, name)?;
    command.args(["--log-level", "info"]).stderr(File::create(&log)?);
    let server = Server::start(command)?;
    let said = std::fs::read_to_string(&log)?;
    let line = said.lines().find(|line| line.contains(" recovered ")).context("it says what it recovered")?;
    let field = |name: &str| line.split_whitespace().find_map(|field| field.strip_prefix(name)).unwrap_or("?");
    let mib = field("bytes=").parse::<f64>().map_or("?".to_owned(), |bytes| format!("{:.0}", bytes / 1_048_576.0));
    Ok((server, format!("{} frames, {mib} MiB", field("frames="))))
}

fn command(program: Option<&Path>, place: &Place, name: &str) -> Result<Command> {
    let mut command = Command::new(program.map_or_else(beside_this, |program| Ok(program.to_path_buf()))?);
    command.arg("--data-dir").arg(place.directory(name)?);
    // The comma makes it the number of a core instead of a number of cores.
    command.args(["--cores", &format!("{},", place.server_cpu), "--listen", "127.0.0.1:0", "--admin", "none"]);
    Ok(command)
}

fn beside_this() -> Result<PathBuf> {
    let this = std::env::current_exe().context("find this program")?;
    Ok(this.with_file_name("watershed-broker"))
}
