//! `rss.common.ShuffleServer`: what clients ask of one shard, by gRPC.
//!
//! Each call becomes work for the shard. Statuses are those that every client can read. Left out: commit and finish, which
//! Uniffle's own server refuses for storage that begins in memory.

use bytes::{Bytes, BytesMut};
use tonic::{Request, Response, Status};
use watershed_core::io::arena::Lent;

use super::shard_handle::ShardHandle;
use crate::server::arrival::take_all;
use crate::server::connection::{read_status, status_of};
use crate::server::reads::{Asked, InMemory};
use crate::store::{Answer, Order, Refusal};
use crate::wire::bitmap::attempt_filter;
use crate::wire::proto::shuffle_server_server::ShuffleServer;
use crate::wire::proto::*;

type Reply<T> = Result<Response<T>, Status>;

pub(super) struct ShuffleService {
    shard: ShardHandle,
}

impl ShuffleService {
    pub(super) fn new(shard: ShardHandle) -> ShuffleService {
        ShuffleService { shard }
    }
}

/// Status and words of what came of a call.
fn outcome(result: Result<(), Refusal>) -> (i32, String) {
    match result {
        Ok(()) => (StatusCode::Success.code(), String::new()),
        Err(refusal) => (status_of(refusal).code(), refusal.to_string()),
    }
}

fn joined(pieces: Vec<Lent>) -> Bytes {
    if pieces.len() == 1 {
        return pieces.into_iter().next().map(Bytes::from_owner).unwrap_or_default();
    }
    let mut all = BytesMut::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
    pieces.iter().for_each(|piece| all.extend_from_slice(piece));
    all.freeze()
}

const REFUSED_COMMIT: &str = "commit and finish are not for storage that begins in memory";

#[tonic::async_trait]
impl ShuffleServer for ShuffleService {
    async fn register_shuffle(&self, request: Request<ShuffleRegisterRequest>) -> Reply<ShuffleRegisterResponse> {
        let asked = request.into_inner();
        let order = match asked.shuffle_data_distribution() {
            DataDistribution::Normal => Order::Arrival,
            DataDistribution::LocalOrder => Order::Attempt,
        };
        let (application, shuffle) = (asked.app_id, asked.shuffle_id);
        self.shard.call(move |shard| async move { shard.register(&application, shuffle, order) }).await?;
        Ok(Response::new(ShuffleRegisterResponse::default()))
    }

    async fn unregister_shuffle(&self, request: Request<ShuffleUnregisterRequest>) -> Reply<ShuffleUnregisterResponse> {
        let asked = request.into_inner();
        self.shard.call(move |shard| async move { shard.unregister(&asked.app_id, Some(asked.shuffle_id)) }).await?;
        Ok(Response::new(ShuffleUnregisterResponse::default()))
    }

    async fn unregister_shuffle_by_app_id(
        &self,
        request: Request<ShuffleUnregisterByAppIdRequest>,
    ) -> Reply<ShuffleUnregisterByAppIdResponse> {
        let asked = request.into_inner();
        self.shard.call(move |shard| async move { shard.unregister(&asked.app_id, None) }).await?;
        Ok(Response::new(ShuffleUnregisterByAppIdResponse::default()))
    }

    async fn require_buffer(&self, request: Request<RequireBufferRequest>) -> Reply<RequireBufferResponse> {
        let asked = request.into_inner();
        let bytes = u64::try_from(asked.require_size).unwrap_or(0);
        let asked_of =
            self.shard.call(move |shard| async move { shard.require(&asked.app_id, asked.shuffle_id, bytes).await });
        let refused = |status: StatusCode, words: String| RequireBufferResponse {
            require_buffer_id: -1,
            status: status.code(),
            ret_msg: words,
            need_split_partition_ids: Vec::new(),
        };
        Ok(Response::new(match asked_of.await? {
            Ok(Answer::Granted(ticket)) => {
                RequireBufferResponse { require_buffer_id: ticket, ..RequireBufferResponse::default() }
            }
            Ok(Answer::TooLate) => refused(StatusCode::NoBuffer, "no memory became free in time".to_owned()),
            Err(refusal) => refused(status_of(refusal), refusal.to_string()),
        }))
    }

    async fn send_shuffle_data(&self, request: Request<SendShuffleDataRequest>) -> Reply<SendShuffleDataResponse> {
        let sent = request.into_inner();
        let taken = self.shard.call(move |shard| async move { take_all(&shard, sent).await }).await?;
        let (status, ret_msg) = match taken {
            Ok(()) => (StatusCode::Success, String::new()),
            Err(refused) => refused,
        };
        Ok(Response::new(SendShuffleDataResponse { status: status.code(), ret_msg }))
    }

    async fn commit_shuffle_task(&self, _: Request<ShuffleCommitRequest>) -> Reply<ShuffleCommitResponse> {
        let status = StatusCode::InternalError.code();
        Ok(Response::new(ShuffleCommitResponse { commit_count: -1, status, ret_msg: REFUSED_COMMIT.to_owned() }))
    }

    async fn finish_shuffle(&self, _: Request<FinishShuffleRequest>) -> Reply<FinishShuffleResponse> {
        let status = StatusCode::InternalError.code();
        Ok(Response::new(FinishShuffleResponse { status, ret_msg: REFUSED_COMMIT.to_owned() }))
    }

    async fn report_shuffle_result(
        &self,
        request: Request<ReportShuffleResultRequest>,
    ) -> Reply<ReportShuffleResultResponse> {
        let asked = request.into_inner();
        let reported = self.shard.call(move |shard| async move {
            let blocks = asked.partition_to_block_ids.into_iter().map(|of| (of.partition_id, of.block_ids));
            shard.report(&asked.app_id, asked.shuffle_id, &blocks.collect::<Vec<_>>())
        });
        let (status, ret_msg) = outcome(reported.await?);
        Ok(Response::new(ReportShuffleResultResponse { status, ret_msg }))
    }

    async fn get_shuffle_result(&self, request: Request<GetShuffleResultRequest>) -> Reply<GetShuffleResultResponse> {
        let asked = request.into_inner();
        let (status, ret_msg, serialized_bitmap) =
            self.reported(asked.app_id, asked.shuffle_id, vec![asked.partition_id]).await?;
        Ok(Response::new(GetShuffleResultResponse { status, ret_msg, serialized_bitmap }))
    }

    async fn get_shuffle_result_for_multi_part(
        &self,
        request: Request<GetShuffleResultForMultiPartRequest>,
    ) -> Reply<GetShuffleResultForMultiPartResponse> {
        let asked = request.into_inner();
        let (status, ret_msg, serialized_bitmap) =
            self.reported(asked.app_id, asked.shuffle_id, asked.partitions).await?;
        let partition_stats = Vec::new();
        Ok(Response::new(GetShuffleResultForMultiPartResponse { status, ret_msg, serialized_bitmap, partition_stats }))
    }

    async fn get_memory_shuffle_data(
        &self,
        request: Request<GetMemoryShuffleDataRequest>,
    ) -> Reply<GetMemoryShuffleDataResponse> {
        let asked = request.into_inner();
        let attempts = attempt_filter(asked.serialized_expected_task_ids_bitmap.as_deref());
        let attempts = attempts.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let found = self.shard.call(move |shard| async move {
            let of = Asked { application: asked.app_id, shuffle: asked.shuffle_id, partition: asked.partition_id };
            let bytes_max = u64::try_from(asked.read_buffer_size).unwrap_or(0);
            let found = shard.memory(&of, asked.last_block_id, bytes_max, attempts.as_ref())?;
            Ok((segments(&found), found.bytes.iter().map(|slice| slice.lend()).collect()))
        });
        let found: Result<(Vec<ShuffleDataBlockSegment>, Vec<Lent>), Refusal> = found.await?;
        Ok(Response::new(match found {
            Ok((shuffle_data_block_segments, pieces)) => GetMemoryShuffleDataResponse {
                shuffle_data_block_segments,
                data: joined(pieces),
                ..GetMemoryShuffleDataResponse::default()
            },
            Err(refusal) => GetMemoryShuffleDataResponse {
                status: status_of(refusal).code(),
                ret_msg: refusal.to_string(),
                ..GetMemoryShuffleDataResponse::default()
            },
        }))
    }

    async fn get_local_shuffle_index(
        &self,
        request: Request<GetLocalShuffleIndexRequest>,
    ) -> Reply<GetLocalShuffleIndexResponse> {
        let asked = request.into_inner();
        let of = Asked { application: asked.app_id, shuffle: asked.shuffle_id, partition: asked.partition_id };
        let found = self.shard.call(move |shard| async move { shard.index(&of) }).await?;
        Ok(Response::new(match found {
            Ok((index, file_bytes)) => GetLocalShuffleIndexResponse {
                index_data: index.into(),
                data_file_len: file_bytes.cast_signed(),
                ..GetLocalShuffleIndexResponse::default()
            },
            Err(refusal) => GetLocalShuffleIndexResponse {
                status: status_of(refusal).code(),
                ret_msg: refusal.to_string(),
                ..GetLocalShuffleIndexResponse::default()
            },
        }))
    }

    async fn get_local_shuffle_data(
        &self,
        request: Request<GetLocalShuffleDataRequest>,
    ) -> Reply<GetLocalShuffleDataResponse> {
        let asked = request.into_inner();
        let (Ok(offset), Ok(length)) = (u64::try_from(asked.offset), u64::try_from(asked.length)) else {
            return Err(Status::invalid_argument("offset and length are not negative"));
        };
        let of = Asked { application: asked.app_id, shuffle: asked.shuffle_id, partition: asked.partition_id };
        let read = self.shard.call(move |shard| async move {
            let read = shard.data(&of, offset, length).await;
            let lent = read.map(|slices| slices.iter().map(|slice| slice.lend()).collect::<Vec<_>>());
            lent.map_err(|error| (read_status(&error), error.to_string()))
        });
        Ok(Response::new(match read.await? {
            Ok(pieces) => {
                GetLocalShuffleDataResponse { data: joined(pieces), ..GetLocalShuffleDataResponse::default() }
            }
            Err((status, ret_msg)) => {
                GetLocalShuffleDataResponse { status: status.code(), ret_msg, data: Bytes::new() }
            }
        }))
    }

    async fn app_heartbeat(&self, request: Request<AppHeartBeatRequest>) -> Reply<AppHeartBeatResponse> {
        let application = request.into_inner().app_id;
        self.shard.call(move |shard| async move { shard.heartbeat(&application) }).await?;
        Ok(Response::new(AppHeartBeatResponse::default()))
    }
}

impl ShuffleService {
    async fn reported(
        &self,
        application: String,
        shuffle: i32,
        partitions: Vec<i32>,
    ) -> Result<(i32, String, Bytes), Status> {
        let work = move |shard: std::rc::Rc<crate::server::shard::Shard>| async move {
            shard.reported(&application, shuffle, &partitions).map(|blocks| blocks.serialize())
        };
        Ok(match self.shard.call(work).await? {
            Ok(bitmap) => (StatusCode::Success.code(), String::new(), bitmap.into()),
            Err(refusal) => (status_of(refusal).code(), refusal.to_string(), Bytes::new()),
        })
    }
}

fn segments(found: &InMemory) -> Vec<ShuffleDataBlockSegment> {
    let mut offset = 0;
    let segment = |head: &crate::store::BlockHead| {
        let segment = ShuffleDataBlockSegment {
            block_id: head.id,
            offset,
            length: head.length.cast_signed(),
            uncompress_length: head.uncompressed_length.cast_signed(),
            crc: i64::from(head.crc),
            task_attempt_id: head.attempt,
        };
        offset += i64::from(head.length);
        segment
    };
    found.blocks.iter().map(segment).collect()
}
