//! The two hosts side by side: what a parked request costs, and a message to another shard and back.
//!
//! Rounds alternate between the hosts, and each round has a server of its own, so that an idle one never disturbs.

use anyhow::Result;

use super::{Common, Floor, PING, hop};
use crate::place::Host;
use crate::report::{Figures, Row};

/// Each row of glommio's is held against ours.
pub(super) fn rows(common: &Common) -> Result<Vec<Row>> {
    let mut rows =
        compare("ping 64 B", common, |common| Floor::start(PING, &common.place)?.round(common.seconds, &common.place))?;
    rows.extend(compare("hop to and fro", common, hop::round)?);
    Ok(rows)
}

fn compare(name: &str, common: &Common, round: impl Fn(&Common) -> Result<Figures>) -> Result<Vec<Row>> {
    let (mut ours, mut glommios) = (Vec::new(), Vec::new());
    for _ in 0..common.rounds.max(1) {
        ours.push(round(&common.on(Host::Ours))?);
        glommios.push(round(&common.on(Host::Glommio))?);
    }
    let ours = Row::new(format!("{name}, ours"), &ours);
    let glommios = Row::new(format!("{name}, glommio"), &glommios).beside(&ours);
    Ok(vec![ours, glommios])
}
