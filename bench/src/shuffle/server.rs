//! A shuffle service of our own for one run: all of its threads on the server's core.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::load::pin;
use crate::place::Place;
use crate::server_process::Server;

/// Starts it on an empty directory.
pub(crate) fn start(program: Option<&Path>, place: &Place, memory: Option<&str>) -> Result<Server> {
    let mut command = Command::new(program.map_or_else(beside_this, |program| Ok(program.to_path_buf()))?);
    command.arg("--data-dir").arg(place.fresh_directory("shuffle")?);
    // The comma makes it the number of a core instead of a number of cores.
    command.args(["--cores", &format!("{},", place.server_cpu), "--listen", "127.0.0.1:0", "--admin", "none"]);
    command.args(["--log-level", "warn"]);
    command.args(memory.iter().flat_map(|memory| ["--memory", memory]));
    let cpu = place.server_cpu;
    // A child keeps to the cores of the thread that started it: so does the control thread then.
    let starter = std::thread::spawn(move || {
        pin(Some(cpu))?;
        Server::start(command)
    });
    starter.join().map_err(|_| anyhow!("the start of a server panicked"))?
}

fn beside_this() -> Result<PathBuf> {
    let this = std::env::current_exe().context("find this program")?;
    Ok(this.with_file_name("watershed-shuffle"))
}
