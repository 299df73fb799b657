//! Hops between shards that keep falling asleep, until one wake is lost or none was.
//!
//!     hop_stress HOST HOPS [HANG_SECONDS]
//!
//! HOST is `ring` or `glommio`. Two unbound shards exchange bursts; the next burst leaves only when the last is answered
//! whole, and nothing else would wake them, so a lost wake stops everything. Without a hop for HANG_SECONDS (30) it ends
//! with code 1. `ci/hop-stress` runs it on less than one CPU.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use watershed_core::error::Fault;
use watershed_core::io::executor;
use watershed_core::io::host::Host;
use watershed_core::io::mesh::{Endpoint, Lane, Mesh};
use watershed_core::io::ring::RingSetup;
use watershed_core::io::shards::{Placement, Shards, ShardsConfig, start_shards};
use watershed_core::units::ShardId;

const ASKER: ShardId = ShardId(0);
const ANSWERER: ShardId = ShardId(1);
/// Sent last; a burst's messages count from zero.
const END: u64 = u64::MAX;
const BURST_MAX: u64 = 16;

#[derive(Clone)]
struct Arguments {
    host: Host,
    hops: u64,
    hang: Duration,
}

fn arguments() -> Result<Arguments, String> {
    let mut given = std::env::args().skip(1);
    let host = given.next().ok_or("which host?")?.parse::<Host>().map_err(|fault| fault.to_string())?;
    let mut number = |what: &str, default: Option<u64>| match given.next() {
        Some(text) => text.parse::<u64>().map_err(|error| format!("{what}: {error}")),
        None => default.ok_or(format!("how many {what}?")),
    };
    let hops = number("hops", None)?;
    let hang = Duration::from_secs(number("seconds", Some(30))?);
    Ok(Arguments { host, hops, hang })
}

fn send(mesh: &Endpoint<u64>, to: ShardId, lane: Lane, message: u64, hops: &AtomicU64) {
    mesh.send(to, lane, message).expect("a queue holds a burst");
    hops.fetch_add(1, Ordering::Relaxed);
}

/// A sleep of 0 to 400 us after every third burst: long enough for both shards to be asleep at its end.
async fn pause(burst: u64) {
    if burst.is_multiple_of(3) {
        executor::sleep(Duration::from_micros(burst * 37 % 400)).await;
    }
}

async fn ask(mesh: Endpoint<u64>, hops: &AtomicU64, hops_wanted: u64) {
    let mut burst = 0;
    while hops.load(Ordering::Relaxed) < hops_wanted {
        burst += 1;
        let length = burst * 7 % BURST_MAX + 1;
        for message in 0..length {
            send(&mesh, ANSWERER, Lane::Call, message, hops);
            if message % 5 == 4 {
                executor::yield_now().await;
            }
        }
        for expected in 0..length {
            let (_, _, answer) = mesh.recv().await;
            assert_eq!(answer, expected, "answers come in order");
        }
        pause(burst).await;
    }
    send(&mesh, ANSWERER, Lane::Call, END, hops);
}

async fn answer(mesh: Endpoint<u64>, hops: &AtomicU64) {
    let mut count = 0;
    loop {
        let (_, _, message) = mesh.recv().await;
        if message == END {
            return;
        }
        count += 1;
        if count % 41 == 0 {
            pause(count).await;
        }
        send(&mesh, ASKER, Lane::Reply, message, hops);
    }
}

fn start(arguments: &Arguments, hops: &Arc<AtomicU64>) -> Result<Shards, Fault> {
    let config = ShardsConfig { placement: Placement::Unbound, host: arguments.host, ring_setup: RingSetup::BEST };
    let (hops, hops_wanted) = (hops.clone(), arguments.hops);
    start_shards(Mesh::new(2, BURST_MAX as usize)?, config, move |mesh: Endpoint<u64>| {
        let hops = hops.clone();
        async move {
            if mesh.shard() == ASKER {
                ask(mesh, &hops, hops_wanted).await;
            } else {
                answer(mesh, &hops).await;
            }
            Ok(())
        }
    })
}

/// Ends the process if hops stop: shards that hang cannot be joined.
fn watch(hops: Arc<AtomicU64>, hang: Duration) {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = hops.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > hang {
            eprintln!("no hop for {} s after {now} hops: a wake was lost", hang.as_secs());
            std::process::exit(1);
        }
    }
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\nusage: hop_stress HOST HOPS [HANG_SECONDS]");
            return ExitCode::from(2);
        }
    };
    let hops = Arc::new(AtomicU64::new(0));
    let (watched, hang) = (hops.clone(), arguments.hang);
    std::thread::spawn(move || watch(watched, hang));
    let started = Instant::now();
    let ended = start(&arguments, &hops).and_then(|shards| {
        let stats = shards.stats().to_vec();
        shards.join().map(|()| stats.iter().map(|stats| stats.park_count()).sum::<u64>())
    });
    match ended {
        Ok(parks) => {
            let (made, took) = (hops.load(Ordering::Relaxed), started.elapsed().as_secs_f64());
            println!("{:?}: {made} hops, {parks} sleeps, {took:.1} s", arguments.host);
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}
