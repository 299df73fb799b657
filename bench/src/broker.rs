//! A Watershed broker of our own for one run.

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
    let mut command = Command::new(program.map_or_else(beside_this, |program| Ok(program.to_path_buf()))?);
    command.arg("--data-dir").arg(place.directory(name)?);
    // The comma makes it the number of a core instead of a number of cores.
    command.args(["--cores", &format!("{},", place.server_cpu), "--listen", "127.0.0.1:0", "--admin", "none"]);
    command.args(["--log-level", "warn"]).args(more);
    Server::start(command)
}

fn beside_this() -> Result<PathBuf> {
    let this = std::env::current_exe().context("find this program")?;
    Ok(this.with_file_name("watershed-broker"))
}
