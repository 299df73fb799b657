//! A broker process of a test's own, and a raw client that speaks its protocol.
#![allow(dead_code)] // each test uses a part

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use watershed_broker::wire::apis::Api;
use watershed_broker::wire::generated::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use watershed_broker::wire::generated::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use watershed_broker::wire::generated::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use watershed_broker::wire::generated::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
};
use watershed_broker::wire::header;
use watershed_broker::wire::message::Message;
use watershed_broker::wire::records::{BatchBuilder, Payload};

/// Versions that name topics by name.
pub(crate) const PRODUCE: i16 = 12;
pub(crate) const FETCH: i16 = 12;

pub(crate) struct Broker {
    process: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    folder: PathBuf,
    /// What `--set` is given.
    settings: Vec<String>,
}

impl Broker {
    /// A broker over an empty directory of this name.
    pub(crate) fn fresh(name: &str, shards: usize) -> Broker {
        Broker::with(name, shards, &[])
    }

    /// The same with these properties.
    pub(crate) fn with(name: &str, shards: usize, settings: &[&str]) -> Broker {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        let settings = settings.iter().map(ToString::to_string).collect();
        Broker::start(folder, shards, settings)
    }

    fn start(folder: PathBuf, shards: usize, settings: Vec<String>) -> Broker {
        std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
        let log = std::fs::File::create(folder.with_extension("log")).unwrap();
        let cores = format!("unbound:{shards}");
        let mut process = Command::new(env!("CARGO_BIN_EXE_watershed-broker"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--memory",
                "256MiB",
                "--set",
                "num.partitions=6",
            ])
            .args(["--cores", &cores, "--data-dir"])
            .arg(&folder)
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .stderr(log)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = lines.map(Result::unwrap).find(|line| line.starts_with("ready ")).expect("it serves");
        let told = |name| -> SocketAddr {
            ready.split(' ').find_map(|word| word.strip_prefix(name)).unwrap().parse().unwrap()
        };
        Broker { process, address: told("listen="), admin: told("admin="), folder, settings }
    }

    /// Ends it without a word and starts it again over what it left.
    pub(crate) fn kill_and_restart(mut self, shards: usize) -> Broker {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        Broker::start(self.folder.clone(), shards, self.settings.clone())
    }

    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> String {
        let mut socket = TcpStream::connect(self.admin).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(socket, "GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut reply = String::new();
        socket.read_to_string(&mut reply).unwrap();
        reply.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// What it has logged since its start.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.with_extension("log")).unwrap()
    }

    /// What `inspect` says of its directory.
    pub(crate) fn inspected(&self) -> serde_json::Value {
        let mut inspect = Command::new(env!("CARGO_BIN_EXE_watershed-broker"));
        let done = inspect.arg("inspect").arg(&self.folder).arg("--json").output().unwrap();
        serde_json::from_slice(&done.stdout).unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) struct Client {
    stream: TcpStream,
    next: i32,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, next: 0 }
    }

    pub(crate) fn send<Q: Message>(&mut self, api: Api, version: i16, body: &Q) -> i32 {
        self.next += 1;
        self.raw(&header::request_frame(api, version, self.next, Some("test"), body));
        self.next
    }

    pub(crate) fn receive<A: Message>(&mut self, api: Api, version: i16) -> (i32, A) {
        let frame = self.frame().expect("an answer, not the end of the connection");
        let (correlation_id, body_at) = header::parse_response(&frame, api, version).unwrap();
        (correlation_id, A::from_bytes(&frame[body_at..], version).unwrap())
    }

    pub(crate) fn ask<Q: Message, A: Message>(&mut self, api: Api, version: i16, body: &Q) -> A {
        let sent = self.send(api, version, body);
        let (correlation_id, answer) = self.receive(api, version);
        assert_eq!(correlation_id, sent);
        answer
    }

    /// The names of all topics.
    pub(crate) fn all_topics(&mut self) -> Vec<String> {
        let answer: MetadataResponse =
            self.ask(Api::Metadata, 9, &MetadataRequest { topics: None, ..MetadataRequest::default() });
        answer.topics.into_iter().filter_map(|topic| topic.name).collect()
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next frame without its length; `None` if the broker closed.
    pub(crate) fn frame(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).ok()?;
        Some(frame)
    }

    /// Asks for a topic, which creates it.
    pub(crate) fn topic(&mut self, name: &str) -> MetadataResponse {
        let topic = MetadataRequestTopic { name: Some(name.to_owned()), ..MetadataRequestTopic::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: true,
            ..MetadataRequest::default()
        };
        self.ask(Api::Metadata, 12, &request)
    }

    pub(crate) fn produce(&mut self, topic: &str, partition: i32, batch: Vec<u8>) -> PartitionProduceResponse {
        let request = produce(topic, partition, -1, batch);
        let answer: ProduceResponse = self.ask(Api::Produce, PRODUCE, &request);
        answer.responses[0].partition_responses[0].clone()
    }

    pub(crate) fn fetch(&mut self, topic: &str, partition: i32, offset: i64, wait_ms: i32) -> PartitionData {
        let answer: FetchResponse = self.ask(Api::Fetch, FETCH, &fetch(topic, partition, offset, wait_ms));
        answer.responses[0].partitions[0].clone()
    }

    pub(crate) fn offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> (i64, i64) {
        let asked = ListOffsetsPartition { partition_index: partition, timestamp, ..ListOffsetsPartition::default() };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic { name: topic.to_owned(), partitions: vec![asked] }],
            ..ListOffsetsRequest::default()
        };
        let answer: ListOffsetsResponse = self.ask(Api::ListOffsets, 7, &request);
        let found = &answer.topics[0].partitions[0];
        assert_eq!(found.error_code, 0);
        (found.offset, found.timestamp)
    }
}

pub(crate) fn produce(topic: &str, partition: i32, acks: i16, batch: Vec<u8>) -> ProduceRequest {
    let data = PartitionProduceData { index: partition, records: Some(batch) };
    ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![data],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

pub(crate) fn fetch(topic: &str, partition: i32, fetch_offset: i64, max_wait_ms: i32) -> FetchRequest {
    let asked = FetchPartition { partition, fetch_offset, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        topics: vec![FetchTopic { topic: topic.to_owned(), partitions: vec![asked], ..FetchTopic::default() }],
        ..FetchRequest::default()
    }
}

pub(crate) fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// A batch of these values, a millisecond apart from `from_ms` on.
pub(crate) fn batch(from_ms: i64, values: &[&str]) -> Vec<u8> {
    let mut batch = BatchBuilder::new(from_ms);
    for (at, value) in values.iter().enumerate() {
        batch.push(from_ms + at as i64, None, Some(value.as_bytes()));
    }
    batch.build()
}

/// Offsets and values of the batches that a fetch brought.
pub(crate) fn records(mut bytes: &[u8]) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let payload = Payload::open(bytes, 1 << 20).unwrap();
        for record in payload.records().map(Result::unwrap) {
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            found.push((payload.place(&record).0, value));
        }
        bytes = &bytes[payload.header().bytes as usize..];
    }
    found
}
