//! A client's connection of the Netty plane: one request at a time, its reply into a buffer that is used again.

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use watershed_shuffle::wire::frame::{FrameHeader, FrameType, HEADER_BYTES};
use watershed_shuffle::wire::reader::Reader;
use watershed_shuffle::wire::status::StatusCode;

use super::job::Block;
use super::plane::{InMemory, Index, Of, Segment, now_ms, refused};

/// Replies that are longer than this are none.
const REPLY_BYTES_MAX: u32 = 1 << 30;
/// Of a block in a frame, beside its bytes and its server.
const BLOCK_HEAD_BYTES: usize = 56;
/// Of a reply's message and its strings.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// The server as its clients name it in every block.
#[derive(Clone, Debug)]
pub(crate) struct ServerName {
    pub(crate) id: String,
    pub(crate) host: String,
    pub(crate) grpc_port: i32,
    pub(crate) netty_port: i32,
}

impl ServerName {
    fn bytes(&self) -> usize {
        4 + self.id.len() + 4 + self.host.len() + 8
    }
}

pub(crate) struct Netty {
    input: BufReader<OwnedReadHalf>,
    output: OwnedWriteHalf,
    received: BytesMut,
    frame: Vec<u8>,
    server: ServerName,
    next_request: i64,
}

/// A reply whose status is success, without what every reply says first.
struct Reply {
    content: Bytes,
    at: usize,
    body: Bytes,
}

impl Reply {
    fn reader(&self) -> Result<Reader<'_>> {
        let mut reader = Reader::new(&self.content);
        reader.take(self.at, "answer")?;
        Ok(reader)
    }
}

impl Netty {
    pub(crate) async fn connect(server: ServerName) -> Result<Netty> {
        let port = u16::try_from(server.netty_port).context("the server names no Netty port")?;
        let stream = TcpStream::connect((server.host.as_str(), port)).await.context("connect to the Netty port")?;
        stream.set_nodelay(true)?;
        let (input, output) = stream.into_split();
        let input = BufReader::with_capacity(64 << 10, input);
        Ok(Netty { input, output, received: BytesMut::new(), frame: Vec::new(), server, next_request: 0 })
    }

    /// The length of a frame of these blocks, as a ticket is asked for.
    pub(crate) fn content_bytes(&self, of: &Of, blocks: &[Block<'_>]) -> usize {
        let partitions = blocks.chunk_by(|one, next| one.partition == next.partition).count();
        let block = |block: &Block<'_>| BLOCK_HEAD_BYTES + self.server.bytes() + block.payload.data.len();
        8 + 4 + of.application.len() + 4 + 8 + 4 + 8 * partitions + blocks.iter().map(block).sum::<usize>() + 8
    }

    pub(crate) async fn send(&mut self, of: &Of, ticket: i64, blocks: &[Block<'_>]) -> Result<()> {
        let content_bytes = u32::try_from(self.content_bytes(of, blocks))?;
        self.begin(of);
        self.i64(ticket);
        let partitions = blocks.chunk_by(|one, next| one.partition == next.partition);
        self.count(partitions.clone().count())?;
        for blocks in partitions {
            self.i32(blocks.first().map_or(0, |block| block.partition));
            self.count(blocks.len())?;
            blocks.iter().try_for_each(|block| self.block(of, block))?;
        }
        self.i64(now_ms());
        ensure!(self.frame.len() == HEADER_BYTES + content_bytes as usize, "a frame is as long as was said");
        let reply = self.ask(FrameType::SendShuffleData, FrameType::RpcResponse).await?;
        Ok(reply.reader()?.finish()?)
    }

    fn block(&mut self, of: &Of, block: &Block<'_>) -> Result<()> {
        let data = &block.payload.data;
        self.i32(block.partition);
        self.i64(block.id);
        self.count(data.len())?;
        self.i32(of.shuffle);
        self.i64(i64::from(block.payload.crc));
        self.i64(block.attempt);
        self.count(data.len())?;
        self.frame.extend_from_slice(data);
        self.count(1)?;
        let ServerName { id, host, grpc_port, netty_port } = self.server.clone();
        self.str(&id)?;
        self.str(&host)?;
        self.i32(grpc_port);
        self.i32(netty_port);
        self.count(data.len())?;
        self.i64(0);
        Ok(())
    }

    pub(crate) async fn memory(&mut self, of: &Of, partition: i32, last: i64, bytes_max: i32) -> Result<InMemory> {
        self.begin(of);
        self.i32(partition);
        self.i64(last);
        self.i32(bytes_max);
        self.i64(now_ms());
        self.i32(-1);
        let reply = self.ask(FrameType::GetMemoryShuffleData, FrameType::MemoryShuffleDataResponse).await?;
        let mut reader = reply.reader()?;
        let count = reader.i32("segments")?;
        let segments = (0..count).map(|_| segment(&mut reader)).collect::<Result<_>>()?;
        reader.finish()?;
        Ok(InMemory { segments, data: reply.body })
    }

    pub(crate) async fn index(&mut self, of: &Of, partition: i32, partitions: i32) -> Result<Index> {
        self.begin_read(of, partition, partitions);
        let reply = self.ask(FrameType::GetLocalShuffleIndex, FrameType::LocalShuffleIndexResponse).await?;
        let mut reader = reply.reader()?;
        let file_bytes = reader.i64("dataFileLen")?;
        reader.finish()?;
        Ok(Index { entries: reply.body, file_bytes })
    }

    pub(crate) async fn data(
        &mut self,
        of: &Of,
        partition: i32,
        partitions: i32,
        offset: i64,
        length: i32,
    ) -> Result<Bytes> {
        self.begin_read(of, partition, partitions);
        self.i64(offset);
        self.i32(length);
        self.i64(now_ms());
        let reply = self.ask(FrameType::GetLocalShuffleData, FrameType::LocalShuffleDataResponse).await?;
        reply.reader()?.finish()?;
        Ok(reply.body)
    }

    fn begin(&mut self, of: &Of) {
        self.frame.clear();
        self.frame.extend_from_slice(&[0; HEADER_BYTES]);
        self.next_request += 1;
        self.i64(self.next_request);
        self.i32(i32::try_from(of.application.len()).unwrap_or(0));
        self.frame.extend_from_slice(of.application.as_bytes());
        self.i32(of.shuffle);
    }

    /// One partition is a range of its own, as in Spark.
    fn begin_read(&mut self, of: &Of, partition: i32, partitions: i32) {
        self.begin(of);
        self.i32(partition);
        self.i32(1);
        self.i32(partitions);
    }

    fn i32(&mut self, value: i32) {
        self.frame.extend_from_slice(&value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.frame.extend_from_slice(&value.to_be_bytes());
    }

    fn count(&mut self, value: usize) -> Result<()> {
        self.i32(i32::try_from(value)?);
        Ok(())
    }

    fn str(&mut self, text: &str) -> Result<()> {
        self.count(text.len())?;
        self.frame.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// Sends the frame and takes its answer.
    async fn ask(&mut self, frame_type: FrameType, answer: FrameType) -> Result<Reply> {
        let content_bytes = u32::try_from(self.frame.len() - HEADER_BYTES)?;
        let header = FrameHeader { frame_type, content_bytes, body_bytes: 0 };
        *self.frame.first_chunk_mut().context("a frame has a header")? = header.to_bytes();
        self.output.write_all(&self.frame).await.context("send a frame")?;
        let header = self.receive(HEADER_BYTES).await?;
        let header = FrameHeader::parse_reply(&header, REPLY_BYTES_MAX)?.context("a header is whole")?;
        ensure!(header.frame_type == answer, "asked by {frame_type:?}, answered by {:?}", header.frame_type);
        let content = self.receive(header.content_bytes as usize).await?;
        let body = self.receive(header.body_bytes as usize).await?;
        let mut reader = Reader::new(&content);
        let request = reader.i64("requestId")?;
        ensure!(request == self.next_request, "asked as {}, answered as {request}", self.next_request);
        let status = reader.i32("status")?;
        let message = reader.str("retMsg", MESSAGE_BYTES_MAX)?;
        if status != StatusCode::Success.code() {
            bail!("{frame_type:?}: {}", refused(status, message));
        }
        let at = reader.position();
        Ok(Reply { content, at, body })
    }

    async fn receive(&mut self, bytes: usize) -> Result<Bytes> {
        self.received.reserve(bytes);
        while self.received.len() < bytes {
            let missing = (bytes - self.received.len()) as u64;
            let received = (&mut self.input).take(missing).read_buf(&mut self.received).await?;
            ensure!(received > 0, "the server closed the connection");
        }
        Ok(self.received.split_to(bytes).freeze())
    }
}

fn segment(reader: &mut Reader<'_>) -> Result<Segment> {
    Ok(Segment {
        id: reader.i64("blockId")?,
        offset: i64::from(reader.i32("offset")?),
        length: reader.i32("length")?,
        uncompressed_length: reader.i32("uncompressLength")?,
        crc: reader.i64("crc")?,
        attempt: reader.i64("taskAttemptId")?,
    })
}
