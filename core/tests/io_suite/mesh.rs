//! Messages between executors that keep falling asleep: nothing is lost, nothing overtakes.

use std::rc::Rc;
use std::time::Duration;

use watershed_core::error::Fault;
use watershed_core::io::executor;
use watershed_core::io::mesh::{Endpoint, Full, Lane, Mesh};
use watershed_core::io::notify::{Answer, answer, thread_channel};
use watershed_core::io::shards::{Placement, start_shards};
use watershed_core::units::ShardId;

use crate::setup;

const SHARDS: u16 = 3;
const MESSAGES: u64 = 3000;

async fn send(mesh: &Endpoint<u64>, to: ShardId, lane: Lane, mut message: u64) {
    while let Err(Full(back)) = mesh.send(to, lane, message) {
        message = back;
        executor::yield_now().await;
    }
}

/// Sends bursts to a peer, with pauses long enough for both to fall asleep now and then.
async fn burst(mesh: Rc<Endpoint<u64>>, to: ShardId, lane: Lane) {
    for message in 0..MESSAGES {
        send(&mesh, to, lane, message).await;
        if message % 10 == 9 {
            executor::sleep(Duration::from_micros(message * 7 % 400)).await;
        }
    }
}

async fn every_pair_and_lane(mesh: Endpoint<u64>) -> Result<(), Fault> {
    let mesh = Rc::new(mesh);
    let mut senders = Vec::new();
    for to in 0..SHARDS {
        for lane in Lane::ALL {
            senders.push(executor::spawn(burst(mesh.clone(), ShardId(to), lane)));
        }
    }
    let mut expected = [[0u64; 3]; SHARDS as usize];
    for _ in 0..MESSAGES * 3 * u64::from(SHARDS) {
        let (from, lane, message) = mesh.recv().await;
        let place = &mut expected[usize::from(from.0)][lane as usize];
        assert_eq!(message, *place, "first in, first out per sender and lane");
        *place += 1;
    }
    for sender in senders {
        sender.await;
    }
    assert!(mesh.try_recv().is_none());
    Ok(())
}

#[test]
fn every_message_arrives_in_order_on_unbound_shards() {
    let mesh = Mesh::new(SHARDS, 16).unwrap();
    let shards = start_shards(mesh, setup::shards(Placement::Unbound), every_pair_and_lane).unwrap();
    let stats = shards.stats().to_vec();
    shards.join().unwrap();
    // How often depends on who else wants the CPU; never would mean that parking was not tried.
    assert!(stats.iter().all(|stats| stats.park_count() > 5), "the shards really slept: {stats:?}");
}

#[test]
fn every_message_arrives_in_order_with_spinning() {
    let spin = Duration::from_micros(30);
    let cpu = core_affinity::get_core_ids().unwrap()[0].id;
    let placement = Placement::Pinned { cpus: vec![cpu; usize::from(SHARDS)], spin };
    let mesh = Mesh::new(SHARDS, 64).unwrap();
    start_shards(mesh, setup::shards(placement), every_pair_and_lane).unwrap().join().unwrap();
}

/// One message under way at a time, so that a lost wake is a hang.
async fn ping_pong(mesh: Endpoint<u64>) -> Result<(), Fault> {
    let other = ShardId(1 - mesh.shard().0);
    if mesh.shard() == ShardId(0) {
        mesh.send(other, Lane::Call, 0).unwrap();
    }
    loop {
        let (from, _, message) = mesh.recv().await;
        assert_eq!(from, other);
        if message % 100 == 0 {
            executor::sleep(Duration::from_micros(300)).await;
        }
        if message <= 10_000 {
            mesh.send(other, Lane::Reply, message + 1).unwrap();
        }
        if message >= 10_000 {
            return Ok(());
        }
    }
}

#[test]
fn a_single_message_always_wakes_its_receiver() {
    let mesh = Mesh::new(2, 4).unwrap();
    start_shards(mesh, setup::shards(Placement::Unbound), ping_pong).unwrap().join().unwrap();
}

#[test]
fn a_full_queue_gives_the_message_back() {
    let mut ends = Mesh::new(2, 4).unwrap().into_endpoints();
    let (second, first) = (ends.pop().unwrap(), ends.pop().unwrap());
    for message in 0..4 {
        first.send(ShardId(1), Lane::Call, message).unwrap();
    }
    assert_eq!(first.send(ShardId(1), Lane::Call, 4), Err(Full(4)));
    first.send(ShardId(1), Lane::Reply, 5).unwrap();
    assert_eq!(second.try_recv(), Some((ShardId(0), Lane::Reply, 5)));
    assert_eq!(second.try_recv(), Some((ShardId(0), Lane::Call, 0)));
    assert_eq!(second.shard_count(), 2);
}

#[test]
fn threads_ask_and_shards_answer() {
    let (sender, receiver) = thread_channel::<(u64, Answer<u64>)>();
    let receiver = std::sync::Arc::new(std::sync::Mutex::new(Some(receiver)));
    let serve = move |_mesh: Endpoint<()>| {
        let receiver = receiver.lock().unwrap().take().unwrap();
        async move {
            while let Some((number, answer)) = receiver.recv().await {
                answer.send(number * 2);
            }
            Ok(())
        }
    };
    let shards = start_shards(Mesh::new(1, 4).unwrap(), setup::shards(Placement::Unbound), serve).unwrap();
    for number in 0..300 {
        let (answer, awaiting) = answer();
        sender.clone().send((number, answer)).ok().unwrap();
        assert_eq!(awaiting.wait(Duration::from_secs(30)), Some(number * 2));
        if number % 10 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    drop(sender);
    shards.join().unwrap();
}

#[test]
#[should_panic(expected = "a planted panic")]
fn a_shard_that_panics_ends_the_wait_for_all() {
    let body = |mesh: Endpoint<()>| async move {
        assert!(mesh.shard() != ShardId(1), "a planted panic");
        mesh.recv().await;
        Ok(())
    };
    let _ = start_shards(Mesh::new(2, 4).unwrap(), setup::shards(Placement::Unbound), body).unwrap().join();
}

#[test]
fn a_shard_that_fails_is_reported() {
    let body = |_: Endpoint<()>| async { Err(Fault::NoSpace { what: "a test" }) };
    let fault =
        start_shards(Mesh::new(1, 4).unwrap(), setup::shards(Placement::Unbound), body).unwrap().join().unwrap_err();
    assert!(fault.is_no_space());
    let missing = Placement::Pinned { cpus: vec![100_000], spin: Duration::ZERO };
    let body = |_: Endpoint<()>| async { Ok(()) };
    let fault = start_shards(Mesh::new(1, 4).unwrap(), setup::shards(missing), body).unwrap().join().unwrap_err();
    assert!(fault.to_string().contains("CPU 100000"), "{fault}");
}
