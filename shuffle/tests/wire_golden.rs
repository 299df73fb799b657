//! Frames and messages of recorded jobs: ours are read as they were meant, and written byte for byte as the Java servers do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod traces;

use std::collections::BTreeMap;

use prost::Message;
use serde_json::{Value, json};
use traces::{Line, from_hex, lines};
use watershed_shuffle::wire::bitmap::{BlockIds, attempt_filter};
use watershed_shuffle::wire::frame::{FrameHeader, FrameType, HEADER_BYTES};
use watershed_shuffle::wire::index::{self, IndexEntry};
use watershed_shuffle::wire::proto;
use watershed_shuffle::wire::reply::{Answer, MemorySegment};
use watershed_shuffle::wire::request::{LocalShuffleData, LocalShuffleIndex, MemoryShuffleData, Request};
use watershed_shuffle::wire::send::{Event, SendParser, Want};
use watershed_shuffle::wire::status::StatusCode;

/// The frames that went this way and were recorded whole, with their headers.
fn frames(way: &str) -> Vec<(Line, FrameHeader, Vec<u8>)> {
    let length = |line: &Line, part: &str| line.json[part].as_u64().unwrap() as usize;
    let mut whole = Vec::new();
    for line in lines("netty").into_iter().filter(|line| line.str("way") == way) {
        let frame_bytes = HEADER_BYTES + length(&line, "contentLen") + length(&line, "bodyLen");
        if line.str("hex").len() != 2 * frame_bytes {
            continue;
        }
        let frame = line.hex("hex");
        let header = match way {
            "c>s" => FrameHeader::parse_request(&frame, 64 << 20),
            _ => FrameHeader::parse_reply(&frame, 64 << 20),
        };
        let header = header.unwrap().unwrap();
        assert_eq!(json!(header.frame_type.code()), line.json["type"], "{}", line.place);
        assert_eq!(header.content_bytes as usize, length(&line, "contentLen"), "{}", line.place);
        whole.push((line, header, frame));
    }
    whole
}

fn sent_fields(content: &[u8]) -> Value {
    let mut parser = SendParser::new(content.len() as u32);
    let mut rest = content;
    let mut sent = json!(null);
    let (mut partitions, mut blocks) = (Vec::new(), Vec::new());
    while parser.want() != Want::Nothing {
        if let Want::Data { bytes } = parser.want() {
            let (data, after) = rest.split_at(bytes as usize);
            let block: &mut Value = blocks.last_mut().unwrap();
            assert_eq!(block["crc"], json!(crc32fast::hash(data)), "the data is not the block's");
            rest = after;
            parser.placed(bytes);
            continue;
        }
        let fed = parser.feed(rest).unwrap();
        rest = &rest[fed.consumed..];
        match fed.event.unwrap() {
            Event::Begin(head) => {
                sent = json!({
                    "requestId": head.request_id, "appId": head.app_id, "shuffleId": head.shuffle_id,
                    "requireBufferId": head.require_buffer_id,
                });
            }
            Event::Partition { partition_id, .. } => {
                partitions.push(json!({ "partitionId": partition_id, "blocks": [] }))
            }
            Event::Block(head) => blocks.push(json!({
                "partitionId": head.partition_id, "blockId": head.block_id, "length": head.length, "crc": head.crc,
                "taskAttemptId": head.task_attempt_id,
            })),
            Event::BlockEnd { uncompress_length } => {
                let mut block = blocks.pop().unwrap();
                block["uncompressLength"] = json!(uncompress_length);
                partitions.last_mut().unwrap()["blocks"].as_array_mut().unwrap().push(block);
            }
            Event::End { timestamp_ms } => sent["timestamp"] = json!(timestamp_ms),
        }
    }
    assert!(rest.is_empty());
    sent["partitions"] = json!(partitions);
    sent
}

fn index_fields(of: &LocalShuffleIndex<'_>) -> Value {
    json!({
        "requestId": of.request_id, "appId": of.app_id, "shuffleId": of.shuffle_id, "partitionId": of.partition_id,
        "partitionNumPerRange": of.partition_num_per_range, "partitionNum": of.partition_num,
    })
}

fn data_fields(request: &LocalShuffleData<'_>) -> Value {
    let mut fields = index_fields(&request.of);
    fields["offset"] = json!(request.offset);
    fields["length"] = json!(request.length);
    fields["timestamp"] = json!(request.timestamp_ms);
    if let Some(storage_id) = request.storage_id {
        fields["storageId"] = json!(storage_id);
    }
    fields
}

fn memory_fields(request: &MemoryShuffleData<'_>) -> Value {
    let mut fields = json!({
        "requestId": request.request_id, "appId": request.app_id, "shuffleId": request.shuffle_id,
        "partitionId": request.partition_id, "lastBlockId": request.last_block_id,
        "readBufferSize": request.read_buffer_bytes, "timestamp": request.timestamp_ms,
    });
    fields["bitmapLen"] = json!(request.expected_task_ids.map_or(-1, |bytes| bytes.len() as i64));
    if let Some(bytes) = request.expected_task_ids {
        fields["bitmap"] = json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
    fields
}

/// What the trace says of a request, without what is passed over.
fn traced(line: &Line) -> Value {
    let mut fields = line.json["fields"].clone();
    fields.as_object_mut().unwrap().remove("_trailing");
    let partitions = fields.get_mut("partitions").and_then(Value::as_array_mut);
    for partition in partitions.into_iter().flatten() {
        for block in partition["blocks"].as_array_mut().unwrap() {
            assert_eq!(block["length"], block["dataLen"]);
            for passed_over in ["servers", "freeMemory", "shuffleId", "dataLen"] {
                block.as_object_mut().unwrap().remove(passed_over);
            }
        }
    }
    fields
}

#[test]
fn requests_are_read_as_they_were_meant() {
    let mut seen = BTreeMap::new();
    for (line, header, frame) in frames("c>s") {
        let content = &frame[HEADER_BYTES..];
        let fields = match header.frame_type {
            FrameType::SendShuffleData => sent_fields(content),
            small => match Request::parse(small, content).unwrap() {
                Request::Index(request) => index_fields(&request),
                Request::Data(request) => data_fields(&request),
                Request::Memory(request) => memory_fields(&request),
            },
        };
        assert_eq!(fields, traced(&line), "{}", line.place);
        *seen.entry(header.frame_type.code()).or_insert(0) += 1;
        for cut in 0..content.len().min(200) {
            if header.frame_type != FrameType::SendShuffleData {
                assert!(Request::parse(header.frame_type, &content[..cut]).is_err(), "{} cut at {cut}", line.place);
            }
        }
    }
    assert_eq!(seen.keys().collect::<Vec<_>>(), [&3, &4, &5, &6, &24]);
}

#[test]
fn replies_are_written_byte_for_byte() {
    let mut seen = BTreeMap::new();
    for (line, header, frame) in frames("s>c") {
        let fields = &line.json["fields"];
        let status = StatusCode::try_from(fields["status"].as_i64().unwrap() as i32).unwrap();
        let request_id = fields["requestId"].as_i64().unwrap();
        let answer = Answer { request_id, status, message: fields["retMsg"].as_str().unwrap() };
        let (head, body) = frame.split_at(HEADER_BYTES + header.content_bytes as usize);
        let ours = match header.frame_type {
            FrameType::RpcResponse => answer.sent(),
            FrameType::LocalShuffleIndexResponse => {
                assert_eq!(written_index(fields), body, "{}", line.place);
                answer.index(fields["dataFileLen"].as_i64().unwrap(), header.body_bytes)
            }
            FrameType::LocalShuffleDataResponse => answer.data(header.body_bytes),
            FrameType::MemoryShuffleDataResponse => answer.memory(&segments(fields), header.body_bytes),
            // What only the Java server of 0.10 sends, and we never do.
            FrameType::LocalShuffleIndexV2Response => continue,
            other => panic!("{other:?}"),
        };
        assert_eq!(ours, head, "{}", line.place);
        *seen.entry(header.frame_type.code()).or_insert(0) += 1;
    }
    assert_eq!(seen.keys().collect::<Vec<_>>(), [&0, &14, &15, &16]);
}

fn written_index(fields: &Value) -> Vec<u8> {
    let number = |entry: &Value, key: &str| entry[key].as_i64().unwrap();
    let entries = fields["index"].as_array().unwrap().iter().map(|entry| IndexEntry {
        offset: number(entry, "offset"),
        length: number(entry, "length") as i32,
        uncompress_length: number(entry, "uncompressLength") as i32,
        crc: number(entry, "crc"),
        block_id: number(entry, "blockId"),
        task_attempt_id: number(entry, "taskAttemptId"),
    });
    let entries = entries.collect::<Vec<_>>();
    let bytes = entries.iter().flat_map(IndexEntry::to_bytes).collect::<Vec<u8>>();
    assert_eq!(index::entries(&bytes).collect::<Vec<_>>(), entries);
    bytes
}

fn segments(fields: &Value) -> Vec<MemorySegment> {
    let number = |segment: &Value, key: &str| segment[key].as_i64().unwrap();
    let segments = fields["segments"].as_array().unwrap().iter().map(|segment| MemorySegment {
        block_id: number(segment, "blockId"),
        offset: number(segment, "offset") as i32,
        length: number(segment, "length") as i32,
        uncompress_length: number(segment, "uncompressLength") as i32,
        crc: number(segment, "crc"),
        task_attempt_id: number(segment, "taskAttemptId"),
    });
    segments.collect()
}

/// Reads a message and writes it again: a field that is not known here would be lost. Java writes maps in an order of its
/// own, and empty values in them, so what holds one is only read again.
fn comes_back<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8], place: &str) {
    let message = M::decode(bytes).unwrap();
    let again = message.encode_to_vec();
    assert_eq!(M::decode(&again[..]).unwrap(), message, "{place}");
    if !place.contains("registerShuffle") {
        assert_eq!(again, bytes, "{place}: {message:?}");
    }
}

macro_rules! calls {
    ($($method:literal $request:ty => $response:ident;)*) => {
        const CALLS: &[&str] = &[$($method,)*];

        fn call_comes_back(method: &str, request: &[u8], response: &[u8], place: &str) {
            match method {
                $($method => {
                    comes_back::<$request>(request, place);
                    comes_back::<proto::$response>(response, place);
                })*
                other => panic!("{place}: {other} is not known"),
            }
        }
    };
}

calls! {
    "CoordinatorServer/appHeartbeat" proto::AppHeartBeatRequest => AppHeartBeatResponse;
    "CoordinatorServer/fetchClientConf" () => FetchClientConfResponse;
    "CoordinatorServer/fetchClientConfV2" proto::FetchClientConfRequest => FetchClientConfResponse;
    "CoordinatorServer/getShuffleAssignments" proto::GetShuffleServerRequest => GetShuffleAssignmentsResponse;
    "CoordinatorServer/registerApplicationInfo" proto::ApplicationInfoRequest => ApplicationInfoResponse;
    "ShuffleServer/appHeartbeat" proto::AppHeartBeatRequest => AppHeartBeatResponse;
    "ShuffleServer/getLocalShuffleData" proto::GetLocalShuffleDataRequest => GetLocalShuffleDataResponse;
    "ShuffleServer/getLocalShuffleIndex" proto::GetLocalShuffleIndexRequest => GetLocalShuffleIndexResponse;
    "ShuffleServer/getMemoryShuffleData" proto::GetMemoryShuffleDataRequest => GetMemoryShuffleDataResponse;
    "ShuffleServer/getShuffleResultForMultiPart" proto::GetShuffleResultForMultiPartRequest => GetShuffleResultForMultiPartResponse;
    "ShuffleServer/registerShuffle" proto::ShuffleRegisterRequest => ShuffleRegisterResponse;
    "ShuffleServer/reportShuffleResult" proto::ReportShuffleResultRequest => ReportShuffleResultResponse;
    "ShuffleServer/requireBuffer" proto::RequireBufferRequest => RequireBufferResponse;
    "ShuffleServer/sendShuffleData" proto::SendShuffleDataRequest => SendShuffleDataResponse;
    "ShuffleServer/unregisterShuffleByAppId" proto::ShuffleUnregisterByAppIdRequest => ShuffleUnregisterByAppIdResponse;
}

/// Whether a message was recorded whole.
fn is_whole(line: &Line, part: &str) -> bool {
    let length = line.json[format!("{part}_len")].as_u64();
    length.is_none_or(|length| length as usize * 2 == line.str(&format!("{part}_hex")).len())
}

#[test]
fn every_call_is_read_and_written_byte_for_byte() {
    let mut seen = BTreeMap::new();
    for line in lines("grpc") {
        if !is_whole(&line, "req") || !is_whole(&line, "rsp") {
            continue;
        }
        let method = line.str("method").trim_start_matches("/rss.common.");
        let place = format!("{method} in {}", line.place);
        call_comes_back(method, &line.hex("req_hex"), &line.hex("rsp_hex"), &place);
        *seen.entry(method.to_owned()).or_insert(0) += 1;
    }
    assert_eq!(seen.keys().collect::<Vec<_>>(), CALLS);
}

#[test]
fn bitmaps_of_results_and_filters_come_back() {
    let mut filters = 0;
    let mut results = 0;
    for line in lines("grpc").iter().filter(|line| line.str("method").ends_with("MultiPart")) {
        let response = proto::GetShuffleResultForMultiPartResponse::decode(&line.hex("rsp_hex")[..]).unwrap();
        let ids = BlockIds::deserialize(&response.serialized_bitmap).unwrap();
        assert!(!ids.is_empty());
        assert_eq!(ids.serialize(), response.serialized_bitmap, "{}", line.place);
        results += 1;
    }
    for line in lines("netty").iter().filter(|line| line.json["fields"]["bitmap"].is_string()) {
        let bytes = from_hex(line.json["fields"]["bitmap"].as_str().unwrap());
        let attempts = attempt_filter(Some(&bytes)).unwrap().unwrap();
        assert_eq!(attempts.serialize(), bytes, "{}", line.place);
        filters += 1;
    }
    assert!(results > 0 && filters > 0);
}

#[test]
fn old_and_new_clients_are_told_apart_and_ask_as_is_known() {
    let infos = lines("grpc").into_iter().filter(|line| line.str("method").ends_with("registerApplicationInfo"));
    let versions = infos.map(|line| proto::ApplicationInfoRequest::decode(&line.hex("req_hex")[..]).unwrap().version);
    let versions = versions.collect::<std::collections::BTreeSet<_>>();
    assert_eq!(versions.into_iter().collect::<Vec<_>>(), [None, Some("0.10.0".to_owned())]);
    let mut present_but_empty = 0;
    for line in lines("grpc").iter().filter(|line| line.str("method").ends_with("getMemoryShuffleData")) {
        let request = proto::GetMemoryShuffleDataRequest::decode(&line.hex("req_hex")[..]).unwrap();
        let bitmap = request.serialized_expected_task_ids_bitmap;
        present_but_empty += usize::from(bitmap.as_ref().is_some_and(|bytes| bytes.is_empty()));
        assert!(attempt_filter(bitmap.as_deref()).unwrap().is_none(), "{}", line.place);
    }
    assert!(present_but_empty > 0);
}
