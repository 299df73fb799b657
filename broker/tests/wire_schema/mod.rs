//! Reads the schema notation of `src/wire/schema`, for the generator and for tests that walk layouts by themselves.
#![allow(dead_code)] // each test uses a part

pub(crate) mod values;

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) min: i16,
    pub(crate) max: i16,
}

impl Versions {
    pub(crate) fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type {
    Primitive(String),
    Struct(String),
    Array(Box<Type>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) versions: Versions,
    pub(crate) null: Option<Versions>,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Option<String>,
}

/// The fields of a message or of a struct inside one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    pub(crate) name: String,
    pub(crate) versions: Versions,
    pub(crate) fields: Vec<Field>,
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// `request`, `response`, `record` or `data`.
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) key: i16,
    pub(crate) flexible_from: i16,
    pub(crate) root: Layout,
    /// Structs in the order in which they are first named.
    pub(crate) structs: Vec<Layout>,
}

const PRIMITIVES: [&str; 12] =
    ["bool", "i8", "i16", "i32", "i64", "u16", "f64", "string", "bytes", "records", "uuid", "topic_id"];

impl Message {
    pub(crate) fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }
}

/// Every message of the schema files; a struct that a response reuses from its request is found in the request's `structs`.
pub(crate) fn messages() -> Vec<Message> {
    let texts = [
        include_str!("../../src/wire/schema/apis.txt"),
        include_str!("../../src/wire/schema/groups.txt"),
        include_str!("../../src/wire/schema/admin.txt"),
        include_str!("../../src/wire/schema/records.txt"),
    ];
    texts.iter().flat_map(|text| parse(text)).collect()
}

/// The struct called `name`, as seen from `message`.
pub(crate) fn layout<'a>(messages: &'a [Message], message: &'a Message, name: &str) -> &'a Layout {
    messages
        .iter()
        .filter(|other| other.key == message.key && other.name == message.name)
        .flat_map(|other| &other.structs)
        .find(|layout| layout.name == name)
        .unwrap_or_else(|| panic!("{}: no struct {name}", message.name))
}

fn parse(text: &str) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    // The layouts that the next lines may belong to, outermost first: the root is `None`, a struct its index.
    let mut open: Vec<Option<usize>> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let depth = (line.len() - line.trim_start().len()) / 2;
        if depth == 0 {
            messages.push(parse_message(line));
            open = vec![None];
            continue;
        }
        let message = messages.last_mut().expect("a message comes first");
        open.truncate(depth);
        assert_eq!(open.len(), depth, "nothing opened the level of: {line}");
        let parent = match *open.last().expect("the root is always open") {
            None => &mut message.root,
            Some(index) => &mut message.structs[index],
        };
        let field = parse_field(line, parent.versions);
        let versions = field.versions;
        let named = struct_name(&field.ty);
        parent.fields.push(field);
        if let Some(name) = named {
            message.structs.push(Layout { name, versions, fields: Vec::new() });
            open.push(Some(message.structs.len() - 1));
        }
    }
    for message in &mut messages {
        message.structs.retain(|layout| !layout.fields.is_empty());
    }
    messages
}

fn struct_name(ty: &Type) -> Option<String> {
    match ty {
        Type::Primitive(_) => None,
        Type::Struct(name) => Some(name.clone()),
        Type::Array(element) => struct_name(element),
    }
}

fn parse_message(line: &str) -> Message {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (key, rest) = match words[2].parse::<i16>() {
        Ok(key) => (key, &words[3..]),
        Err(_) => (-1, &words[2..]),
    };
    let (kind, name) = (words[0].to_owned(), words[1].to_owned());
    let suffix = match kind.as_str() {
        "request" => "Request",
        "response" => "Response",
        "record" => "Record",
        _ => "",
    };
    let all = Versions { min: 0, max: i16::MAX };
    let versions = parse_versions(rest[0], all);
    assert_eq!(rest[1], "flexible", "{line}");
    let root = Layout { name: format!("{name}{suffix}"), versions, fields: Vec::new() };
    let flexible_from = match rest[2] {
        "never" => i16::MAX,
        from => from.parse().expect(line),
    };
    Message { kind, name, key, flexible_from, root, structs: Vec::new() }
}

fn parse_field(line: &str, parent: Versions) -> Field {
    let mut words = line.split_whitespace().peekable();
    let mut next = || words.next().expect(line);
    let name = next().to_owned();
    let ty = parse_type(next());
    let is_versions = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    let versions = words.next_if(is_versions).map_or(parent, |word| parse_versions(word, parent));
    let mut field = Field { name, ty, versions, null: None, tag: None, default: None };
    while let Some(word) = words.next() {
        match word {
            "null" => {
                let range = words.next_if(is_versions);
                field.null = Some(range.map_or(versions, |word| parse_versions(word, versions)));
            }
            "tag" => field.tag = words.next().and_then(|word| word.parse().ok()),
            "=" => field.default = words.next().map(str::to_owned),
            _ => panic!("what is {word} in {line}?"),
        }
    }
    field
}

fn parse_type(word: &str) -> Type {
    if let Some(element) = word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
        return Type::Array(Box::new(parse_type(element)));
    }
    if PRIMITIVES.contains(&word) {
        return Type::Primitive(word.to_owned());
    }
    assert!(word.starts_with(|c: char| c.is_ascii_uppercase()), "no type {word}");
    Type::Struct(word.to_owned())
}

fn parse_versions(word: &str, parent: Versions) -> Versions {
    let number = |word: &str| word.parse::<i16>().expect(word);
    let (min, max) = match (word.strip_suffix('+'), word.split_once('-')) {
        (Some(min), _) => (number(min), parent.max),
        (None, Some((min, max))) => (number(min), number(max)),
        (None, None) => (number(word), number(word)),
    };
    assert!(parent.min <= min && min <= max && max <= parent.max, "{word} is outside of {parent:?}");
    Versions { min, max }
}
