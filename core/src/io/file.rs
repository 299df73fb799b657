//! Files and paths, by the ring.
//!
//! A write is whole or a fault; a read is short only at the end of the file. Durable means that it survives the loss of
//! power (`RWF_DSYNC`, or a flush after it where the file system does not know that). Never retries a failed write or
//! flush. Buffers and descriptors are held until the kernel is done, also if the caller stops waiting.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};

use super::arena::{Lease, Slice};
use super::buffers::{Gather, Piece};
use super::ring::{OnDrop, submit};
use crate::error::Fault;
use crate::units::BLOCK_BYTES;

/// What every system allows, if it does not say.
const OPEN_FILES_ASSUMED: usize = 1024;

/// How a file is opened. Files are opened for reading and writing unless `read_only`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenHow {
    pub read_only: bool,
    /// Make it if it is not there.
    pub create: bool,
    /// Fail if it is there.
    pub exclusive: bool,
    /// Cut it to nothing.
    pub truncate: bool,
    /// Past the page cache: addresses, offsets and lengths must be aligned to 4 KiB.
    pub direct: bool,
}

impl OpenHow {
    fn flags(self) -> i32 {
        let when = |wanted, flag| if wanted { flag } else { 0 };
        let access = if self.read_only { libc::O_RDONLY } else { libc::O_RDWR };
        access
            | libc::O_CLOEXEC
            | when(self.create, libc::O_CREAT)
            | when(self.exclusive, libc::O_EXCL)
            | when(self.truncate, libc::O_TRUNC)
            | when(self.direct, libc::O_DIRECT)
    }
}

struct Opened {
    fd: OwnedFd,
    path: PathBuf,
    /// The file system refused `RWF_DSYNC`: flush after the write instead.
    flush_after_write: Cell<bool>,
}

/// An open file. A cheap handle; the last one closes it.
#[derive(Clone)]
pub struct File {
    opened: Rc<Opened>,
}

impl File {
    pub async fn open(path: impl AsRef<Path>, how: OpenHow) -> Result<File, Fault> {
        let path = path.as_ref().to_path_buf();
        let name = c_path("open", &path)?;
        let open = opcode::OpenAt::new(Fd(libc::AT_FDCWD), name.as_ptr()).flags(how.flags()).mode(0o640);
        let fd = on_path("open", &path, open.build(), name, OnDrop::Close).await?;
        Ok(File {
            opened: Rc::new(Opened {
                // SAFETY: the kernel just made this descriptor for us.
                fd: unsafe { OwnedFd::from_raw_fd(fd as i32) },
                path,
                flush_after_write: Cell::new(false),
            }),
        })
    }

    pub fn path(&self) -> &Path {
        &self.opened.path
    }

    /// Reads into the first `len` bytes of `lease`. Fewer bytes are reported only at the end of the file.
    pub async fn read_at(&self, mut lease: Lease, offset: u64, len: usize) -> Result<(Lease, usize), Fault> {
        assert!(len <= lease.len(), "a read exceeds its lease");
        let mut done = 0;
        while done < len {
            let place = offset + done as u64;
            let target = lease.get_mut(done..len).expect("done is below len").as_mut_ptr();
            let read = opcode::Read::new(self.fd(), target, piece_len(len - done)).offset(place);
            let (result, back) = self.run(read.build(), lease).await;
            lease = back;
            match result {
                Ok(0) => break,
                Ok(count) => done += count as usize,
                Err(error) if interrupted(&error) => {}
                // After a read that ended inside a block, direct I/O cannot go on: that was the end of the file.
                Err(error)
                    if !(done as u64).is_multiple_of(BLOCK_BYTES) && error.raw_os_error() == Some(libc::EINVAL) =>
                {
                    break;
                }
                Err(error) => return Err(self.fault("read", place, &error)),
            }
        }
        Ok((lease, done))
    }

    /// Writes all pieces one behind the other, as one call where the kernel allows.
    pub async fn write_at(&self, pieces: Vec<Piece>, offset: u64, durable: bool) -> Result<(), Fault> {
        let mut gather = Gather::new(pieces);
        let mut place = offset;
        while !gather.is_done() {
            let (result, back) = self.write_once(gather, place, durable).await;
            gather = back;
            match result {
                Ok(0) => return Err(self.fault("write", place, &io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    gather.advance(count as usize);
                    place += u64::from(count);
                }
                Err(error) if interrupted(&error) => {}
                Err(error) => return Err(self.fault("write", place, &error)),
            }
        }
        if durable && self.opened.flush_after_write.get() {
            self.fdatasync().await?;
        }
        Ok(())
    }

    /// `write_at` of one slice.
    pub async fn write_slice_at(&self, slice: Slice, offset: u64, durable: bool) -> Result<(), Fault> {
        self.write_at(vec![slice.into()], offset, durable).await
    }

    /// Writes the first `len` bytes of `lease`, which comes back for the next use.
    pub async fn write_lease_at(&self, lease: Lease, offset: u64, len: usize, durable: bool) -> Result<Lease, Fault> {
        let whole = lease.freeze();
        self.write_slice_at(whole.slice(0..len), offset, durable).await?;
        Ok(whole.try_thaw().unwrap_or_else(|_| unreachable!("a write keeps nothing when it is done")))
    }

    async fn write_once(&self, mut gather: Gather, place: u64, durable: bool) -> (io::Result<u32>, Gather) {
        let by_flag = durable && !self.opened.flush_after_write.get();
        let flags = if by_flag { libc::RWF_DSYNC } else { 0 };
        let entry = match gather.vectors() {
            [one] => opcode::Write::new(self.fd(), one.iov_base.cast::<u8>().cast_const(), piece_len(one.iov_len))
                .offset(place)
                .rw_flags(flags)
                .build(),
            many => {
                opcode::Writev::new(self.fd(), many.as_ptr(), many.len() as u32).offset(place).rw_flags(flags).build()
            }
        };
        let (result, gather) = self.run(entry, gather).await;
        match result {
            Err(error) if by_flag && error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                self.opened.flush_after_write.set(true);
                (Err(io::ErrorKind::Interrupted.into()), gather)
            }
            result => (result, gather),
        }
    }

    /// Makes written bytes, and the length if needed to read them, survive the loss of power.
    pub async fn fdatasync(&self) -> Result<(), Fault> {
        let sync = opcode::Fsync::new(self.fd()).flags(FsyncFlags::DATASYNC).build();
        self.run(sync, ()).await.0.map(drop).map_err(|error| self.fault("flush", 0, &error))
    }

    /// Allocates `len` bytes from `offset`, extending the file.
    pub async fn fallocate(&self, offset: u64, len: u64) -> Result<(), Fault> {
        let allocate = opcode::Fallocate::new(self.fd(), len).offset(offset).build();
        self.run(allocate, ()).await.0.map(drop).map_err(|error| self.fault("allocate", offset, &error))
    }

    /// Cuts or extends the file with zeroes.
    pub async fn set_len(&self, len: u64) -> Result<(), Fault> {
        // The ring's operation is newer than the kernels that we support; this changes metadata in memory only.
        self.with_std(|file| file.set_len(len)).map_err(|error| self.fault("truncate", len, &error))
    }

    /// The file's length in bytes.
    pub fn len(&self) -> Result<u64, Fault> {
        self.with_std(|file| file.metadata())
            .map(|metadata| metadata.len())
            .map_err(|error| self.fault("stat", 0, &error))
    }

    pub fn is_empty(&self) -> Result<bool, Fault> {
        Ok(self.len()? == 0)
    }

    fn with_std<T>(&self, call: impl FnOnce(&std::fs::File) -> io::Result<T>) -> io::Result<T> {
        // SAFETY: the descriptor is open; `ManuallyDrop` leaves closing it to its owner.
        let file = std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(self.opened.fd.as_raw_fd()) });
        call(&file)
    }

    fn fd(&self) -> Fd {
        Fd(self.opened.fd.as_raw_fd())
    }

    /// Runs an operation on this file. `payload` owns what the entry points to; the descriptor is held beside it.
    async fn run<T: 'static>(&self, entry: squeue::Entry, payload: T) -> (io::Result<u32>, T) {
        // SAFETY: private to this module, whose entries point into arena blocks, vectors or boxes that `payload` owns.
        let op = unsafe { submit(entry, (payload, self.opened.clone()), OnDrop::Finish) };
        let (result, (payload, _)) = op.await;
        (result, payload)
    }

    fn fault(&self, operation: &'static str, position: u64, error: &io::Error) -> Fault {
        Fault::io(operation, self.opened.path.to_string_lossy(), position, error)
    }
}

/// How many files the process may have open.
pub fn open_files_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit` where `limit` lies.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    if got == 0 { usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX) } else { OPEN_FILES_ASSUMED }
}

/// The space of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub total_bytes: u64,
    /// What is left for users other than root.
    pub free_bytes: u64,
}

/// The space of the file system of `path`.
pub fn space(path: &Path) -> Result<Space, Fault> {
    let name = c_path("look at the space of", path)?;
    // SAFETY: all-zero is a valid `statvfs`, which the call fills.
    let mut figures: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the name ends in a null byte and both pointers live through the call.
    if unsafe { libc::statvfs(name.as_ptr(), &mut figures) } != 0 {
        let error = io::Error::last_os_error();
        return Err(Fault::io("look at the space of", path.display().to_string(), 0, &error));
    }
    Ok(Space {
        total_bytes: figures.f_blocks.saturating_mul(figures.f_frsize),
        free_bytes: figures.f_bavail.saturating_mul(figures.f_frsize),
    })
}

/// Moves a file over another. Durable after `sync_dir` of its directory.
pub async fn rename(from: &Path, to: &Path) -> Result<(), Fault> {
    let (old, new) = (c_path("rename", from)?, c_path("rename", to)?);
    let at = Fd(libc::AT_FDCWD);
    let entry = opcode::RenameAt::new(at, old.as_ptr(), at, new.as_ptr()).build();
    on_path("rename", from, entry, (old, new), OnDrop::Finish).await.map(drop)
}

/// Removes a file. Durable after `sync_dir` of its directory.
pub async fn unlink(path: &Path) -> Result<(), Fault> {
    let name = c_path("unlink", path)?;
    let entry = opcode::UnlinkAt::new(Fd(libc::AT_FDCWD), name.as_ptr()).build();
    on_path("unlink", path, entry, name, OnDrop::Finish).await.map(drop)
}

/// Makes a directory; one that is there already is fine.
pub async fn mkdir(path: &Path) -> Result<(), Fault> {
    let name = c_path("make", path)?;
    let entry = opcode::MkDirAt::new(Fd(libc::AT_FDCWD), name.as_ptr()).mode(0o750).build();
    match on_path("make", path, entry, name, OnDrop::Finish).await {
        Err(fault) if fault.errno() == Some(libc::EEXIST) => Ok(()),
        other => other.map(drop),
    }
}

/// Makes a directory's entries survive the loss of power.
pub async fn sync_dir(path: &Path) -> Result<(), Fault> {
    let how = OpenHow { read_only: true, ..OpenHow::default() };
    let directory = File::open(path, how).await?;
    let sync = opcode::Fsync::new(directory.fd()).build();
    directory.run(sync, ()).await.0.map(drop).map_err(|error| directory.fault("flush", 0, &error))
}

/// The names in a directory, sorted. Blocks the thread: for the start only.
pub fn list_dir(path: &Path) -> Result<Vec<String>, Fault> {
    let fault = |error| Fault::io("list", path.to_string_lossy(), 0, &error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(fault)? {
        names.push(entry.map_err(fault)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

async fn on_path<T: 'static>(
    operation: &'static str,
    path: &Path,
    entry: squeue::Entry,
    names: T,
    on_drop: OnDrop,
) -> Result<u32, Fault> {
    // SAFETY: private to this module, whose path entries point to the heap bytes of the C strings in `names`.
    let (result, _) = unsafe { submit(entry, names, on_drop) }.await;
    result.map_err(|error| Fault::io(operation, path.to_string_lossy(), 0, &error))
}

fn c_path(operation: &'static str, path: &Path) -> Result<CString, Fault> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|error| Fault::io(operation, path.to_string_lossy(), 0, &error.into()))
}

fn interrupted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// One call moves less than 2 GiB; the rest follows.
fn piece_len(len: usize) -> u32 {
    len.min(1 << 30) as u32
}
