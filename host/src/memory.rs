//! The memory that one file or request may ask for.
//!
//! Sizes in files are claims of strangers: before anything of such a size is allocated, it is compared with a
//! budget, by default what the computer has free now. Allocations fail by ending the process, so this is the
//! only place where a size can be refused with a message.

use rustix::process::{Resource, getrlimit};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Below this nobody is hurt, and reading the computer's state would cost more than it protects.
const ALWAYS: u64 = 1 << 20;

/// 0: not set.
static LIMIT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Of what this thread does now, instead of the process's; 0: not set.
    static OWN_LIMIT: Cell<u64> = const { Cell::new(0) };
}

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
        let (bytes, budget) = (size_text(self.bytes), size_text(self.budget));
        write!(
            f,
            "contents that take {bytes} of memory, expected at most {budget}; that is what is free, or what \
             --memory-limit (in C: memory_limit) allows"
        )
    }
}

/// A size for messages.
pub fn size_text(bytes: u64) -> String {
    match bytes {
        0..=0xf_ffff => format!("{bytes} bytes"),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

impl std::error::Error for TooMuch {}

/// Sets the budget of the process in bytes; `None`: what is free.
pub fn set_limit(bytes: Option<u64>) {
    LIMIT.store(bytes.map_or(0, |bytes| bytes.max(1)), Ordering::Relaxed);
}

/// Does something on this thread within a budget of its own, in bytes; `None`: within that of the process.
pub fn within<T>(bytes: Option<u64>, work: impl FnOnce() -> T) -> T {
    struct Earlier(u64);
    impl Drop for Earlier {
        fn drop(&mut self) {
            OWN_LIMIT.set(self.0);
        }
    }
    let _earlier = Earlier(OWN_LIMIT.replace(bytes.map_or(0, |bytes| bytes.max(1))));
    work()
}

/// 0: not set.
fn limit() -> u64 {
    match OWN_LIMIT.get() {
        0 => LIMIT.load(Ordering::Relaxed),
        own => own,
    }
}

/// The budget in bytes: what was set, or what is free now.
pub fn budget() -> u64 {
    match limit() {
        0 => free().unwrap_or(u64::MAX),
        limit => limit,
    }
}

/// Refuses what the budget does not cover.
pub fn check(bytes: u64) -> Result<(), TooMuch> {
    if bytes <= ALWAYS && limit() == 0 {
        return Ok(());
    }
    match budget() {
        budget if bytes <= budget => Ok(()),
        budget => Err(TooMuch { bytes, budget }),
    }
}

/// Memory of this process that the computer holds now, in bytes, what it maps of files included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// Now.
    pub now: u64,
    /// At most since the process began.
    pub peak: u64,
}

/// Asks the kernel; `None` where it does not say.
pub fn resident() -> Option<Resident> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let now = status_bytes(&text, "VmRSS:")?;
    // Counted page by page, but noted now and then only.
    let peak = status_bytes(&text, "VmHWM:")?.max(now);
    Some(Resident { now, peak })
}

/// A line of `/proc/self/status` or `/proc/meminfo`.
fn status_bytes(text: &str, name: &str) -> Option<u64> {
    let kib = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = kib.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// An empty vector with room for `count` elements, of which the budget knows.
pub fn reserved<T>(count: usize) -> Result<Vec<T>, TooMuch> {
    let bytes = (count as u64).saturating_mul(size_of::<T>() as u64);
    check(bytes)?;
    let mut elements = Vec::new();
    let budget = |_| TooMuch {
        bytes,
        budget: budget(),
    };
    elements.try_reserve_exact(count).map_err(budget)?;
    Ok(elements)
}

/// The bytes of a file, at most one more than `most`: so that a file of the largest size can be told from a
/// larger one. Beyond the budget it is an error, which says so.
pub fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    read_all(file, size, most)
}

/// The same of anything that is read; `expected` is the size that it is likely to have.
pub fn read_all(from: impl Read, expected: u64, most: u64) -> io::Result<Vec<u8>> {
    let too_much = |error: TooMuch| io::Error::new(io::ErrorKind::OutOfMemory, error);
    let expected = usize::try_from(expected.min(most)).unwrap_or(usize::MAX);
    let mut bytes = reserved(expected).map_err(too_much)?;
    // What has no size of its own (a pipe, what is packed) is read as far as the budget goes.
    let budget = match most {
        0..=ALWAYS => most,
        _ => most.min(budget().max(expected as u64)),
    };
    from.take(budget.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > budget && budget < most {
        return Err(too_much(TooMuch {
            bytes: bytes.len() as u64,
            budget,
        }));
    }
    Ok(bytes)
}

/// A size as people write it: `512M`, `4GiB`, `1073741824`. The letters are powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let refused = || format!("{text:?} is no size; expected bytes, or a number with K, M, G or T");
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(refused()),
    };
    let number: u64 = digits.trim().parse().map_err(|_| refused())?;
    let bytes = number.checked_mul(1 << shift).filter(|&bytes| bytes > 0);
    bytes.ok_or_else(refused)
}

/// Bytes that this process can still get: what the kernel calls available, within the limits of its control
/// groups and of the process itself.
pub fn free() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let available = status_bytes(&text, "MemAvailable:");
    let left = available.into_iter().chain(left_in_control_groups());
    left.chain(left_of_addresses()).min()
}

/// Of the address space that the process was allowed (`ulimit -v`), less a part for stacks and for what lies
/// between allocations.
pub fn left_of_addresses() -> Option<u64> {
    let most = getrlimit(Resource::As).current?;
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let used = status_bytes(&text, "VmSize:")?;
    Some(most.saturating_sub(used) / 8 * 7)
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

/// Refuses work that the addresses that are left do not cover. For work of many small allocations, none of which
/// can be refused with a message: `bytes` is a bound of what it takes, and counts only where the process has a
/// limit of its own, since a bound that is too large would refuse what can be done.
pub fn check_addresses(bytes: u64) -> Result<(), TooMuch> {
    match left_of_addresses() {
        Some(budget) if budget < bytes => Err(TooMuch { bytes, budget }),
        _ => Ok(()),
    }
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
        let text = "contents that take 2.0 MiB of memory, expected at most 2.0 MiB; ";
        assert!(error.to_string().starts_with(text), "{error}");
        assert_eq!(size_text(1000), "1000 bytes");
        let own = within(Some(5), || (check(5), check(6), within(None, budget)));
        assert_eq!(
            own,
            (
                Ok(()),
                Err(TooMuch {
                    bytes: 6,
                    budget: 5
                }),
                2 << 20
            )
        );
        assert_eq!(budget(), 2 << 20);
        set_limit(None);
        assert_eq!(check(3 << 20), Ok(()));
    }

    #[test]
    fn what_is_resident_grows_with_what_is_written() {
        let Some(before) = resident() else { return };
        let bytes = vec![1u8; 64 << 20];
        assert!(resident().unwrap().now > before.now + (48 << 20));
        drop(std::hint::black_box(bytes));
        let after = resident().unwrap();
        assert!(
            after.peak >= before.now + (48 << 20),
            "{before:?} {after:?}"
        );
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("4096", 4096),
            ("2k", 2048),
            ("3 MiB", 3 << 20),
            ("1G", 1 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes));
        }
        for text in ["", "G", "0", "-1", "1.5G", "1X", "99999999T", "\u{e9}"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_vector_beyond_the_budget_is_refused() {
        assert_eq!(reserved::<f32>(3).unwrap().capacity(), 3);
        assert!(reserved::<f32>(usize::MAX).is_err());
        assert!(reserved::<f32>(1 << 60).is_err());
    }

    #[test]
    fn what_is_read_ends_one_byte_behind_the_most() {
        assert_eq!(read_all(&[7; 9][..], 3, 4).unwrap(), [7; 5]);
        assert_eq!(read_all(&[7; 9][..], 100, 1 << 30).unwrap(), [7; 9]);
        assert!(read_all(io::empty(), 1 << 62, 1 << 62).is_err());
        assert!(read_file(Path::new("/dev/zero"), 10).unwrap().len() == 11);
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
