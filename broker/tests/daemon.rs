//! The broker as a daemon: what it tells the service manager, and the system calls that it may be confined to.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod server_harness;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use server_harness::{Client, batch, now_ms, records};

const BROKER: &str = env!("CARGO_BIN_EXE_watershed-broker");
const WATCHDOG: Duration = Duration::from_millis(900);

fn fresh_dir(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("daemon-{name}"));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn packaged(name: &str) -> String {
    format!("{}/packaging/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn script(name: &str) -> Command {
    let mut python = Command::new("python3");
    python.arg(format!("{}/tests/{name}", env!("CARGO_MANIFEST_DIR")));
    python
}

fn arguments(data: &Path) -> Vec<String> {
    let data = data.display().to_string();
    let given = ["--listen", "127.0.0.1:0", "--admin", "none", "--cores", "unbound:2", "--memory", "128MiB"];
    given.into_iter().chain(["--data-dir", &data]).map(str::to_owned).collect()
}

/// A process of a test's own.
struct Running(Child);

impl Running {
    fn terminate(&mut self) -> Option<i32> {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn address(out: ChildStdout) -> SocketAddr {
    let ready = BufReader::new(out).lines().map(Result::unwrap).find(|line| line.starts_with("ready "));
    let ready = ready.expect("it serves");
    ready.split(' ').find_map(|word| word.strip_prefix("listen=")).unwrap().parse().unwrap()
}

/// The manager's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    fn next(&self, within: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(within)).unwrap();
        let mut message = [0; 1000];
        let length = self.0.recv(&mut message).ok()?;
        Some(String::from_utf8(message[..length].to_vec()).unwrap())
    }

    /// How many feeds come within the time; anything else is an error.
    fn feeds(&self, within: Duration) -> usize {
        let end = Instant::now() + within;
        let mut count = 0;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if let Some(message) = self.next(left) {
                assert_eq!(message, "WATCHDOG=1");
                count += 1;
            }
        }
        count
    }
}

fn start(data: &Path, notify: &str) -> Running {
    let mut command = Command::new(BROKER);
    command.args(arguments(data)).env("NOTIFY_SOCKET", notify);
    command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

#[test]
fn the_manager_hears_ready_then_life_then_stopping() {
    let data = fresh_dir("notify");
    let path = data.with_extension("socket");
    let _ = std::fs::remove_file(&path);
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let mut broker = start(&data, &path.display().to_string());
    let ready = manager.next(Duration::from_secs(60)).unwrap();
    assert!(ready.starts_with("READY=1\nSTATUS=serving on 127.0.0.1:") && ready.ends_with("shards: 2"), "{ready}");
    assert!(manager.feeds(WATCHDOG * 3) >= 3, "each period is fed");

    // One shard out of two stands still, all other threads run.
    let mut stop = script("stop_thread.py");
    let stop = stop.args([&broker.0.id().to_string(), "shard-1"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut stop = stop.spawn().unwrap();
    let mut said = String::new();
    BufReader::new(stop.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "stopped\n");
    manager.feeds(WATCHDOG);
    assert_eq!(manager.feeds(WATCHDOG * 2), 0, "nothing is fed while a shard is stuck");
    drop(stop.stdin.take());
    assert!(stop.wait().unwrap().success());
    assert!(manager.feeds(WATCHDOG * 3) >= 2, "it lives again");

    assert_eq!(broker.terminate(), Some(0));
    let rest: Vec<String> = std::iter::from_fn(|| manager.next(Duration::from_millis(100))).collect();
    let news: Vec<&String> = rest.iter().filter(|message| *message != "WATCHDOG=1").collect();
    assert_eq!(news, ["STOPPING=1\nSTATUS=draining"]);
}

#[test]
fn the_manager_may_listen_in_the_abstract_namespace() {
    let name = format!("watershed-test-{}", std::process::id());
    let address = UnixAddr::from_abstract_name(name.as_bytes()).unwrap();
    let manager = Manager(UnixDatagram::bind_addr(&address).unwrap());
    let mut broker = start(&fresh_dir("abstract"), &format!("@{name}"));
    assert!(manager.next(Duration::from_secs(60)).unwrap().starts_with("READY=1\n"));
    assert_eq!(broker.terminate(), Some(0));
}

#[test]
fn a_filter_that_denies_io_uring_is_named_with_its_remedy() {
    let mut confined = script("confined.py");
    confined.args(["deny", "io_uring_setup,io_uring_enter,io_uring_register", BROKER]);
    let refused = confined.args(arguments(&fresh_dir("denied"))).output().unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(4), "{text}");
    for part in
        ["io_uring is forbidden for this process", "remedy:", "packaging/seccomp.json", "--security-opt seccomp="]
    {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn the_packaged_profile_lets_the_broker_serve_and_little_else() {
    let profile = packaged("seccomp.json");
    let data = fresh_dir("profile");
    let mut confined = script("confined.py");
    confined.args(["profile", &profile, BROKER]).args(arguments(&data));
    let mut broker = Running(confined.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap());
    let mut client = Client::connect(address(broker.0.stdout.take().unwrap()));
    client.topic("rivers");
    assert_eq!(client.produce("rivers", 0, batch(now_ms(), &["confined"])).error_code, 0);
    let fetched = client.fetch("rivers", 0, 0, 1000).records.unwrap();
    assert_eq!(records(&fetched), [(0, "confined".to_owned())]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.0.id())).unwrap();
    assert!(status.contains("Seccomp:\t2\n"), "it is confined");
    assert_eq!(broker.terminate(), Some(0));

    let mut forbidden = script("confined.py");
    let mut forbidden = forbidden.args(["profile", &profile, "unshare", "--user", "true"]);
    forbidden = forbidden.stderr(Stdio::piped());
    let mut forbidden = forbidden.spawn().unwrap();
    let mut text = String::new();
    forbidden.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(!forbidden.wait().unwrap().success() && text.contains("not permitted"), "{text}");
}
