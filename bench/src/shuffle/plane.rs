//! What a client asks of a server: control calls by gRPC, data by either plane.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use tonic::transport::{Channel, Endpoint};
use watershed_shuffle::wire::bitmap::BlockIds;
use watershed_shuffle::wire::proto::coordinator_server_client::CoordinatorServerClient;
use watershed_shuffle::wire::proto::shuffle_server_client::ShuffleServerClient;
use watershed_shuffle::wire::proto::{
    ApplicationInfoRequest, GetLocalShuffleDataRequest, GetLocalShuffleIndexRequest, GetMemoryShuffleDataRequest,
    GetShuffleResultForMultiPartRequest, GetShuffleServerRequest, PartitionRangeAssignment, PartitionToBlockIds,
    ReportShuffleResultRequest, RequireBufferRequest, SendShuffleDataRequest, ShuffleBlock, ShuffleData,
    ShufflePartitionRange, ShuffleRegisterRequest, ShuffleUnregisterByAppIdRequest, ShuffleUnregisterRequest,
};
use watershed_shuffle::wire::status::StatusCode;

use super::job::{Block, layout};
use super::netty::{Netty, ServerName};

/// What a ticket counts for each block beside its bytes.
const TICKET_BLOCK_BYTES: usize = 32;
/// What Java's client lets a server send ahead.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// How long a client waits for any answer.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);

/// How blocks travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    Netty,
    Grpc,
}

/// A shuffle of an application.
#[derive(Clone, Debug)]
pub(crate) struct Of {
    pub(crate) application: String,
    pub(crate) shuffle: i32,
}

/// A block in a reply from memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) id: i64,
    pub(crate) offset: i64,
    pub(crate) length: i32,
    pub(crate) uncompressed_length: i32,
    pub(crate) crc: i64,
    pub(crate) attempt: i64,
}

pub(crate) struct InMemory {
    pub(crate) segments: Vec<Segment>,
    pub(crate) data: Bytes,
}

pub(crate) struct Index {
    pub(crate) entries: Bytes,
    pub(crate) file_bytes: i64,
}

/// A ticket, or that there is no memory for one.
pub(crate) enum Ticket {
    Granted(i64),
    NoBuffer,
}

/// One client of one server.
pub(crate) struct Client {
    control: ShuffleServerClient<Channel>,
    netty: Option<Netty>,
    pub(crate) of: Of,
    partitions: i32,
}

pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn refused(status: i32, message: &str) -> anyhow::Error {
    let status = StatusCode::try_from(status).map_or_else(|_| status.to_string(), |status| format!("{status:?}"));
    anyhow!("{status}: {message}")
}

fn succeeded(call: &str, status: i32, message: &str) -> Result<()> {
    match status == StatusCode::Success.code() {
        true => Ok(()),
        false => Err(refused(status, message).context(call.to_owned())),
    }
}

async fn channel(host: &str, port: i32) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{host}:{port}"))?;
    let endpoint = endpoint.tcp_nodelay(true).timeout(CALL_TIME_MAX).initial_stream_window_size(STREAM_WINDOW_BYTES);
    let endpoint = endpoint.initial_connection_window_size(STREAM_WINDOW_BYTES);
    endpoint.connect().await.with_context(|| format!("connect to {host}:{port}"))
}

/// Registers the application and asks the coordinator at `address` who holds its partitions.
pub(crate) async fn assignments(
    address: std::net::SocketAddr,
    transport: Transport,
    of: &Of,
    partitions: i32,
) -> Result<Vec<PartitionRangeAssignment>> {
    let channel = channel(&address.ip().to_string(), i32::from(address.port())).await?;
    let mut coordinator = CoordinatorServerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let tag = match transport {
        Transport::Netty => "GRPC_NETTY",
        Transport::Grpc => "GRPC",
    };
    let asked = GetShuffleServerRequest {
        application_id: of.application.clone(),
        shuffle_id: of.shuffle,
        partition_num: partitions,
        partition_num_per_range: 1,
        data_replica: 1,
        require_tags: vec!["ss_v5".to_owned(), tag.to_owned()],
        assignment_shuffle_server_number: -1,
        estimate_task_concurrency: -1,
        ..GetShuffleServerRequest::default()
    };
    let told = coordinator.get_shuffle_assignments(asked).await?.into_inner();
    succeeded("getShuffleAssignments", told.status, &told.ret_msg)?;
    let info = ApplicationInfoRequest {
        app_id: of.application.clone(),
        user: "bench".to_owned(),
        ..ApplicationInfoRequest::default()
    };
    let told_info = coordinator.register_application_info(info).await?.into_inner();
    succeeded("registerApplicationInfo", told_info.status, &told_info.ret_msg)?;
    Ok(told.assignments)
}

impl Client {
    pub(crate) async fn connect(server: &ServerName, transport: Transport, of: Of, partitions: i32) -> Result<Client> {
        let control = ShuffleServerClient::new(channel(&server.host, server.grpc_port).await?);
        let control = control.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX);
        let netty = match transport {
            Transport::Netty => Some(Netty::connect(server.clone()).await?),
            Transport::Grpc => None,
        };
        Ok(Client { control, netty, of, partitions })
    }

    pub(crate) async fn register(&mut self, partitions: &[i32]) -> Result<()> {
        let range = |&partition: &i32| ShufflePartitionRange { start: partition, end: partition };
        let asked = ShuffleRegisterRequest {
            app_id: self.of.application.clone(),
            shuffle_id: self.of.shuffle,
            partition_ranges: partitions.iter().map(range).collect(),
            user: "bench".to_owned(),
            ..ShuffleRegisterRequest::default()
        };
        let told = self.control.register_shuffle(asked).await?.into_inner();
        succeeded("registerShuffle", told.status, &told.ret_msg)
    }

    /// Bytes that a ticket for these blocks asks for: on the Netty plane about twice what they have.
    pub(crate) fn ticket_bytes(&self, blocks: &[Block<'_>]) -> usize {
        let bytes: usize = blocks.iter().map(|block| block.payload.data.len() + TICKET_BLOCK_BYTES).sum();
        bytes + self.netty.as_ref().map_or(0, |netty| netty.content_bytes(&self.of, blocks))
    }

    pub(crate) async fn require(&mut self, blocks: &[Block<'_>]) -> Result<Ticket> {
        let partitions = blocks.chunk_by(|one, next| one.partition == next.partition);
        let asked = RequireBufferRequest {
            require_size: i32::try_from(self.ticket_bytes(blocks))?,
            app_id: self.of.application.clone(),
            shuffle_id: self.of.shuffle,
            partition_ids: partitions.filter_map(|of| of.first()).map(|block| block.partition).collect(),
            ..RequireBufferRequest::default()
        };
        let told = self.control.require_buffer(asked).await?.into_inner();
        match StatusCode::try_from(told.status) {
            Ok(StatusCode::Success) if told.require_buffer_id != -1 => Ok(Ticket::Granted(told.require_buffer_id)),
            Ok(StatusCode::NoBuffer | StatusCode::NoBufferForHugePartition) => Ok(Ticket::NoBuffer),
            _ => bail!("requireBuffer: {}", refused(told.status, &told.ret_msg)),
        }
    }

    pub(crate) async fn send(&mut self, ticket: i64, blocks: &[Block<'_>]) -> Result<()> {
        if let Some(netty) = &mut self.netty {
            return netty.send(&self.of, ticket, blocks).await;
        }
        let of_partition = |blocks: &[Block<'_>]| ShuffleData {
            partition_id: blocks.first().map_or(0, |block| block.partition),
            block: blocks.iter().map(message).collect(),
        };
        let asked = SendShuffleDataRequest {
            app_id: self.of.application.clone(),
            shuffle_id: self.of.shuffle,
            require_buffer_id: ticket,
            shuffle_data: blocks.chunk_by(|one, next| one.partition == next.partition).map(of_partition).collect(),
            timestamp: now_ms(),
            ..SendShuffleDataRequest::default()
        };
        let told = self.control.send_shuffle_data(asked).await?.into_inner();
        succeeded("sendShuffleData", told.status, &told.ret_msg)
    }

    pub(crate) async fn report(&mut self, attempt: i64, blocks: Vec<(i32, Vec<i64>)>) -> Result<()> {
        let of = |(partition_id, block_ids)| PartitionToBlockIds { partition_id, block_ids };
        let asked = ReportShuffleResultRequest {
            app_id: self.of.application.clone(),
            shuffle_id: self.of.shuffle,
            task_attempt_id: attempt,
            bitmap_num: 1,
            partition_to_block_ids: blocks.into_iter().map(of).collect(),
            ..ReportShuffleResultRequest::default()
        };
        let told = self.control.report_shuffle_result(asked).await?.into_inner();
        succeeded("reportShuffleResult", told.status, &told.ret_msg)
    }

    pub(crate) async fn reported(&mut self, partition: i32) -> Result<BlockIds> {
        let asked = GetShuffleResultForMultiPartRequest {
            app_id: self.of.application.clone(),
            shuffle_id: self.of.shuffle,
            partitions: vec![partition],
            block_id_layout: Some(layout()),
        };
        let told = self.control.get_shuffle_result_for_multi_part(asked).await?.into_inner();
        succeeded("getShuffleResultForMultiPart", told.status, &told.ret_msg)?;
        Ok(BlockIds::deserialize(&told.serialized_bitmap)?)
    }

    pub(crate) async fn memory(&mut self, partition: i32, last: i64, bytes_max: i32) -> Result<InMemory> {
        if let Some(netty) = &mut self.netty {
            return netty.memory(&self.of, partition, last, bytes_max).await;
        }
        let asked = GetMemoryShuffleDataRequest {
            app_id: self.of.application.clone(),
            shuffle_id: self.of.shuffle,
            partition_id: partition,
            last_block_id: last,
            read_buffer_size: bytes_max,
            timestamp: now_ms(),
            serialized_expected_task_ids_bitmap: Some(Bytes::new()),
        };
        let told = self.control.get_memory_shuffle_data(asked).await?.into_inner();
        succeeded("getMemoryShuffleData", told.status, &told.ret_msg)?;
        let segment = |of: &watershed_shuffle::wire::proto::ShuffleDataBlockSegment| Segment {
            id: of.block_id,
            offset: of.offset,
            length: of.length,
            uncompressed_length: of.uncompress_length,
            crc: of.crc,
            attempt: of.task_attempt_id,
        };
        Ok(InMemory { segments: told.shuffle_data_block_segments.iter().map(segment).collect(), data: told.data })
    }

    pub(crate) async fn index(&mut self, partition: i32) -> Result<Index> {
        if let Some(netty) = &mut self.netty {
            return netty.index(&self.of, partition, self.partitions).await;
        }
        let asked = GetLocalShuffleIndexRequest {
            app_id: self.of.application.clone(),
            shuffle_id: self.of.shuffle,
            partition_id: partition,
            partition_num_per_range: 1,
            partition_num: self.partitions,
        };
        let told = self.control.get_local_shuffle_index(asked).await?.into_inner();
        succeeded("getLocalShuffleIndex", told.status, &told.ret_msg)?;
        Ok(Index { entries: told.index_data, file_bytes: told.data_file_len })
    }

    /// Exactly `length` bytes, as Spark's clients insist.
    pub(crate) async fn data(&mut self, partition: i32, offset: i64, length: i32) -> Result<Bytes> {
        let data = match &mut self.netty {
            Some(netty) => netty.data(&self.of, partition, self.partitions, offset, length).await?,
            None => self.data_by_grpc(partition, offset, length).await?,
        };
        ensure!(data.len() == length as usize, "asked for {length} bytes at {offset}, got {}", data.len());
        Ok(data)
    }

    async fn data_by_grpc(&mut self, partition: i32, offset: i64, length: i32) -> Result<Bytes> {
        let asked = GetLocalShuffleDataRequest {
            app_id: self.of.application.clone(),
            shuffle_id: self.of.shuffle,
            partition_id: partition,
            partition_num_per_range: 1,
            partition_num: self.partitions,
            offset,
            length,
            timestamp: now_ms(),
            ..GetLocalShuffleDataRequest::default()
        };
        let told = self.control.get_local_shuffle_data(asked).await?.into_inner();
        succeeded("getLocalShuffleData", told.status, &told.ret_msg)?;
        Ok(told.data)
    }

    /// The shuffle, then all of its application.
    pub(crate) async fn unregister(&mut self) -> Result<()> {
        let (app_id, shuffle_id) = (self.of.application.clone(), self.of.shuffle);
        let asked = ShuffleUnregisterRequest { app_id: app_id.clone(), shuffle_id };
        let told = self.control.unregister_shuffle(asked).await?.into_inner();
        succeeded("unregisterShuffle", told.status, &told.ret_msg)?;
        let asked = ShuffleUnregisterByAppIdRequest { app_id };
        let told = self.control.unregister_shuffle_by_app_id(asked).await?.into_inner();
        succeeded("unregisterShuffleByAppId", told.status, &told.ret_msg)
    }
}

fn message(block: &Block<'_>) -> ShuffleBlock {
    let length = i32::try_from(block.payload.data.len()).unwrap_or(i32::MAX);
    ShuffleBlock {
        block_id: block.id,
        length,
        uncompress_length: length,
        crc: i64::from(block.payload.crc),
        data: block.payload.data.clone(),
        task_attempt_id: block.attempt,
    }
}
