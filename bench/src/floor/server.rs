//! The floor: the least that a server can do for a frame, on the executor that the broker uses.
//!
//! Receives frames of one known size into aligned memory, checks them with CRC-32C, writes them past the page cache into
//! files that were written before, and answers 8 bytes. No protocol, no index, no offsets. Grouped, all frames that wait
//! are written in one durable write. It is a yardstick: what it acknowledges cannot be read back.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use clap::{Args, ValueEnum};
use serde::Serialize;
use watershed_core::checksum::crc32c;
use watershed_core::error::Fault;
use watershed_core::io::arena::{Arena, Lease};
use watershed_core::io::executor::{self, JoinHandle};
use watershed_core::io::file::{File, OpenHow};
use watershed_core::io::socket::{Listener, Stream};
use watershed_core::units::BLOCK_BYTES;

/// What stands between a frame and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Path {
    /// Nothing: the frame is received and checked.
    Receive,
    /// A direct write.
    Written,
    /// A direct and durable write of each frame.
    Durable,
    /// One direct and durable write of all frames that wait.
    Grouped,
    /// No write; the answer is a frame of the size asked for, from memory.
    Send,
}

impl Path {
    fn writes(self) -> bool {
        matches!(self, Path::Written | Path::Durable | Path::Grouped)
    }
}

/// What the floor's server process is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerArgs {
    #[arg(long)]
    pub(crate) path: Path,
    /// Bytes of a frame, length included
    #[arg(long)]
    pub(crate) size: usize,
    /// Directory of the files that are written
    #[arg(long)]
    pub(crate) dir: PathBuf,
}

/// Bytes of each file; frames go round in it.
const FILE_BYTES: u64 = 128 << 20;
/// Written at a time before the first frame.
const PREWRITE_BYTES: usize = 1 << 20;
/// Frames of one connection that are received before the oldest is on disk.
const FRAMES_PER_CONNECTION_MAX: usize = 4;
/// Bytes that one grouped write takes.
const GROUP_BYTES: usize = 2 << 20;
/// Received at a time where frames are small.
const RECEIVE_BYTES: usize = 256 << 10;
/// Files that are written before the first connection; further connections share them.
const FILES: usize = 4;

/// Serves until the process ends.
pub(crate) async fn serve(args: ServerArgs, arena: Arena) -> Result<(), Fault> {
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let files = if args.path.writes() { prepare_files(&args, &arena).await? } else { Vec::new() };
    let group = match args.path {
        Path::Grouped => Some(Group::start(files.first().cloned().expect("files were prepared"), arena.clone())?),
        _ => None,
    };
    println!("ready listen={}", listener.local_address());
    let mut accepted = 0;
    loop {
        let stream = listener.accept().await?;
        let file = files.get(accepted % files.len().max(1)).cloned();
        accepted += 1;
        let connection = Served { stream, arena: arena.clone(), size: args.size };
        executor::spawn(connection.run(args.path, file, group.clone()));
    }
}

async fn prepare_files(args: &ServerArgs, arena: &Arena) -> Result<Vec<Rc<Ring>>, Fault> {
    let mut files = Vec::new();
    let mut zeroes = allocate(arena, PREWRITE_BYTES)?;
    zeroes.fill(0);
    for index in 0..FILES {
        let how = OpenHow { create: true, direct: true, ..OpenHow::default() };
        let file = File::open(args.dir.join(format!("floor-{index}")), how).await?;
        if file.len()? < FILE_BYTES {
            for offset in (0..FILE_BYTES).step_by(PREWRITE_BYTES) {
                zeroes = file.write_lease_at(zeroes, offset, PREWRITE_BYTES, false).await?;
            }
            file.fdatasync().await?;
        }
        files.push(Rc::new(Ring { file, next: Cell::new(0) }));
    }
    Ok(files)
}

/// A file that is written round and round.
struct Ring {
    file: File,
    next: Cell<u64>,
}

impl Ring {
    /// Writes the first `bytes` of `lease`, rounded up to whole blocks, behind what was written last.
    async fn append(&self, lease: Lease, bytes: usize, durable: bool) -> Result<Lease, Fault> {
        let whole = (bytes as u64).next_multiple_of(BLOCK_BYTES);
        let offset = if self.next.get() + whole > FILE_BYTES { 0 } else { self.next.get() };
        self.next.set(offset + whole);
        self.file.write_lease_at(lease, offset, whole as usize, durable).await
    }
}

/// One connection.
struct Served {
    stream: Stream,
    arena: Arena,
    size: usize,
}

impl Served {
    async fn run(self, path: Path, file: Option<Rc<Ring>>, group: Option<Rc<Group>>) {
        let served = match (path, file, group) {
            (_, _, Some(group)) => self.grouped(&group).await,
            (Path::Send, ..) => self.send_frames().await,
            (Path::Written | Path::Durable, Some(file), _) => self.write_frames(file, path == Path::Durable).await,
            _ => self.check_frames().await,
        };
        // The generator hangs up when it is done.
        if let Err(fault) = served
            && !is_hang_up(&fault)
        {
            eprintln!("{fault}");
        }
    }

    async fn check_frames(&self) -> Result<(), Fault> {
        let mut lease = allocate(&self.arena, self.size)?;
        loop {
            lease = self.stream.recv_exact(lease, 0..self.size).await?;
            self.stream.send_all(vec![answer(lease.get(..self.size).unwrap_or_default()).into()]).await?;
        }
    }

    async fn send_frames(&self) -> Result<(), Fault> {
        let mut request = allocate(&self.arena, 8)?;
        let mut frame = allocate(&self.arena, self.size)?;
        put(&mut frame, 0, &(self.size as u32 - 4).to_be_bytes());
        let frame = frame.freeze();
        loop {
            request = self.stream.recv_exact(request, 0..8).await?;
            self.stream.send_all(vec![frame.slice(0..self.size).into()]).await?;
        }
    }

    /// Receives the next frames while earlier ones are written. Answers may overtake each other: all are alike.
    async fn write_frames(&self, file: Rc<Ring>, durable: bool) -> Result<(), Fault> {
        let mut under_way: VecDeque<JoinHandle<Result<Lease, Fault>>> = VecDeque::new();
        loop {
            let lease = match under_way.len() < FRAMES_PER_CONNECTION_MAX {
                true => allocate(&self.arena, self.size)?,
                false => under_way.pop_front().expect("some are under way").await?,
            };
            let lease = self.stream.recv_exact(lease, 0..self.size).await?;
            let reply = answer(lease.get(..self.size).unwrap_or_default());
            let (file, stream, size) = (file.clone(), self.stream.clone(), self.size);
            under_way.push_back(executor::spawn(async move {
                let lease = file.append(lease, size, durable).await?;
                stream.send_all(vec![reply.into()]).await?;
                Ok(lease)
            }));
        }
    }

    async fn grouped(&self, group: &Group) -> Result<(), Fault> {
        let mut lease = allocate(&self.arena, RECEIVE_BYTES.max(self.size))?;
        let mut filled = 0;
        loop {
            let room = filled..lease.len();
            let (back, count) = self.stream.recv(lease, room).await?;
            lease = back;
            if count == 0 {
                return Ok(());
            }
            filled += count;
            let mut taken = 0;
            while filled - taken >= self.size {
                let frame = lease.get(taken..taken + self.size).expect("the frame is whole");
                group.add(&self.stream, frame).await;
                taken += self.size;
            }
            lease.copy_within(taken..filled, 0);
            filled -= taken;
        }
    }
}

/// Frames that wait for the write under way to end, and then are written together.
struct Group {
    waiting: RefCell<Waiting>,
    committer: Cell<Option<Waker>>,
}

struct Waiting {
    lease: Lease,
    filled: usize,
    answers: Vec<(Stream, Vec<u8>)>,
}

impl Group {
    fn start(ring: Rc<Ring>, arena: Arena) -> Result<Rc<Group>, Fault> {
        let spare = allocate(&arena, GROUP_BYTES)?;
        let waiting = Waiting { lease: allocate(&arena, GROUP_BYTES)?, filled: 0, answers: Vec::new() };
        let group = Rc::new(Group { waiting: RefCell::new(waiting), committer: Cell::new(None) });
        let committer = group.clone();
        executor::spawn(async move {
            if let Err(fault) = committer.commit_for_ever(&ring, spare).await {
                eprintln!("{fault}");
            }
        });
        Ok(group)
    }

    async fn add(&self, stream: &Stream, frame: &[u8]) {
        while self.waiting.borrow().filled + frame.len() > GROUP_BYTES {
            executor::yield_now().await;
        }
        let mut waiting = self.waiting.borrow_mut();
        let at = waiting.filled;
        put(&mut waiting.lease, at, frame);
        waiting.filled += frame.len();
        let reply = answer(frame);
        match waiting.answers.last_mut().filter(|(last, _)| last.peer() == stream.peer()) {
            Some((_, replies)) => replies.extend(reply),
            None => waiting.answers.push((stream.clone(), reply)),
        }
        if let Some(committer) = self.committer.take() {
            committer.wake();
        }
    }

    async fn commit_for_ever(&self, ring: &Ring, mut spare: Lease) -> Result<(), Fault> {
        loop {
            poll_fn(|context| self.poll_any(context)).await;
            let (lease, filled, answers) = self.take(spare);
            spare = ring.append(lease, filled, true).await?;
            for (stream, replies) in answers {
                // A peer that has gone needs no answer.
                executor::spawn(async move { stream.send_all(vec![replies.into()]).await.ok() });
            }
        }
    }

    fn poll_any(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.waiting.borrow().filled > 0 {
            return Poll::Ready(());
        }
        self.committer.set(Some(context.waker().clone()));
        Poll::Pending
    }

    fn take(&self, spare: Lease) -> (Lease, usize, Vec<(Stream, Vec<u8>)>) {
        let mut waiting = self.waiting.borrow_mut();
        let lease = std::mem::replace(&mut waiting.lease, spare);
        (lease, std::mem::take(&mut waiting.filled), std::mem::take(&mut waiting.answers))
    }
}

fn is_hang_up(fault: &Fault) -> bool {
    let kind = fault.errno().map(|errno| io::Error::from_raw_os_error(errno).kind());
    matches!(kind, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe))
}

/// Checks a frame and makes its answer: a length of 4 and the checksum.
fn answer(frame: &[u8]) -> Vec<u8> {
    let mut reply = vec![0, 0, 0, 4];
    reply.extend_from_slice(&crc32c(frame).to_be_bytes());
    reply
}

fn put(target: &mut [u8], at: usize, bytes: &[u8]) {
    target.get_mut(at..at + bytes.len()).expect("the caller checked the room").copy_from_slice(bytes);
}

fn allocate(arena: &Arena, bytes: usize) -> Result<Lease, Fault> {
    arena.try_alloc(bytes).ok_or(Fault::NoSpace { what: "the floor's memory" })
}
