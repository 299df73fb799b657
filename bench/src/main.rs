//! `watershed-bench`: the machine's floor, load generators for any Kafka-wire broker and any Uniffle server, and the rows that
//! hold Watershed against the floor.

mod broker;
mod floor;
mod groups;
mod kafka;
mod latency;
mod load;
mod log;
mod payload;
mod place;
mod process;
mod report;
mod rows;
mod server_process;
mod shuffle;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures Watershed beside what the hardware can do.
#[derive(Parser)]
#[command(name = "watershed-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What this machine can do at best
    Floor(floor::FloorArgs),
    /// Load on any Kafka-wire broker
    Log(log::LogArgs),
    /// Consumer groups on any Kafka-wire broker
    Groups(groups::GroupsArgs),
    /// Watershed's goals and what is reached
    Rows(rows::RowsArgs),
    /// Jobs of a Spark shuffle on any Uniffle server, every byte checked
    Shuffle(shuffle::ShuffleArgs),
    /// The server of `floor`
    #[command(hide = true)]
    ServeFloor(floor::ServeArgs),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Floor(args) => floor::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Groups(args) => groups::run(&args),
        Command::Rows(args) => rows::run(&args),
        Command::Shuffle(args) => shuffle::run(&args),
        Command::ServeFloor(args) => floor::serve(&args),
    }
}
