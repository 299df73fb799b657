//! Which program sleeps for a thread of tasks: our executor, or a glommio executor that it runs in.
//!
//! Tasks do not see the difference. Never decides between them: the configuration does.

use std::future::Future;
use std::str::FromStr;

use super::executor::{self, ExecutorConfig};
use crate::error::Fault;

/// What runs the tasks of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Host {
    /// Our executor, which sleeps in its ring.
    #[default]
    Ring,
    /// A glommio executor, for programs that live on glommio; needs the feature `glommio`.
    Glommio,
}

impl Host {
    /// The name that `from_str` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Host::Ring => "ring",
            Host::Glommio => "glommio",
        }
    }

    /// Whether this program can run it.
    pub const fn is_built_in(self) -> bool {
        matches!(self, Host::Ring) || cfg!(feature = "glommio")
    }

    /// As `executor::run`, on this host.
    pub fn run<F>(self, config: ExecutorConfig, make: impl FnOnce() -> F) -> Result<F::Output, Fault>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        match self {
            Host::Ring => executor::run(config, make),
            #[cfg(feature = "glommio")]
            Host::Glommio => super::glommio::run(config, make),
            #[cfg(not(feature = "glommio"))]
            Host::Glommio => Err(Fault::Refused(
                "this program was built without the feature `glommio`; build it with `--features glommio`".to_owned(),
            )),
        }
    }
}

impl FromStr for Host {
    type Err = Fault;

    fn from_str(name: &str) -> Result<Host, Fault> {
        match name {
            "ring" => Ok(Host::Ring),
            "glommio" => Ok(Host::Glommio),
            other => Err(Fault::Refused(format!("no host is named `{other}`; there are `ring` and `glommio`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_names() {
        assert_eq!("ring".parse::<Host>().unwrap(), Host::default());
        for host in [Host::Ring, Host::Glommio] {
            assert_eq!(host.name().parse::<Host>().unwrap(), host);
        }
        assert!("tokio".parse::<Host>().unwrap_err().to_string().contains("`tokio`"));
    }

    #[cfg(not(feature = "glommio"))]
    #[test]
    fn a_host_that_is_not_built_in_is_refused() {
        assert!(Host::Ring.is_built_in() && !Host::Glommio.is_built_in());
        let fault = Host::Glommio.run(ExecutorConfig::default(), || async {}).unwrap_err();
        assert!(fault.to_string().contains("feature `glommio`"), "{fault}");
    }
}
