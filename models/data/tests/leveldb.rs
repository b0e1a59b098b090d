//! LevelDB data bases.

use rusty_leveldb::{DB, Options};
use skimjit_data::leveldb::Reader;
use std::path::Path;

fn write(path: &Path, count: usize) {
    let mut base = DB::open(
        path,
        Options {
            compressor: 1,
            ..Options::default()
        },
    )
    .unwrap();
    for n in 0..count {
        let value: Vec<u8> = (0..2000).map(|i| (n * 7 + i) as u8).collect();
        base.put(format!("{n:08}").as_bytes(), &value).unwrap();
    }
    base.flush().unwrap();
    base.close().unwrap();
}

/// Checklist 26.
#[test]
fn records_are_read_without_writing_to_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    write(&path, 3000);
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                (
                    entry.file_name(),
                    entry.metadata().unwrap().modified().unwrap(),
                )
            })
            .collect();
        files.sort();
        files
    };
    let before = files();
    let mut reader = Reader::open(&path).unwrap();
    for round in 0..2 {
        for n in 0..3000usize {
            let record = reader.next().unwrap();
            assert_eq!(record.key, format!("{n:08}").as_bytes(), "round {round}");
            assert_eq!(
                (record.value.len(), record.value[5]),
                (2000, (n * 7 + 5) as u8)
            );
        }
    }
    drop(reader);
    assert_eq!(files(), before);
}

#[test]
fn damage_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    write(&path, 3000);
    assert!(
        Reader::open(folder.path())
            .err()
            .unwrap()
            .to_string()
            .contains("CURRENT")
    );
    for entry in std::fs::read_dir(&path).unwrap().flatten() {
        if entry.path().extension().is_some_and(|e| e == "ldb") {
            let mut bytes = std::fs::read(entry.path()).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle..middle + 64].fill(0xA5);
            std::fs::write(entry.path(), bytes).unwrap();
        }
    }
    let mut reader = Reader::open(&path).unwrap();
    let end = (0..6000).find_map(|_| reader.next().err());
    // A damaged block is an error, or its records are missing; nothing panics or hangs.
    if let Some(error) = end {
        assert!(error.to_string().contains("base"), "{error}");
    }
}
