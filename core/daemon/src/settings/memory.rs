//! Memory: the limit that this process lives under (cgroup v2, v1 or the machine) and the budget derived from it.

use std::fs;
use std::path::Path;

/// The smallest budget that a start accepts, per process; each shard needs [`MEMORY_BYTES_PER_SHARD_MIN`] besides.
const MEMORY_BYTES_MIN: u64 = 64 << 20;
/// The default never takes more than this: beyond it, more memory is a decision.
const DEFAULT_BYTES_MAX: u64 = 8 << 30;
const PERCENT: u64 = 25;
const STEP_BYTES: u64 = 2 << 20;

/// A memory limit and what sets it ("cgroup v2 limit").
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub bytes: u64,
    pub by: &'static str,
}

/// The smallest budget for so many shards of which each needs so much.
pub(super) fn minimum(shards: usize, shard_bytes: u64) -> u64 {
    let shards = u64::try_from(shards).unwrap_or(u64::MAX);
    MEMORY_BYTES_MIN.max(shard_bytes.saturating_mul(shards))
}

/// The default budget under `limit`: a quarter, whole 2 MiB steps, at most 8 GiB.
pub(super) fn default_budget(limit: u64) -> u64 {
    let share = limit / 100 * PERCENT;
    (share - share % STEP_BYTES).min(DEFAULT_BYTES_MAX)
}

/// The tightest limit seen below `root` ("/" outside of tests).
pub(super) fn limit(root: &Path) -> Option<Limit> {
    let membership = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let machine = machine_bytes(root).map(|bytes| Limit { bytes, by: "machine's memory" });
    let groups = membership.lines().filter_map(|line| group_limit(root, line));
    groups.chain(machine).min_by_key(|limit| limit.bytes)
}

fn machine_bytes(root: &Path) -> Option<u64> {
    let table = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The limit that one line of /proc/self/cgroup leads to: `0::/path` for v2, `4:memory:/path` for v1.
fn group_limit(root: &Path, line: &str) -> Option<Limit> {
    let mut parts = line.splitn(3, ':').skip(1);
    let controllers = parts.next()?;
    let group = parts.next()?.trim_start_matches('/');
    let (mount, file, by) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max", "cgroup v2 limit"),
        list if list.split(',').any(|name| name == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "cgroup v1 limit")
        }
        _ => return None,
    };
    let mount = root.join(mount);
    let bytes = mount
        .join(group)
        .ancestors()
        .filter(|at| at.starts_with(&mount))
        // A container sees its own group as the mount's root although /proc names the host's path.
        .filter_map(|at| fs::read_to_string(at.join(file)).ok())
        .filter_map(|text| text.trim().parse().ok())
        .min()?;
    Some(Limit { bytes, by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn machine(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/settings-memory")
            .join(format!("{name}-{}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\n");

    #[test]
    fn the_tightest_group_on_the_way_up_wins() {
        let root = machine(
            "v2",
            &[
                MEMINFO,
                ("proc/self/cgroup", "0::/outer/inner\n"),
                ("sys/fs/cgroup/outer/inner/memory.max", "max\n"),
                ("sys/fs/cgroup/outer/memory.max", "1073741824\n"),
            ],
        );
        let found = limit(&root).unwrap();
        assert_eq!((found.bytes, found.by), (1 << 30, "cgroup v2 limit"));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn version_one_is_read_at_its_mount() {
        let root = machine(
            "v1",
            &[
                MEMINFO,
                ("proc/self/cgroup", "5:cpu:/x\n4:memory:/docker/abc\n0::/\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
            ],
        );
        let found = limit(&root).unwrap();
        assert_eq!((found.bytes, found.by), (512 << 20, "cgroup v1 limit"));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn without_a_group_limit_the_machine_counts() {
        let root = machine(
            "none",
            &[
                MEMINFO,
                ("proc/self/cgroup", "4:memory:/\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ],
        );
        let found = limit(&root).unwrap();
        assert_eq!((found.bytes, found.by), (16 << 30, "machine's memory"));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_default_is_a_quarter_with_a_ceiling() {
        let quarter = default_budget(16 << 30);
        assert!(quarter <= 4 << 30 && quarter > (4 << 30) - (4 << 20) && quarter.is_multiple_of(STEP_BYTES));
        assert_eq!(default_budget(1 << 40), 8 << 30);
        assert_eq!(minimum(1, 32 << 20), 64 << 20);
        assert_eq!(minimum(4, 32 << 20), 128 << 20);
    }
}
