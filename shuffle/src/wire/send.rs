//! The content of a frame of blocks (type 3), parsed while it arrives.
//!
//! The parser sees heads only. It says when the bytes of a block come next, and how many; whoever drives it puts them where
//! they shall stay and reports them as placed, so that a frame of 16 MB is never held beside its copy. The same events come
//! out however the bytes are split. A count or length is believed only if the rest of the frame can hold it, and nothing
//! is kept but the piece in progress. Lists of servers and the client's free memory are passed over.

use super::reader::{APP_ID_BYTES_MAX, Reader, Result, WireError};

const PARTITION_HEAD_BYTES: u32 = 8;
const BLOCK_HEAD_BYTES: u32 = 40;
const SERVERS_HEAD_BYTES: u32 = 4;
const SERVER_BYTES_MIN: u32 = 16;
const BLOCK_TAIL_BYTES: u32 = 12;
const BLOCK_BYTES_MIN: u32 = BLOCK_HEAD_BYTES + SERVERS_HEAD_BYTES + BLOCK_TAIL_BYTES;
const TIMESTAMP_BYTES: u32 = 8;

/// What the parser waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Bytes of heads, for [`SendParser::feed`]; with fewer than `bytes_min` it comes to no event. Any number will do.
    Heads { bytes_min: usize },
    /// This many bytes of the last block, to be placed and reported to [`SendParser::placed`].
    Data { bytes: u32 },
    /// Nothing: the frame has ended.
    Nothing,
}

/// What the frame said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Begin(SendHead),
    Partition {
        partition_id: i32,
        block_count: u32,
    },
    /// A block, whose data follows.
    Block(BlockHead),
    /// The block is whole.
    BlockEnd {
        uncompress_length: i32,
    },
    End {
        timestamp_ms: i64,
    },
}

/// What a frame begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendHead {
    pub request_id: i64,
    pub app_id: String,
    pub shuffle_id: i32,
    /// The ticket.
    pub require_buffer_id: i64,
    pub partition_count: u32,
}

/// What precedes a block's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHead {
    pub partition_id: i32,
    pub block_id: i64,
    pub length: u32,
    pub crc: i64,
    pub task_attempt_id: i64,
}

/// What came of a piece of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fed {
    /// How many bytes were used; the rest is to be fed again, or placed.
    pub consumed: usize,
    /// `None`: everything was used up, or is not for the parser.
    pub event: Option<Event>,
}

/// The piece of the content that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// Request id and the length of the application's id.
    Opening,
    Identity {
        app_id_bytes: u32,
    },
    PartitionHead,
    BlockHead,
    Data {
        bytes: u32,
    },
    ServersHead,
    /// The length of a server's id or host.
    NameHead {
        name: Name,
    },
    Name {
        name: Name,
        bytes: u32,
    },
    Ports,
    BlockTail,
    Timestamp,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Id,
    Host,
}

/// The machine for one frame.
#[derive(Clone, Debug)]
pub struct SendParser {
    next: Piece,
    /// Bytes of the content that belong to no finished piece.
    left: u32,
    content_bytes: u32,
    /// The beginning of the next piece, if it was split.
    carry: Vec<u8>,
    request_id: i64,
    shuffle_id: i32,
    partition_id: i32,
    partitions_left: u32,
    blocks_left: u32,
    servers_left: u32,
}

impl SendParser {
    /// For a content of this length, as the frame's header gives it.
    pub fn new(content_bytes: u32) -> SendParser {
        SendParser {
            next: Piece::Opening,
            left: content_bytes,
            content_bytes,
            carry: Vec::new(),
            request_id: 0,
            shuffle_id: 0,
            partition_id: 0,
            partitions_left: 0,
            blocks_left: 0,
            servers_left: 0,
        }
    }

    /// The request's id once it is known: what an answer to a frame with an error needs.
    pub fn request_id(&self) -> Option<i64> {
        (self.next != Piece::Opening).then_some(self.request_id)
    }

    pub fn want(&self) -> Want {
        match self.next {
            Piece::Data { bytes } => Want::Data { bytes },
            Piece::Nothing => Want::Nothing,
            Piece::Name { .. } => Want::Heads { bytes_min: 1 },
            piece => Want::Heads { bytes_min: fixed_bytes(piece) as usize - self.carry.len() },
        }
    }

    /// Takes heads up to the next event. Data of blocks is not consumed, nor is anything beyond the frame.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Fed> {
        let mut rest = bytes;
        let mut event = None;
        while event.is_none() {
            event = match self.next {
                Piece::Data { .. } | Piece::Nothing => break,
                Piece::Name { name, bytes } => {
                    if rest.is_empty() {
                        break;
                    }
                    rest = self.pass_over(name, bytes, rest);
                    None
                }
                piece => {
                    let Some(at) = self.gather(fixed_bytes(piece), &mut rest)? else {
                        break;
                    };
                    self.step(piece, at)?
                }
            };
        }
        Ok(Fed { consumed: bytes.len() - rest.len(), event })
    }

    /// Bytes of the last block's data were taken from the stream.
    pub fn placed(&mut self, bytes: u32) {
        let Piece::Data { bytes: wanted } = self.next else {
            panic!("no data of a block is due");
        };
        let left = wanted.checked_sub(bytes).expect("no more is placed than was wanted");
        self.left -= bytes;
        self.next = data_piece(left);
    }

    fn pass_over<'b>(&mut self, name: Name, bytes: u32, rest: &'b [u8]) -> &'b [u8] {
        let here = u32::try_from(rest.len()).map_or(bytes, |length| length.min(bytes));
        self.left -= here;
        self.next = name_piece(name, bytes - here);
        rest.get(here as usize..).unwrap_or_default()
    }

    fn at(&self) -> usize {
        (self.content_bytes - self.left) as usize
    }

    /// The next piece, if it is whole; it is then in `carry` and counted.
    fn gather(&mut self, bytes: u32, rest: &mut &[u8]) -> Result<Option<usize>> {
        let at = self.at();
        if bytes > self.left {
            return Err(WireError::Truncated { field: "content", at });
        }
        let missing = bytes as usize - self.carry.len();
        let (piece, after) = rest.split_at_checked(missing).unwrap_or((*rest, &[]));
        self.carry.extend_from_slice(piece);
        *rest = after;
        if self.carry.len() < bytes as usize {
            return Ok(None);
        }
        self.left -= bytes;
        Ok(Some(at))
    }

    /// Reads the piece in `carry`, which began at `at`.
    fn step(&mut self, piece: Piece, at: usize) -> Result<Option<Event>> {
        let carry = std::mem::take(&mut self.carry);
        let event = self.read(piece, &mut Reader::new(&carry), at);
        self.carry = carry;
        self.carry.clear();
        event
    }

    fn read(&mut self, piece: Piece, r: &mut Reader<'_>, at: usize) -> Result<Option<Event>> {
        match piece {
            Piece::Opening => self.opening(r, at).map(|()| None),
            Piece::Identity { app_id_bytes } => self.identity(r, app_id_bytes, at).map(Some),
            Piece::PartitionHead => self.partition_head(r, at).map(Some),
            Piece::BlockHead => self.block_head(r, at).map(Some),
            Piece::ServersHead => self.servers_head(r, at).map(|()| None),
            Piece::NameHead { name } => self.name_head(name, r, at).map(|()| None),
            Piece::Ports => {
                self.servers_left -= 1;
                self.after_server();
                Ok(None)
            }
            Piece::BlockTail => {
                let uncompress_length = r.i32("uncompressLength")?;
                self.blocks_left -= 1;
                self.after_block()?;
                Ok(Some(Event::BlockEnd { uncompress_length }))
            }
            Piece::Timestamp => {
                self.next = Piece::Nothing;
                Ok(Some(Event::End { timestamp_ms: r.i64("timestamp")? }))
            }
            Piece::Data { .. } | Piece::Name { .. } | Piece::Nothing => Ok(None),
        }
    }

    fn opening(&mut self, r: &mut Reader<'_>, at: usize) -> Result<()> {
        self.request_id = r.i64("requestId")?;
        let field = "appId";
        let app_id_bytes = match r.i32(field)? {
            -1 => return Err(WireError::UnexpectedNull { field, at: at + 8 }),
            bytes => self.within(bytes, 1, field, at + 8)?,
        };
        if app_id_bytes as usize > APP_ID_BYTES_MAX {
            return Err(WireError::BadLength { field, at: at + 8 });
        }
        self.next = Piece::Identity { app_id_bytes };
        Ok(())
    }

    fn identity(&mut self, r: &mut Reader<'_>, app_id_bytes: u32, at: usize) -> Result<Event> {
        let app_id = std::str::from_utf8(r.take(app_id_bytes as usize, "appId")?);
        let app_id = app_id.map_err(|_| WireError::NotUtf8 { field: "appId", at })?.to_owned();
        self.shuffle_id = r.i32("shuffleId")?;
        let require_buffer_id = r.i64("requireBufferId")?;
        let field = "partitions";
        self.partitions_left = self.within(r.i32(field)?, PARTITION_HEAD_BYTES, field, at + r.position() - 4)?;
        self.after_partition()?;
        Ok(Event::Begin(SendHead {
            request_id: self.request_id,
            app_id,
            shuffle_id: self.shuffle_id,
            require_buffer_id,
            partition_count: self.partitions_left,
        }))
    }

    fn partition_head(&mut self, r: &mut Reader<'_>, at: usize) -> Result<Event> {
        self.partition_id = r.i32("partitionId")?;
        self.blocks_left = self.within(r.i32("blocks")?, BLOCK_BYTES_MIN, "blocks", at + 4)?;
        self.partitions_left -= 1;
        let block_count = self.blocks_left;
        self.after_block()?;
        Ok(Event::Partition { partition_id: self.partition_id, block_count })
    }

    fn block_head(&mut self, r: &mut Reader<'_>, at: usize) -> Result<Event> {
        if r.i32("partitionId")? != self.partition_id {
            return Err(WireError::Contradiction { field: "partitionId", at });
        }
        let block_id = r.i64("blockId")?;
        let length = r.i32("length")?;
        if r.i32("shuffleId")? != self.shuffle_id {
            return Err(WireError::Contradiction { field: "shuffleId", at: at + 16 });
        }
        let crc = r.i64("crc")?;
        let task_attempt_id = r.i64("taskAttemptId")?;
        let data_length = r.i32("dataLen")?;
        if data_length != length {
            return Err(WireError::Contradiction { field: "dataLen", at: at + 36 });
        }
        let length = self.within(length, 1, "dataLen", at + 36)?;
        self.next = data_piece(length);
        let partition_id = self.partition_id;
        Ok(Event::Block(BlockHead { partition_id, block_id, length, crc, task_attempt_id }))
    }

    fn servers_head(&mut self, r: &mut Reader<'_>, at: usize) -> Result<()> {
        self.servers_left = self.within(r.i32("servers")?, SERVER_BYTES_MIN, "servers", at)?;
        self.after_server();
        Ok(())
    }

    fn name_head(&mut self, name: Name, r: &mut Reader<'_>, at: usize) -> Result<()> {
        let field = match name {
            Name::Id => "server id",
            Name::Host => "server host",
        };
        let bytes = match r.i32(field)? {
            -1 => 0,
            bytes => self.within(bytes, 1, field, at)?,
        };
        self.next = name_piece(name, bytes);
        Ok(())
    }

    /// A count or length, if that many of `element_bytes` can follow.
    fn within(&self, count: i32, element_bytes: u32, field: &'static str, at: usize) -> Result<u32> {
        match u32::try_from(count) {
            Ok(count) if count <= self.left / element_bytes => Ok(count),
            _ => Err(WireError::BadLength { field, at }),
        }
    }

    fn after_server(&mut self) {
        self.next = match self.servers_left {
            0 => Piece::BlockTail,
            _ => Piece::NameHead { name: Name::Id },
        };
    }

    fn after_block(&mut self) -> Result<()> {
        if self.blocks_left > 0 {
            self.next = Piece::BlockHead;
            return Ok(());
        }
        self.after_partition()
    }

    fn after_partition(&mut self) -> Result<()> {
        if self.partitions_left > 0 {
            self.next = Piece::PartitionHead;
            return Ok(());
        }
        if self.left > TIMESTAMP_BYTES {
            return Err(WireError::TrailingBytes { at: self.at() + TIMESTAMP_BYTES as usize });
        }
        self.next = Piece::Timestamp;
        Ok(())
    }
}

fn data_piece(bytes: u32) -> Piece {
    match bytes {
        0 => Piece::ServersHead,
        bytes => Piece::Data { bytes },
    }
}

fn name_piece(name: Name, bytes: u32) -> Piece {
    match (bytes, name) {
        (0, Name::Id) => Piece::NameHead { name: Name::Host },
        (0, Name::Host) => Piece::Ports,
        (bytes, name) => Piece::Name { name, bytes },
    }
}

/// The length of a piece that is read as a whole.
fn fixed_bytes(piece: Piece) -> u32 {
    match piece {
        Piece::Opening => 12,
        Piece::Identity { app_id_bytes } => app_id_bytes + 16,
        Piece::PartitionHead => PARTITION_HEAD_BYTES,
        Piece::BlockHead => BLOCK_HEAD_BYTES,
        Piece::ServersHead | Piece::NameHead { .. } => SERVERS_HEAD_BYTES,
        Piece::Ports | Piece::Timestamp => TIMESTAMP_BYTES,
        Piece::BlockTail => BLOCK_TAIL_BYTES,
        Piece::Data { .. } | Piece::Name { .. } | Piece::Nothing => 0,
    }
}
