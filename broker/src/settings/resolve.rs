//! Resolve: lays the layers over each other and turns text into [`Settings`], collecting every mistake before it refuses.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Display;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use watershed_core::io::host::Host;

use crate::configs::{BROKER_ROWS, Served, nearest, property};

use super::file::Item;
use super::{
    Cores, Given, HostPort, Key, LogFormat, Settings, SettingsError, Source, cores, file, listeners, memory, quantity,
};

/// By default.
const SLOW_REQUEST_MS: u64 = 1000;

/// What the command line gave, as text.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// Each `--set key=value`.
    pub set: Vec<String>,
    /// Each flag that was given.
    pub flags: Vec<(Key, String)>,
}

impl Asked {
    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.config.is_none() && self.set.is_empty() && self.flags.is_empty()
    }
}

/// What the machine and the environment decide: read once, so that resolving is a pure function of it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// CPUs that this process may run on.
    pub allowed_cpus: Vec<usize>,
    pub(super) memory: Option<memory::Limit>,
    /// `$XDG_DATA_HOME` or `$HOME`, and which.
    data_home: Option<(PathBuf, &'static str)>,
}

impl Machine {
    /// Reads /proc, the cgroup and the environment.
    pub fn probe() -> Machine {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let directory = |name| env::var_os(name).map(PathBuf::from).filter(|at| at.is_absolute());
        let xdg = directory("XDG_DATA_HOME").map(|at| (at, "XDG_DATA_HOME"));
        let home = || directory("HOME").map(|at| (at.join(".local/share"), "HOME"));
        Machine {
            allowed_cpus: allowed.and_then(|list| cores::parse_cpu_list(list.trim()).ok()).unwrap_or_else(|| vec![0]),
            memory: memory::limit(Path::new("/")),
            data_home: xdg.or_else(home),
        }
    }
}

/// The settings that `asked` means on `machine`, or every mistake in it.
pub fn resolve(asked: &Asked, machine: &Machine) -> Result<Settings, SettingsError> {
    let mut layers = Layers::default();
    if let Some(path) = &asked.config {
        file::read(path)?.into_iter().for_each(|item| layers.add(item));
    }
    for pair in &asked.set {
        match pair.split_once('=') {
            Some((name, value)) => layers.add(Item {
                name: name.trim().to_owned(),
                kafka_only: false,
                given: Given { value: value.trim().to_owned(), source: Source::Set },
            }),
            None => layers.errors.push(format!("--set {pair}: not of the form key=value")),
        }
    }
    for (key, value) in &asked.flags {
        let given = Given { value: value.clone(), source: Source::Flag(key.flag()) };
        layers.own.insert(*key, Chosen { given, kafka: false });
    }
    layers.settings(machine)
}

#[derive(Clone, Debug)]
struct Chosen {
    given: Given,
    /// Spelt with Kafka's name, hence in Kafka's form.
    kafka: bool,
}

#[derive(Default)]
struct Layers {
    own: BTreeMap<Key, Chosen>,
    kafka: BTreeMap<String, Given>,
    sources: BTreeMap<Key, Source>,
    warnings: Vec<String>,
    errors: Vec<String>,
}

impl Layers {
    fn add(&mut self, item: Item) {
        let Item { name, kafka_only, given } = item;
        let own = match kafka_only {
            true => None,
            false => Key::of(&name),
        };
        if let Some(key) = own {
            self.own.insert(key, Chosen { given, kafka: false });
        } else if let Some(key) = Key::of_kafka(&name) {
            self.own.insert(key, Chosen { given, kafka: true });
        } else {
            self.add_kafka(name, given, kafka_only);
        }
    }

    fn add_kafka(&mut self, name: String, given: Given, kafka_only: bool) {
        let Some(row) = property(&name) else {
            let own = Key::ALL.iter().map(|key| key.name()).filter(|_| !kafka_only);
            let known = own.chain(BROKER_ROWS.iter().map(|row| row.name));
            let meant = nearest(&name, known).map(|known| format!("; did you mean {known}?")).unwrap_or_default();
            self.errors.push(format!("{}: unknown setting {name}{meant}", given.source));
            return;
        };
        match row.check(&given.value) {
            Ok(()) => {
                self.kafka.insert(name, given);
            }
            Err(why) => self.errors.push(format!("{}: {name}: {why}", given.source)),
        }
    }

    /// One warning for each reason why properties that were given do nothing here.
    fn warn_of_idle_properties(&mut self) {
        let mut idle: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for row in self.kafka.keys().filter_map(|name| property(name)) {
            if let Served::Ignored(why) = row.served {
                idle.entry(why).or_default().push(row.name);
            }
        }
        let warning = |(why, names): (&str, Vec<&str>)| format!("without effect: {} ({why})", names.join(", "));
        self.warnings.extend(idle.into_iter().map(warning));
    }

    fn settings(mut self, machine: &Machine) -> Result<Settings, SettingsError> {
        let data_dir = self.data_dir(machine);
        let listen = self.listen();
        let advertise = self.advertise();
        let admin = self.admin();
        let cores = self.cores(machine);
        let runtime = self.parsed(Key::Runtime, Host::default(), runtime);
        let memory_bytes = self.memory(machine, cores.shards());
        let node_id = self.parsed(Key::NodeId, 1, |text| whole(text, 0..=i32::MAX));
        let insecure = self.parsed(Key::Insecure, false, truth);
        let log_format = self.parsed(Key::LogFormat, LogFormat::Human, log_format);
        let log_level = self.parsed(Key::LogLevel, "info".to_owned(), log_level);
        let slow_request_ms = self.parsed(Key::SlowRequest, Some(SLOW_REQUEST_MS), slow_request);
        self.warn_of_idle_properties();
        self.check_exposure(insecure, [("listen", Some(listen)), ("admin", admin)]);
        if admin == Some(listen) && listen.port() != 0 {
            self.errors.push(format!("listen and admin are both {listen}"));
        }
        match self.errors.is_empty() {
            false => Err(SettingsError(self.errors)),
            true => Ok(Settings {
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
                kafka: self.kafka,
                warnings: self.warnings,
                sources: self.sources,
            }),
        }
    }

    /// The value of `key`, or `default` if none or a wrong one was given; mistakes and sources are noted.
    fn parsed<T>(&mut self, key: Key, default: T, parse: impl FnOnce(&str) -> Result<T, String>) -> T {
        let Some(chosen) = self.own.get(&key).cloned() else {
            return default;
        };
        self.sources.insert(key, chosen.given.source.clone());
        match parse(&chosen.given.value) {
            Ok(value) => value,
            Err(why) => {
                self.errors.push(format!("{}: {}: {why}", chosen.given.source, key.name()));
                default
            }
        }
    }

    fn is_kafkas(&self, key: Key) -> bool {
        self.own.get(&key).is_some_and(|chosen| chosen.kafka)
    }

    fn machine_decides(&mut self, key: Key, by: String) {
        self.sources.entry(key).or_insert(Source::Machine(by));
    }

    fn data_dir(&mut self, machine: &Machine) -> PathBuf {
        if !self.own.contains_key(&Key::DataDir) {
            return match &machine.data_home {
                Some((home, variable)) => {
                    self.sources.insert(Key::DataDir, Source::Environment(variable));
                    home.join("watershed/broker")
                }
                None => {
                    self.errors.push("neither XDG_DATA_HOME nor HOME is set: say --data-dir".to_owned());
                    PathBuf::new()
                }
            };
        }
        let kafka = self.is_kafkas(Key::DataDir);
        self.parsed(Key::DataDir, PathBuf::new(), |text| match text {
            "" => Err("no directory is named".to_owned()),
            list if kafka && list.contains(',') => {
                Err("several data directories are not supported yet; name one".to_owned())
            }
            path => std::path::absolute(path).map_err(|cause| cause.to_string()),
        })
    }

    fn listen(&mut self) -> SocketAddr {
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 9092));
        let address = self.host_port_reader(Key::Listen);
        self.parsed(Key::Listen, default, |text| address(text)?.resolve())
    }

    fn advertise(&mut self) -> Option<HostPort> {
        let address = self.host_port_reader(Key::Advertise);
        self.parsed(Key::Advertise, None, |text| {
            let told = address(text)?;
            match told.host.as_str() {
                "" | "0.0.0.0" | "::" => Err(format!("'{text}' names no host that a client could reach")),
                _ => Ok(Some(told)),
            }
        })
    }

    /// How the value of `key` is read: ours, or Kafka's list with its two companions.
    fn host_port_reader(&self, key: Key) -> impl Fn(&str) -> Result<HostPort, String> + 'static {
        let kafka = self.is_kafkas(key);
        let companion = |name| self.kafka.get(name).map_or_else(String::new, |given| given.value.clone());
        let controllers = companion("controller.listener.names");
        let protocols = companion("listener.security.protocol.map");
        move |text| match kafka {
            true => listeners::kafka_listener(text, &controllers, &protocols),
            false => HostPort::parse(text),
        }
    }

    fn admin(&mut self) -> Option<SocketAddr> {
        let default = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9644)));
        self.parsed(Key::Admin, default, |text| match text {
            "none" => Ok(None),
            address => Ok(Some(HostPort::parse(address)?.resolve()?)),
        })
    }

    fn cores(&mut self, machine: &Machine) -> Cores {
        let allowed = &machine.allowed_cpus;
        let cores = self.parsed(Key::Cores, Cores::Pinned(allowed.clone()), |text| Cores::parse(text, allowed));
        if matches!(cores, Cores::Unbound(_)) {
            self.warnings.push("shards are not pinned to CPUs (cores unbound)".to_owned());
        }
        self.machine_decides(Key::Cores, "every CPU allowed to this process".to_owned());
        cores
    }

    fn memory(&mut self, machine: &Machine, shards: usize) -> u64 {
        let least = memory::minimum(shards);
        let (limit, by) = match &machine.memory {
            Some(limit) => (limit.bytes, limit.by),
            None => (u64::MAX, "unknown limit"),
        };
        let derived = memory::default_budget(limit).max(least);
        let budget = self.parsed(Key::Memory, derived, quantity::parse_bytes);
        let show = quantity::show_bytes;
        if budget < least {
            self.errors.push(format!(
                "memory {} is too little for {shards} shards: at least {}",
                show(budget),
                show(least)
            ));
        } else if budget > limit {
            self.errors.push(format!("memory {} exceeds the {by}, {}", show(budget), quantity::about_bytes(limit)));
        }
        self.machine_decides(Key::Memory, format!("25 % of the {by}, {}, at most 8 GiB", quantity::about_bytes(limit)));
        budget
    }

    fn check_exposure(&mut self, insecure: bool, addresses: [(&str, Option<SocketAddr>); 2]) {
        for (name, address) in addresses {
            let Some(address) = address.filter(|address| !address.ip().is_loopback()) else {
                continue;
            };
            let what =
                format!("{name} {address} is reachable from other machines in plain text and without authentication");
            match insecure {
                true => self.warnings.push(what),
                false => self.errors.push(format!(
                    "{what}: whoever reaches it can read and delete everything. Accept that with --insecure, or use a loopback address such as 127.0.0.1"
                )),
            }
        }
    }
}

fn whole<T: FromStr + PartialOrd + Display>(text: &str, range: std::ops::RangeInclusive<T>) -> Result<T, String> {
    text.parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("'{text}' is not a whole number from {} to {}", range.start(), range.end()))
}

fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("'{text}' is neither true nor false")),
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
        duration => quantity::parse_duration_ms(duration).map(Some),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("'{text}' is neither human nor json")),
    }
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// `LEVEL` or `LEVEL,target=LEVEL,...`.
fn log_level(text: &str) -> Result<String, String> {
    let is_level = |level: &str| LEVELS.contains(&level.to_ascii_lowercase().as_str());
    let sound = text.split(',').all(|directive| match directive.split_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(directive),
    });
    match sound {
        true => Ok(text.to_owned()),
        false => Err(format!("'{text}' is not one of {} (or target=LEVEL after a comma)", LEVELS.join(", "))),
    }
}
