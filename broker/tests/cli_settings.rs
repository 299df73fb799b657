//! The command line as a process: settings, their sources, refusals and exit codes.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

fn broker(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_watershed-broker")).args(args).env("XDG_DATA_HOME", "/data/home").output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn refused(args: &[&str]) -> String {
    let output = broker(args);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    stderr(&output)
}

/// Value and source of each setting, by name.
fn settings(args: &[&str]) -> std::collections::BTreeMap<String, (String, String)> {
    let args: Vec<&str> = ["settings", "--json"].iter().chain(args).copied().collect();
    let rows: serde_json::Value = serde_json::from_str(&stdout(&broker(&args))).unwrap();
    let text = |row: &serde_json::Value, field: &str| row[field].as_str().unwrap().to_owned();
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| (text(row, "name"), (text(row, "value"), text(row, "source")))).collect()
}

fn file(name: &str, text: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-settings-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path
}

fn pair(value: &str, source: &str) -> (String, String) {
    (value.to_owned(), source.to_owned())
}

#[test]
fn defaults_need_no_file() {
    let found = settings(&[]);
    assert_eq!(found["listen"], pair("127.0.0.1:9092", "default"));
    assert_eq!(found["admin"], pair("127.0.0.1:9644", "default"));
    assert_eq!(found["node_id"], pair("1", "default"));
    assert_eq!(found["insecure"], pair("false", "default"));
    assert_eq!(found["data_dir"], pair("/data/home/watershed/broker", "environment $XDG_DATA_HOME"));
    assert_eq!(found["cores"].1, "default: every CPU allowed to this process");
    assert!(found["memory"].1.starts_with("default: 25 % of the "), "{:?}", found["memory"]);
}

#[test]
fn the_later_layer_wins_and_is_named() {
    let path = file(
        "layers.toml",
        "listen = \"127.0.0.1:1\"\nadmin = \"127.0.0.1:2\"\nnode_id = 3\n\n[kafka]\nnum.partitions = 5\n",
    );
    let config = path.to_str().unwrap();
    let found = settings(&[
        "--config",
        config,
        "--set",
        "listen=127.0.0.1:11",
        "--set",
        "admin=127.0.0.1:12",
        "--listen",
        "127.0.0.1:21",
    ]);
    assert_eq!(found["listen"], pair("127.0.0.1:21", "--listen"));
    assert_eq!(found["admin"], pair("127.0.0.1:12", "--set"));
    assert_eq!(found["node_id"], pair("3", &format!("{config}:3")));
    assert_eq!(found["num.partitions"], pair("5", &format!("{config}:6")));
}

#[test]
fn kafkas_own_file_works() {
    let stock = "\
# The roles of this process
process.roles=broker,controller
node.id=7
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";
    let path = file("server.properties", stock);
    let config = path.to_str().unwrap();
    let refused = refused(&["settings", "--config", config]);
    assert!(refused.contains("listen 0.0.0.0:9092") && refused.contains("--insecure"), "{refused}");

    let found = settings(&["--config", config, "--insecure"]);
    assert_eq!(found["listen"], pair("0.0.0.0:9092", &format!("{config}:5")));
    assert_eq!(found["advertise"], pair("localhost:9092", &format!("{config}:7")));
    assert_eq!(found["node_id"], pair("7", &format!("{config}:3")));
    assert_eq!(found["data_dir"], pair("/tmp/kraft-combined-logs", &format!("{config}:15")));
    assert_eq!(found["log.retention.hours"], pair("168", &format!("{config}:23")));
}

#[test]
fn every_mistake_is_named_with_its_place_and_the_nearest_name() {
    let path =
        file("wrong.toml", "listen = \"127.0.0.1:1\"\nnode-id = 1\nlisten_on = \"x\"\n[kafka]\nnum.partition = 4\n");
    let config = path.to_str().unwrap();
    let text = refused(&["settings", "--config", config, "--set", "memori=1g", "--cores", "many", "--set", "nonsense"]);
    for part in [
        &format!("{config}:5: unknown setting num.partition; did you mean num.partitions?"),
        "--set: unknown setting memori; did you mean memory?",
        "--set nonsense: not of the form key=value",
        "--cores: cores: 'many' is not a number of cores",
        &format!("{config}:3: unknown setting listen_on"),
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(!text.contains("node"), "a dash passes for an underscore:\n{text}");
}

#[test]
fn kafkas_names_pass_by_set_and_are_checked() {
    let found = settings(&["--set", "num.partitions=4", "--set", "auto.create.topics.enable=false"]);
    assert_eq!(found["num.partitions"], pair("4", "--set"));
    assert_eq!(found["auto.create.topics.enable"], pair("false", "--set"));
    assert!(refused(&["settings", "--set", "num.partitions=0"]).contains("num.partitions"));
    assert!(refused(&["settings", "--set", "default.replication.factor=3"]).contains("default.replication.factor"));
    assert!(refused(&["settings", "--set", "log.dirs=/a,/b"]).contains("several data directories"));
    assert!(refused(&["settings", "--set", "listeners=SSL://:9093"]).contains("SSL is not served yet"));
}

#[test]
fn plaintext_off_loopback_is_refused_unless_accepted() {
    for args in [["settings", "--listen", "0.0.0.0:9092"], ["settings", "--admin", "0.0.0.0:9644"]] {
        let text = refused(&args);
        assert!(text.contains("plain text") && text.contains("--insecure"), "{text}");
    }
    let found = settings(&["--listen", "0.0.0.0:9092", "--insecure"]);
    assert_eq!(found["listen"].0, "0.0.0.0:9092");
    assert_eq!(settings(&["--listen", "[::1]:9092"])["listen"].0, "[::1]:9092");
}

#[test]
fn quantities_and_levels_are_checked() {
    assert_eq!(settings(&["--memory", "1g", "--cores", "unbound:3"])["memory"], pair("1 GiB", "--memory"));
    let little = refused(&["settings", "--memory", "10 MiB", "--cores", "unbound:3"]);
    assert!(little.contains("memory 10 MiB is too little for 3 shards: at least 96 MiB"), "{little}");
    assert!(refused(&["settings", "--memory", "900 TiB"]).contains("exceeds the"));
    assert!(refused(&["settings", "--memory", "lots"]).contains("'lots' is not a size"));
    assert!(refused(&["settings", "--log-level", "loud"]).contains("'loud' is not one of off, error"));
    assert!(refused(&["settings", "--log-format", "xml"]).contains("neither human nor json"));
    assert!(refused(&["settings", "--advertise", "0.0.0.0:9092"]).contains("no host that a client could reach"));
    assert!(refused(&["settings", "--admin", "127.0.0.1:9092"]).contains("listen and admin are both"));
    assert_eq!(settings(&["--log-level", "warn,watershed_core=debug"])["log_level"].0, "warn,watershed_core=debug");
}

#[test]
fn slow_requests_are_those_over_a_second_unless_said_otherwise() {
    assert_eq!(settings(&[])["slow_request"], pair("1000 ms", "default"));
    assert_eq!(settings(&["--slow-request", "2 s"])["slow_request"], pair("2000 ms", "--slow-request"));
    assert_eq!(settings(&["--set", "slow_request=none"])["slow_request"], pair("none", "--set"));
    assert!(refused(&["settings", "--slow-request", "soon"]).contains("'soon' is not a duration"));
}

#[test]
fn the_runtime_is_ours_unless_another_is_asked_for() {
    assert_eq!(settings(&[])["runtime"], pair("ring", "default"));
    let path = file("runtime.toml", "runtime = \"ring\"\n");
    let config = path.to_str().unwrap();
    assert_eq!(settings(&["--config", config])["runtime"], pair("ring", &format!("{config}:1")));
    assert!(refused(&["settings", "--runtime", "tokio"]).contains("'tokio' is neither ring nor glommio"));
}

#[cfg(feature = "glommio")]
#[test]
fn glommio_is_taken_where_it_is_built_in() {
    assert_eq!(settings(&["--set", "runtime=glommio"])["runtime"], pair("glommio", "--set"));
}

#[cfg(not(feature = "glommio"))]
#[test]
fn glommio_is_refused_with_the_remedy_where_it_is_not_built_in() {
    let text = refused(&["--set", "runtime=glommio"]);
    assert!(text.contains("--set: runtime: this program was built without glommio"), "{text}");
    assert!(text.contains("`--features glommio`"), "{text}");
}

#[test]
fn a_missing_file_is_named() {
    let text = refused(&["settings", "--config", "/nowhere/broker.toml"]);
    assert!(text.contains("/nowhere/broker.toml: No such file"), "{text}");
}

#[test]
fn help_lists_the_exit_codes_and_version_says_what_runs() {
    let help = stdout(&broker(&["--help"]));
    assert!(help.contains("Exit codes:") && help.contains("  6   damage found"), "{help}");
    assert_eq!(stdout(&broker(&["--version"])), concat!("watershed-broker ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(broker(&["--no-such-flag"]).status.code(), Some(2));
}
