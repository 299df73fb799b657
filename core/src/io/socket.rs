//! TCP connections, by the ring.
//!
//! A stream's handles are cheap and stay on their core; between cores it travels as a `RawStream`. Receiving goes into
//! leases, sending gathers pieces and finishes short sends. A future that is dropped keeps its memory until the kernel is
//! done; a dropped receive may have taken bytes with it, so the connection is of no more use than to be closed.
#![allow(unsafe_code)]

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd};
use std::rc::Rc;

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use super::arena::Lease;
use super::buffers::{Gather, Piece};
use super::ring::{OnDrop, submit};
use crate::error::Fault;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// A listening socket.
#[derive(Clone)]
pub struct Listener {
    socket: Rc<TcpListener>,
    address: SocketAddr,
}

impl Listener {
    /// Listens on `address`; port 0 takes any free port.
    pub fn bind(address: SocketAddr) -> Result<Listener, Fault> {
        let fault = |error| Fault::io("listen on", address.to_string(), 0, &error);
        let socket = TcpListener::bind(address).map_err(fault)?;
        // SAFETY: takes no pointers; a second call only raises the backlog.
        if unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) } != 0 {
            return Err(fault(io::Error::last_os_error()));
        }
        let address = socket.local_addr().map_err(fault)?;
        Ok(Listener { socket: Rc::new(socket), address })
    }

    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection.
    pub async fn accept(&self) -> Result<Stream, Fault> {
        let fault = |error| Fault::io("accept on", self.address.to_string(), 0, &error);
        let null = std::ptr::null_mut();
        let entry =
            opcode::Accept::new(Fd(self.socket.as_raw_fd()), null, null.cast()).flags(libc::SOCK_CLOEXEC).build();
        // SAFETY: the entry points to no memory; the payload holds the listener.
        let (result, _) = unsafe { submit(entry, self.socket.clone(), OnDrop::Close) }.await;
        let fd = result.map_err(fault)?;
        // SAFETY: the kernel just made this descriptor for us.
        let socket = unsafe { TcpStream::from_raw_fd(fd as i32) };
        let peer = socket.peer_addr().map_err(fault)?;
        Stream::new(socket, peer)
    }
}

/// A connection on its way to another core.
pub struct RawStream {
    socket: TcpStream,
    peer: SocketAddr,
}

/// A connection. Clones share it; the last one closes it.
#[derive(Clone)]
pub struct Stream {
    socket: Rc<TcpStream>,
    peer: SocketAddr,
}

impl Stream {
    fn new(socket: TcpStream, peer: SocketAddr) -> Result<Stream, Fault> {
        socket.set_nodelay(true).map_err(|error| Fault::io("set TCP_NODELAY on", peer.to_string(), 0, &error))?;
        Ok(Stream { socket: Rc::new(socket), peer })
    }

    /// Connects to `address`.
    pub async fn connect(address: SocketAddr) -> Result<Stream, Fault> {
        let fault = |error| Fault::io("connect to", address.to_string(), 0, &error);
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(fault(io::Error::last_os_error()));
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let socket = Rc::new(unsafe { TcpStream::from_raw_fd(fd) });
        let (name, name_bytes) = socket_name(address);
        let entry = opcode::Connect::new(Fd(fd), name.as_ptr().cast(), name_bytes).build();
        // SAFETY: the name is in the payload's box; the socket is held beside it.
        let op = unsafe { submit(entry, (name, socket.clone()), OnDrop::Cancel) };
        op.await.0.map_err(fault)?;
        let socket = Rc::try_unwrap(socket).unwrap_or_else(|_| unreachable!("the operation is done"));
        Stream::new(socket, address)
    }

    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Receives what is there, or the next that comes, into a part of `lease`. No bytes mean that the peer has closed.
    pub async fn recv(&self, lease: Lease, range: Range<usize>) -> Result<(Lease, usize), Fault> {
        let (result, lease) = self.recv_once(lease, range, 0).await;
        Ok((lease, result.map_err(|error| self.fault("receive from", &error))? as usize))
    }

    /// Fills a part of `lease`, in as few wake-ups as the kernel manages. A peer that closes before is a fault
    /// (`is_end_of_stream`).
    pub async fn recv_exact(&self, mut lease: Lease, mut range: Range<usize>) -> Result<Lease, Fault> {
        while !range.is_empty() {
            let (result, back) = self.recv_once(lease, range.clone(), libc::MSG_WAITALL).await;
            lease = back;
            match result {
                Ok(0) => return Err(self.fault("receive from", &io::Error::from_raw_os_error(libc::ECONNRESET))),
                Ok(count) => range.start += count as usize,
                Err(error) => return Err(self.fault("receive from", &error)),
            }
        }
        Ok(lease)
    }

    async fn recv_once(&self, mut lease: Lease, range: Range<usize>, flags: i32) -> (io::Result<u32>, Lease) {
        assert!(!range.is_empty(), "a receive of no bytes cannot be told from a close");
        loop {
            let target = lease.get_mut(range.clone()).expect("a receive stays inside its lease");
            let len = u32::try_from(target.len()).expect("a lease is far below 4 GiB");
            let entry = opcode::Recv::new(self.fd(), target.as_mut_ptr(), len).flags(flags).build();
            let (result, back) = self.run(entry, lease, OnDrop::Cancel).await;
            lease = back;
            if !is_interrupted(&result) {
                return (result, lease);
            }
        }
    }

    /// Sends all pieces one behind the other. Dropping this future does not take back what is under way.
    pub async fn send_all(&self, pieces: Vec<Piece>) -> Result<(), Fault> {
        let mut gather = Gather::new(pieces);
        while !gather.is_done() {
            // The kernel goes on by itself after a short send, so this is mostly one round.
            let flags = (libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32;
            let entry = opcode::SendMsg::new(self.fd(), gather.header()).flags(flags).build();
            let (result, back) = self.run(entry, gather, OnDrop::Finish).await;
            gather = back;
            if is_interrupted(&result) {
                continue;
            }
            let count = result.map_err(|error| self.fault("send to", &error))?;
            gather.advance(count as usize);
        }
        Ok(())
    }

    /// Ends one or both directions; operations that wait for it end too.
    pub fn shutdown(&self, how: Shutdown) {
        // The only failure is a connection that is gone already.
        let _ = self.socket.shutdown(how);
    }

    /// Makes the connection ready to travel. Gives it back if other handles or operations still use it.
    pub fn into_raw(self) -> Result<RawStream, Stream> {
        let peer = self.peer;
        Rc::try_unwrap(self.socket).map(|socket| RawStream { socket, peer }).map_err(|socket| Stream { socket, peer })
    }

    /// Takes over a connection on this core.
    pub fn from_raw(raw: RawStream) -> Stream {
        Stream { socket: Rc::new(raw.socket), peer: raw.peer }
    }

    fn fd(&self) -> Fd {
        Fd(self.socket.as_raw_fd())
    }

    async fn run<T: 'static>(&self, entry: squeue::Entry, payload: T, on_drop: OnDrop) -> (io::Result<u32>, T) {
        // SAFETY: private to this module, whose entries point into a lease's block or a gather's boxes and pieces, which
        // `payload` owns; the descriptor is held beside it.
        let op = unsafe { submit(entry, (payload, self.socket.clone()), on_drop) };
        let (result, (payload, _)) = op.await;
        (result, payload)
    }

    fn fault(&self, operation: &'static str, error: &io::Error) -> Fault {
        Fault::io(operation, self.peer.to_string(), 0, error)
    }
}

impl RawStream {
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
}

fn is_interrupted(result: &io::Result<u32>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::Interrupted)
}

/// An address as the kernel takes it: the bytes of a `sockaddr`, and how many count.
fn socket_name(address: SocketAddr) -> (Box<[u8; 28]>, libc::socklen_t) {
    let mut name = Box::new([0u8; 28]);
    let mut put = |at: usize, bytes: &[u8]| {
        name.get_mut(at..at + bytes.len()).expect("a sockaddr has 28 bytes").copy_from_slice(bytes);
    };
    put(2, &address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            put(0, &(libc::AF_INET as u16).to_ne_bytes());
            put(4, &v4.ip().octets());
            (name, 16)
        }
        SocketAddr::V6(v6) => {
            put(0, &(libc::AF_INET6 as u16).to_ne_bytes());
            put(4, &v6.flowinfo().to_ne_bytes());
            put(8, &v6.ip().octets());
            put(24, &v6.scope_id().to_ne_bytes());
            (name, 28)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_laid_out_as_the_kernel_expects() {
        let (name, bytes) = socket_name("127.0.0.1:9092".parse().unwrap());
        assert_eq!((bytes, &name[2..8]), (16, &[0x23, 0x84, 127, 0, 0, 1][..]));
        let (name, bytes) = socket_name("[::1]:1".parse().unwrap());
        assert_eq!((bytes, name[2..4].to_vec(), name[23]), (28, vec![0, 1], 1));
    }
}
