//! The stream parser of sent blocks: the same events however the bytes are split, and nothing believed that cannot follow.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;
use watershed_shuffle::wire::reader::WireError;
use watershed_shuffle::wire::send::{BlockHead, Event, SendHead, SendParser, Want};

const SHUFFLE: i32 = 7;

#[derive(Clone, Debug)]
struct Block {
    block_id: i64,
    data: Vec<u8>,
    servers: Vec<(Option<String>, String)>,
}

fn put_string(to: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None => to.extend((-1i32).to_be_bytes()),
        Some(text) => {
            to.extend((text.len() as i32).to_be_bytes());
            to.extend(text.as_bytes());
        }
    }
}

/// A content as the client writes it.
fn content(partitions: &[(i32, Vec<Block>)]) -> Vec<u8> {
    let mut to = Vec::new();
    to.extend(42i64.to_be_bytes());
    put_string(&mut to, Some("local-1"));
    to.extend(SHUFFLE.to_be_bytes());
    to.extend(99i64.to_be_bytes());
    to.extend((partitions.len() as i32).to_be_bytes());
    for (partition_id, blocks) in partitions {
        to.extend(partition_id.to_be_bytes());
        to.extend((blocks.len() as i32).to_be_bytes());
        for block in blocks {
            put_block(&mut to, *partition_id, block);
        }
    }
    to.extend(123i64.to_be_bytes());
    to
}

fn put_block(to: &mut Vec<u8>, partition_id: i32, block: &Block) {
    to.extend(partition_id.to_be_bytes());
    to.extend(block.block_id.to_be_bytes());
    to.extend((block.data.len() as i32).to_be_bytes());
    to.extend(SHUFFLE.to_be_bytes());
    to.extend(5i64.to_be_bytes());
    to.extend(6i64.to_be_bytes());
    to.extend((block.data.len() as i32).to_be_bytes());
    to.extend(&block.data);
    to.extend((block.servers.len() as i32).to_be_bytes());
    for (id, host) in &block.servers {
        put_string(to, id.as_deref());
        put_string(to, Some(host));
        to.extend([0; 8]);
    }
    to.extend(77i32.to_be_bytes());
    to.extend([0; 8]);
}

/// What the content should say, with the data of all blocks.
fn expected(partitions: &[(i32, Vec<Block>)]) -> (Vec<Event>, Vec<u8>) {
    let mut events = vec![Event::Begin(SendHead {
        request_id: 42,
        app_id: "local-1".to_owned(),
        shuffle_id: SHUFFLE,
        require_buffer_id: 99,
        partition_count: partitions.len() as u32,
    })];
    let mut data = Vec::new();
    for (partition_id, blocks) in partitions {
        let partition_id = *partition_id;
        events.push(Event::Partition { partition_id, block_count: blocks.len() as u32 });
        for block in blocks {
            let length = block.data.len() as u32;
            let block_id = block.block_id;
            events.push(Event::Block(BlockHead { partition_id, block_id, length, crc: 5, task_attempt_id: 6 }));
            events.push(Event::BlockEnd { uncompress_length: 77 });
            data.extend(&block.data);
        }
    }
    events.push(Event::End { timestamp_ms: 123 });
    (events, data)
}

/// Drives a parser as a connection does: what has arrived is fed or placed, piece after piece.
fn drive<'a>(
    content_bytes: u32,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<(Vec<Event>, Vec<u8>, Want), WireError> {
    let mut parser = SendParser::new(content_bytes);
    let (mut events, mut data) = (Vec::new(), Vec::new());
    for mut piece in pieces {
        while !piece.is_empty() && parser.want() != Want::Nothing {
            if let Want::Data { bytes } = parser.want() {
                let here = piece.len().min(bytes as usize);
                data.extend(&piece[..here]);
                piece = &piece[here..];
                parser.placed(here as u32);
                continue;
            }
            let fed = parser.feed(piece)?;
            assert!(fed.consumed > 0 || fed.event.is_some(), "no progress");
            piece = &piece[fed.consumed..];
            events.extend(fed.event);
        }
    }
    let want = parser.want();
    Ok((events, data, want))
}

fn blocks() -> impl Strategy<Value = Vec<(i32, Vec<Block>)>> {
    let servers = proptest::collection::vec((proptest::option::of("[a-z0-9-]{0,30}"), "[a-z.]{0,20}"), 0..3);
    let block = (any::<i64>(), proptest::collection::vec(any::<u8>(), 0..90), servers);
    let block = block.prop_map(|(block_id, data, servers)| Block { block_id, data, servers });
    proptest::collection::vec((any::<i32>(), proptest::collection::vec(block, 0..4)), 0..4)
}

proptest! {
    #[test]
    fn any_split_says_the_same(partitions in blocks(), cuts in proptest::collection::vec(1usize..60, 1..40)) {
        let content = content(&partitions);
        let (events, data) = expected(&partitions);
        let mut rest = &content[..];
        let mut cuts = cuts.into_iter().cycle();
        let pieces = std::iter::from_fn(|| {
            let (piece, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        });
        let split = drive(content.len() as u32, pieces).unwrap();
        prop_assert_eq!(&split, &(events, data, Want::Nothing));
        prop_assert_eq!(drive(content.len() as u32, [&content[..]].into_iter()).unwrap(), split);
    }

    #[test]
    fn no_bytes_make_it_want_more_than_the_frame_holds(
        partitions in blocks(),
        wrong in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        split in 1usize..50,
    ) {
        let mut content = content(&partitions);
        for (at, byte) in wrong {
            let at = at.index(content.len());
            content[at] = byte;
        }
        let mut parser = SendParser::new(content.len() as u32);
        let mut at = 0;
        while at < content.len() {
            let here = &content[at..(at + split).min(content.len())];
            match parser.want() {
                Want::Nothing => break,
                Want::Data { bytes } => {
                    prop_assert!(bytes as usize <= content.len() - at);
                    parser.placed(bytes.min(here.len() as u32));
                    at += here.len().min(bytes as usize);
                }
                Want::Heads { bytes_min } => {
                    prop_assert!((1..=1040).contains(&bytes_min));
                    match parser.feed(here) {
                        Ok(fed) => at += fed.consumed,
                        Err(_) => break,
                    }
                }
            }
        }
    }
}

fn one_block() -> (Vec<(i32, Vec<Block>)>, Vec<u8>) {
    let servers = vec![(Some("s-1".to_owned()), "host".to_owned())];
    let partitions = vec![(3, vec![Block { block_id: 1, data: vec![9; 20], servers }])];
    let bytes = content(&partitions);
    (partitions, bytes)
}

fn error_of(content: &[u8]) -> WireError {
    drive(content.len() as u32, [content].into_iter()).unwrap_err()
}

fn with_i32(content: &[u8], at: usize, value: i32) -> Vec<u8> {
    let mut changed = content.to_vec();
    changed[at..at + 4].copy_from_slice(&value.to_be_bytes());
    changed
}

#[test]
fn counts_and_lengths_must_fit_into_the_frame() {
    let (_, whole) = one_block();
    // Where the fields lie: request id 8, appId 4 + 7, shuffle 4, ticket 8, count 4, partition 4, count 4, block head 40.
    let places = [(8, "appId"), (31, "partitions"), (39, "blocks"), (103, "servers"), (107, "server id")];
    for (at, field) in places {
        for value in [i32::MAX, i32::MIN, 4000] {
            let error = error_of(&with_i32(&whole, at, value));
            assert_eq!(error, WireError::BadLength { field, at }, "{value}");
        }
    }
    assert_eq!(error_of(&with_i32(&whole, 8, -1)), WireError::UnexpectedNull { field: "appId", at: 8 });
}

#[test]
fn what_contradicts_itself_is_refused() {
    let (_, whole) = one_block();
    assert_eq!(error_of(&with_i32(&whole, 43, 4)), WireError::Contradiction { field: "partitionId", at: 43 });
    assert_eq!(error_of(&with_i32(&whole, 59, 8)), WireError::Contradiction { field: "shuffleId", at: 59 });
    assert_eq!(error_of(&with_i32(&whole, 79, 19)), WireError::Contradiction { field: "dataLen", at: 79 });
    let long = with_i32(&with_i32(&whole, 55, 4000), 79, 4000);
    assert_eq!(error_of(&long), WireError::BadLength { field: "dataLen", at: 79 });
}

#[test]
fn a_frame_ends_where_its_content_does() {
    let (_, whole) = one_block();
    let trailing = [&whole[..], &[0]].concat();
    assert!(matches!(error_of(&trailing), WireError::TrailingBytes { .. }));
    let short = drive(whole.len() as u32 - 1, [&whole[..whole.len() - 1]].into_iter());
    assert!(matches!(short, Err(WireError::Truncated { .. })), "{short:?}");
    for here in 0..whole.len() {
        let (_, _, want) = drive(whole.len() as u32, [&whole[..here]].into_iter()).unwrap();
        assert_ne!(want, Want::Nothing, "{here} bytes are not the frame");
    }
}

#[test]
fn the_request_is_known_before_its_blocks_are() {
    let (_, whole) = one_block();
    let mut parser = SendParser::new(whole.len() as u32);
    assert_eq!((parser.request_id(), parser.want()), (None, Want::Heads { bytes_min: 12 }));
    parser.feed(&whole[..12]).unwrap();
    assert_eq!((parser.request_id(), parser.want()), (Some(42), Want::Heads { bytes_min: 23 }));
}
