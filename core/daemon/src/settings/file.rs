//! Files: TOML or Java's properties, down to flat names with values as text and the line of each.
//!
//! Dotted TOML keys and tables are joined with dots, so that `[kafka] num.partitions = 4` and
//! `[kafka] "num.partitions" = 4` say the same. What the names mean is decided in `layers`.

use std::fs;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Given, SettingKey, SettingsError, Source};

/// The largest configuration file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A name with its value, as some layer gives it.
#[derive(Clone, Debug)]
pub struct Item {
    pub name: String,
    /// Stood where only the names of the other system are meant: its table in TOML, or its properties file.
    pub is_foreign: bool,
    pub given: Given,
}

/// Reads the items of a file in their order, by its extension or, if that says nothing, by its content.
pub(super) fn read<K: SettingKey>(path: &Path) -> Result<Vec<Item>, SettingsError> {
    let refuse = |cause: &dyn std::fmt::Display| SettingsError::one(format!("{}: {cause}", path.display()));
    let size = fs::metadata(path).map_err(|cause| refuse(&cause))?.len();
    if size > FILE_BYTES_MAX {
        return Err(refuse(&"too large for a configuration file"));
    }
    let text = fs::read_to_string(path).map_err(|cause| refuse(&cause))?;
    let properties = || properties(path, &text, K::FOREIGN_TABLE.is_some());
    let toml = || toml(path, &text, K::FOREIGN_TABLE);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("properties") => properties(),
        Some("toml") => toml(),
        _ => toml().or_else(|error| match looks_like_properties::<K>(&text) {
            true => properties(),
            false => Err(error),
        }),
    }
}

fn looks_like_properties<K: SettingKey>(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(['#', '!']));
    let key = first.and_then(|line| line.split(['=', ':']).next());
    key.is_some_and(|key| key.contains('.') || K::of_foreign(key.trim()).is_some())
}

fn toml(path: &Path, text: &str, foreign: Option<&str>) -> Result<Vec<Item>, SettingsError> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        SettingsError::one(format!("{}:{line}: {}", path.display(), error.message()))
    })?;
    let mut reader = TomlReader { path, text, foreign, items: Vec::new(), errors: Vec::new() };
    reader.table("", table.get_ref());
    match reader.errors.is_empty() {
        true => Ok(in_order(reader.items)),
        false => Err(SettingsError(reader.errors)),
    }
}

struct TomlReader<'a> {
    path: &'a Path,
    text: &'a str,
    /// The table of foreign names.
    foreign: Option<&'a str>,
    items: Vec<Item>,
    errors: Vec<String>,
}

impl TomlReader<'_> {
    /// The depth of tables is bounded by the parser.
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = match prefix {
                "" => key.get_ref().to_string(),
                prefix => format!("{prefix}.{}", key.get_ref()),
            };
            match value.get_ref() {
                DeValue::Table(inner) => self.table(&name, inner),
                _ => self.value(&name, key.span().start, value),
            }
        }
    }

    fn value(&mut self, name: &str, at: usize, value: &Spanned<DeValue<'_>>) {
        let line = line_of(self.text, at);
        let Some(value) = scalar(value.get_ref()) else {
            let path = self.path.display();
            self.errors
                .push(format!("{path}:{line}: {name} must be text, a number, true or false, or a list of these"));
            return;
        };
        let foreign = self.foreign.and_then(|table| name.strip_prefix(table)?.strip_prefix('.'));
        self.items.push(Item {
            name: foreign.unwrap_or(name).to_owned(),
            is_foreign: foreign.is_some(),
            given: Given { value, source: Source::File { path: self.path.to_owned(), line } },
        });
    }
}

/// The value as `--set` would spell it.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Array(list) => {
            let parts: Option<Vec<String>> = list.iter().map(|item| scalar(item.get_ref())).collect();
            parts.map(|parts| parts.join(","))
        }
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

/// Tables iterate by name; the later line must win among names that mean the same.
fn in_order(mut items: Vec<Item>) -> Vec<Item> {
    items.sort_by_key(|item| match item.given.source {
        Source::File { line, .. } => line,
        _ => 0,
    });
    items
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

/// Java's properties: `=`, `:` or a space after the key, `#` and `!` comments, lines continued by a backslash.
fn properties(path: &Path, text: &str, is_foreign: bool) -> Result<Vec<Item>, SettingsError> {
    let mut items = Vec::new();
    let mut errors = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let mut logical = line.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while continues(&logical) {
            logical.pop();
            let Some((_, more)) = lines.next() else { break };
            logical.push_str(more.trim_start());
        }
        let source = Source::File { path: path.to_owned(), line: index + 1 };
        match split_property(&logical) {
            Ok((name, value)) => items.push(Item { name, is_foreign, given: Given { value, source } }),
            Err(why) => errors.push(format!("{source}: {why}")),
        }
    }
    match errors.is_empty() {
        true => Ok(items),
        false => Err(SettingsError(errors)),
    }
}

/// An odd number of backslashes at the end.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|&byte| byte == b'\\').count() % 2 == 1
}

fn split_property(line: &str) -> Result<(String, String), String> {
    let mut escaped = false;
    let end = line.find(|letter: char| {
        let ends = !escaped && (letter == '=' || letter == ':' || letter.is_whitespace());
        escaped = letter == '\\' && !escaped;
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    Ok((unescape(key)?, unescape(value.trim())?))
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let digits: String = letters.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                out.push(code.ok_or_else(|| format!("'\\u{digits}' is no character"))?);
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::layers::tests::TestedKey;

    const KAFKA: Option<&str> = Some("kafka");

    fn flat(items: Result<Vec<Item>, SettingsError>) -> Vec<(String, String, usize, bool)> {
        let line = |source: &Source| match source {
            Source::File { line, .. } => *line,
            _ => panic!("not from a file"),
        };
        let items = items.unwrap().into_iter();
        items
            .map(|item| {
                let line = line(&item.given.source);
                (item.name, item.given.value, line, item.is_foreign)
            })
            .collect()
    }

    fn item(name: &str, value: &str, line: usize, foreign: bool) -> (String, String, usize, bool) {
        (name.to_owned(), value.to_owned(), line, foreign)
    }

    #[test]
    fn toml_gives_flat_names_with_their_lines() {
        let text = "listen = \"127.0.0.1:1\"\nnode_id = 7\n\n[kafka]\nnum.partitions = 4\n\"auto.create.topics.enable\" = false\n";
        assert_eq!(
            flat(toml(Path::new("w.toml"), text, KAFKA)),
            [
                item("listen", "127.0.0.1:1", 1, false),
                item("node_id", "7", 2, false),
                item("num.partitions", "4", 5, true),
                item("auto.create.topics.enable", "false", 6, true),
            ]
        );
    }

    #[test]
    fn toml_mistakes_name_their_line() {
        let syntax = toml(Path::new("w.toml"), "listen = 1\nnode_id = = 2\n", KAFKA).unwrap_err();
        assert!(syntax.to_string().starts_with("w.toml:2: "), "{syntax}");
        let kind = toml(Path::new("w.toml"), "\nlisten = 2026-01-01\n", KAFKA).unwrap_err();
        assert!(kind.to_string().starts_with("w.toml:2: listen must be"), "{kind}");
    }

    #[test]
    fn properties_follow_javas_rules() {
        let text =
            "# comment\n! too\n\na.b=1\n  c.d : two words \ne.f three\ng.h=x,\\\n    y\ni.j=\\u0041\\=\nempty=\n";
        assert_eq!(
            flat(properties(Path::new("s.properties"), text, true)),
            [
                item("a.b", "1", 4, true),
                item("c.d", "two words", 5, true),
                item("e.f", "three", 6, true),
                item("g.h", "x,y", 7, true),
                item("i.j", "A=", 9, true),
                item("empty", "", 10, true),
            ]
        );
        let bad = properties(Path::new("s.properties"), "a=1\nb=\\uZZZZ\n", true).unwrap_err();
        assert!(bad.to_string().starts_with("s.properties:2: "), "{bad}");
    }

    #[test]
    fn the_kind_of_a_file_without_extension_is_seen() {
        assert!(looks_like_properties::<TestedKey>("# x\nlog.dirs=/tmp/a\n"));
        assert!(!looks_like_properties::<TestedKey>("data_dir = \"/a\"\n"));
    }
}
