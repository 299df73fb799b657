//! Layers: what was given, laid over each other, and the values taken out of it.
//!
//! Every mistake is collected before anything is refused. The meaning of a service's own names is the service's; names that
//! neither it nor the other system has are handed back to it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use watershed_core::spelling::nearest;

use super::file::{self, Item};
use super::{Given, SettingsError, Source, Sources};

/// The names of a service's settings.
pub trait SettingKey: Copy + Ord + 'static {
    /// Every setting, in the order in which they are printed.
    const ALL: &'static [Self];
    /// The TOML table of another system whose names are taken too, as they are in a properties file; `None`: there is none.
    const FOREIGN_TABLE: Option<&'static str> = None;

    /// The name in TOML and in `--set`; with dashes for underscores it is the flag.
    fn name(self) -> &'static str;

    /// The setting that the other system calls so.
    fn of_foreign(_name: &str) -> Option<Self> {
        None
    }

    /// The setting of this name; dashes pass for underscores.
    fn of(name: &str) -> Option<Self> {
        let name = name.replace('-', "_");
        Self::ALL.iter().copied().find(|key| key.name() == name)
    }
}

/// What the command line gave, as text.
#[derive(Clone, Debug)]
pub struct Asked<K> {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// Each `--set key=value`.
    pub set: Vec<String>,
    /// Each flag that was given.
    pub flags: Vec<(K, String)>,
}

impl<K> Default for Asked<K> {
    fn default() -> Asked<K> {
        Asked { config: None, set: Vec::new(), flags: Vec::new() }
    }
}

impl<K> Asked<K> {
    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.config.is_none() && self.set.is_empty() && self.flags.is_empty()
    }

    /// Both, as settings before a subcommand and behind it: the latter win.
    pub fn then(mut self, behind: Asked<K>) -> Asked<K> {
        self.set.extend(behind.set);
        self.flags.extend(behind.flags);
        Asked { config: behind.config.or(self.config), ..self }
    }
}

#[derive(Clone, Debug)]
struct Chosen {
    given: Given,
    /// Spelt with the other system's name, hence in its form.
    is_foreign: bool,
}

/// The layers, while values are taken out of them.
pub struct Layers<K> {
    chosen: BTreeMap<K, Chosen>,
    sources: BTreeMap<K, Source>,
    warnings: Vec<String>,
    mistakes: Vec<String>,
}

impl<K: SettingKey> Layers<K> {
    /// Lays them over each other. What has a name that is none of the settings' goes to `other`, which may call
    /// [`Layers::unknown`]. Fails only if the file cannot be read.
    pub fn read(asked: &Asked<K>, mut other: impl FnMut(&mut Layers<K>, Item)) -> Result<Layers<K>, SettingsError> {
        let mut layers =
            Layers { chosen: BTreeMap::new(), sources: BTreeMap::new(), warnings: Vec::new(), mistakes: Vec::new() };
        if let Some(path) = &asked.config {
            file::read::<K>(path)?.into_iter().for_each(|item| layers.add(item, &mut other));
        }
        for pair in &asked.set {
            match pair.split_once('=') {
                Some((name, value)) => {
                    let given = Given { value: value.trim().to_owned(), source: Source::Set };
                    layers.add(Item { name: name.trim().to_owned(), is_foreign: false, given }, &mut other);
                }
                None => layers.mistake(format!("--set {pair}: not of the form key=value")),
            }
        }
        for (key, value) in &asked.flags {
            let given = Given { value: value.clone(), source: Source::Flag(key.name()) };
            layers.chosen.insert(*key, Chosen { given, is_foreign: false });
        }
        Ok(layers)
    }

    fn add(&mut self, item: Item, other: &mut impl FnMut(&mut Layers<K>, Item)) {
        let own = K::of(&item.name).filter(|_| !item.is_foreign);
        if let Some(key) = own.or_else(|| K::of_foreign(&item.name)) {
            self.chosen.insert(key, Chosen { given: item.given, is_foreign: own.is_none() });
        } else {
            other(self, item);
        }
    }

    /// Notes that nothing has this name, and the nearest that is known: one of the settings or of `others`.
    pub fn unknown<'a>(&mut self, item: &Item, others: impl IntoIterator<Item = &'a str>) {
        let Item { name, is_foreign, given } = item;
        let own = K::ALL.iter().map(|key| key.name()).filter(|_| !is_foreign);
        let meant = nearest(name, own.chain(others)).map(|known| format!("; did you mean {known}?"));
        self.mistake(format!("{}: unknown setting {name}{}", given.source, meant.unwrap_or_default()));
    }

    /// Notes a mistake: nothing starts with it.
    pub fn mistake(&mut self, sentence: impl Into<String>) {
        self.mistakes.push(sentence.into());
    }

    /// Notes what the operator should know before the first request.
    pub fn warn(&mut self, sentence: impl Into<String>) {
        self.warnings.push(sentence.into());
    }

    /// The value of `key`, or `default` if none or a wrong one was given; mistakes and sources are noted.
    pub fn take<T>(&mut self, key: K, default: T, parse: impl FnOnce(&str) -> Result<T, String>) -> T {
        let Some(Chosen { given, .. }) = self.chosen.get(&key).cloned() else {
            return default;
        };
        self.sources.insert(key, given.source.clone());
        parse(&given.value).unwrap_or_else(|why| {
            self.mistake(format!("{}: {}: {why}", given.source, key.name()));
            default
        })
    }

    /// Whether a value of `key` was given.
    pub fn is_given(&self, key: K) -> bool {
        self.chosen.contains_key(&key)
    }

    /// Whether it was given by the other system's name, hence in its form.
    pub fn is_foreign(&self, key: K) -> bool {
        self.chosen.get(&key).is_some_and(|chosen| chosen.is_foreign)
    }

    /// Notes what decided the default of `key`, if nothing was given.
    pub(super) fn decided_by(&mut self, key: K, source: Source) {
        self.sources.entry(key).or_insert(source);
    }

    /// The sources and warnings, or every mistake.
    pub fn finish(self) -> Result<(Sources<K>, Vec<String>), SettingsError> {
        match self.mistakes.is_empty() {
            true => Ok((Sources(self.sources), self.warnings)),
            false => Err(SettingsError(self.mistakes)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::settings::parse_whole;

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub(in crate::settings) enum TestedKey {
        DataDir,
        Ports,
    }

    impl SettingKey for TestedKey {
        const ALL: &'static [TestedKey] = &[TestedKey::DataDir, TestedKey::Ports];
        const FOREIGN_TABLE: Option<&'static str> = Some("kafka");

        fn name(self) -> &'static str {
            match self {
                TestedKey::DataDir => "data_dir",
                TestedKey::Ports => "ports",
            }
        }

        fn of_foreign(name: &str) -> Option<TestedKey> {
            (name == "log.dirs").then_some(TestedKey::DataDir)
        }
    }

    fn asked(set: &[&str], flags: &[(TestedKey, &str)]) -> Asked<TestedKey> {
        Asked {
            config: None,
            set: set.iter().map(|&pair| pair.to_owned()).collect(),
            flags: flags.iter().map(|&(key, value)| (key, value.to_owned())).collect(),
        }
    }

    fn read(asked: &Asked<TestedKey>) -> Layers<TestedKey> {
        Layers::read(asked, |layers, item| layers.unknown(&item, ["num.partitions"])).unwrap()
    }

    fn ports(layers: &mut Layers<TestedKey>) -> u16 {
        layers.take(TestedKey::Ports, 3, |text| parse_whole(text, 1..=9))
    }

    #[test]
    fn the_later_layer_wins_and_is_named() {
        for (asked, value, source) in [
            (asked(&[], &[]), 3, "default"),
            (asked(&["ports=4", "ports=5"], &[]), 5, "--set"),
            (asked(&["ports=4"], &[(TestedKey::Ports, "6")]), 6, "--ports"),
        ] {
            let mut layers = read(&asked);
            assert_eq!(ports(&mut layers), value);
            assert_eq!(layers.finish().unwrap().0.of(TestedKey::Ports).to_string(), source);
        }
    }

    #[test]
    fn every_mistake_is_told() {
        let mut layers = read(&asked(&["port=1", "num.partition=1", "x"], &[(TestedKey::Ports, "10")]));
        assert_eq!(ports(&mut layers), 3);
        let SettingsError(mistakes) = layers.finish().unwrap_err();
        assert_eq!(
            mistakes,
            [
                "--set: unknown setting port; did you mean ports?",
                "--set: unknown setting num.partition; did you mean num.partitions?",
                "--set x: not of the form key=value",
                "--ports: ports: '10' is not a whole number from 1 to 9",
            ]
        );
    }

    #[test]
    fn the_form_is_that_of_the_name_that_won() {
        assert!(read(&asked(&["data-dir=/a", "log.dirs=/b"], &[])).is_foreign(TestedKey::DataDir));
        assert!(!read(&asked(&["log.dirs=/b", "data_dir=/a"], &[])).is_foreign(TestedKey::DataDir));
    }

    #[test]
    fn what_stands_behind_the_subcommand_wins() {
        let before = asked(&["ports=1"], &[(TestedKey::Ports, "2")]);
        let together = before.clone().then(asked(&[], &[(TestedKey::Ports, "4")]));
        assert_eq!(ports(&mut read(&together)), 4);
        assert!(!before.is_empty() && Asked::<TestedKey>::default().is_empty());
    }
}
