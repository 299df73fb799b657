//! The service in this process, asked by gRPC as a client asks: what a stop in order leaves, and what a kill does not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tonic::transport::Channel;
use watershed_daemon::lifecycle::Shutdown;
use watershed_daemon::settings::Machine;
use watershed_shuffle::service::Shuffle;
use watershed_shuffle::settings::{Asked, resolve};
use watershed_shuffle::wire::bitmap::BlockIds;
use watershed_shuffle::wire::index;
use watershed_shuffle::wire::proto::coordinator_server_client::CoordinatorServerClient;
use watershed_shuffle::wire::proto::shuffle_server_client::ShuffleServerClient;
use watershed_shuffle::wire::proto::shuffle_server_internal_client::ShuffleServerInternalClient;
use watershed_shuffle::wire::proto::*;

const APPLICATION: &str = "application-1";

fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn start(directory: &Path) -> Shuffle {
    let set = ["listen=127.0.0.1:0", "admin=127.0.0.1:0", "cores=unbound:1", "memory=64MiB"].map(str::to_owned);
    let data_dir = format!("data_dir={}", directory.display());
    let asked = Asked { set: set.into_iter().chain([data_dir]).collect(), ..Asked::default() };
    Shuffle::start_until(&resolve(&asked, &Machine::probe()).unwrap(), Shutdown::default()).unwrap()
}

async fn channel(service: &Shuffle) -> Channel {
    Channel::from_shared(format!("http://{}", service.local_addr())).unwrap().connect().await.unwrap()
}

async fn client(service: &Shuffle) -> ShuffleServerClient<Channel> {
    ShuffleServerClient::new(channel(service).await)
}

/// A client of a service that knows the application.
async fn registered(service: &Shuffle) -> ShuffleServerClient<Channel> {
    let mut client = client(service).await;
    let register = ShuffleRegisterRequest { app_id: APPLICATION.to_owned(), ..Default::default() };
    client.register_shuffle(register).await.unwrap();
    client
}

fn bytes_of(block: i64) -> Vec<u8> {
    (0..1000 + block * 7).map(|place| (place * 31 + block) as u8).collect()
}

async fn push(client: &mut ShuffleServerClient<Channel>, blocks: std::ops::Range<i64>) {
    let app_id = APPLICATION.to_owned();
    let required = RequireBufferRequest { app_id: app_id.clone(), require_size: 100_000, ..Default::default() };
    let ticket = client.require_buffer(required).await.unwrap().into_inner().require_buffer_id;
    let block = |block_id: i64| {
        let data = bytes_of(block_id);
        let crc = crc32fast::hash(&data).into();
        ShuffleBlock {
            block_id,
            length: data.len() as i32,
            uncompress_length: 1,
            crc,
            data: data.into(),
            task_attempt_id: 0,
        }
    };
    let shuffle_data = vec![ShuffleData { partition_id: 0, block: blocks.clone().map(block).collect() }];
    let send = SendShuffleDataRequest {
        app_id: app_id.clone(),
        require_buffer_id: ticket,
        shuffle_data,
        ..Default::default()
    };
    assert_eq!(client.send_shuffle_data(send.clone()).await.unwrap().into_inner().status, 0);
    // The ticket is used up.
    assert_eq!(client.send_shuffle_data(send).await.unwrap().into_inner().status(), StatusCode::InternalError);
    let partition_to_block_ids = vec![PartitionToBlockIds { partition_id: 0, block_ids: blocks.collect() }];
    let report = ReportShuffleResultRequest { app_id, partition_to_block_ids, bitmap_num: 1, ..Default::default() };
    assert_eq!(client.report_shuffle_result(report).await.unwrap().into_inner().status, 0);
}

async fn reported(client: &mut ShuffleServerClient<Channel>) -> Result<BlockIds, StatusCode> {
    let ask = GetShuffleResultForMultiPartRequest {
        app_id: APPLICATION.to_owned(),
        partitions: vec![0],
        ..Default::default()
    };
    let answer = client.get_shuffle_result_for_multi_part(ask).await.unwrap().into_inner();
    match answer.status() {
        StatusCode::Success => Ok(BlockIds::deserialize(&answer.serialized_bitmap).unwrap()),
        refused => Err(refused),
    }
}

async fn in_memory(client: &mut ShuffleServerClient<Channel>) -> usize {
    let app_id = APPLICATION.to_owned();
    let ask =
        GetMemoryShuffleDataRequest { app_id, last_block_id: -1, read_buffer_size: 14 << 20, ..Default::default() };
    client.get_memory_shuffle_data(ask).await.unwrap().into_inner().shuffle_data_block_segments.len()
}

/// Every block that the index has, with its bytes.
async fn on_disk(client: &mut ShuffleServerClient<Channel>) -> Vec<i64> {
    let app_id = APPLICATION.to_owned();
    let ask = GetLocalShuffleIndexRequest { app_id: app_id.clone(), partition_num: 1, ..Default::default() };
    let found = client.get_local_shuffle_index(ask).await.unwrap().into_inner();
    let length = i32::try_from(found.data_file_len).unwrap();
    let ask = GetLocalShuffleDataRequest { app_id, length, partition_num: 1, ..Default::default() };
    let data = client.get_local_shuffle_data(ask).await.unwrap().into_inner().data;
    let entries = index::entries(&found.index_data);
    let block = |entry: index::IndexEntry| {
        let from = entry.offset as usize;
        assert_eq!(data[from..from + entry.length as usize], bytes_of(entry.block_id), "block {}", entry.block_id);
        entry.block_id
    };
    entries.map(block).collect()
}

fn run<F: Future>(story: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(story)
}

#[test]
fn a_stop_in_order_keeps_blocks_and_reports() {
    let directory = directory("stop-in-order");
    run(async {
        let service = start(&directory);
        let mut first = registered(&service).await;
        push(&mut first, 0..50).await;
        assert_eq!((in_memory(&mut first).await, on_disk(&mut first).await.len()), (50, 0));
        service.stop().unwrap();

        let service = start(&directory);
        let mut second = client(&service).await;
        assert_eq!(reported(&mut second).await, Ok((0..50).collect()));
        assert_eq!(in_memory(&mut second).await, 0);
        assert_eq!(on_disk(&mut second).await, (0..50).collect::<Vec<_>>());
        // It goes on where it ended, and once more.
        push(&mut second, 50..60).await;
        service.stop().unwrap();
        let service = start(&directory);
        let mut third = client(&service).await;
        assert_eq!(on_disk(&mut third).await, (0..60).collect::<Vec<_>>());
        third
            .unregister_shuffle_by_app_id(ShuffleUnregisterByAppIdRequest { app_id: APPLICATION.to_owned() })
            .await
            .unwrap();
        assert_eq!(reported(&mut third).await, Err(StatusCode::NoRegister));
        service.stop().unwrap();
    });
    let left: Vec<_> =
        std::fs::read_dir(directory.join("shard-0")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["image"], "the files of an application that has left are gone");
}

#[test]
fn a_read_of_blocks_from_many_runs_is_served_with_little_memory() {
    let directory = directory("many-runs");
    run(async {
        for block in 0..80 {
            let service = start(&directory);
            let mut client = client(&service).await;
            if block == 0 {
                let register = ShuffleRegisterRequest { app_id: APPLICATION.to_owned(), ..Default::default() };
                client.register_shuffle(register).await.unwrap();
            }
            push(&mut client, block..block + 1).await;
            service.stop().unwrap();
        }
        let service = start(&directory);
        assert_eq!(on_disk(&mut client(&service).await).await, (0..80).collect::<Vec<_>>());
    });
}

#[test]
fn s6_what_a_kill_took_is_unknown_and_not_empty() {
    let directory = directory("kill");
    run(async {
        let service = start(&directory);
        let mut first = registered(&service).await;
        push(&mut first, 0..5).await;
        service.stop().unwrap();
        let service = start(&directory);
        // An image is taken once: after a kill from here on there is none.
        assert!(!directory.join("shard-0/image").exists());
        service.stop().unwrap();
        std::fs::remove_file(directory.join("shard-0/image")).unwrap();
        let service = start(&directory);
        assert_eq!(reported(&mut client(&service).await).await, Err(StatusCode::NoRegister));
    });
}

#[test]
fn a_client_is_told_where_its_partitions_lie_and_what_to_set() {
    let directory = directory("assignment");
    run(async {
        let service = start(&directory);
        let mut coordinator = CoordinatorServerClient::new(channel(&service).await);
        let require_tags = vec!["ss_v5".to_owned(), "GRPC_NETTY".to_owned()];
        let ask = GetShuffleServerRequest {
            partition_num: 3,
            partition_num_per_range: 1,
            require_tags,
            ..Default::default()
        };
        let assigned = coordinator.get_shuffle_assignments(ask).await.unwrap().into_inner();
        let (grpc, netty) = service.ports()[0];
        let one = |partition| PartitionRangeAssignment {
            start_partition: partition,
            end_partition: partition,
            server: vec![ShuffleServerId {
                id: format!("127.0.0.1-{grpc}-{netty}"),
                ip: "127.0.0.1".to_owned(),
                port: grpc.into(),
                netty_port: netty.into(),
                jetty_port: 0,
            }],
        };
        assert_eq!(assigned.assignments, [one(0), one(1), one(2)]);
        let told = coordinator.fetch_client_conf(()).await.unwrap().into_inner().client_conf;
        let told: Vec<_> = told.iter().map(|item| (&*item.key, &*item.value)).collect();
        assert_eq!(told, [("rss.storage.type", "MEMORY_LOCALFILE")]);
    });
}

/// A connection of the Netty plane.
fn netty(service: &Shuffle) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", service.ports()[0].1)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn frame(frame_type: u8, content: &[u8]) -> Vec<u8> {
    [&(content.len() as i32).to_be_bytes()[..], &[frame_type], &0i32.to_be_bytes(), content].concat()
}

fn text(value: &str) -> Vec<u8> {
    [&(value.len() as i32).to_be_bytes()[..], value.as_bytes()].concat()
}

/// A frame of one block, which says that its checksum is `crc`.
fn block_frame(ticket: i64, data: &[u8], crc: i64) -> Vec<u8> {
    let head =
        [7i64.to_be_bytes().to_vec(), text(APPLICATION), 0i32.to_be_bytes().to_vec(), ticket.to_be_bytes().to_vec()];
    let length = (data.len() as i32).to_be_bytes();
    let block = [
        &1i32.to_be_bytes()[..], // partitions
        &0i32.to_be_bytes(),     // partition
        &1i32.to_be_bytes(),     // blocks
        &0i32.to_be_bytes(),     // partition
        &9i64.to_be_bytes(),     // block
        &length,
        &0i32.to_be_bytes(), // shuffle
        &crc.to_be_bytes(),
        &0i64.to_be_bytes(), // attempt
        &length,
        data,
        &0i32.to_be_bytes(), // servers
        &1i32.to_be_bytes(), // uncompressed
        &0i64.to_be_bytes(), // free memory
        &0i64.to_be_bytes(), // time
    ];
    frame(3, &[head.concat(), block.concat()].concat())
}

/// Header, request id and status of the reply to a frame of blocks.
fn status_of(stream: &mut TcpStream) -> (i64, i32) {
    let mut header = [0; 9];
    stream.read_exact(&mut header).unwrap();
    let mut content = vec![0; u32::from_be_bytes(header[..4].try_into().unwrap()) as usize];
    stream.read_exact(&mut content).unwrap();
    (i64::from_be_bytes(content[..8].try_into().unwrap()), i32::from_be_bytes(content[8..12].try_into().unwrap()))
}

#[test]
fn s8_a_block_with_a_wrong_checksum_is_refused_at_the_door() {
    let directory = directory("checksum");
    run(async {
        let service = start(&directory);
        let mut client = registered(&service).await;
        let data = vec![5; 100_000];
        let crc = i64::from(crc32fast::hash(&data));
        let mut stream = netty(&service);
        for (crc, status, blocks) in [(crc + 1, StatusCode::InternalError, 0), (crc, StatusCode::Success, 1)] {
            let ask =
                RequireBufferRequest { app_id: APPLICATION.to_owned(), require_size: 200_000, ..Default::default() };
            let ticket = client.require_buffer(ask).await.unwrap().into_inner().require_buffer_id;
            // In two halves, with a pause: nothing depends on how a frame is cut.
            let sent = block_frame(ticket, &data, crc);
            let (first, second) = sent.split_at(sent.len() / 2);
            stream.write_all(first).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(second).unwrap();
            assert_eq!(status_of(&mut stream), (7, status as i32));
            assert_eq!(in_memory(&mut client).await, blocks);
        }
        // An unknown ticket: the frame is received to its end, and the connection serves on.
        stream.write_all(&block_frame(12345, &data, crc)).unwrap();
        assert_eq!(status_of(&mut stream), (7, StatusCode::InternalError as i32));
    });
}

#[test]
fn what_is_no_frame_ends_its_connection_and_no_other() {
    let directory = directory("malformed");
    run(async {
        let service = start(&directory);
        registered(&service).await;
        let huge =
            |content: i32, kind: u8, body: i32| [&content.to_be_bytes()[..], &[kind], &body.to_be_bytes()].concat();
        let tls = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc];
        let malformed = [
            tls.to_vec(),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            huge(-1, 3, 0),
            huge(i32::MAX, 4, 0),
            huge(10, 3, i32::MAX),
            huge(0, 3, 0),
            frame(99, b"x"),
            frame(16, b"x"),
            frame(4, b"short"),
            frame(6, &[0xff; 60]),
            frame(3, &[0xff; 200]),
            block_frame(1, b"abc", 0)[..30].to_vec(),
        ];
        let honest = netty(&service);
        for bytes in malformed {
            let mut stream = netty(&service);
            stream.write_all(&bytes).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            // Reset or closed: both are an end.
            let _ = stream.read_to_end(&mut answer);
            assert!(answer.is_empty(), "{bytes:x?} was answered {answer:x?}");
        }
        let many: Vec<TcpStream> = (0..500).map(|_| netty(&service)).collect();
        for mut stream in [honest, netty(&service)] {
            let content = [3i64.to_be_bytes().to_vec(), text(APPLICATION), vec![0; 16]].concat();
            stream.write_all(&frame(4, &content)).unwrap();
            assert_eq!(status_of(&mut stream), (3, 0));
        }
        drop(many);
    });
}

fn page(service: &Shuffle, path: &str) -> String {
    let mut socket = TcpStream::connect(service.admin_addr().unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).unwrap();
    reply.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// A gauge or counter of shard 0.
fn figure(service: &Shuffle, name: &str) -> u64 {
    let text = page(service, "/metrics");
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("watershed_shuffle_{name}{{shard=\"0\"}} ")));
    value.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().unwrap()
}

#[test]
fn admin_http_shows_what_a_client_sent() {
    let directory = directory("admin");
    run(async {
        let service = start(&directory);
        let mut server = registered(&service).await;
        push(&mut server, 0..10).await;
        assert_eq!(page(&service, "/ready"), "{\"ready\":true,\"reasons\":[]}\n");
        assert_eq!((figure(&service, "received_blocks_total"), figure(&service, "blocks_held")), (10, 10));
        let bytes: usize = (0..10).map(|block| bytes_of(block).len()).sum();
        assert_eq!(figure(&service, "received_bytes_total"), bytes as u64);
        assert_eq!(figure(&service, "ticket_wait_seconds_count"), 1);
        let shown: serde_json::Value = serde_json::from_str(&page(&service, "/apps")).unwrap();
        let application = &shown["applications"][0];
        assert_eq!((&application["application"], &application["blocks"]), (&APPLICATION.into(), &10.into()));
        assert_eq!((&application["shards"][0]["shuffles"], &application["disk_bytes"]), (&1.into(), &0.into()));
        service.stop().unwrap();
    });
}

#[test]
fn a_shard_that_leaves_serves_what_it_has_and_takes_nothing_new() {
    let directory = directory("decommission");
    run(async {
        let service = start(&directory);
        let mut server = registered(&service).await;
        push(&mut server, 0..10).await;
        let mut internal = ShuffleServerInternalClient::new(channel(&service).await);
        assert_eq!(internal.decommission(DecommissionRequest {}).await.unwrap().into_inner().status, 0);

        let mut coordinator = CoordinatorServerClient::new(channel(&service).await);
        let mut assigned = tokio::spawn(async move {
            let ask = GetShuffleServerRequest { partition_num: 1, partition_num_per_range: 1, ..Default::default() };
            coordinator.get_shuffle_assignments(ask).await.unwrap().into_inner().assignments.len()
        });
        let early = tokio::time::timeout(Duration::from_millis(500), &mut assigned).await;
        assert!(early.is_err(), "a new shuffle waits for another server");
        push(&mut server, 10..20).await;
        assert_eq!(in_memory(&mut server).await, 20, "what is registered goes on");
        assert!(page(&service, "/ready").contains("decommissioning (port "));
        assert_eq!((figure(&service, "decommissioning"), figure(&service, "decommissioned")), (1, 0));

        let gone = ShuffleUnregisterByAppIdRequest { app_id: APPLICATION.to_owned() };
        server.unregister_shuffle_by_app_id(gone).await.unwrap();
        while !page(&service, "/ready").contains("decommissioned (port ") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!((figure(&service, "decommissioning"), figure(&service, "decommissioned")), (0, 1));
        assert!(!assigned.is_finished());
        internal.cancel_decommission(CancelDecommissionRequest {}).await.unwrap();
        assert_eq!(assigned.await.unwrap(), 1, "whoever waited gets the server that stays");
        assert_eq!(page(&service, "/ready"), "{\"ready\":true,\"reasons\":[]}\n");
        service.stop().unwrap();
    });
}
