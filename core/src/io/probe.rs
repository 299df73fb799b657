//! What must be true of kernel and data directory before any shard starts, found out by trying it.
//!
//! Names the real cause and a remedy for whoever operates the server. Leaves nothing behind in the data directory. Runs
//! on an ordinary thread and blocks it.
#![allow(unsafe_code)]

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use io_uring::opcode;

use super::arena::{Arena, Lease};
use super::ring::RingSetup;
use crate::error::Fault;
use crate::units::BLOCK_BYTES;

/// What was found on a server that can run shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    pub kernel: String,
    pub ring: RingSetup,
    pub file_system: String,
    /// What direct I/O asks of addresses and offsets, if the kernel tells.
    pub memory_align_bytes: Option<u32>,
    pub offset_align_bytes: Option<u32>,
    /// Durable writes take one call; otherwise a flush follows each.
    pub durable_flag: bool,
    /// `None`: unlimited. Matters only where memory is registered with the ring.
    pub memlock_bytes: Option<u64>,
}

/// Why shards cannot run here: what was found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}\n  remedy: {remedy}")]
pub struct ProbeFailure {
    pub what: String,
    pub remedy: String,
}

impl fmt::Display for ProbeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |on| if on { "yes" } else { "no" };
        let align = |bytes: Option<u32>| bytes.map_or("unknown".to_owned(), |bytes| bytes.to_string());
        let (single, deferred) = (yes(self.ring.single_issuer), yes(self.ring.defer_taskrun));
        writeln!(f, "kernel {}, io_uring: single issuer {single}, deferred task work {deferred}", self.kernel)?;
        let (memory, offset) = (align(self.memory_align_bytes), align(self.offset_align_bytes));
        writeln!(
            f,
            "data directory on {}: direct I/O, alignment {memory} (memory) {offset} (offset)",
            self.file_system
        )?;
        let memlock = self.memlock_bytes.map_or("unlimited".to_owned(), |bytes| format!("{bytes} bytes"));
        write!(f, "durable writes in one call: {}; memlock {memlock}", yes(self.durable_flag))
    }
}

/// Tries all that shards need, with files in `data_dir`.
pub fn probe(data_dir: &Path) -> Result<ProbeReport, ProbeFailure> {
    let kernel = read_trimmed("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memlock_bytes = memlock_limit();
    let ring = probe_ring(&kernel, memlock_bytes)?;
    let file_system = file_system_of(data_dir)?;
    let scratch = Scratch::make(data_dir)?;
    let (memory_align_bytes, offset_align_bytes) = alignments(&scratch.file);
    check_alignment(memory_align_bytes, offset_align_bytes)?;
    let durable_flag = scratch.try_block()?;
    Ok(ProbeReport { kernel, ring, file_system, memory_align_bytes, offset_align_bytes, durable_flag, memlock_bytes })
}

fn failure(what: impl Into<String>, remedy: impl Into<String>) -> ProbeFailure {
    ProbeFailure { what: what.into(), remedy: remedy.into() }
}

/// The oldest kernel that is tested.
const KERNEL_MIN: (u32, u32) = (6, 1);

fn probe_ring(kernel: &str, memlock_bytes: Option<u64>) -> Result<RingSetup, ProbeFailure> {
    if kernel_version(kernel).is_some_and(|version| version < KERNEL_MIN) {
        return Err(failure(format!("kernel {kernel} is older than 6.1"), "run a kernel of 6.1 or later"));
    }
    let sysctl = read_trimmed("/proc/sys/kernel/io_uring_disabled");
    let (ring, setup) = RingSetup::step_down(64, RingSetup::BEST)
        .map_err(|error| explain_ring_error(&error, kernel, sysctl.as_deref(), memlock_bytes))?;
    let mut known = io_uring::Probe::new();
    let registered = ring.submitter().register_probe(&mut known);
    registered.map_err(|error| explain_ring_error(&error, kernel, sysctl.as_deref(), memlock_bytes))?;
    let needed = [
        ("READ", opcode::Read::CODE),
        ("WRITEV", opcode::Writev::CODE),
        ("RECV", opcode::Recv::CODE),
        ("SENDMSG", opcode::SendMsg::CODE),
        ("ACCEPT", opcode::Accept::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
        ("FSYNC", opcode::Fsync::CODE),
        ("FALLOCATE", opcode::Fallocate::CODE),
        ("OPENAT", opcode::OpenAt::CODE),
        ("RENAMEAT", opcode::RenameAt::CODE),
        ("UNLINKAT", opcode::UnlinkAt::CODE),
        ("MKDIRAT", opcode::MkDirAt::CODE),
    ];
    match needed.iter().find(|(_, code)| !known.is_supported(*code)) {
        Some((name, _)) => Err(failure(
            format!("this kernel's io_uring ({kernel}) does not know the operation {name}"),
            "run an unmodified kernel of 6.1 or later",
        )),
        None => Ok(setup),
    }
}

/// The cause behind the error number with which io_uring was refused.
fn explain_ring_error(
    error: &io::Error,
    kernel: &str,
    sysctl: Option<&str>,
    memlock_bytes: Option<u64>,
) -> ProbeFailure {
    match (error.raw_os_error(), sysctl) {
        (Some(libc::EPERM), Some(level @ ("1" | "2"))) => failure(
            format!("io_uring is switched off by the sysctl kernel.io_uring_disabled={level}"),
            "sysctl -w kernel.io_uring_disabled=0 (and the same line in /etc/sysctl.d/), or with level 1 run in the \
             group that kernel.io_uring_group names",
        ),
        (Some(libc::EPERM | libc::EACCES), _) => failure(
            "io_uring is forbidden for this process, most likely by a container's seccomp profile (the defaults of \
             Docker 25 and containerd 2 forbid it)",
            "run the container with Watershed's own profile, which allows io_uring_setup, io_uring_enter and \
             io_uring_register: broker/packaging/seccomp.json, in packages /usr/share/watershed/packaging/seccomp.json \
             (docker, podman: --security-opt seccomp=FILE; Kubernetes: seccompProfile of type Localhost)",
        ),
        (Some(libc::ENOSYS), _) => failure(
            format!(
                "this kernel ({kernel}) has no io_uring: it was built without it, or a sandbox such as gVisor hides it"
            ),
            "run on a Linux kernel of 6.1 or later with CONFIG_IO_URING, outside of such sandboxes",
        ),
        (Some(libc::ENOMEM), _) => failure(
            format!("there was no memory for a ring (memlock limit {memlock_bytes:?} bytes)"),
            "raise the memlock limit (LimitMEMLOCK=infinity in systemd, --ulimit memlock=-1 in Docker) or free memory",
        ),
        (Some(libc::EINVAL), _) => failure(
            format!("the io_uring of kernel {kernel} lacks cooperative task work"),
            "run a kernel of 6.1 or later",
        ),
        _ => failure(format!("io_uring cannot be set up: {error}"), "see the error's text"),
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn read_trimmed(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn memlock_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the struct that it is given.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    (got == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// The file system's name. Memory file systems are refused: they have no direct I/O and lose everything.
fn file_system_of(data_dir: &Path) -> Result<String, ProbeFailure> {
    let directory = File::open(data_dir).map_err(|error| cannot_use(data_dir, &error))?;
    // SAFETY: all-zero is a valid `statfs`, and the kernel fills the struct that it is given.
    let (got, found) = unsafe {
        let mut found: libc::statfs = std::mem::zeroed();
        (libc::fstatfs(directory.as_raw_fd(), &mut found), found)
    };
    if got != 0 {
        return Err(cannot_use(data_dir, &io::Error::last_os_error()));
    }
    name_file_system(found.f_type as u64 & 0xffff_ffff, data_dir)
}

fn name_file_system(magic: u64, data_dir: &Path) -> Result<String, ProbeFailure> {
    let name = match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0xf2f5_2010 => "f2fs",
        0x2fc1_2fc1 => "zfs",
        0x794c_7630 => "overlayfs",
        0x6969 => "nfs",
        0x0102_1994 | 0x8584_58f6 => {
            return Err(failure(
                format!(
                    "{} is on tmpfs: records would be lost with the power, and direct I/O is impossible",
                    data_dir.display()
                ),
                "choose a data directory on a disk (ext4 or xfs on NVMe)",
            ));
        }
        other => return Ok(format!("file system 0x{other:x}")),
    };
    Ok(name.to_owned())
}

fn cannot_use(path: &Path, error: &io::Error) -> ProbeFailure {
    failure(
        format!("cannot use {}: {error}", path.display()),
        "create the data directory, writable for the user that this process runs as",
    )
}

/// What `statx` says of direct I/O. Nothing, if the kernel or file system does not know.
fn alignments(file: &File) -> (Option<u32>, Option<u32>) {
    const STATX_DIOALIGN: u32 = 0x2000;
    const STATX_BYTES: usize = 256;
    const MASK_AT: usize = 0;
    const MEMORY_AT: usize = 152;
    const OFFSET_AT: usize = 156;
    // Not every libc has these fields, so the struct is read by place.
    let mut found = [0u64; STATX_BYTES / 8];
    // SAFETY: `found` has the size and alignment of `struct statx`, which the kernel fills; the path is a C string.
    let got = unsafe {
        let target: *mut libc::statx = found.as_mut_ptr().cast();
        libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, STATX_DIOALIGN, target)
    };
    let field = |at: usize| {
        let word = found.get(at / 8).copied().unwrap_or_default().to_ne_bytes();
        let (low, high) = word.split_at(4);
        let half = if at.is_multiple_of(8) { low } else { high };
        half.try_into().map(u32::from_ne_bytes).unwrap_or_default()
    };
    if got != 0 || field(MASK_AT) & STATX_DIOALIGN == 0 {
        return (None, None);
    }
    (Some(field(MEMORY_AT)), Some(field(OFFSET_AT)))
}

fn check_alignment(memory: Option<u32>, offset: Option<u32>) -> Result<(), ProbeFailure> {
    let fits = |align: Option<u32>| align.is_none_or(|bytes| bytes > 0 && u64::from(bytes) <= BLOCK_BYTES);
    if fits(memory) && fits(offset) {
        return Ok(());
    }
    Err(failure(
        format!(
            "direct I/O here needs an alignment of {memory:?} (memory) and {offset:?} (offset); at most 4096 works, and 0 means none at all"
        ),
        "choose a data directory on ext4 or xfs over a device with sectors of at most 4 KiB",
    ))
}

/// A file of the probe's own, removed with it.
struct Scratch {
    file: File,
    path: PathBuf,
}

impl Scratch {
    fn make(data_dir: &Path) -> Result<Scratch, ProbeFailure> {
        let path = data_dir.join(format!(".probe-{}", std::process::id()));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT);
        match options.open(&path) {
            Ok(file) => Ok(Scratch { file, path }),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                // Some file systems make the file before they refuse.
                let _ = std::fs::remove_file(&path);
                Err(failure(
                    format!("the file system of {} refuses direct I/O", data_dir.display()),
                    "choose a data directory on ext4 or xfs",
                ))
            }
            Err(error) => Err(cannot_use(data_dir, &error)),
        }
    }

    /// Writes a block durably, past the page cache, and reads it back. Whether the write's own flag did it.
    fn try_block(&self) -> Result<bool, ProbeFailure> {
        let fails = |error: &dyn fmt::Display| {
            failure(
                format!("a direct, durable write of 4 KiB in {} fails: {error}", self.path.display()),
                "choose a data directory on ext4 or xfs with free space",
            )
        };
        let mut block = aligned_block().map_err(|fault| fails(&fault))?;
        block.fill(0x5a);
        let durable_flag = self.write_durably(&block).map_err(|error| fails(&error))?;
        block.fill(0);
        // SAFETY: the block is writable memory of the length that is passed.
        let count = unsafe { libc::pread(self.file.as_raw_fd(), block.as_mut_ptr().cast(), block.len(), 0) };
        if count != block.len() as isize || block.iter().any(|byte| *byte != 0x5a) {
            return Err(fails(&"what was written does not come back"));
        }
        Ok(durable_flag)
    }

    fn write_durably(&self, block: &[u8]) -> io::Result<bool> {
        match self.write(block, libc::RWF_DSYNC) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                self.write(block, 0)?;
                self.file.sync_data()?;
                Ok(false)
            }
            other => other.map(|()| true),
        }
    }

    fn write(&self, block: &[u8], flags: i32) -> io::Result<()> {
        let vector = libc::iovec { iov_base: block.as_ptr().cast_mut().cast(), iov_len: block.len() };
        // SAFETY: the vector describes the block, which the kernel only reads.
        let count = unsafe { libc::pwritev2(self.file.as_raw_fd(), &vector, 1, 0, flags) };
        match usize::try_from(count) {
            Ok(count) if count == block.len() => Ok(()),
            Ok(_) => Err(io::ErrorKind::WriteZero.into()),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn aligned_block() -> Result<Lease, Fault> {
    let arena = Arena::new(BLOCK_BYTES as usize)?;
    Ok(arena.try_alloc(BLOCK_BYTES as usize).expect("an empty arena has room for a block"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(code: i32, sysctl: Option<&str>) -> String {
        explain_ring_error(&io::Error::from_raw_os_error(code), "6.8.0-45-generic", sysctl, Some(8 << 20)).to_string()
    }

    #[test]
    fn a_refused_ring_is_explained_by_its_cause() {
        assert!(explained(libc::EPERM, Some("2")).contains("kernel.io_uring_disabled=2"));
        assert!(explained(libc::EPERM, Some("0")).contains("seccomp"));
        assert!(explained(libc::EPERM, None).contains("seccomp"));
        assert!(explained(libc::ENOSYS, None).contains("gVisor"));
        assert!(explained(libc::ENOMEM, None).contains("LimitMEMLOCK"));
        assert!(explained(libc::EMFILE, None).contains("Too many open files"));
        assert!(explained(libc::EINVAL, None).contains("lacks cooperative task work"));
    }

    #[test]
    fn every_cause_has_the_remedy_that_ends_it() {
        assert!(explained(libc::EPERM, Some("1")).contains("kernel.io_uring_group"));
        assert!(explained(libc::EPERM, Some("2")).contains("sysctl -w kernel.io_uring_disabled=0"));
        let seccomp = explained(libc::EACCES, Some("0"));
        assert!(seccomp.contains("--security-opt seccomp=") && seccomp.contains("packaging/seccomp.json"), "{seccomp}");
        let memlock = explained(libc::ENOMEM, Some("0"));
        assert!(memlock.contains("8388608") && memlock.contains("--ulimit memlock=-1"), "{memlock}");
    }

    #[test]
    fn old_kernels_are_told_apart() {
        assert_eq!(kernel_version("6.8.0-45-generic"), Some((6, 8)));
        assert_eq!(kernel_version("5.15"), Some((5, 15)));
        assert_eq!(kernel_version("unknown"), None);
        assert!(probe_ring("5.19.17", None).unwrap_err().what.contains("older than 6.1"));
    }

    #[test]
    fn memory_file_systems_and_coarse_alignment_are_refused() {
        let path = Path::new("/data");
        assert!(name_file_system(0x0102_1994, path).unwrap_err().what.contains("tmpfs"));
        assert_eq!(name_file_system(0xef53, path).unwrap(), "ext4");
        assert!(check_alignment(Some(512), Some(4096)).is_ok());
        assert!(check_alignment(None, None).is_ok());
        assert!(check_alignment(Some(4), Some(16384)).is_err());
        assert!(check_alignment(Some(0), Some(0)).is_err(), "zero means that the file has no direct I/O");
    }
}
