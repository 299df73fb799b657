//! Cores: how many shards there are and on which CPUs they are pinned, from `N`, `0,1`, `0-3` or `unbound:N`.

use std::collections::BTreeSet;
use std::fmt;

/// More shards than any machine of today has cores; bounds what a list may ask for.
const CORES_MAX: usize = 1024;

/// The shards and where they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// One shard per CPU, each pinned to its own; in rising order, never empty.
    Pinned(Vec<usize>),
    /// So many shards that float; for tests and for machines whose CPUs are not ours.
    Unbound(usize),
}

impl Cores {
    /// The number of shards; at least one.
    pub fn shards(&self) -> usize {
        match self {
            Cores::Pinned(cpus) => cpus.len(),
            Cores::Unbound(count) => *count,
        }
    }

    /// Parses what `--cores` takes; `allowed` are the CPUs that the process may run on, and a bare `N` takes the first N.
    pub fn parse(text: &str, allowed: &[usize]) -> Result<Cores, String> {
        let text = text.trim();
        if let Some(count) = text.strip_prefix("unbound:") {
            return parse_count(count).map(Cores::Unbound);
        }
        if !text.contains([',', '-']) {
            let count = parse_count(text)?;
            let cpus: Vec<usize> = allowed.iter().copied().take(count).collect();
            return match cpus.len() == count {
                true => Ok(Cores::Pinned(cpus)),
                false => Err(format!(
                    "{count} cores were asked for, but this process may run on {} ({}); unbound:{count} runs that many without pinning",
                    allowed.len(),
                    show_cpus(allowed),
                )),
            };
        }
        let cpus = parse_cpu_list(text)?;
        match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
            Some(cpu) => Err(format!("this process may not run on CPU {cpu}; allowed: {}", show_cpus(allowed))),
            None => Ok(Cores::Pinned(cpus)),
        }
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A comma marks a list: a bare number is a count.
            Cores::Pinned(cpus) if cpus.len() == 1 => write!(f, "{},", show_cpus(cpus)),
            Cores::Pinned(cpus) => f.write_str(&show_cpus(cpus)),
            Cores::Unbound(count) => write!(f, "unbound:{count}"),
        }
    }
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(count) if (1..=CORES_MAX).contains(&count) => Ok(count),
        _ => Err(format!("'{text}' is not a number of cores (1 to {CORES_MAX}), a list like 0,1 or 0-3, or unbound:N")),
    }
}

/// The CPUs of a list as Linux writes it ("0-3,8"), in rising order.
pub(super) fn parse_cpu_list(text: &str) -> Result<Vec<usize>, String> {
    let refuse = || format!("'{text}' is not a list of CPUs like 0,1 or 0-3");
    let number = |digits: &str| digits.trim().parse::<usize>().map_err(|_| refuse());
    let mut cpus = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last - first >= CORES_MAX {
            return Err(refuse());
        }
        cpus.extend(first..=last);
    }
    match cpus.is_empty() || cpus.len() > CORES_MAX {
        true => Err(refuse()),
        false => Ok(cpus.into_iter().collect()),
    }
}

fn show_cpus(cpus: &[usize]) -> String {
    let names: Vec<String> = cpus.iter().map(usize::to_string).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_takes_the_first_allowed_cpus() {
        assert_eq!(Cores::parse("2", &[3, 5, 7]), Ok(Cores::Pinned(vec![3, 5])));
        let refused = Cores::parse("4", &[3, 5, 7]).unwrap_err();
        assert!(refused.contains("3,5,7") && refused.contains("unbound:4"), "{refused}");
    }

    #[test]
    fn a_list_names_cpus() {
        let allowed: Vec<usize> = (0..8).collect();
        for (text, cpus) in
            [("0,1", vec![0, 1]), ("0-3", vec![0, 1, 2, 3]), ("6,0-1,1", vec![0, 1, 6]), ("5,", vec![5])]
        {
            assert_eq!(Cores::parse(text, &allowed), Ok(Cores::Pinned(cpus)), "{text}");
        }
        assert!(Cores::parse("0,9", &allowed).unwrap_err().contains("CPU 9"));
    }

    #[test]
    fn unbound_is_not_limited_by_the_cpus() {
        assert_eq!(Cores::parse("unbound:3", &[0]), Ok(Cores::Unbound(3)));
        assert_eq!(Cores::Unbound(3).shards(), 3);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "0", "x", "3-1", "-", ",", "0-99999999", "unbound:0", "unbound:", "99999"] {
            assert!(Cores::parse(text, &[0, 1]).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_parses_to_itself() {
        for cores in [Cores::Pinned(vec![1]), Cores::Pinned(vec![0, 2]), Cores::Unbound(3)] {
            assert_eq!(Cores::parse(&cores.to_string(), &[0, 1, 2]), Ok(cores));
        }
    }
}
