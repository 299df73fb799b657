//! Stories of the coordinator: who gets which partitions, who waits, who is told why not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod traces;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use prost::Message;
use traces::lines;
use watershed_core::units::Now;
use watershed_shuffle::coordinator::{
    Assigned, Assignment, AssignmentError, AssignmentRequest, Coordinator, CoordinatorConfig, Heartbeat, Registration,
    ServerAddress, ServerStatus,
};
use watershed_shuffle::wire::proto;

const GIB: i64 = 1 << 30;

fn at(seconds: u64) -> Now {
    Now { monotonic_us: seconds * 1_000_000, wall_ms: 0 }
}

fn coordinator() -> Coordinator {
    Coordinator::new(CoordinatorConfig::default(), at(0))
}

fn tags(tags: &[&str]) -> BTreeSet<String> {
    tags.iter().map(|tag| tag.to_string()).collect()
}

/// The server of one core of a host.
fn server(ip: &str, core: i32, available_memory_bytes: i64) -> Heartbeat {
    let (grpc_port, netty_port) = (20000, 21000 + core);
    Heartbeat {
        address: ServerAddress {
            id: format!("{ip}-{grpc_port}-{netty_port}"),
            ip: ip.to_owned(),
            grpc_port,
            netty_port,
        },
        used_memory_bytes: 0,
        pre_allocated_memory_bytes: 0,
        available_memory_bytes,
        flush_events_in_flight: 0,
        tags: tags(&["ss_v5", "GRPC", "GRPC_NETTY"]),
        is_healthy: true,
        status: Some(ServerStatus::Active),
    }
}

fn request(partition_count: i32) -> AssignmentRequest {
    AssignmentRequest {
        application_id: "app".to_owned(),
        partition_count,
        partitions_per_range: 1,
        replica_count: 1,
        required_tags: tags(&["ss_v5", "GRPC"]),
        ..AssignmentRequest::default()
    }
}

fn assigned(coordinator: &mut Coordinator, request: &AssignmentRequest, now: Now) -> Assignment {
    match coordinator.assign(request, now).unwrap() {
        Assigned::Ready(assignment) => assignment,
        Assigned::Wait { until_us } => panic!("it waits until {until_us}"),
    }
}

/// How many partitions each server holds, by id.
fn held(assignment: &Assignment) -> BTreeMap<&str, i32> {
    let mut held = BTreeMap::new();
    for range in &assignment.ranges {
        for &place in &range.servers {
            *held.entry(assignment.servers[place].id.as_str()).or_insert(0) += range.end - range.start + 1;
        }
    }
    held
}

#[test]
fn the_cores_of_a_host_share_equally_and_in_stretches() {
    let mut c = coordinator();
    for core in 0..4 {
        c.heartbeat(server("10.0.0.1", core, i64::from(core) * GIB), at(1));
    }
    let assignment = assigned(&mut c, &request(200), at(2));
    assert_eq!(held(&assignment).into_values().collect::<Vec<_>>(), [50; 4]);
    let holders = assignment.ranges.iter().map(|range| range.servers[0]).collect::<Vec<_>>();
    assert_eq!(holders.chunk_by(|a, b| a == b).count(), 4, "each core has one stretch: {holders:?}");
}

#[test]
fn hosts_take_what_their_memory_allows() {
    let mut c = coordinator();
    c.heartbeat(server("10.0.0.1", 0, 3 * GIB), at(1));
    c.heartbeat(server("10.0.0.2", 0, GIB), at(1));
    c.heartbeat(server("10.0.0.3", 0, -5), at(1));
    let assignment = assigned(&mut c, &request(400), at(2));
    let held = held(&assignment).into_iter().collect::<Vec<_>>();
    assert_eq!(held, [("10.0.0.1-20000-21000", 300), ("10.0.0.2-20000-21000", 100)]);
}

#[test]
fn small_shuffles_do_not_all_meet_at_one_server() {
    let mut c = coordinator();
    for ip in ["10.0.0.1", "10.0.0.2"] {
        for core in 0..2 {
            c.heartbeat(server(ip, core, GIB), at(1));
        }
    }
    let mut all = BTreeMap::new();
    for _ in 0..100 {
        for (id, count) in held(&assigned(&mut c, &request(1), at(2))) {
            *all.entry(id.to_owned()).or_insert(0) += count;
        }
    }
    assert_eq!(all.into_values().collect::<Vec<_>>(), [25; 4]);
}

#[test]
fn what_was_given_counts_less_with_every_heartbeat() {
    let mut c = coordinator();
    for ip in ["10.0.0.1", "10.0.0.2"] {
        c.heartbeat(server(ip, 0, GIB), at(1));
    }
    assigned(&mut c, &request(100), at(2));
    // The first was given as much as the second, and has reported thrice since.
    for second in [10, 20, 30] {
        c.heartbeat(server("10.0.0.1", 0, GIB), at(second));
    }
    let assignment = assigned(&mut c, &request(20), at(30));
    assert_eq!(held(&assignment).into_iter().collect::<Vec<_>>(), [("10.0.0.1-20000-21000", 20)]);
}

#[test]
fn nobody_is_refused_while_servers_are_starting() {
    let mut c = coordinator();
    let asked = AssignmentRequest { asked_us: 1_000_000, ..request(10) };
    assert_eq!(c.assign(&asked, at(1)), Ok(Assigned::Wait { until_us: 30_000_000 }));
    assert!(c.heartbeat(server("10.0.0.1", 0, GIB), at(12)), "parked requests are worth asking again");
    assert!(!c.heartbeat(server("10.0.0.1", 0, GIB), at(22)));
    assert_eq!(assigned(&mut c, &asked, at(22)).ranges.len(), 10);

    let mut alone = coordinator();
    let refused = alone.assign(&asked, at(30)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "no server can take the shuffle: 0 known, 0 of them active, none with all the tags [\"GRPC\", \"ss_v5\"]"
    );
}

#[test]
fn a_server_that_was_just_here_is_waited_for() {
    let mut c = coordinator();
    c.heartbeat(server("10.0.0.1", 0, GIB), at(50));
    let asked = AssignmentRequest { asked_us: 100_000_000, ..request(10) };
    assert_eq!(c.assign(&asked, at(100)), Ok(Assigned::Wait { until_us: 160_000_000 }), "it is lost");
    assert!(c.heartbeat(server("10.0.0.1", 0, GIB), at(110)));
    assert_eq!(assigned(&mut c, &asked, at(110)).ranges.len(), 10);
    assert!(matches!(c.assign(&asked, at(200)), Err(AssignmentError::NoServers { known: 1, serving: 0, .. })));
}

#[test]
fn only_servers_that_fit_are_taken() {
    let mut c = coordinator();
    let netty_only = Heartbeat { tags: tags(&["ss_v5", "GRPC_NETTY"]), ..server("10.0.0.1", 0, 9 * GIB) };
    let sick = Heartbeat { is_healthy: false, ..server("10.0.0.2", 0, 9 * GIB) };
    let leaving = Heartbeat { status: Some(ServerStatus::Decommissioning), ..server("10.0.0.3", 0, 9 * GIB) };
    let old = Heartbeat { status: None, ..server("10.0.0.4", 0, GIB) };
    let faulty = server("10.0.0.5", 0, 9 * GIB);
    let asked = AssignmentRequest { faulty_server_ids: [faulty.address.id.clone()].into(), ..request(6) };
    for heartbeat in [netty_only, sick, leaving, old, faulty] {
        c.heartbeat(heartbeat, at(1));
    }
    let assignment = assigned(&mut c, &asked, at(2));
    assert_eq!(held(&assignment).into_iter().collect::<Vec<_>>(), [("10.0.0.4-20000-21000", 6)]);
    let statuses = c.servers(at(2)).map(|server| server.status).collect::<Vec<_>>();
    use ServerStatus::{Active, Lost, Unhealthy};
    assert_eq!(statuses, [Active, Unhealthy, ServerStatus::Decommissioning, Active, Active]);
    assert!(c.servers(at(60)).all(|server| server.status == Lost));
    c.expire(at(700));
    assert_eq!(c.servers(at(700)).count(), 0);
}

#[test]
fn replicas_lie_on_different_hosts_or_nowhere() {
    let mut c = coordinator();
    for core in 0..4 {
        c.heartbeat(server("10.0.0.1", core, GIB), at(1));
    }
    let asked = AssignmentRequest { replica_count: 2, ..request(8) };
    assert_eq!(c.assign(&asked, at(2)), Ok(Assigned::Wait { until_us: 30_000_000 }));
    assert_eq!(c.assign(&asked, at(31)), Err(AssignmentError::TooFewHosts { replicas: 2, hosts: 1 }));
    c.heartbeat(server("10.0.0.2", 0, GIB), at(31));
    for range in assigned(&mut c, &asked, at(31)).ranges {
        assert_eq!(range.servers.len(), 2);
    }
}

#[test]
fn a_client_may_ask_for_fewer_servers() {
    let mut c = coordinator();
    for core in 0..8 {
        c.heartbeat(server("10.0.0.1", core, GIB), at(1));
    }
    let asked = AssignmentRequest { server_count: Some(3), ..request(90) };
    let first = assigned(&mut c, &asked, at(2));
    assert_eq!(held(&first).into_values().collect::<Vec<_>>(), [30; 3]);
    let second = assigned(&mut c, &asked, at(3));
    assert!(held(&first).keys().all(|id| !held(&second).contains_key(id)), "others take the next shuffle");
}

#[test]
fn what_cannot_be_is_refused() {
    let mut c = coordinator();
    c.heartbeat(server("10.0.0.1", 0, i64::MAX), at(1));
    for partition_count in [0, -1, i32::MAX] {
        let refused = c.assign(&request(partition_count), at(2));
        assert_eq!(refused, Err(AssignmentError::BadPartitionCount(partition_count)));
    }
    let asked = AssignmentRequest { replica_count: -3, ..request(1) };
    assert_eq!(c.assign(&asked, at(2)), Err(AssignmentError::BadReplicaCount(-3)));
}

#[test]
fn applications_are_known_by_their_words_and_forgotten_in_silence() {
    let mut c = coordinator();
    c.application_heartbeat("early", at(1));
    c.register_application("old", Registration { user: "u".to_owned(), ..Registration::default() }, at(1));
    let version = Some("0.10.0".to_owned());
    c.register_application("new", Registration { version, ..Registration::default() }, at(1));
    let knows_new = |id: &str| c.application(id).unwrap().knows_new();
    assert_eq!(["early", "old", "new"].map(knows_new), [false, false, true]);
    c.application_heartbeat("new", at(100));
    assert_eq!(c.expire(at(122)), ["early", "old"]);
    assert!(c.application("new").unwrap().knows_new(), "a heartbeat does not take back what was registered");
    assert_eq!(c.applications().map(|(id, _)| id).collect::<Vec<_>>(), ["new"]);
}

#[test]
fn clients_are_told_what_was_configured() {
    let client_conf = BTreeMap::from([("rss.storage.type".to_owned(), "MEMORY_LOCALFILE".to_owned())]);
    let c = Coordinator::new(CoordinatorConfig { client_conf, ..CoordinatorConfig::default() }, at(0));
    assert_eq!(c.client_conf().collect::<Vec<_>>(), [("rss.storage.type", "MEMORY_LOCALFILE")]);
}

/// What a client asked in a recorded job.
fn traced_request(asked: proto::GetShuffleServerRequest) -> AssignmentRequest {
    AssignmentRequest {
        application_id: asked.application_id,
        shuffle_id: asked.shuffle_id,
        partition_count: asked.partition_num,
        partitions_per_range: asked.partition_num_per_range,
        replica_count: asked.data_replica,
        required_tags: asked.require_tags.into_iter().collect(),
        server_count: usize::try_from(asked.assignment_shuffle_server_number).ok(),
        faulty_server_ids: asked.faulty_server_ids.into_iter().collect(),
        asked_us: 0,
    }
}

#[test]
fn recorded_requests_get_the_recorded_assignments() {
    let mut count = 0;
    for line in lines("grpc").iter().filter(|line| line.str("method").ends_with("getShuffleAssignments")) {
        let asked = proto::GetShuffleServerRequest::decode(&line.hex("req_hex")[..]).unwrap();
        let answer = proto::GetShuffleAssignmentsResponse::decode(&line.hex("rsp_hex")[..]).unwrap();
        let there = answer.assignments[0].server[0].clone();
        let mut only = server(&there.ip, 0, GIB);
        only.address.id = there.id.clone();
        let mut c = coordinator();
        c.heartbeat(only, at(1));
        let ours = assigned(&mut c, &traced_request(asked), at(2));
        let shape = |start, end, ids: Vec<String>| (start, end, ids);
        let theirs = answer.assignments.iter().map(|range| {
            shape(range.start_partition, range.end_partition, range.server.iter().map(|s| s.id.clone()).collect())
        });
        let ours = ours.ranges.iter().map(|range| {
            shape(range.start, range.end, range.servers.iter().map(|&place| ours.servers[place].id.clone()).collect())
        });
        assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>(), "{}", line.place);
        count += 1;
    }
    assert!(count > 0);
}

proptest! {
    #[test]
    fn every_partition_is_held_as_often_as_wished_on_different_hosts(
        hosts in proptest::collection::vec((1i32..6, 0i64..8), 1..8),
        partition_count in 1i32..400,
        partitions_per_range in -1i32..20,
        replica_count in 0i32..4,
        server_count in proptest::option::of(0usize..12),
        shuffles in 1usize..5,
    ) {
        let mut c = coordinator();
        for (host, (cores, gib)) in hosts.iter().enumerate() {
            for core in 0..*cores {
                c.heartbeat(server(&format!("10.0.0.{host}"), core, gib * GIB / i64::from(*cores)), at(1));
            }
        }
        let asked = AssignmentRequest { partitions_per_range, replica_count, server_count, ..request(partition_count) };
        let replicas = replica_count.max(1) as usize;
        for _ in 0..shuffles {
            if hosts.len() < replicas {
                let is_waiting = matches!(c.assign(&asked, at(2)), Ok(Assigned::Wait { .. }));
                prop_assert!(is_waiting);
                continue;
            }
            let assignment = assigned(&mut c, &asked, at(2));
            let mut next = 0;
            for range in &assignment.ranges {
                prop_assert_eq!(range.start, next);
                prop_assert!(range.end >= range.start && range.end - range.start < partitions_per_range.max(1));
                next = range.end + 1;
                let ips = range.servers.iter().map(|&place| &assignment.servers[place].ip).collect::<BTreeSet<_>>();
                prop_assert_eq!(range.servers.len(), replicas);
                prop_assert_eq!(ips.len(), replicas);
            }
            prop_assert_eq!(next, partition_count);
            let held = held(&assignment);
            let servers_max = server_count.unwrap_or(32).max(replicas);
            prop_assert!(held.len() <= servers_max, "{} servers of at most {}", held.len(), servers_max);
        }
    }

    #[test]
    fn the_cores_of_a_host_differ_by_one_range_at_most(cores in 1i32..9, counts in proptest::collection::vec(1i32..100, 1..20)) {
        let mut c = coordinator();
        for core in 0..cores {
            c.heartbeat(server("10.0.0.1", core, GIB), at(1));
        }
        let mut all = BTreeMap::new();
        for count in counts {
            for (id, held) in held(&assigned(&mut c, &request(count), at(2))) {
                *all.entry(id.to_owned()).or_insert(0) += held;
            }
            let least = if all.len() < cores as usize { 0 } else { *all.values().min().unwrap() };
            prop_assert!(all.values().all(|held| held - least <= 1), "{:?}", all);
        }
    }
}
