//! How much memory this machine has for this process: its own, and what the control groups allow that the process is in,
//! such as a container's limit or a service's `MemoryMax`.
//!
//! Source: Linux 6.17, `Documentation/filesystems/proc.rst` (`/proc/meminfo`), `admin-guide/cgroup-v2.rst` and
//! `admin-guide/cgroup-v1/memory.rst`.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Memory of the machine that this process may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostMemory {
    /// All of it, taken or not, with swap. `None` where the system does not say.
    pub total_bytes: Option<u64>,
    /// What may still be taken without swapping; the cache of files gives way, and counts as free.
    pub available_bytes: Option<u64>,
}

impl HostMemory {
    /// As this machine's files say.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self::below(Path::new("/"))
    }

    /// As the files of a root directory say: `/`, or one that stands for it in a test.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        let told = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
        let of_machine = |name| field(&told, name)?.checked_mul(1024);
        let swap_bytes = of_machine("SwapTotal:").unwrap_or_default();
        let all = of_machine("MemTotal:").map(|bytes| bytes.saturating_add(swap_bytes));
        let groups = groups(root);
        let limits = groups.iter().filter_map(|group| group.total_bytes(swap_bytes));
        let rests = groups.iter().filter_map(Group::available_bytes);
        Self {
            total_bytes: limits.chain(all).min(),
            available_bytes: rests.chain(of_machine("MemAvailable:")).min(),
        }
    }
}

/// What a version of the kernel's interface calls a control group's files.
struct Version {
    /// Where the groups lie.
    mounted: &'static str,
    limit: &'static str,
    swap_limit: &'static str,
    /// Whether the limit of swap is one of memory and swap together.
    swap_limit_has_both: bool,
    used: &'static str,
    /// In `memory.stat`, files' pages of the group and those in it.
    cached: [&'static str; 2],
}

const V1: Version = Version {
    mounted: "sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    swap_limit: "memory.memsw.limit_in_bytes",
    swap_limit_has_both: true,
    used: "memory.usage_in_bytes",
    cached: ["total_active_file", "total_inactive_file"],
};

const V2: Version = Version {
    mounted: "sys/fs/cgroup",
    limit: "memory.max",
    swap_limit: "memory.swap.max",
    swap_limit_has_both: false,
    used: "memory.current",
    cached: ["active_file", "inactive_file"],
};

/// A control group that this process is in.
struct Group {
    folder: PathBuf,
    version: &'static Version,
}

impl Group {
    /// Its limit, and as much swap as it and the machine have. Where there is no limit, version 2 says `max`, and
    /// version 1 a number beyond every machine's.
    fn total_bytes(&self, swap_bytes: u64) -> Option<u64> {
        let limit = self.number(self.version.limit)?;
        let swap = self.number(self.version.swap_limit).map_or(u64::MAX, |most| {
            if self.version.swap_limit_has_both { most.saturating_sub(limit) } else { most }
        });
        Some(limit.saturating_add(swap.min(swap_bytes)))
    }

    fn available_bytes(&self) -> Option<u64> {
        let limit = self.number(self.version.limit)?;
        let told = fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        let cached = self.version.cached.into_iter().filter_map(|name| field(&told, name));
        let cached = cached.fold(0, u64::saturating_add);
        let used = self.number(self.version.used).unwrap_or_default().saturating_sub(cached);
        Some(limit.saturating_sub(used))
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }
}

/// The group of this process and those that this is in, as far as they are mounted: in a container, often the
/// outermost alone, which is then the container's.
fn groups(root: &Path) -> Vec<Group> {
    // A line for each hierarchy: number, controllers, path. Version 2 is number 0, and names no controllers.
    let told = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let lines = || told.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    [&V2, &V1]
        .into_iter()
        .flat_map(|version| {
            let is_of_version = |controllers: &str| match version.swap_limit_has_both {
                true => controllers.split(',').any(|name| name == "memory"),
                false => controllers.is_empty(),
            };
            let path = lines().find(|(controllers, _)| is_of_version(controllers));
            let parts: Vec<&str> = path
                .map_or("", |(_, path)| path)
                .split('/')
                .filter(|part| !part.is_empty())
                .collect();
            // Outside of what is mounted here, the path goes up: none of its parts lead anywhere.
            let depth = if parts.contains(&"..") { 0 } else { parts.len() };
            let folder = move |depth| {
                parts[..depth].iter().fold(root.join(version.mounted), |at, part| at.join(part))
            };
            (0..=depth).map(move |depth| Group { folder: folder(depth), version })
        })
        .collect()
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str =
        "MemTotal:  8000 kB\nMemFree: 1000 kB\nMemAvailable:   5000 kB\nSwapTotal: 2000 kB\n";

    /// What a machine of such files says: all, and what is left.
    fn told(files: &[(&str, &str)]) -> [Option<u64>; 2] {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let HostMemory { total_bytes, available_bytes } = HostMemory::below(root.path());
        [total_bytes, available_bytes]
    }

    #[test]
    fn a_machine_has_memory_and_swap() {
        assert_eq!(told(&[]), [None, None]);
        assert_eq!(told(&[("proc/meminfo", MEMINFO)]), [Some(10_240_000), Some(5_120_000)]);
        assert_eq!(told(&[("proc/meminfo", "MemTotal: many kB\n")]), [None, None]);
    }

    #[test]
    fn a_containers_limit_counts_where_it_is_less() {
        let at = |limit, swap| {
            told(&[
                ("proc/meminfo", MEMINFO),
                ("proc/self/cgroup", "0::/\n"),
                ("sys/fs/cgroup/memory.max", limit),
                ("sys/fs/cgroup/memory.swap.max", swap),
                ("sys/fs/cgroup/memory.current", "3000000\n"),
                ("sys/fs/cgroup/memory.stat", "anon 1\ninactive_file 500000\nactive_file 400000\n"),
            ])
        };
        assert_eq!(at("4000000\n", "0\n"), [Some(4_000_000), Some(1_900_000)]);
        // As much swap as it may have, and the machine has.
        assert_eq!(at("4000000\n", "1000000\n"), [Some(5_000_000), Some(1_900_000)]);
        assert_eq!(at("4000000\n", "max\n"), [Some(6_048_000), Some(1_900_000)]);
        assert_eq!(at("max\n", "max\n"), [Some(10_240_000), Some(5_120_000)]);
        assert_eq!(at("99000000\n", "0\n"), [Some(10_240_000), Some(5_120_000)]);
    }

    #[test]
    fn every_group_around_this_process_counts() {
        let within = |path: &str, limited: &str| {
            let group = format!("0::{path}\n");
            let limited = format!("sys/fs/cgroup/{limited}/memory.max");
            told(&[
                ("proc/meminfo", MEMINFO),
                ("proc/self/cgroup", &group),
                ("sys/fs/cgroup/system.slice/other.service/memory.max", "1000\n"),
                (&limited, "4000000\n"),
                ("sys/fs/cgroup/system.slice/memory.swap.max", "0\n"),
                ("sys/fs/cgroup/system.slice/obscura.service/memory.swap.max", "0\n"),
            ])
        };
        let limited = [Some(4_000_000), Some(4_000_000)];
        for group in ["system.slice", "system.slice/obscura.service"] {
            assert_eq!(within("/system.slice/obscura.service", group), limited, "{group}");
        }
        let free = [Some(10_240_000), Some(5_120_000)];
        assert_eq!(within("/../system.slice/obscura.service", "system.slice"), free);
    }

    #[test]
    fn the_older_interface_is_read_too() {
        let at = |limit, both| {
            told(&[
                ("proc/meminfo", MEMINFO),
                ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/1f\n0::/\n"),
                ("sys/fs/cgroup/memory/docker/1f/memory.limit_in_bytes", limit),
                ("sys/fs/cgroup/memory/docker/1f/memory.memsw.limit_in_bytes", both),
                ("sys/fs/cgroup/memory/docker/1f/memory.usage_in_bytes", "3000000\n"),
                (
                    "sys/fs/cgroup/memory/docker/1f/memory.stat",
                    "cache 9\ntotal_inactive_file 500000\n",
                ),
            ])
        };
        assert_eq!(at("4000000\n", "4500000\n"), [Some(4_500_000), Some(1_500_000)]);
        let unlimited = "9223372036854771712\n";
        assert_eq!(at(unlimited, unlimited), [Some(10_240_000), Some(5_120_000)]);
    }
}
