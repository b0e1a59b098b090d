//! The memory that one file or request may ask for.
//!
//! Sizes in files are claims of strangers: before anything of such a size is allocated, it is compared with a
//! budget, by default what the computer has free now. Allocations fail by ending the process, so this is the
//! only place where a size can be refused with a message.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

/// 0: not set.
static LIMIT: AtomicU64 = AtomicU64::new(0);

/// More than the budget was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuch {
    /// Bytes asked for.
    pub bytes: u64,
    /// Bytes that there are.
    pub budget: u64,
}

impl std::fmt::Display for TooMuch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        write!(
            f,
            "needs {} MiB of memory, expected at most {} MiB",
            mib(self.bytes),
            mib(self.budget)
        )
    }
}

impl std::error::Error for TooMuch {}

/// Sets the budget of the process in bytes; `None`: what is free.
pub fn set_limit(bytes: Option<u64>) {
    LIMIT.store(bytes.map_or(0, |bytes| bytes.max(1)), Ordering::Relaxed);
}

/// The budget in bytes: what was set, or what is free now.
pub fn budget() -> u64 {
    match LIMIT.load(Ordering::Relaxed) {
        0 => free().unwrap_or(u64::MAX),
        limit => limit,
    }
}

/// Refuses what the budget does not cover.
pub fn check(bytes: u64) -> Result<(), TooMuch> {
    /// Below this nobody is hurt, and reading the computer's state would cost more than it protects.
    const ALWAYS: u64 = 1 << 20;
    if bytes <= ALWAYS && LIMIT.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    match budget() {
        budget if bytes <= budget => Ok(()),
        budget => Err(TooMuch { bytes, budget }),
    }
}

/// Bytes that this process can still get: what the kernel calls available, within the limits of its control
/// groups.
pub fn free() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let available = text.lines().find_map(|line| {
        let kib = line.strip_prefix("MemAvailable:")?;
        let kib: u64 = kib.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib << 10)
    });
    available.into_iter().chain(left_in_control_groups()).min()
}

/// What the tightest control group leaves.
fn left_in_control_groups() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().filter_map(left_in_hierarchy).min()
}

/// Of one line of `/proc/self/cgroup`: `0::/path` (version 2) or `4:memory:/path` (version 1).
fn left_in_hierarchy(line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let (root, most, used) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
        _ if controllers.split(',').any(|name| name == "memory") => (
            "/sys/fs/cgroup/memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
        ),
        _ => return None,
    };
    let number = |folder: &str, file: &str| -> Option<u64> {
        let text = fs::read_to_string(format!("{folder}/{file}")).ok()?;
        text.trim().parse().ok()
    };
    // In a container the path of the host may lead nowhere; the root is then the container's own group.
    let mut folders = vec![root.to_owned()];
    for part in path.split('/').filter(|part| !part.is_empty()) {
        folders.push(format!("{}/{part}", folders[folders.len() - 1]));
    }
    let left = |folder: &String| {
        let reclaimable = fs::read_to_string(format!("{folder}/memory.stat")).ok();
        let reclaimable = reclaimable.as_deref().map_or(0, file_pages);
        Some(number(folder, most)?.saturating_sub(number(folder, used)?) + reclaimable)
    };
    folders.iter().filter_map(left).min()
}

/// Pages of files that the kernel gives up first, in bytes.
fn file_pages(stat: &str) -> u64 {
    let inactive = |line: &str| line.strip_prefix("inactive_file ")?.trim().parse().ok();
    stat.lines().find_map(inactive).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_what_was_set() {
        assert!(free().unwrap() > 1 << 20);
        assert!(check(1 << 62).is_err());
        set_limit(Some(2 << 20));
        assert_eq!(check(2 << 20), Ok(()));
        let error = check((2 << 20) + 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "needs 3 MiB of memory, expected at most 2 MiB"
        );
        set_limit(None);
        assert_eq!(check(3 << 20), Ok(()));
    }

    #[test]
    fn statistics_of_a_control_group_are_read() {
        assert_eq!(
            file_pages("anon 5\ninactive_file 4096\nactive_file 7"),
            4096
        );
        assert_eq!(file_pages(""), 0);
    }
}
