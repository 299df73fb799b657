//! Scrape: a copy of what one shard has counted, with what it holds at the moment.

use watershed_core::io::executor::{machine_now, stats};

use super::shard::Shard;
use crate::coordinator::ServerStatus;
use crate::metrics::{ArenaUse, ShardMetrics};

/// The names of the shard's arenas, in their order.
const ARENAS: [&str; 3] = ["blocks", "work", "reads"];

/// The shard now.
pub(crate) fn scrape(shard: &Shard) -> ShardMetrics {
    let (figures, turns) = (&shard.figures, stats());
    let store = shard.store.borrow();
    let status = shard.status();
    let accepted = figures.connections.get();
    ShardMetrics {
        shard: shard.id.0,
        received_bytes: figures.received_bytes.get(),
        received_blocks: figures.received_blocks.get(),
        refused_blocks: figures.refused_blocks.get(),
        duplicate_blocks: figures.duplicate_blocks.get(),
        runs: figures.runs.get(),
        failed_runs: figures.failed_runs.get(),
        written_bytes: figures.written_bytes.get(),
        read_bytes: figures.read_bytes.get(),
        sent_bytes: figures.sent_bytes.get(),
        connections_accepted: accepted,
        connections_open: accepted - figures.connections_ended.get(),
        ticket_waits: figures.ticket_waits.borrow().clone(),
        usage: store.usage(),
        blocks_held: store.block_count(),
        arenas: arenas(shard),
        holdings: store.holdings(machine_now()),
        is_ailing: shard.is_ailing.get(),
        is_decommissioning: status == ServerStatus::Decommissioning,
        is_decommissioned: status == ServerStatus::Decommissioned,
        turns: turns.turn_count(),
        parks: turns.park_count(),
        stalls: turns.stalled_turn_count(),
        busy_us: turns.busy_us(),
    }
}

fn arenas(shard: &Shard) -> Vec<ArenaUse> {
    let of = |(arena, usage): (&'static str, watershed_core::io::arena::ArenaUsage)| ArenaUse {
        arena,
        used_bytes: usage.in_use_bytes as u64,
        size_bytes: usage.limit_bytes as u64,
    };
    ARENAS.into_iter().zip(shard.arenas()).map(of).collect()
}
