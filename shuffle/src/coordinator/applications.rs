//! Applications: who they are, what their clients can read, and when they were heard last.

use std::collections::BTreeMap;

use watershed_core::units::Now;

/// What an application says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    pub user: String,
    /// Absent from clients of 0.9 and before.
    pub version: Option<String>,
    pub git_commit_id: Option<String>,
}

/// An application that lives, or did a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    pub registration: Registration,
    pub first_heard_us: u64,
    pub last_heard_us: u64,
}

impl Application {
    /// Whether its client knows what came with 0.10. One that has not said so does not.
    pub fn knows_new(&self) -> bool {
        self.registration.version.as_deref().is_some_and(is_new)
    }
}

fn is_new(version: &str) -> bool {
    let mut numbers = version.splitn(3, '.').map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= (0, 10),
        _ => false,
    }
}

#[derive(Clone, Debug)]
pub(super) struct Applications {
    expiry_us: u64,
    by_id: BTreeMap<String, Application>,
}

impl Applications {
    pub(super) fn new(expiry_us: u64) -> Applications {
        Applications { expiry_us, by_id: BTreeMap::new() }
    }

    pub(super) fn register(&mut self, id: &str, registration: Registration, now: Now) {
        self.touch(id, now).registration = registration;
    }

    /// Known from now on: an assignment or a heartbeat may come before the registration.
    pub(super) fn touch(&mut self, id: &str, now: Now) -> &mut Application {
        let heard_us = now.monotonic_us;
        let registration = Registration::default();
        let new = Application { registration, first_heard_us: heard_us, last_heard_us: heard_us };
        let application = self.by_id.entry(id.to_owned()).or_insert(new);
        application.last_heard_us = heard_us;
        application
    }

    pub(super) fn get(&self, id: &str) -> Option<&Application> {
        self.by_id.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Application)> {
        self.by_id.iter().map(|(id, application)| (id.as_str(), application))
    }

    pub(super) fn expire(&mut self, now: Now) -> Vec<String> {
        let is_gone =
            |application: &Application| now.monotonic_us.saturating_sub(application.last_heard_us) > self.expiry_us;
        self.by_id.extract_if(.., |_, application| is_gone(application)).map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_from_0_10_on_are_new() {
        for new in ["0.10.0", "0.10.0-SNAPSHOT", "0.11", "1.0.0", "0.10.0.1"] {
            assert!(is_new(new), "{new}");
        }
        for old in ["0.9.2", "0.9", "", "0", "x.10", "next"] {
            assert!(!is_new(old), "{old}");
        }
    }
}
