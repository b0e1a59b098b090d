//! Threads under the caller's control.

use super::failure::{Failure, Outcome, Status, guard, guard_value, needed};
use super::memory::Out;
use skimjit_runtime::{MOST_THREADS, ThreadPool, usable_cores};
use std::sync::Arc;

/// A team of threads that compute one run together. The thread that calls `skimjit_session_run` is one
/// of them, so a team of one starts no thread at all.
///
/// A team may be shared by models and sessions; runs on one team take turns, runs on different teams
/// happen at the same time. Waiting threads spin for some microseconds and then sleep. A team does
/// not survive fork(): make it in the child.
pub struct Team {
    pub(super) pool: Arc<ThreadPool>,
}

/// Starts a team of `threads` (1 to 256; 0: one per core), the caller included.
///
/// The caller owns `*team`, and frees it with `skimjit_team_free`; the threads end when no model and no
/// session uses them any more.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_team_create(threads: u32, team: Out<*mut Team>) -> Status {
    guard(|| {
        team.check("team")?;
        let pool = pool(threads)?;
        team.set(Box::into_raw(Box::new(Team { pool })));
        Ok(())
    })
}

/// Threads of a team; 0 for null.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_team_threads(team: Option<&Team>) -> u32 {
    guard_value(0, || Ok(needed("team", team)?.pool.threads() as u32))
}

/// Frees a team; null is allowed.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_team_free(team: Option<Box<Team>>) {
    guard(|| {
        drop(team);
        Ok(())
    });
}

/// Threads by number, 0 standing for one per core that the process may use.
pub fn pool(threads: u32) -> Outcome<Arc<ThreadPool>> {
    let threads = match threads as usize {
        0 => usable_cores().min(MOST_THREADS),
        threads if threads <= MOST_THREADS => threads,
        found => {
            return Err(Failure::argument(format!(
                "threads: found {found}, expected 0 to {MOST_THREADS}"
            )));
        }
    };
    let pool = ThreadPool::new(threads).map_err(Failure::argument)?;
    Ok(Arc::new(pool))
}
