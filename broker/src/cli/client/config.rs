//! `config`: configurations of topics and brokers, and where their values come from.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::client::{ConfigChange, ConfigEntry, Resource};

use super::super::{Exit, Failure};
use super::table::Table;
use super::{Common, pair, print, print_json};

/// What has configurations.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum Kind {
    Topic,
    Broker,
}

#[derive(Subcommand)]
pub(in crate::cli) enum ConfigCommand {
    /// Values and their sources; only what is not a default, unless --all
    Get {
        kind: Kind,
        /// A topic's name or a broker's id; `default` for all brokers
        name: String,
        /// Only these
        configs: Vec<String>,
        /// With defaults
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Change values; all of them or none
    Set {
        kind: Kind,
        name: String,
        #[arg(required = true, value_name = "NAME=VALUE", value_parser = pair)]
        configs: Vec<(String, String)>,
        #[command(flatten)]
        common: Common,
    },
    /// Take values away, so that the broker's or the default counts
    Unset {
        kind: Kind,
        name: String,
        #[arg(required = true)]
        configs: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
}

fn resource(kind: Kind, name: &str) -> Resource {
    match kind {
        Kind::Topic => Resource::Topic(name.to_owned()),
        Kind::Broker if name == "default" => Resource::Broker(String::new()),
        Kind::Broker => Resource::Broker(name.to_owned()),
    }
}

/// Runs `config`.
pub(super) fn run(command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Get { kind, name, configs, all, common } => get(&resource(kind, &name), &configs, all, &common),
        ConfigCommand::Set { kind, name, configs, common } => {
            let changes = configs.into_iter().map(|(name, value)| (name, Some(value))).collect::<Vec<_>>();
            change(&resource(kind, &name), &changes, &common)
        }
        ConfigCommand::Unset { kind, name, configs, common } => {
            let changes = configs.into_iter().map(|name| (name, None)).collect::<Vec<_>>();
            change(&resource(kind, &name), &changes, &common)
        }
    }
}

fn get(resource: &Resource, names: &[String], all: bool, common: &Common) -> Result<(), Failure> {
    let mut entries = common.target.connect()?.configs(resource)?;
    if let Some(missing) = names.iter().find(|name| entries.iter().all(|entry| &entry.name != *name)) {
        let why = format!("{} has no configuration {missing}; --all shows what there is", resource.shown());
        return Err(Failure::new(Exit::Refused, why));
    }
    entries.retain(|entry| match names.is_empty() {
        true => all || !entry.is_default,
        false => names.contains(&entry.name),
    });
    match common.json {
        true => print_json(&entries.iter().map(as_json).collect()),
        false => print(&table(&entries).text()),
    }
}

fn as_json(entry: &ConfigEntry) -> Value {
    json!({ "name": entry.name, "value": entry.value, "source": entry.source, "read_only": entry.read_only,
        "documentation": entry.documentation })
}

fn table(entries: &[ConfigEntry]) -> Table {
    let mut table = Table::new(["NAME", "VALUE", "SOURCE"]);
    for entry in entries {
        let value = entry.value.clone().unwrap_or_else(|| "[hidden]".to_owned());
        table.row([entry.name.clone(), value, entry.source.to_owned()]);
    }
    table
}

fn change(resource: &Resource, changes: &[ConfigChange], common: &Common) -> Result<(), Failure> {
    let mut cluster = common.target.connect()?;
    cluster.alter_configs(resource, changes)?;
    let names: Vec<String> = changes.iter().map(|(name, _)| name.clone()).collect();
    let mut entries = cluster.configs(resource)?;
    entries.retain(|entry| names.contains(&entry.name));
    match common.json {
        true => print_json(&entries.iter().map(as_json).collect()),
        false => print(&table(&entries).text()),
    }
}
