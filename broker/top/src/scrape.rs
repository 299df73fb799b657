//! Scrapes: the text of `/metrics` as samples. Reads OpenMetrics and Prometheus' own text; comments are passed over.

use std::collections::BTreeMap;

/// The labels of a series.
pub type Labels = BTreeMap<String, String>;

/// One value of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: Labels,
    pub value: f64,
}

/// Everything that one scrape told.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    by_name: BTreeMap<String, Vec<Sample>>,
}

/// A line that is no sample.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the metrics is no sample: {text}")]
pub struct ScrapeError {
    pub line: usize,
    pub text: String,
}

impl Scrape {
    /// Reads a scrape.
    pub fn parse(text: &str) -> Result<Scrape, ScrapeError> {
        let mut scrape = Scrape::default();
        for (number, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let wrong = || ScrapeError { line: number + 1, text: line.chars().take(80).collect() };
            let (name, sample) = sample(line).ok_or_else(wrong)?;
            scrape.by_name.entry(name.to_owned()).or_default().push(sample);
        }
        Ok(scrape)
    }

    /// The series of a name, in the order of the text.
    pub fn samples(&self, name: &str) -> &[Sample] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }
}

/// `name{label="value",...} value [timestamp]`
fn sample(line: &str) -> Option<(&str, Sample)> {
    let at = line.find(['{', ' '])?;
    let (name, rest) = line.split_at_checked(at)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Labels::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, Sample { labels, value })).filter(|_| !name.is_empty())
}

/// The labels up to the brace, and what is behind it.
fn labels(mut text: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let (value, rest) = quoted(rest)?;
        labels.insert(name.trim().to_owned(), value);
        text = rest;
    }
}

/// Up to the closing quote, with its escapes resolved.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_labels_and_values() {
        let text = "# HELP a b.\n# TYPE a counter\na_total{shard=\"0\",x=\"q\\\"u,o\\\\te}\"} 1.5\na_total 2 1700000000\nb +Inf\n# EOF\n";
        let scrape = Scrape::parse(text).unwrap();
        let [first, second] = scrape.samples("a_total") else { panic!("two samples") };
        assert_eq!((first.labels["shard"].as_str(), first.labels["x"].as_str()), ("0", "q\"u,o\\te}"));
        assert_eq!((first.value, second.value, second.labels.len()), (1.5, 2.0, 0));
        assert!(scrape.samples("b")[0].value.is_infinite());
        assert!(scrape.samples("c").is_empty());
    }

    #[test]
    fn what_is_no_sample_is_named_with_its_line() {
        for text in ["a", "a{x=\"1\" 2", "a{x=1} 2", "a one", "{x=\"1\"} 2"] {
            let error = Scrape::parse(&format!("# c\n{text}\n")).unwrap_err();
            assert_eq!((error.line, error.text.as_str()), (2, text));
        }
    }
}
