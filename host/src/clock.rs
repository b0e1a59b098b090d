//! Clocks.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Time that the calling thread has had a core since it was started. What elapsed beyond it, the thread
/// waited: for others, or for a core.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_sleeps_has_no_core() {
        let before = thread_time();
        std::thread::sleep(Duration::from_millis(30));
        assert!(thread_time() - before < Duration::from_millis(20));
        let before = thread_time();
        let sum: u64 = (0..1_000_000u64).map(std::hint::black_box).sum();
        assert!(sum > 0);
        assert!(thread_time() > before);
    }
}
