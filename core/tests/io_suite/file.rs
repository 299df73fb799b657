//! Files past the page cache, on a real ring and a real disk.

use std::path::{Path, PathBuf};

use watershed_core::io::arena::{Arena, Lease};
use watershed_core::io::executor;
use watershed_core::io::file::{self, File, OpenHow};

use crate::setup;

const DIRECT: OpenHow = OpenHow { create: true, direct: true, read_only: false, exclusive: false, truncate: true };

/// Runs `test` with an empty directory on the disk that holds the build.
fn in_directory<F: Future<Output = ()> + 'static>(name: &str, test: impl FnOnce(PathBuf, Arena) -> F) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME")).join(name);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.clone();
    setup::HOST.run(setup::config(), move || test(path, Arena::new(64 << 20).unwrap())).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}

fn filled(arena: &Arena, bytes: usize, value: u8) -> Lease {
    let mut lease = arena.try_alloc(bytes).unwrap();
    lease[..bytes].fill(value);
    lease
}

#[test]
fn direct_durable_writes_come_back() {
    in_directory("io_file_direct", |directory, arena| async move {
        let file = File::open(directory.join("data"), DIRECT).await.unwrap();
        let pieces = vec![
            filled(&arena, 4096, 1).freeze().into(),
            filled(&arena, 8192, 2).freeze().into(),
            filled(&arena, 16384, 3).freeze().slice(4096..12288).into(),
        ];
        file.write_at(pieces, 0, true).await.unwrap();
        let lease = file.write_lease_at(filled(&arena, 4096, 4), 4096, 4096, true).await.unwrap();
        assert_eq!((lease[0], file.len().unwrap()), (4, 20480));
        let (back, count) = file.read_at(arena.try_alloc(65536).unwrap(), 0, 65536).await.unwrap();
        assert_eq!(count, 20480, "the end of the file makes it short");
        let runs = [(0, 1), (4096, 4), (8192, 2), (12288, 3), (20479, 3)];
        assert!(runs.iter().all(|(place, value)| back[*place] == *value));
        assert_eq!(std::fs::read(file.path()).unwrap(), &back[..count]);
        drop(back);
        drop(lease);
        assert_eq!(arena.usage().in_use_bytes, 0);
    });
}

#[test]
fn large_vectors_and_many_writes_at_once() {
    in_directory("io_file_many", |directory, arena| async move {
        let file = File::open(directory.join("data"), DIRECT).await.unwrap();
        file.fallocate(0, 16 << 20).await.unwrap();
        assert_eq!(file.len().unwrap(), 16 << 20);
        let block = filled(&arena, 4096, 9).freeze();
        // More pieces than one call takes.
        file.write_at((0..1500).map(|_| block.clone().into()).collect(), 0, false).await.unwrap();
        let writes: Vec<_> = (0..64u8)
            .map(|number| {
                let (file, lease) = (file.clone(), filled(&arena, 4096, number));
                executor::spawn(async move {
                    let offset = (8 << 20) + u64::from(number) * 4096;
                    file.write_slice_at(lease.freeze(), offset, number % 2 == 0).await
                })
            })
            .collect();
        for write in writes {
            write.await.unwrap();
        }
        file.fdatasync().await.unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        assert!(bytes[..1500 * 4096].iter().all(|byte| *byte == 9));
        assert!((0..64).all(|number| bytes[(8 << 20) + number * 4096 + 17] == number as u8));
    });
}

#[test]
fn paths_move_and_vanish() {
    in_directory("io_file_paths", |directory, _| async move {
        let inner = directory.join("inner");
        file::mkdir(&inner).await.unwrap();
        file::mkdir(&inner).await.unwrap();
        let how = OpenHow { create: true, exclusive: true, ..OpenHow::default() };
        let old = File::open(inner.join("old"), how).await.unwrap();
        old.write_at(vec![b"hello".to_vec().into(), Vec::new().into(), b" you".to_vec().into()], 0, true)
            .await
            .unwrap();
        let again = File::open(inner.join("old"), how).await;
        assert_eq!(again.err().unwrap().errno(), Some(libc::EEXIST));
        file::rename(&inner.join("old"), &inner.join("new")).await.unwrap();
        file::sync_dir(&inner).await.unwrap();
        assert_eq!(file::list_dir(&inner).unwrap(), ["new"]);
        assert_eq!(std::fs::read(inner.join("new")).unwrap(), b"hello you");
        old.set_len(5).await.unwrap();
        assert_eq!(old.len().unwrap(), 5);
        file::unlink(&inner.join("new")).await.unwrap();
        let fault = file::unlink(&inner.join("new")).await.unwrap_err();
        assert_eq!(fault.errno(), Some(libc::ENOENT));
        assert!(fault.to_string().contains("inner/new"), "{fault}");
    });
}

#[test]
fn faults_name_file_and_position() {
    in_directory("io_file_faults", |directory, arena| async move {
        let file = File::open(directory.join("data"), DIRECT).await.unwrap();
        let fault = file.write_slice_at(filled(&arena, 4096, 1).freeze(), 100, true).await.unwrap_err();
        assert_eq!(fault.errno(), Some(libc::EINVAL), "an unaligned direct write is refused");
        assert!(fault.to_string().contains("data at 100"), "{fault}");
        let how = OpenHow { read_only: true, ..OpenHow::default() };
        let reader = File::open(file.path(), how).await.unwrap();
        let fault = reader.write_at(vec![vec![0].into()], 0, false).await.unwrap_err();
        assert_eq!(fault.errno(), Some(libc::EBADF));
        let full = File::open("/dev/full", OpenHow::default()).await.unwrap();
        assert!(full.write_at(vec![vec![0].into()], 0, false).await.unwrap_err().is_no_space());
    });
}

#[test]
fn a_dropped_write_keeps_its_memory_and_still_happens() {
    in_directory("io_file_dropped", |directory, arena| async move {
        let file = File::open(directory.join("data"), DIRECT).await.unwrap();
        for round in 0..200u64 {
            let lease = filled(&arena, 8192, 7);
            let write = file.write_slice_at(lease.freeze(), round * 8192, round % 4 == 0);
            // One poll starts the write, then its future is gone.
            assert!(executor::until(executor::now(), write).await.is_none());
            assert!(arena.usage().in_use_bytes >= 8192, "the kernel still reads the block");
            if round % 3 == 0 {
                executor::yield_now().await;
            }
        }
        while arena.usage().in_use_bytes > 0 {
            executor::sleep(std::time::Duration::from_millis(1)).await;
        }
        let bytes = std::fs::read(file.path()).unwrap();
        assert_eq!(bytes.len(), 200 * 8192);
        assert!(bytes.iter().all(|byte| *byte == 7));
    });
}

#[test]
fn the_executor_ends_with_writes_under_way() {
    for _ in 0..20 {
        in_directory("io_file_end", |directory, arena| async move {
            let file = File::open(directory.join("data"), DIRECT).await.unwrap();
            for number in 0..32 {
                let (file, lease) = (file.clone(), filled(&arena, 65536, 1));
                executor::spawn(async move { file.write_slice_at(lease.freeze(), number * 65536, true).await });
            }
            executor::yield_now().await;
        });
    }
}

/// Set for the process that runs under a limit of file sizes.
const LIMITED: &str = "WATERSHED_FILE_SIZE_LIMITED";
/// The limit: inside the second block.
const LIMIT_BYTES: usize = 6144;

/// The kernel cuts the write at the limit of file sizes and refuses the rest.
#[test]
fn a_short_write_goes_on_where_it_stopped_and_fails_there() {
    if std::env::var_os(LIMITED).is_none() {
        return run_limited("file::a_short_write_goes_on_where_it_stopped_and_fails_there");
    }
    in_directory("io_file_short", |directory, arena| async move {
        let how = OpenHow { create: true, ..OpenHow::default() };
        let file = File::open(directory.join("data"), how).await.unwrap();
        let pieces = vec![filled(&arena, 4096, 1).freeze().into(), filled(&arena, 4096, 2).freeze().into()];
        let fault = file.write_at(pieces, 0, false).await.unwrap_err();
        let told = fault.to_string();
        assert!(told.contains("write") && told.contains(&LIMIT_BYTES.to_string()), "{told}");
        let written = std::fs::read(file.path()).unwrap();
        assert_eq!((written.len(), written[4095], written[6143]), (LIMIT_BYTES, 1, 2));
    });
}

/// Runs one test of this program again, in a process whose files may not grow beyond `LIMIT_BYTES`.
fn run_limited(test: &str) {
    let limit = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" --exact {test} --nocapture", LIMIT_BYTES / 512);
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(limit).arg(std::env::current_exe().unwrap()).env(LIMITED, "1");
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}{}", String::from_utf8_lossy(&output.stderr));
}
