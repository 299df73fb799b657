//! Resolve: what the layers mean for the broker: its own settings, and Kafka's properties by Kafka's table.

use std::collections::BTreeMap;
use std::path::PathBuf;

use watershed_core::io::host::Host;
use watershed_daemon::settings::{Item, Layers, parse_directory, parse_whole};

use crate::SERVICE;
use crate::configs::{BROKER_ROWS, Served, property};

use super::{Asked, Given, HostPort, Key, Machine, Settings, SettingsError, listeners, parse_duration_ms};

/// By default.
const SLOW_REQUEST_MS: u64 = 1000;
const LISTEN_PORT: u16 = 9092;
const ADMIN_PORT: u16 = 9644;
const SHARD_BYTES_MIN: u64 = 32 << 20;

/// Kafka's properties that were given, by Kafka's names.
type Properties = BTreeMap<String, Given>;

/// The settings that `asked` means on `machine`, or every mistake in it.
pub fn resolve(asked: &Asked, machine: &Machine) -> Result<Settings, SettingsError> {
    let mut kafka = Properties::new();
    let mut layers = Layers::read(asked, |layers, item| add_property(&mut kafka, layers, item))?;
    let data_dir = data_dir(&mut layers, machine);
    let listen = host_port_reader(&layers, &kafka, Key::Listen);
    let listen = layers.listen(Key::Listen, LISTEN_PORT, listen);
    let advertise = host_port_reader(&layers, &kafka, Key::Advertise);
    let advertise = layers.advertise(Key::Advertise, advertise);
    let admin = layers.admin(Key::Admin, ADMIN_PORT);
    let cores = layers.cores(Key::Cores, machine);
    let runtime = layers.take(Key::Runtime, Host::default(), runtime);
    let memory_bytes = layers.memory(Key::Memory, machine, cores.shards(), SHARD_BYTES_MIN);
    let node_id = layers.take(Key::NodeId, 1, |text| parse_whole(text, 0..=i32::MAX));
    let insecure = layers.switch(Key::Insecure);
    let log_format = layers.log_format(Key::LogFormat);
    let log_level = layers.log_level(Key::LogLevel);
    let slow_request_ms = layers.take(Key::SlowRequest, Some(SLOW_REQUEST_MS), slow_request);
    warn_of_idle_properties(&mut layers, &kafka);
    layers.check_exposure(insecure, listen, admin);
    let (sources, warnings) = layers.finish()?;
    Ok(Settings {
        data_dir,
        listen,
        advertise,
        admin,
        cores,
        runtime,
        memory_bytes,
        node_id,
        insecure,
        log_format,
        log_level,
        slow_request_ms,
        kafka,
        warnings,
        sources,
    })
}

fn add_property(kafka: &mut Properties, layers: &mut Layers<Key>, item: Item) {
    let Some(row) = property(&item.name) else {
        return layers.unknown(&item, BROKER_ROWS.iter().map(|row| row.name));
    };
    match row.check(&item.given.value) {
        Ok(()) => {
            kafka.insert(item.name, item.given);
        }
        Err(why) => layers.mistake(format!("{}: {}: {why}", item.given.source, item.name)),
    }
}

/// One warning for each reason why properties that were given do nothing here.
fn warn_of_idle_properties(layers: &mut Layers<Key>, kafka: &Properties) {
    let mut idle: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in kafka.keys().filter_map(|name| property(name)) {
        if let Served::Ignored(why) = row.served {
            idle.entry(why).or_default().push(row.name);
        }
    }
    for (why, names) in idle {
        layers.warn(format!("without effect: {} ({why})", names.join(", ")));
    }
}

fn data_dir(layers: &mut Layers<Key>, machine: &Machine) -> PathBuf {
    let is_kafkas = layers.is_foreign(Key::DataDir);
    layers.data_dir(Key::DataDir, &SERVICE, machine, |text| match is_kafkas && text.contains(',') {
        true => Err("several data directories are not supported yet; name one".to_owned()),
        false => parse_directory(text),
    })
}

/// How the value of `key` is read: ours, or Kafka's list with its two companions.
fn host_port_reader(
    layers: &Layers<Key>,
    kafka: &Properties,
    key: Key,
) -> impl Fn(&str) -> Result<HostPort, String> + use<> {
    let is_kafkas = layers.is_foreign(key);
    let companion = |name| kafka.get(name).map_or_else(String::new, |given| given.value.clone());
    let controllers = companion("controller.listener.names");
    let protocols = companion("listener.security.protocol.map");
    move |text| match is_kafkas {
        true => listeners::kafka_listener(text, &controllers, &protocols),
        false => HostPort::parse(text),
    }
}

fn runtime(text: &str) -> Result<Host, String> {
    match text.parse::<Host>() {
        Ok(host) if host.is_built_in() => Ok(host),
        Ok(host) => Err(format!(
            "this program was built without {name}; build it with `--features {name}`, or use {own}",
            name = host.name(),
            own = Host::default().name(),
        )),
        Err(_) => Err(format!("'{text}' is neither {} nor {}", Host::Ring.name(), Host::Glommio.name())),
    }
}

fn slow_request(text: &str) -> Result<Option<u64>, String> {
    match text {
        "none" => Ok(None),
        duration => parse_duration_ms(duration).map(Some),
    }
}
