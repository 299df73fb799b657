//! A server under test as a child process: started, waited for until it says `ready`, ended with its owner.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A child that serves at an address.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// From its start to its ready line.
    pub(crate) ready_after: Duration,
    pub(crate) started: Instant,
}

impl Server {
    /// Starts `command`, which prints a line `ready … listen=ADDRESS …` when it serves.
    pub(crate) fn start(mut command: Command) -> Result<Server> {
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let output = BufReader::new(child.stdout.take().context("its output is piped")?);
        match wait_until_ready(output) {
            Ok(address) => Ok(Server { child, address, ready_after: started.elapsed(), started }),
            Err(error) => {
                let _ = child.kill();
                let status = child.wait()?;
                Err(error.context(format!("{command:?} ended with {status}")))
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status()?;
        let status = self.child.wait()?;
        if !sent.success() || !status.success() {
            bail!("the server ended with {status} after SIGTERM");
        }
        Ok(())
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads on after the ready line, so that the server never writes into a closed pipe.
fn wait_until_ready(mut output: BufReader<impl std::io::Read + Send + 'static>) -> Result<SocketAddr> {
    let mut line = String::new();
    while output.read_line(&mut line)? > 0 {
        if let Some(address) = address_of(&line)? {
            std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
            return Ok(address);
        }
        line.clear();
    }
    bail!("it ended without a ready line")
}

fn address_of(line: &str) -> Result<Option<SocketAddr>> {
    let Some(fields) = line.strip_prefix("ready ") else {
        return Ok(None);
    };
    let listen = fields.split_whitespace().find_map(|field| field.strip_prefix("listen="));
    let listen = listen.context("the ready line names no address")?;
    listen.parse().map(Some).with_context(|| format!("the ready line says listen={listen}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_ready_line_names_the_address() {
        assert!(address_of("  address  127.0.0.1:1\n").unwrap().is_none());
        let address = address_of("ready listen=127.0.0.1:9092 pid=1\n").unwrap();
        assert_eq!(address, Some("127.0.0.1:9092".parse().unwrap()));
        assert!(address_of("ready pid=1\n").is_err());
    }

    #[test]
    fn a_server_that_ends_early_is_an_error() {
        assert!(Server::start(Command::new("true")).is_err());
    }
}
