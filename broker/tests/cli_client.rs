//! The client's commands as a person types them, against a broker process.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod server_harness;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use server_harness::{Broker, Client};
use watershed_broker::wire::apis::Api;
use watershed_broker::wire::generated::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use watershed_broker::wire::generated::join_group::{JoinGroupProtocol, JoinGroupRequest, JoinGroupResponse};
use watershed_broker::wire::generated::sync_group::{SyncGroupAssignment, SyncGroupRequest, SyncGroupResponse};

/// What a command said, and its exit code.
struct Said {
    out: String,
    err: String,
    code: i32,
}

fn command(address: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watershed-broker"));
    command.args(args).args(["--bootstrap", address]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn fed(broker: &Broker, args: &[&str], input: &[u8]) -> Said {
    let mut process = command(&broker.address.to_string(), args).spawn().unwrap();
    process.stdin.take().unwrap().write_all(input).unwrap();
    let output = process.wait_with_output().unwrap();
    Said {
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap(),
    }
}

/// A command that works; gives its output.
fn run(broker: &Broker, args: &[&str]) -> String {
    produce(broker, args, b"")
}

fn produce(broker: &Broker, args: &[&str], input: &[u8]) -> String {
    let said = fed(broker, args, input);
    assert_eq!(said.code, 0, "{args:?}\n{}\n{}", said.out, said.err);
    said.out
}

fn read_json(broker: &Broker, args: &[&str]) -> Value {
    serde_json::from_str(&run(broker, &[args, &["--json"]].concat())).unwrap()
}

/// A command that is refused; gives the reason.
fn refused(broker: &Broker, args: &[&str], code: i32) -> String {
    let said = fed(broker, args, b"");
    assert_eq!(said.code, code, "{args:?}\n{}\n{}", said.out, said.err);
    said.err
}

#[test]
fn topics_are_made_shown_grown_and_deleted() {
    let broker = Broker::fresh("cli_topics", 3);
    assert!(run(&broker, &["topic", "create", "maybe", "--dry-run"]).contains("could create topic maybe"));
    let made = run(&broker, &["topic", "create", "rivers", "lakes", "-p", "3", "-c", "retention.ms=3600000"]);
    assert_eq!(made, "created topic rivers\ncreated topic lakes\n");
    let list = run(&broker, &["topic", "list"]);
    assert_eq!(list, "TOPIC   PARTITIONS  REPLICAS\nlakes            3         1\nrivers           3         1\n");
    produce(&broker, &["produce", "rivers", "-p", "1"], b"one\ntwo\n");
    run(&broker, &["topic", "alter", "rivers", "-p", "4"]);
    let described = read_json(&broker, &["topic", "describe", "rivers"]);
    assert_eq!(described[0]["configs"], json!({ "retention.ms": "3600000" }));
    assert_eq!(described[0]["partitions"].as_array().unwrap().len(), 4);
    assert_eq!(described[0]["partitions"][1]["high_watermark"], 2);
    assert!(run(&broker, &["topic", "describe", "rivers"]).contains("config retention.ms=3600000\n"));
    let deleted = read_json(&broker, &["topic", "delete-records", "rivers", "--before", "-1", "-p", "1"]);
    assert_eq!(deleted, json!([{ "topic": "rivers", "partition": 1, "log_start": 2 }]));
    run(&broker, &["topic", "delete", "lakes"]);
    let again = refused(&broker, &["topic", "create", "rivers"], 8);
    assert!(again.contains("creating topic rivers: TOPIC_ALREADY_EXISTS"), "{again}");
    let missing = refused(&broker, &["topic", "describe", "lakes", "--timeout", "1 s"], 8);
    assert!(missing.contains("UNKNOWN_TOPIC_OR_PARTITION") && missing.contains("`topic list` shows"), "{missing}");
}

#[test]
fn records_go_in_and_come_out_the_same_in_every_form() {
    let broker = Broker::fresh("cli_records", 3);
    run(&broker, &["topic", "create", "t", "-p", "3"]);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let lines = format!("{codec}-a|1\n{codec}-b|2\n{codec}-c\n");
        produce(&broker, &["produce", "t", "-K", "|", "-z", codec, "-H", "from=test"], lines.as_bytes());
    }
    let all = run(&broker, &["consume", "t", "-e", "-f", r"%k=%s %h\n"]);
    let found: BTreeSet<&str> = all.lines().collect();
    assert_eq!(found.len(), 15, "{all}");
    assert!(found.contains("zstd-b=2 from=test") && found.contains("=snappy-c from=test"), "{all}");
    // The same key is always in the same partition.
    let places = run(&broker, &["consume", "t", "-e", "-f", r"%k %p\n"]);
    produce(&broker, &["produce", "t", "-K", "|"], b"gzip-a|again\n");
    let again = run(&broker, &["consume", "t", "-e", "-f", r"%k %p\n"]);
    let of =
        |text: &str| text.lines().filter(|line| line.starts_with("gzip-a ")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((of(&places).len(), of(&again).len()), (1, 2));
    assert_eq!(of(&again)[0], of(&again)[1]);
}

#[test]
fn json_is_a_copy_bytes_nulls_and_times_included() {
    let broker = Broker::fresh("cli_json", 1);
    run(&broker, &["topic", "create", "from", "to", "-p", "1"]);
    produce(&broker, &["produce", "from", "-K", r"\t", "-D", r"\0", "-H", "h=v"], b"\xff\xfe\tone\0two\ttwo\nlines\0");
    produce(&broker, &["produce", "from", "-K", "|", "-Z"], b"three|\n");
    let copied = run(&broker, &["consume", "from", "-e", "--json"]);
    assert_eq!(copied.lines().count(), 3, "{copied}");
    produce(&broker, &["produce", "to", "--json"], copied.as_bytes());
    let read = run(&broker, &["consume", "to", "-e", "--json"]);
    assert_eq!(read.replace("\"topic\":\"to\"", "\"topic\":\"from\""), copied);
    let first: Value = serde_json::from_str(read.lines().next().unwrap()).unwrap();
    assert_eq!((&first["key_base64"], &first["payload"]), (&json!("//4="), &json!("one")));
    let last: Value = serde_json::from_str(read.lines().last().unwrap()).unwrap();
    assert_eq!((&last["payload"], &last["headers"]), (&Value::Null, &json!([])));
    let wrong = fed(&broker, &["produce", "to", "--json"], b"{}\nno json\n");
    assert!(wrong.code == 2 && wrong.err.contains("record 2: not JSON"), "{}", wrong.err);
}

#[test]
fn consuming_begins_where_it_is_told_and_ends_when_it_is_told() {
    let broker = Broker::fresh("cli_from", 1);
    run(&broker, &["topic", "create", "t", "-p", "1"]);
    let old = "{\"ts\": 1000, \"payload\": \"old\"}\n{\"ts\": 2000, \"payload\": \"older\"}\n";
    run(&broker, &["config", "set", "topic", "t", "message.timestamp.before.max.ms=9223372036854775807"]);
    produce(&broker, &["produce", "t", "--json"], old.as_bytes());
    produce(&broker, &["produce", "t"], b"c\nd\ne\n");
    let from = |place: &str| run(&broker, &["consume", "t", "-e", "-o", place]).replace('\n', " ");
    assert_eq!(from("beginning"), "old older c d e ");
    assert_eq!(from("3"), "d e ");
    assert_eq!(from("-1"), "e ");
    assert_eq!(from("@1500"), "older c d e ");
    assert_eq!(from("end"), "");
    assert_eq!(run(&broker, &["consume", "t", "-c", "2"]), "old\nolder\n");
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli_from.txt");
    run(&broker, &["consume", "t", "-e", "--output", path.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old\nolder\nc\nd\ne\n");
    produce(&broker, &["produce", "t", "--file", path.to_str().unwrap()], b"");
    assert_eq!(run(&broker, &["consume", "t", "-e", "-o", "8"]), "d\ne\n");
    assert!(refused(&broker, &["consume", "t", "-p", "9"], 8).contains("has no partition 9"));
    assert!(refused(&broker, &["consume", "t", "-o", "middle"], 2).contains("'middle' is not"));
}

#[test]
fn a_group_goes_on_is_shown_reset_and_deleted() {
    let broker = Broker::with("cli_groups", 3, &["group.initial.rebalance.delay.ms=0"]);
    run(&broker, &["topic", "create", "t", "-p", "1"]);
    produce(&broker, &["produce", "t"], b"a\nb\nc\nd\ne\n");
    assert_eq!(run(&broker, &["consume", "t", "-g", "g", "-c", "2"]), "a\nb\n");
    assert_eq!(run(&broker, &["consume", "t", "-g", "g", "-c", "1"]), "c\n");
    let described = || read_json(&broker, &["group", "describe", "g"]);
    assert_eq!((&described()[0]["lag"], &described()[0]["state"]), (&json!(2), &json!("Empty")));
    let table = run(&broker, &["group", "describe", "g"]);
    assert!(table.starts_with("group g  state Empty  members 0  lag 2  coordinator 1\n"), "{table}");
    let dry = fed(&broker, &["group", "reset", "g", "-t", "t", "--to-earliest"], b"");
    assert!(dry.code == 0 && dry.err.contains("nothing was changed; --execute"), "{}", dry.err);
    assert_eq!(described()[0]["lag"], 2, "a dry run changes nothing");
    for (goal, lag) in [
        (["--to-earliest", "--execute"].as_slice(), 5),
        (&["--to-offset", "1", "--execute"], 4),
        (&["--shift-by", "2", "--execute"], 2),
        (&["--shift-by", "-100", "--execute"], 5),
        (&["--to-datetime", "-1 h", "--execute"], 5),
        (&["--to-datetime", "2999-01-01T00:00:00Z", "--execute"], 0),
        (&["--to-offset", "100", "--execute"], 0),
        (&["--to-latest", "--execute"], 0),
    ] {
        run(&broker, &[["group", "reset", "g", "--all-topics"].as_slice(), goal].concat());
        assert_eq!(described()[0]["lag"], lag, "{goal:?}");
    }
    assert!(run(&broker, &["group", "list"]).contains("g      Empty"));
    run(&broker, &["group", "delete-offsets", "g", "-t", "t:0"]);
    assert!(
        refused(&broker, &["group", "reset", "g", "--all-topics", "--to-latest"], 8).contains("has committed nothing")
    );
    assert_eq!(run(&broker, &["consume", "t", "-g", "h", "-e"]).lines().count(), 5);
    assert_eq!(run(&broker, &["group", "delete", "h"]), "deleted group h\n");
    let gone = refused(&broker, &["group", "describe", "h"], 8);
    assert!(gone.contains("h") && gone.contains("`group list` shows"), "{gone}");
}

/// Joins a group as the consumer of partition 0 of `t`, and stays.
fn member(broker: &Broker, group: &str) -> Client {
    let mut client = broker.client();
    let keys = vec![group.to_owned()];
    let find = FindCoordinatorRequest { coordinator_keys: keys, ..FindCoordinatorRequest::default() };
    let _: FindCoordinatorResponse = client.ask(Api::FindCoordinator, 4, &find);
    let join = JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinGroupProtocol { name: "range".to_owned(), metadata: vec![0; 6] }],
        ..JoinGroupRequest::default()
    };
    let joined: JoinGroupResponse = client.ask(Api::JoinGroup, 3, &join);
    assert_eq!(joined.error_code, 0);
    let assignment = vec![0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0];
    let sync = SyncGroupRequest {
        group_id: group.to_owned(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: vec![SyncGroupAssignment { member_id: joined.member_id, assignment }],
        ..SyncGroupRequest::default()
    };
    let synced: SyncGroupResponse = client.ask(Api::SyncGroup, 3, &sync);
    assert_eq!(synced.error_code, 0);
    client
}

#[test]
fn a_group_with_members_is_shown_with_them_and_left_alone() {
    let broker = Broker::with("cli_members", 3, &["group.initial.rebalance.delay.ms=0"]);
    run(&broker, &["topic", "create", "t", "-p", "2"]);
    produce(&broker, &["produce", "t", "-p", "0"], b"a\nb\n");
    assert_eq!(run(&broker, &["consume", "t", "-g", "g", "-c", "1"]), "a\n");
    let mut client = member(&broker, "g");
    let described = read_json(&broker, &["group", "describe", "g"]);
    let group = &described[0];
    assert_eq!((&group["state"], &group["protocol"], &group["lag"]), (&json!("Stable"), &json!("range"), &json!(1)));
    assert_eq!(group["members"][0]["partitions"], json!([["t", 0]]));
    assert_eq!(group["partitions"][0]["member"], group["members"][0]["member"]);
    assert!(run(&broker, &["group", "describe", "g"]).contains("assignor range\n"));
    let why = refused(&broker, &["group", "reset", "g", "--all-topics", "--to-latest"], 8);
    assert!(why.contains("group g has members; stop them first"), "{why}");
    assert!(refused(&broker, &["group", "delete", "g"], 8).contains("NON_EMPTY_GROUP"));
    client.offset("t", 0, -1);
}

/// A `consume` of group `g` that runs, and where it prints.
struct Reader {
    process: std::process::Child,
    path: std::path::PathBuf,
}

impl Reader {
    fn start(broker: &Broker, name: &str) -> Reader {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let args = ["consume", "t", "-g", "g", "--output", path.to_str().unwrap()];
        Reader { process: command(&broker.address.to_string(), &args).spawn().unwrap(), path }
    }

    /// Ends it by SIGTERM; gives what it has printed.
    fn stop(self) -> Vec<String> {
        let killed = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let output = self.process.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read_to_string(&self.path).unwrap().lines().map(str::to_owned).collect()
    }
}

/// Waits until the group has so many members that read so many partitions each, and nothing is left to read.
fn until_shared(broker: &Broker, mut partitions: Vec<usize>) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(40);
    partitions.sort_unstable();
    loop {
        let said = fed(broker, &["group", "describe", "g", "--json"], b"");
        let told: Value = serde_json::from_str(&said.out).unwrap_or_default();
        let members = told[0]["members"].as_array().cloned().unwrap_or_default();
        let mut found: Vec<usize> = members.iter().map(|each| each["partitions"].as_array().unwrap().len()).collect();
        found.sort_unstable();
        if found == partitions && told[0]["state"] == "Stable" && told[0]["lag"] == 0 {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{told}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn two_consumers_of_a_group_share_its_partitions_and_one_takes_over_from_the_other() {
    let broker = Broker::with("cli_shared", 3, &["group.initial.rebalance.delay.ms=0"]);
    run(&broker, &["topic", "create", "t", "-p", "4"]);
    let write = |records: std::ops::Range<u32>| {
        for partition in 0..4 {
            let lines: String = records.clone().map(|n| format!("{partition}-{n}\n")).collect();
            produce(&broker, &["produce", "t", "-p", &partition.to_string()], lines.as_bytes());
        }
    };
    write(0..100);
    let first = Reader::start(&broker, "cli_shared_first");
    until_shared(&broker, vec![4]);
    let second = Reader::start(&broker, "cli_shared_second");
    until_shared(&broker, vec![2, 2]);
    write(100..200);
    until_shared(&broker, vec![2, 2]);
    let first = first.stop();
    until_shared(&broker, vec![4]);
    write(200..300);
    until_shared(&broker, vec![4]);
    let second = second.stop();
    assert_eq!((first.len(), second.len()), (600, 600), "half of the middle, and all before or after");
    let all: BTreeSet<String> = first.into_iter().chain(second).collect();
    assert_eq!(all.len(), 1_200, "nothing is read twice");
    let described = read_json(&broker, &["group", "describe", "g"]);
    assert_eq!((&described[0]["lag"], &described[0]["state"]), (&json!(0), &json!("Empty")));
    assert!(refused(&broker, &["consume", "t", "-g", "g", "-p", "0"], 2).contains("--partitions"));
}

#[test]
fn configurations_are_shown_with_their_sources() {
    let broker = Broker::with("cli_config", 1, &["log.retention.ms=7200000"]);
    run(&broker, &["topic", "create", "t"]);
    let value = |kind: &str, name: &str, config: &str| {
        let found = read_json(&broker, &["config", "get", kind, name, config]);
        (found[0]["value"].as_str().unwrap().to_owned(), found[0]["source"].as_str().unwrap().to_owned())
    };
    let pair = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(value("topic", "t", "retention.ms"), pair("7200000", "start of the broker"));
    run(&broker, &["config", "set", "topic", "t", "retention.ms=1000", "max.message.bytes=4096"]);
    assert_eq!(value("topic", "t", "retention.ms"), pair("1000", "topic"));
    let all = run(&broker, &["config", "get", "topic", "t"]);
    assert!(all.contains("max.message.bytes") && !all.contains("compression.type"), "defaults are left out:\n{all}");
    assert!(run(&broker, &["config", "get", "topic", "t", "--all"]).contains("compression.type"));
    run(&broker, &["config", "unset", "topic", "t", "retention.ms"]);
    assert_eq!(value("topic", "t", "retention.ms").0, "7200000");
    assert!(!read_json(&broker, &["config", "get", "broker", "1", "--all"]).as_array().unwrap().is_empty());
    assert!(refused(&broker, &["config", "set", "topic", "t", "no.such=1"], 8).contains("INVALID_CONFIG"));
    assert!(refused(&broker, &["config", "get", "topic", "t", "no.such"], 8).contains("has no configuration no.such"));
}

#[test]
fn failures_have_their_exit_codes() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = command(&closed, &["topic", "list"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(7) && text.contains("is the broker running"), "{text}");
    let output = command(&closed, &["--listen", "127.0.0.1:1", "topic", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "a broker's setting means nothing to a client");
    assert_eq!(command(&closed, &["group", "reset", "g", "--all-topics"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_watershed-broker")).args(["completion", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        for word in ["topic", "delete-records", "consume", "bootstrap", "salvage"] {
            assert!(script.contains(word), "{word} is missing in the script for {shell}");
        }
    }
}
