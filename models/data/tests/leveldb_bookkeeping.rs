//! LevelDB data bases whose manifest, logs and tables do not belong together.

use rusty_leveldb::{DB, Options};
use skimjit_data::leveldb::Reader;
use std::path::{Path, PathBuf};

/// Writes in several turns, each of which makes tables and a log of its own.
fn write(path: &Path, count: usize, turns: usize) {
    for turn in 0..turns {
        let options = Options {
            write_buffer_size: 1 << 16,
            ..Options::default()
        };
        let mut base = DB::open(path, options).unwrap();
        for n in (turn..count).step_by(turns) {
            base.put(format!("{n:08}").as_bytes(), &[n as u8; 700])
                .unwrap();
        }
        base.flush().unwrap();
        base.close().unwrap();
    }
}

/// Reads all.
fn count(path: &Path) -> Result<usize, String> {
    let mut reader = Reader::open(path).map_err(|error| error.to_string())?;
    let mut count = 0;
    while reader.next().map_err(|error| error.to_string())?.is_some() {
        count += 1;
    }
    Ok(count)
}

fn files(path: &Path, ending: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(path).unwrap().flatten();
    let files = files.map(|entry| entry.path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    files.sort();
    files
}

fn manifest(path: &Path) -> PathBuf {
    let name = std::fs::read_to_string(path.join("CURRENT")).unwrap();
    path.join(name.trim_end())
}

/// Where records of a log end, all of them smaller than a block.
fn ends(log: &[u8]) -> Vec<usize> {
    let mut ends = vec![0];
    let mut at = 0;
    while let Some(&[_, _, _, _, low, high, _]) = log.get(at..at + 7) {
        at += 7 + usize::from(u16::from_le_bytes([low, high]));
        ends.push(at);
    }
    assert_eq!(at, log.len());
    ends
}

#[test]
fn a_manifest_that_ends_between_two_records_hides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (records, turns) in [(5, 1), (400, 1), (400, 3), (2500, 2)] {
        let path = folder.path().join(format!("{records}-{turns}"));
        write(&path, records, turns);
        assert_eq!(count(&path), Ok(records));
        let manifest = manifest(&path);
        let whole = std::fs::read(&manifest).unwrap();
        let ends = ends(&whole);
        let mut refused = 0;
        for &end in &ends[..ends.len() - 1] {
            std::fs::write(&manifest, &whole[..end]).unwrap();
            match count(&path) {
                // What was moved only is found where it was.
                Ok(found) => assert_eq!(found, records, "{end} of {ends:?}"),
                Err(text) => {
                    assert!(text.contains("expected"), "{text}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 0);
        std::fs::write(&manifest, []).unwrap();
        let text = count(&path).unwrap_err();
        assert!(text.contains("MANIFEST-"), "{text}");
        assert!(
            text.contains("found a manifest without the order of keys"),
            "{text}"
        );
    }
}

#[test]
fn a_log_that_the_manifest_names_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    for (records, turns, found) in [
        (12, 1, "found neither a table nor a log"),
        (400, 1, ".log: found no file"),
        (400, 3, ".log: found no file"),
    ] {
        let path = folder.path().join(format!("{records}-{turns}"));
        write(&path, records, turns);
        let logs = files(&path, "log");
        assert_eq!(logs.len(), 1);
        std::fs::remove_file(&logs[0]).unwrap();
        let text = count(&path).unwrap_err();
        assert!(text.contains(found), "{text}");
        assert!(
            text.contains("expected a LevelDB data base that is whole"),
            "{text}"
        );
    }
}

#[test]
fn a_missing_table_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    write(&path, 2000, 1);
    let tables = files(&path, "ldb");
    std::fs::remove_file(&tables[0]).unwrap();
    let text = count(&path).unwrap_err();
    assert!(text.contains(".ldb: found No such file"), "{text}");
    assert!(text.contains("as the manifest says"), "{text}");
}

/// A manifest and logs of an earlier day beside tables of today.
#[test]
fn tables_of_later_writes_are_not_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (path, later) = (folder.path().join("base"), folder.path().join("later"));
    write(&path, 30, 1);
    write(&later, 2000, 1);
    let tables = files(&later, "ldb");
    assert!(tables.len() > 1);
    for (number, table) in (500..).zip(&tables) {
        std::fs::copy(table, path.join(format!("{number:06}.ldb"))).unwrap();
    }
    let text = count(&path).unwrap_err();
    assert!(
        text.contains("later writes than the manifest knows of"),
        "{text}"
    );
    assert!(text.contains(".ldb"), "{text}");
}

/// What a compaction had written when the data base was closed: earlier writes once more, and a table that
/// is cut off.
#[test]
fn what_a_compaction_left_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    write(&path, 2000, 2);
    let tables = files(&path, "ldb");
    std::fs::copy(&tables[0], path.join("000900.ldb")).unwrap();
    let whole = std::fs::read(&tables[0]).unwrap();
    std::fs::write(path.join("000901.ldb"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(path.join("000902.ldb"), []).unwrap();
    assert_eq!(count(&path), Ok(2000));
}
