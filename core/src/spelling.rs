//! Spelling: the name that was meant by one that is unknown.

/// The known name that is closest to `wrong`, if one is close enough to have been meant.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (edits(wrong, name), name))
        .min()
        .filter(|(edits, name)| *edits <= 1 + name.len() / 4)
        .map(|(_, name)| name)
}

/// Levenshtein's distance in bytes, by one rolling row.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, left) in (1..).zip(from.bytes()) {
        let mut diagonal = line - 1;
        let mut last = line;
        for (cell, right) in row.iter_mut().skip(1).zip(to.bytes()) {
            let replaced = diagonal + usize::from(left != right);
            diagonal = *cell;
            last = replaced.min(diagonal + 1).min(last + 1);
            *cell = last;
        }
    }
    match to.is_empty() {
        true => from.len(),
        false => row.pop().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let names = ["retention.ms", "retention.bytes", "segment.ms"];
        assert_eq!(nearest("retension.ms", names), Some("retention.ms"));
        assert_eq!(nearest("segments.ms", names), Some("segment.ms"));
        assert_eq!(nearest("zookeeper.connect", names), None);
    }
}
