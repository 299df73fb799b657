//! Formats of records: kcat's `-f` and JSON, one object a line, which `produce --json` reads again.
//!
//! A key or value that is no UTF-8 is `payload_base64` (or `key_base64`) in JSON, so nothing is lost on the way.

use serde_json::{Map, Value, json};

use crate::client::{Consumed, Headers, Outgoing};

use super::unescape;

/// What is printed unless asked otherwise.
pub(super) const PLAIN: &str = r"%s\n";
/// The same with keys.
pub(super) const KEYED: &str = r"%k\t%s\n";

/// A format, parsed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    KeyBytes,
    Value,
    ValueBytes,
    Headers,
}

impl Format {
    /// Reads kcat's format: %t topic, %p partition, %o offset, %T timestamp, %k key, %K its length, %s value, %S its
    /// length, %h headers, %% a percent sign, and the escapes.
    pub(super) fn parse(text: &str) -> Result<Format, String> {
        let (mut parts, mut plain) = (Vec::new(), String::new());
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                plain.push(letter);
                continue;
            }
            let part = match letters.next() {
                Some('t') => Part::Topic,
                Some('p') => Part::Partition,
                Some('o') => Part::Offset,
                Some('T') => Part::Timestamp,
                Some('k') => Part::Key,
                Some('K') => Part::KeyBytes,
                Some('s') => Part::Value,
                Some('S') => Part::ValueBytes,
                Some('h') => Part::Headers,
                Some('%') => Part::Text(b"%".to_vec()),
                other => {
                    let sign = other.map(String::from).unwrap_or_default();
                    return Err(format!("%{sign} means nothing; there are %t %p %o %T %k %K %s %S %h %%"));
                }
            };
            parts.push(Part::Text(unescape(&std::mem::take(&mut plain))?));
            parts.push(part);
        }
        parts.push(Part::Text(unescape(&plain)?));
        Ok(Format(parts))
    }

    /// Appends a record.
    pub(super) fn write(&self, record: &Consumed, out: &mut Vec<u8>) {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or("-1".to_owned(), |bytes| bytes.len().to_string());
        let bytes = |bytes: &Option<Vec<u8>>| bytes.clone().unwrap_or_default();
        for part in &self.0 {
            out.extend(match part {
                Part::Text(text) => text.clone(),
                Part::Topic => record.topic.clone().into_bytes(),
                Part::Partition => record.partition.to_string().into_bytes(),
                Part::Offset => record.offset.to_string().into_bytes(),
                Part::Timestamp => record.timestamp_ms.to_string().into_bytes(),
                Part::Key => bytes(&record.key),
                Part::KeyBytes => length(&record.key).into_bytes(),
                Part::Value => bytes(&record.value),
                Part::ValueBytes => length(&record.value).into_bytes(),
                Part::Headers => headers(&record.headers),
            });
        }
    }
}

/// `name=value` after commas.
fn headers(headers: &Headers) -> Vec<u8> {
    let mut out = Vec::new();
    for (place, (name, value)) in headers.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend(name.bytes());
        out.push(b'=');
        out.extend(value.iter().flatten());
    }
    out
}

/// The record as one line of JSON.
pub(super) fn to_json(record: &Consumed) -> String {
    let mut object = Map::new();
    object.insert("topic".to_owned(), json!(record.topic));
    object.insert("partition".to_owned(), json!(record.partition));
    object.insert("offset".to_owned(), json!(record.offset));
    object.insert("ts".to_owned(), json!(record.timestamp_ms));
    let header = |(name, value): &(String, Option<Vec<u8>>)| {
        let mut object = Map::from_iter([("name".to_owned(), json!(name))]);
        put(&mut object, "value", value.as_deref());
        Value::Object(object)
    };
    object.insert("headers".to_owned(), record.headers.iter().map(header).collect());
    put(&mut object, "key", record.key.as_deref());
    put(&mut object, "payload", record.value.as_deref());
    Value::Object(object).to_string()
}

fn put(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(std::str::from_utf8) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), json!(text)),
        Some(Err(_)) => object.insert(format!("{name}_base64"), json!(to_base64(bytes.unwrap_or_default()))),
    };
}

/// A record from one line of JSON. Topic, offset and partition of where it was read are not taken over.
pub(super) fn from_json(line: &[u8]) -> Result<Outgoing, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))?;
    let object = value.as_object().ok_or("not an object with key, payload and headers")?;
    let mut headers = Headers::new();
    for header in object.get("headers").and_then(Value::as_array).into_iter().flatten() {
        let header = header.as_object().ok_or("a header is an object with name and value")?;
        let name = header.get("name").and_then(Value::as_str).ok_or("a header has no name")?;
        headers.push((name.to_owned(), take(header, "value")?));
    }
    let timestamp_ms = object.get("ts").and_then(Value::as_i64);
    Ok(Outgoing { key: take(object, "key")?, value: take(object, "payload")?, headers, partition: None, timestamp_ms })
}

fn take(object: &Map<String, Value>, name: &str) -> Result<Option<Vec<u8>>, String> {
    if let Some(text) = object.get(&format!("{name}_base64")) {
        let bytes = text.as_str().and_then(from_base64);
        return bytes.map(Some).ok_or_else(|| format!("{name}_base64 is no base64"));
    }
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone().into_bytes())),
        Some(other) => Ok(Some(other.to_string().into_bytes())),
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().chain([0; 3].iter()).take(3).fold(0_usize, |word, byte| word << 8 | usize::from(*byte));
        for place in 0..4 {
            let letter = ALPHABET.get(word >> (18 - 6 * place) & 63).copied().unwrap_or(b'=');
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::new();
    for chunk in text.chunks(4) {
        let mut word = 0_usize;
        for letter in chunk {
            word = word << 6 | ALPHABET.iter().position(|known| known == letter)?;
        }
        let count = match chunk.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        word <<= 6 * (4 - chunk.len());
        bytes.extend([word >> 16, word >> 8, word].iter().take(count).map(|part| (part & 0xff) as u8));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Consumed {
        Consumed {
            topic: "rivers".to_owned(),
            partition: 3,
            offset: 42,
            timestamp_ms: 1000,
            key: Some(b"k".to_vec()),
            value: Some(b"hello".to_vec()),
            headers: vec![("a".to_owned(), Some(b"1".to_vec())), ("b".to_owned(), None)],
        }
    }

    fn written(format: &str, record: &Consumed) -> String {
        let mut out = Vec::new();
        Format::parse(format).unwrap().write(record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_format_is_kcats() {
        assert_eq!(written(PLAIN, &record()), "hello\n");
        assert_eq!(written(KEYED, &record()), "k\thello\n");
        let all = r"%t [%p] at %o: %T key %k (%K) value %s (%S) %h 100%%\n";
        assert_eq!(written(all, &record()), "rivers [3] at 42: 1000 key k (1) value hello (5) a=1,b= 100%\n");
        let null = Consumed { value: None, ..record() };
        assert_eq!(written("%S", &null), "-1");
        assert!(Format::parse("%q").unwrap_err().contains("%q means nothing"));
        assert!(Format::parse("%").is_err());
    }

    #[test]
    fn json_is_read_back_bytes_included() {
        let records = [record(), Consumed { key: Some(vec![0xff, 0]), value: None, headers: Vec::new(), ..record() }];
        for record in records {
            let read = from_json(to_json(&record).as_bytes()).unwrap();
            assert_eq!((read.key, read.value, read.headers), (record.key, record.value, record.headers));
            assert_eq!((read.timestamp_ms, read.partition), (Some(1000), None));
        }
        assert!(from_json(b"[]").is_err() && from_json(b"{").is_err());
        assert!(from_json(br#"{"payload_base64": "*"}"#).is_err());
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (plain, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(to_base64(plain.as_bytes()), text);
            assert_eq!(from_base64(text).unwrap(), plain.as_bytes());
        }
        assert_eq!(from_base64("A"), None);
    }
}
