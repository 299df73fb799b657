//! The simulator over many seeds, with and without a planted fault: crashes, disk errors, flipped bits, a full disk.
//! `SIM_SEEDS=5000 cargo test --profile ci -p watershed-core --test sim_seeds c1_c2 -- --nocapture` plays so many;
//! with `SIM_SEED=17 SIM_SEEDS=1` one of them again; with `SIM_BUG=LostTail` and `c1_sim` one planted fault.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use watershed_core::sim::{Bug, Outline, Violation, run};

const SEEDS_COUNT: u64 = 200;

/// Plays a seed; an assertion of the engine counts as found too.
fn play(seed: u64, bug: Option<Bug>) -> Result<Outline, Violation> {
    std::panic::catch_unwind(|| run(seed, bug)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panic.downcast_ref::<&str>().map(|what| (*what).to_owned())).unwrap_or_default();
        Err(Violation { seed, what, last_steps: Vec::new() })
    })
}

#[test]
fn c1_c2_sim_seeds_without_a_bug_find_nothing() {
    let seeds_count = std::env::var("SIM_SEEDS").ok().map_or(SEEDS_COUNT, |count| count.parse().unwrap());
    let first = std::env::var("SIM_SEED").ok().map_or(0, |seed| seed.parse().unwrap());
    let mut total = Outline::default();
    for seed in first..first + seeds_count {
        let outline = play(seed, None).unwrap_or_else(|broken| {
            panic!("seed {} broke: {}\n{}", broken.seed, broken.what, broken.last_steps.join("\n"))
        });
        total.appends_count += outline.appends_count;
        total.duplicates_count += outline.duplicates_count;
        total.clean_stops_count += outline.clean_stops_count;
        total.images_count += outline.images_count;
        total.reads_count += outline.reads_count;
        total.crashes_count += outline.crashes_count;
        total.fresh_starts_count += outline.fresh_starts_count;
        total.closed_count += outline.closed_count;
        total.faults.merge(&outline.faults);
    }
    println!("{total:?}");
    if seeds_count >= SEEDS_COUNT {
        assert!(total.duplicates_count > 0 && total.clean_stops_count > 0 && total.images_count > 100, "{total:?}");
    }
}

#[test]
fn c1_sim_finds_every_planted_bug() {
    let mut missed = Vec::new();
    let only = std::env::var("SIM_BUG").unwrap_or_default();
    for bug in Bug::ALL.into_iter().filter(|bug| only.is_empty() || only == format!("{bug:?}")) {
        let found = (0..SEEDS_COUNT).find_map(|seed| play(seed, Some(bug)).err());
        match found {
            Some(broken) => println!("{bug:?}: {} seeds: {}", broken.seed + 1, broken.what),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// A checkpoint began over a file that was dropped, pooled and used again before its old bytes were written.
#[test]
fn a_checkpoint_does_not_wait_for_the_next_user_of_a_file() {
    run(438, None).unwrap();
}

#[test]
fn c16_the_newest_anchor_is_lost_before_the_first_image() {
    run(350, None).unwrap();
}

/// One flipped bit closes the partition that it hit, at most: the rest is served whole, which every history checks.
#[test]
fn c16_flipped_bits_destroy_nothing_elsewhere() {
    let (mut flips_count, mut closed_count) = (0, 0);
    for seed in (0..SEEDS_COUNT).filter(|seed| matches!(seed % 8, 5 | 6)) {
        let outline = play(seed, None).unwrap_or_else(|broken| panic!("seed {seed} broke: {}", broken.what));
        let flips = outline.faults.0.iter().filter(|(kind, _)| kind.starts_with("flips"));
        flips_count += flips.map(|(_, count)| count).sum::<u64>();
        closed_count += outline.closed_count;
    }
    assert!(flips_count > 40 && closed_count > 5, "{flips_count} flips closed {closed_count}");
}

#[test]
fn sim_seed_plays_the_same_history_twice() {
    for seed in 0..5 {
        assert_eq!(run(seed, None).unwrap(), run(seed, None).unwrap());
    }
    assert_ne!(run(0, None).unwrap().hash, run(1, None).unwrap().hash);
}
