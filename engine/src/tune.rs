//! The tune cache: measured times of kernels, in a JSON file.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use skimjit_host::{memory, whole};
use skimjit_runtime::jit::CpuInfo;
use skimjit_runtime::kernels::registry;
use skimjit_runtime::{Memory, OnTrial, Times, TrialKey};
use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Version of the file.
const FORMAT: u32 = 1;
/// Most trials that are kept; the ones made longest ago go first.
const MOST_TRIALS: usize = 20_000;
/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Kernels are chosen by timing them.
#[derive(Clone)]
pub struct Tuning {
    /// What is known already, and where new times go.
    pub cache: Arc<TuneCache>,
    /// Fail rather than measure.
    pub frozen: bool,
    /// Also time layers whose variant is named; the named one is used all the same.
    pub named_too: bool,
    /// Least bytes of code and weights to assume for the whole network: a layer on its own is timed as
    /// in the network that it comes from.
    pub network_bytes: u64,
    /// Is told before each trial: the layer, its number from 1 on, and how many there are.
    pub on_trial: Option<Arc<OnTrial>>,
}

impl Tuning {
    /// With the times of a cache; missing ones are measured.
    pub fn with(cache: TuneCache) -> Self {
        Self {
            cache: Arc::new(cache),
            frozen: false,
            named_too: false,
            network_bytes: 0,
            on_trial: None,
        }
    }
}

/// Measured times of this machine, by layer.
pub struct TuneCache {
    path: Option<PathBuf>,
    cpu: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    trials: BTreeMap<String, Trial>,
    /// Keys of trials that are not in the file yet.
    new: Vec<String>,
}

/// What the file holds.
#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    trials: BTreeMap<String, Trial>,
}

/// Times of one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Trial {
    /// For people: machine, instruction set, threads, kernels.
    machine: String,
    /// For people.
    problem: String,
    times_ns: Times,
    /// Number of the write that added it.
    age: u64,
}

impl TuneCache {
    /// Nothing known, nothing kept.
    pub fn in_memory() -> Self {
        Self {
            path: None,
            cpu: cpu(),
            state: Mutex::default(),
        }
    }

    /// Reads a cache; a file that is missing is an empty cache. Any other file that cannot be used is
    /// one as well, with a warning that says why; it is replaced when the cache is saved.
    pub fn open(path: &Path) -> Result<(Self, Option<String>)> {
        let (trials, warning) = match read(path)? {
            Ok(trials) => (trials, None),
            Err(reason) => {
                let path = path.display();
                let text = format!("{path}: {reason}; the tune cache is made anew");
                (BTreeMap::new(), Some(text))
            }
        };
        let state = State {
            trials,
            new: vec![],
        };
        let cache = Self {
            path: Some(path.to_owned()),
            state: Mutex::new(state),
            ..Self::in_memory()
        };
        Ok((cache, warning))
    }

    /// Where it is kept.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Trials that were made since it was opened.
    pub fn measured(&self) -> usize {
        self.lock().new.len()
    }

    /// Writes what is new, together with what other processes wrote meanwhile; the file is replaced as
    /// a whole.
    pub fn save(&self) -> Result<()> {
        let (Some(path), mut state) = (&self.path, self.lock()) else {
            return Ok(());
        };
        if state.new.is_empty() {
            return Ok(());
        }
        // Held until the file is replaced: what others write meanwhile would be lost.
        let _turn = turn(path)?;
        let mut trials = read(path)?.unwrap_or_default();
        let age = trials.values().map(|trial| trial.age).max().unwrap_or(0) + 1;
        for key in &state.new {
            if let Some(trial) = state.trials.get(key) {
                trials.insert(
                    key.clone(),
                    Trial {
                        age,
                        ..trial.clone()
                    },
                );
            }
        }
        bound(&mut trials, MOST_TRIALS);
        write(
            path,
            &File {
                format: FORMAT,
                trials,
            },
        )?;
        state.new.clear();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn machine(&self, key: &TrialKey) -> String {
        let (cpu, isa, threads) = (&self.cpu, key.isa, key.threads);
        format!(
            "{cpu}, {isa}, {threads} threads, kernels {}",
            registry::VERSION
        )
    }

    fn name(&self, key: &TrialKey) -> String {
        format!("{}: {:032x}", self.machine(key), key.hash.0)
    }
}

impl Memory for TuneCache {
    fn recall(&self, key: &TrialKey) -> Option<Times> {
        let state = self.lock();
        let trial = state.trials.get(&self.name(key))?;
        // A hash may coincide, or a file may be edited.
        let usable = trial.problem == key.problem
            && trial
                .times_ns
                .values()
                .flatten()
                .all(|&ns| ns.is_finite() && ns >= 0.0);
        usable.then(|| trial.times_ns.clone())
    }
    fn keep(&self, key: &TrialKey, times: &Times) {
        let name = self.name(key);
        let trial = Trial {
            machine: self.machine(key),
            problem: key.problem.clone(),
            times_ns: times.clone(),
            age: 0,
        };
        let mut state = self.lock();
        state.trials.insert(name.clone(), trial);
        state.new.push(name);
    }
}

/// The CPU as far as times depend on it.
fn cpu() -> String {
    let info = CpuInfo::query();
    let name = info.model_name;
    match info.family {
        Some([family, model, stepping]) => {
            format!("{name} (family {family}, model {model}, stepping {stepping})")
        }
        None => name,
    }
}

/// Trials of a file, or why it has none that can be used. What is no tune cache at all is refused: it would be
/// replaced by one.
fn read(path: &Path) -> Result<std::result::Result<BTreeMap<String, Trial>, String>> {
    let mut start = Vec::new();
    let read = match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => return Err(foreign(path, "no file")),
        Ok(_) => fs::File::open(path).and_then(|file| file.take(64).read_to_end(&mut start)),
        Err(error) => Err(error),
    };
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Ok(BTreeMap::new())),
        Err(error) => return Ok(Err(error.to_string())),
        Ok(_) if !is_ours(&start) => return Err(foreign(path, "a file of another kind")),
        Ok(_) => {}
    }
    Ok(trials(path))
}

/// Whether a file begins as [`write`] begins it, or has not been written yet.
fn is_ours(start: &[u8]) -> bool {
    let text: Vec<u8> = start
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let expected = b"{\"format\":";
    let common = text.len().min(expected.len());
    text[..common] == expected[..common]
}

fn foreign(path: &Path, found: &str) -> Error {
    let error = skimjit_models::Error::new(found).file(path);
    let error = error.expected("a tune cache, or a name that is not taken");
    error.hint("name another file with --tune-cache").into()
}

fn trials(path: &Path) -> std::result::Result<BTreeMap<String, Trial>, String> {
    let bytes = memory::read_file(path, MAX_FILE_BYTES).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("found more than {MAX_FILE_BYTES} bytes"));
    }
    let file: File = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if file.format != FORMAT {
        let found = file.format;
        return Err(format!("found format {found}, expected {FORMAT}"));
    }
    Ok(file.trials)
}

/// Drops the trials that were made longest ago.
fn bound(trials: &mut BTreeMap<String, Trial>, most: usize) {
    let excess = trials.len().saturating_sub(most);
    if excess > 0 {
        let mut ages: Vec<(u64, String)> = trials
            .iter()
            .map(|(key, trial)| (trial.age, key.clone()))
            .collect();
        ages.sort();
        ages.truncate(excess);
        ages.iter().for_each(|(_, key)| {
            trials.remove(key);
        });
    }
}

/// Waits until no other process merges its times into the file; the turn ends when the lock is dropped.
fn turn(path: &Path) -> Result<fs::File> {
    let failed = |error: std::io::Error| unwritable(path, &error);
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    whole::lock(path).map_err(failed)
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    let mut error = skimjit_models::Error::unwritable(path, error);
    error.hint = Some("name another file with --tune-cache".to_owned());
    error.into()
}

fn write(path: &Path, file: &File) -> Result<()> {
    let text = serde_json::to_string_pretty(file).map_err(std::io::Error::other);
    let written = text.and_then(|text| whole::write(path, text));
    written.map_err(|error| unwritable(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skimjit_runtime::jit::{Isa, SpecHash};

    fn key(hash: u128, threads: usize) -> TrialKey {
        TrialKey {
            isa: Isa::Avx2,
            threads,
            problem: format!("problem {hash}"),
            hash: SpecHash(hash),
        }
    }

    fn times(ns: f64) -> Times {
        [("a".to_owned(), Some(ns)), ("b".to_owned(), None)].into()
    }

    #[test]
    fn what_is_kept_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/tune.json");
        let (first, warning) = TuneCache::open(&path).unwrap();
        assert_eq!(warning, None);
        assert_eq!(first.recall(&key(1, 1)), None);
        first.keep(&key(1, 1), &times(5.0));
        assert_eq!(first.measured(), 1);
        // Another process meanwhile.
        let (second, _) = TuneCache::open(&path).unwrap();
        second.keep(&key(2, 1), &times(6.0));
        second.save().unwrap();
        first.save().unwrap();
        let (third, warning) = TuneCache::open(&path).unwrap();
        assert_eq!((warning, third.measured()), (None, 0));
        assert_eq!(third.recall(&key(1, 1)), Some(times(5.0)));
        assert_eq!(third.recall(&key(2, 1)), Some(times(6.0)));
        assert_eq!(third.recall(&key(1, 2)), None, "other threads");
        let coincides = TrialKey {
            problem: "other".to_owned(),
            ..key(1, 1)
        };
        assert_eq!(third.recall(&coincides), None);
    }

    #[test]
    fn nothing_is_lost_when_many_save_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tune.json");
        let caches: Vec<TuneCache> = (0..16).map(|_| TuneCache::open(&path).unwrap().0).collect();
        std::thread::scope(|scope| {
            for (number, cache) in (0..).zip(&caches) {
                scope.spawn(move || {
                    cache.keep(&key(number, 1), &times(5.0));
                    cache.save().unwrap();
                });
            }
        });
        let (all, _) = TuneCache::open(&path).unwrap();
        for number in 0..16 {
            assert_eq!(all.recall(&key(number, 1)), Some(times(5.0)), "{number}");
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_named_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tune.json");
        let faults = [
            "",
            "{",
            r#"{"format": 99, "trials": {}}"#,
            r#"{"format": 1, "trials": {"x": 3}}"#,
        ];
        for text in faults {
            fs::write(&path, text).unwrap();
            let (cache, warning) = TuneCache::open(&path).unwrap();
            let warning = warning.unwrap_or_default();
            assert!(
                warning.contains("tune.json") && warning.contains("anew"),
                "{text}: {warning}"
            );
            cache.keep(&key(1, 1), &times(5.0));
            cache.save().unwrap();
            let (again, warning) = TuneCache::open(&path).unwrap();
            assert_eq!(warning, None);
            assert_eq!(again.recall(&key(1, 1)), Some(times(5.0)));
        }
    }

    #[test]
    fn files_of_other_kinds_are_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        assert!(TuneCache::open(folder.path()).is_err());
        assert!(TuneCache::open(Path::new("/dev/null")).is_err());
        let path = folder.path().join("net.caffemodel");
        for text in [
            "\nname: \"net\"",
            "{\"a\": 1}",
            "cat\ndog",
            "{\"format\" 1}",
        ] {
            fs::write(&path, text).unwrap();
            let Err(error) = TuneCache::open(&path) else {
                panic!("{text} is no tune cache");
            };
            assert!(
                error.to_string().contains("a file of another kind"),
                "{error}"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        // It may have come after the cache was opened.
        fs::remove_file(&path).unwrap();
        let (cache, _) = TuneCache::open(&path).unwrap();
        cache.keep(&key(1, 1), &times(5.0));
        fs::write(&path, "cat\ndog").unwrap();
        assert!(cache.save().is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "cat\ndog");
    }

    #[test]
    fn the_oldest_go_first() {
        let trial = |age| Trial {
            machine: String::new(),
            problem: String::new(),
            times_ns: times(1.0),
            age,
        };
        let mut trials: BTreeMap<String, Trial> = (0..10)
            .map(|i| (format!("{i}"), trial((i * 7) % 10)))
            .collect();
        bound(&mut trials, 3);
        let mut ages: Vec<u64> = trials.values().map(|trial| trial.age).collect();
        ages.sort_unstable();
        assert_eq!(ages, [7, 8, 9]);
    }
}
