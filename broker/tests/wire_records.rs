//! Record sets: what producers may send, what is in batches of every codec, and what we build.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Write;

use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use watershed_broker::wire::error_code::ErrorCode;
use watershed_broker::wire::records::{
    BatchBuilder, Codec, ControlKind, Packing, Payload, RecordsError, check, recompress,
};
use watershed_core::batch::BatchHeader;
use watershed_core::checksum::crc32c;

const MIB: usize = 1 << 20;
const CODECS: [i16; 5] = [0, 1, 2, 3, 4];

fn three_records() -> BatchBuilder {
    let mut batch = BatchBuilder::new(1_000);
    batch.push(1_000, Some(b"key"), Some(b"value"));
    batch.push_with_headers(1_005, None, Some(&[7; 5000]), &[("h", Some(b"v")), ("empty", None)]);
    batch.push(990, Some(b""), None);
    batch
}

/// Packs as a client of this codec does; snappy as Java frames it.
fn pack(codec: i16, records: &[u8]) -> Vec<u8> {
    match codec {
        0 => records.to_vec(),
        1 => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(records).unwrap();
            gzip.finish().unwrap()
        }
        2 => xerial(records),
        3 => {
            let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
            lz4.write_all(records).unwrap();
            lz4.finish().unwrap()
        }
        _ => zstd::encode_all(records, 3).unwrap(),
    }
}

fn xerial(records: &[u8]) -> Vec<u8> {
    let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in records.chunks(1024) {
        let packed = snap::raw::Encoder::new().compress_vec(block).unwrap();
        framed.extend((packed.len() as u32).to_be_bytes());
        framed.extend(packed);
    }
    framed
}

fn assert_three_records(batch: &[u8]) {
    let payload = Payload::open(batch, MIB).unwrap();
    let records: Vec<_> = payload.records().collect::<Result<_, _>>().unwrap();
    let seen: Vec<_> = records.iter().map(|r| (r.offset_delta, r.timestamp_delta_ms, r.key, r.value)).collect();
    assert_eq!(seen[0], (0, 0, Some(&b"key"[..]), Some(&b"value"[..])));
    assert_eq!(seen[1], (1, 5, None, Some(&[7; 5000][..])));
    assert_eq!(seen[2], (2, -10, Some(&b""[..]), None));
    assert_eq!(seen.len(), 3);
    let headers = records[1].headers().unwrap();
    let headers: Vec<_> = headers.iter().map(|header| (header.key, header.value)).collect();
    assert_eq!(headers, [("h", Some(&b"v"[..])), ("empty", None)]);
}

#[test]
fn batches_of_every_codec_are_accepted_and_opened() {
    for codec in CODECS {
        let batch = three_records().build_packed(codec, |records| pack(codec, records));
        let header = check(&batch, 7).unwrap();
        assert_eq!((header.records_count, header.codec(), header.max_timestamp), (3, codec as u8, 1_005));
        assert_three_records(&batch);
    }
    let unframed = |records: &[u8]| snap::raw::Encoder::new().compress_vec(records).unwrap();
    assert_three_records(&three_records().build_packed(2, unframed));
}

#[test]
fn batches_of_another_encoder_are_accepted_and_opened() {
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for compression in codecs {
        let record = |offset: i64| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 0,
            producer_id: 9,
            producer_epoch: 1,
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: 20 + offset as i32,
            timestamp: 500 + offset,
            key: None,
            value: Some(bytes::Bytes::from(vec![b'x'; 300])),
            headers: IndexMap::new(),
        };
        let records: Vec<_> = (0..50).map(record).collect();
        let mut batch = bytes::BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression };
        RecordBatchEncoder::encode(&mut batch, &records, &options).unwrap();
        let header = check(&batch, 9).unwrap();
        assert_eq!((header.records_count, header.producer_id, header.base_sequence), (50, 9, 20));
        let payload = Payload::open(&batch, MIB).unwrap();
        let values: Vec<_> = payload.records().map(|record| record.unwrap().value.unwrap().len()).collect();
        assert_eq!(values, [300; 50]);
        assert_eq!(payload.first_at_or_after(523).unwrap(), Some((23, 523)));
        assert_eq!(payload.first_at_or_after(550).unwrap(), None);
    }
}

const EVERY_CODEC: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

#[test]
fn a_batch_packed_anew_has_the_same_records_and_all_of_its_header_but_codec_length_and_checksum() {
    for (sent, kept) in CODECS.into_iter().flat_map(|sent| EVERY_CODEC.map(|kept| (sent, kept))) {
        let builder = three_records().at(0, 3).producer(8, 2, 11);
        let batch = builder.build_packed(sent, |records| pack(sent, records));
        let repacked = recompress(&batch, kept.into(), MIB).unwrap();
        assert_three_records(&repacked);
        let (before, after) = (BatchHeader::parse(&batch).unwrap(), check(&repacked, 9).unwrap());
        assert_eq!(i16::from(after.codec()), kept.attributes());
        let attributes = before.attributes & !7 | kept.attributes();
        assert_eq!(BatchHeader { attributes, bytes: after.bytes, crc: after.crc, ..before }, after);
        let set = RecordBatchDecoder::decode(&mut bytes::Bytes::from(repacked)).unwrap();
        let seen: Vec<_> = set.records.iter().map(|r| (r.offset, r.timestamp, r.sequence, r.producer_id)).collect();
        assert_eq!(seen, [(0, 1_000, 11, 8), (1, 1_005, 12, 8), (2, 990, 13, 8)], "{sent} to {kept:?}");
    }
}

#[test]
fn levels_say_how_hard_a_codec_tries() {
    let mut builder = BatchBuilder::new(0);
    let words = ["river", "delta", "source", "mouth", "bank", "flood"];
    let text: Vec<u8> = (0u32..20_000).flat_map(|n| words[(n * n % 61 % 6) as usize].bytes()).collect();
    builder.push(0, None, Some(&text));
    let plain = builder.build();
    let bytes = |codec, level| recompress(&plain, Packing { codec, level }, MIB).unwrap().len();
    assert!(bytes(Codec::Gzip, 9) < bytes(Codec::Gzip, 1));
    assert_eq!(bytes(Codec::Gzip, -1), bytes(Codec::Gzip, 6));
    assert!(bytes(Codec::Zstd, 19) < bytes(Codec::Zstd, -1_000));
}

#[test]
fn what_cannot_be_packed_anew_is_refused_by_kafkas_code() {
    let gzip = |records: &[u8]| three_records().build_packed(1, |_| pack(1, records));
    let refused = |batch: &[u8], codec: Codec, bytes_max| recompress(batch, codec.into(), bytes_max).unwrap_err().error;
    for codec in [1, 2, 3, 4] {
        let mut torn = three_records().build_packed(codec, |records| pack(codec, records));
        let middle = 61 + (torn.len() - 61) / 2;
        torn[middle..].fill(0xa5);
        let refusal = recompress(&torn, Codec::None.into(), MIB).unwrap_err();
        assert!(matches!(refusal.error, ErrorCode::CorruptMessage | ErrorCode::InvalidRecord), "{codec}: {refusal:?}");
        let noise = three_records().build_packed(codec, |_| vec![0xa5; 100]);
        assert_eq!(refused(&noise, Codec::None, MIB), ErrorCode::CorruptMessage, "{codec}");
    }
    let whole = three_records().build();
    for codec in EVERY_CODEC {
        let bytes = recompress(&gzip(&whole[61..]), codec.into(), MIB).unwrap().len();
        assert!(recompress(&gzip(&whole[61..]), codec.into(), bytes).is_ok());
        assert_eq!(refused(&gzip(&whole[61..]), codec, bytes - 1), ErrorCode::MessageTooLarge, "{codec:?}");
    }
    assert_eq!(refused(&gzip(&whole[61..whole.len() - 1]), Codec::Zstd, MIB), ErrorCode::InvalidRecord);
    assert_eq!(refused(&gzip(&[&whole[61..], &[0]].concat()), Codec::Zstd, MIB), ErrorCode::InvalidRecord);
    let mut jumps = whole[61..].to_vec();
    jumps[3] = 4; // the first record's offset: 2 instead of 0
    assert_eq!(refused(&gzip(&jumps), Codec::Zstd, MIB), ErrorCode::InvalidRecord);
    let bomb = gzip(&vec![0; 129 << 20]);
    assert!(bomb.len() < MIB);
    assert_eq!(refused(&bomb, Codec::Zstd, MIB), ErrorCode::MessageTooLarge);
}

#[test]
fn another_decoder_reads_what_we_build() {
    let batch = three_records().at(40, 3).producer(8, 2, 11).build();
    let set = RecordBatchDecoder::decode(&mut bytes::Bytes::from(batch)).unwrap();
    let seen: Vec<_> = set.records.iter().map(|r| (r.offset, r.timestamp, r.sequence, r.producer_id)).collect();
    assert_eq!(seen, [(40, 1_000, 11, 8), (41, 1_005, 12, 8), (42, 990, 13, 8)]);
    assert_eq!(set.records[1].headers.len(), 2);
}

#[test]
fn a_control_batch_has_its_kind_in_the_key() {
    let mut batch = BatchBuilder::new(5);
    batch.push_control(5, ControlKind::LeaderChange, b"value");
    let batch = batch.build();
    assert!(BatchHeader::parse(&batch).unwrap().is_control());
    let payload = Payload::open(&batch, MIB).unwrap();
    assert_eq!(payload.records().next().unwrap().unwrap().key, Some(&[0, 0, 0, 2][..]));
}

/// Changes bytes and makes the checksum fit again.
fn altered(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

#[test]
fn what_producers_may_not_send_is_refused_by_kafkas_code() {
    let good = || three_records().build();
    let idempotent = || three_records().producer(4, 0, 0).build();
    let twice = [good(), good()].concat();
    let mut flipped = good();
    *flipped.last_mut().unwrap() ^= 1;
    let length = (49i32 - 1).to_be_bytes();
    let refused: [(&str, Vec<u8>, ErrorCode); 17] = [
        ("nothing", Vec::new(), ErrorCode::InvalidRecord),
        ("two batches", twice, ErrorCode::InvalidRecord),
        ("cut off", good()[..80].to_vec(), ErrorCode::InvalidRecord),
        ("cut in the header", good()[..30].to_vec(), ErrorCode::InvalidRecord),
        ("bytes behind", [good(), vec![0]].concat(), ErrorCode::InvalidRecord),
        ("old magic", altered(good(), 16, &[1]), ErrorCode::InvalidRecord),
        ("flipped bit", flipped, ErrorCode::CorruptMessage),
        ("impossible length", altered(good(), 8, &length), ErrorCode::CorruptMessage),
        ("base offset", altered(good(), 0, &1i64.to_be_bytes()), ErrorCode::InvalidRecord),
        ("unknown codec", altered(good(), 22, &[5]), ErrorCode::UnsupportedCompressionType),
        ("no records", BatchBuilder::new(0).build(), ErrorCode::InvalidRecord),
        ("count", altered(good(), 57, &4i32.to_be_bytes()), ErrorCode::InvalidRecord),
        ("control", altered(good(), 22, &[0x20]), ErrorCode::InvalidRecord),
        ("append time", altered(good(), 22, &[0x08]), ErrorCode::InvalidTimestamp),
        ("sequence", altered(idempotent(), 53, &(-1i32).to_be_bytes()), ErrorCode::InvalidRecord),
        ("epoch", altered(idempotent(), 51, &(-1i16).to_be_bytes()), ErrorCode::InvalidRecord),
        ("transaction without id", three_records().transactional().build(), ErrorCode::InvalidRecord),
    ];
    for (what, set, error) in refused {
        assert_eq!(check(&set, 9).err().map(|refusal| refusal.error), Some(error), "{what}");
    }
    let zstd = three_records().build_packed(4, |records| pack(4, records));
    assert_eq!(check(&zstd, 6).unwrap_err().error, ErrorCode::UnsupportedCompressionType);
    assert!(check(&idempotent(), 3).is_ok());
    assert!(check(&three_records().producer(4, 0, 0).transactional().build(), 3).is_ok());
}

#[test]
fn a_payload_may_not_unpack_beyond_its_limit() {
    let zeroes = vec![0u8; 4 * MIB];
    for codec in [1, 2, 3, 4] {
        let bomb = three_records().build_packed(codec, |_| pack(codec, &zeroes));
        assert!(bomb.len() < MIB);
        assert_eq!(Payload::open(&bomb, MIB).err(), Some(RecordsError::TooLarge), "codec {codec}");
    }
    let claim = three_records().build_packed(2, |_| vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]);
    assert_eq!(Payload::open(&claim, MIB).err(), Some(RecordsError::Malformed));
}

#[test]
fn damaged_payloads_are_errors_or_values_but_never_panics() {
    for codec in CODECS {
        let batch = three_records().build_packed(codec, |records| pack(codec, records));
        for place in 61..batch.len().min(400) {
            let mut damaged = batch.clone();
            damaged[place] ^= 0x55;
            if let Ok(payload) = Payload::open(&damaged, MIB) {
                for record in payload.records().flatten() {
                    let _ = record.headers();
                }
            }
        }
    }
    // A record may not reach beyond the batch, nor may bytes follow the last.
    let long = altered(three_records().build(), 61, &[0xff]);
    assert!(Payload::open(&long, MIB).unwrap().records().any(|record| record.is_err()));
    let fewer = altered(three_records().build(), 57, &2i32.to_be_bytes());
    assert!(Payload::open(&fewer, MIB).unwrap().records().last().unwrap().is_err());
}
