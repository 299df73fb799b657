//! A blocking connection that writes requests gathered and hands out whole frames from a buffer.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::Shared;

/// What one read asks for at least.
const READ_BYTES: usize = 64 << 10;
/// A longer answer is not one that we asked for.
const FRAME_BYTES_MAX: usize = 256 << 20;
/// A server that says nothing for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A whole frame in two pieces: what is this request's own, and what it shares with others.
pub(crate) struct Request {
    pub(crate) head: Vec<u8>,
    pub(crate) body: Option<Shared>,
}

impl Request {
    fn pieces(&self) -> [&[u8]; 2] {
        [&self.head, self.body.as_deref().unwrap_or_default()]
    }
}

pub(crate) struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// The bytes that have arrived and are not handed out yet.
    start: usize,
    end: usize,
}

impl Connection {
    pub(crate) fn open(target: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(target).with_context(|| format!("connect to {target}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        Ok(Connection { stream, input: vec![0; READ_BYTES], start: 0, end: 0 })
    }

    /// The same connection for a thread that only sends.
    pub(crate) fn sender(&self) -> Result<Connection> {
        Ok(Connection { stream: self.stream.try_clone()?, input: Vec::new(), start: 0, end: 0 })
    }

    /// Writes all requests in as few calls as the kernel takes.
    pub(crate) fn send(&mut self, requests: &[Request]) -> Result<()> {
        let pieces = requests.iter().flat_map(Request::pieces).filter(|piece| !piece.is_empty());
        let mut slices: Vec<IoSlice<'_>> = pieces.map(IoSlice::new).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            match self.stream.write_vectored(rest) {
                Ok(0) => bail!("the server takes no more bytes"),
                Ok(count) => IoSlice::advance_slices(&mut rest, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("send a request"),
            }
        }
        Ok(())
    }

    /// Waits until at least one whole frame is here.
    pub(crate) fn wait_for_frame(&mut self) -> Result<()> {
        while self.buffered_frame()?.is_none() {
            self.receive()?;
        }
        Ok(())
    }

    /// The next frame that is here, without its length.
    pub(crate) fn next_frame(&mut self) -> Result<Option<&[u8]>> {
        let Some(bytes) = self.buffered_frame()? else {
            return Ok(None);
        };
        let at = self.start + 4;
        self.start = at + bytes;
        Ok(self.input.get(at..at + bytes))
    }

    /// One request, one answer.
    pub(crate) fn call(&mut self, frame: Vec<u8>) -> Result<Vec<u8>> {
        self.send(&[Request { head: frame, body: None }])?;
        self.wait_for_frame()?;
        Ok(self.next_frame()?.unwrap_or_default().to_vec())
    }

    fn arrived(&self) -> &[u8] {
        self.input.get(self.start..self.end).unwrap_or_default()
    }

    /// The length of the next frame, if it is whole.
    fn buffered_frame(&self) -> Result<Option<usize>> {
        let Some(bytes) = frame_bytes(self.arrived())? else {
            return Ok(None);
        };
        Ok((self.arrived().len() >= 4 + bytes).then_some(bytes))
    }

    fn receive(&mut self) -> Result<()> {
        let missing = frame_bytes(self.arrived())?.map_or(0, |bytes| 4 + bytes - self.arrived().len());
        self.make_room(missing.max(READ_BYTES));
        let spare = self.input.get_mut(self.end..).unwrap_or_default();
        match self.stream.read(spare) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(count) => self.end += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("wait for an answer"),
        }
        Ok(())
    }

    fn make_room(&mut self, bytes: usize) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.input.len() - self.end >= bytes {
            return;
        }
        self.input.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        self.input.resize(self.input.len().max(self.end + bytes), 0);
    }
}

/// The length that a frame begins with, if its four bytes are here.
fn frame_bytes(arrived: &[u8]) -> Result<Option<usize>> {
    let Some(prefix) = arrived.first_chunk::<4>() else {
        return Ok(None);
    };
    let bytes = u32::from_be_bytes(*prefix) as usize;
    ensure!(bytes <= FRAME_BYTES_MAX, "an answer claims {bytes} bytes");
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_bytes(bytes: &[u8]) -> Connection {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = Connection::open(listener.local_addr().unwrap()).unwrap();
        listener.accept().unwrap().0.write_all(bytes).unwrap();
        connection
    }

    #[test]
    fn frames_come_out_whole_whatever_their_size() {
        let mut sent = Vec::new();
        let lengths = [0usize, 3, 200_000, 5];
        for length in lengths {
            sent.extend_from_slice(&(length as u32).to_be_bytes());
            sent.extend(std::iter::repeat_n(length as u8, length));
        }
        let mut connection = with_bytes(&sent);
        for length in lengths {
            connection.wait_for_frame().unwrap();
            assert_eq!(connection.next_frame().unwrap(), Some(&vec![length as u8; length][..]));
        }
        assert!(connection.wait_for_frame().is_err(), "the other end is closed");
    }

    #[test]
    fn an_absurd_length_is_an_error_and_no_allocation() {
        assert!(with_bytes(&[0xff; 8]).wait_for_frame().unwrap_err().to_string().contains("claims"));
    }
}
