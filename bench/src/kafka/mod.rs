//! The client's side of Kafka's protocol, as far as a load generator needs it: pre-encoded produce requests, fetches that
//! follow an offset, and the few calls around them. Topics are named, never by id, so that any broker understands.

mod admin;
mod batch;
mod consume;
mod group;
mod produce;
mod verify;

use anyhow::{Result, bail};
use watershed_broker::wire::error_code::ErrorCode;

pub(crate) use admin::{Admin, EARLIEST, LATEST};
pub(crate) use batch::Template;
pub(crate) use consume::{Consumer, Until};
pub(crate) use group::{Committer, Member, await_coordinator, settle};
pub(crate) use produce::{Identity, Producer};

const CLIENT_ID: &str = "watershed-bench";

/// An answer's error code as an error.
fn check(code: i16, what: &str) -> Result<()> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        Some(error) => bail!("{what}: {}", error.name()),
        None => bail!("{what}: error code {code}"),
    }
}
