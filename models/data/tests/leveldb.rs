//! LevelDB data bases.

use rusty_leveldb::{DB, LdbIterator, Options};
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
            let record = reader.next().unwrap().unwrap();
            assert_eq!(record.key, format!("{n:08}").as_bytes(), "round {round}");
            assert_eq!(
                (record.value.len(), record.value[5]),
                (2000, (n * 7 + 5) as u8)
            );
        }
        assert_eq!(reader.next().unwrap(), None);
        reader.rewind();
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
    let text = end(&path).unwrap_err();
    assert!(text.contains("does not match its checksum"), "{text}");
    assert!(text.contains(".ldb"), "{text}");
}

/// Reads all.
fn end(path: &Path) -> Result<usize, String> {
    let mut reader = Reader::open(path).map_err(|error| error.to_string())?;
    let mut count = 0;
    while reader.next().map_err(|error| error.to_string())?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Records in a log alone, in several tables of the lowest level, and in levels above, with some written
/// twice and some deleted: as the library reads them.
#[test]
fn all_levels_are_read_as_the_library_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    for (count, rounds) in [(1, 1), (30, 1), (400, 3), (6000, 2)] {
        let path = folder.path().join(format!("{count}"));
        let options = || Options {
            compressor: u8::from(count > 100),
            write_buffer_size: 1 << 18,
            ..Options::default()
        };
        let mut base = DB::open(&path, options()).unwrap();
        for round in 0..rounds {
            for n in (0..count).filter(|n| round == 0 || n % 3 == round) {
                let key = format!("{:08}", n * 7919 % count);
                match round == 2 {
                    true => base.delete(key.as_bytes()).unwrap(),
                    false => base
                        .put(key.as_bytes(), &vec![round as u8; 40 + n % 900])
                        .unwrap(),
                }
            }
        }
        base.flush().unwrap();
        let mut expected = Vec::new();
        let mut records = base.new_iter().unwrap();
        while let Some((key, value)) = LdbIterator::next(&mut records) {
            expected.push((key.to_vec(), value.to_vec()));
        }
        drop(records);
        base.close().unwrap();
        drop(base);
        let mut reader = Reader::open(&path).unwrap();
        let mut found = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            found.push((record.key, record.value));
        }
        assert!(found == expected, "{} of {}", found.len(), expected.len());
    }
}

/// Every file cut off, and every byte of some changed: an error, or the same records.
#[test]
fn damaged_files_are_errors_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base");
    write(&path, 12);
    let files = std::fs::read_dir(&path).unwrap().flatten();
    let files: Vec<_> = files.map(|entry| entry.path()).collect();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if name == "LOG" || name == "LOCK" {
            continue;
        }
        let whole = std::fs::read(&file).unwrap();
        for length in (0..whole.len()).step_by(1 + whole.len() / 300) {
            std::fs::write(&file, &whole[..length]).unwrap();
            // What ends between two records is not to be told from what was never written.
            if let Ok(count) = end(&path) {
                assert!(
                    count <= 12 && !name.starts_with("CURRENT"),
                    "{name}: {count}"
                );
            }
        }
        for at in (0..whole.len()).step_by(1 + whole.len() / 300) {
            let mut changed = whole.clone();
            changed[at] ^= 0x41;
            std::fs::write(&file, &changed).unwrap();
            if let Ok(count) = end(&path) {
                panic!("{name}: byte {at} changed, and {count} records");
            }
        }
        std::fs::write(&file, &whole).unwrap();
    }
    assert_eq!(end(&path), Ok(12));
}

/// Files that made the library panic, one behind the other: a name and contents, each with its length in
/// front, and a table at the end.
#[test]
fn a_data_base_that_makes_the_library_panic_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = &include_bytes!("leveldb/panics.bin")[..];
    while let Some((&length @ 1.., rest)) = all.split_first() {
        let (name, rest) = rest.split_at(usize::from(length));
        let (length, rest) = rest.split_first_chunk::<4>().unwrap();
        let (contents, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        let name = String::from_utf8(name.to_vec()).unwrap();
        std::fs::write(folder.path().join(name), contents).unwrap();
        all = rest;
    }
    assert!(end(folder.path()).is_err());

    // The table in the place of a good one, of the same size.
    let path = folder.path().join("base");
    write(&path, 3000);
    for entry in std::fs::read_dir(&path).unwrap().flatten() {
        if entry.path().extension().is_some_and(|e| e == "ldb") {
            let size = entry.metadata().unwrap().len() as usize;
            let table = [&vec![0; size.saturating_sub(all.len())], all].concat();
            std::fs::write(entry.path(), &table[table.len() - size..]).unwrap();
        }
    }
    assert!(end(&path).is_err());
}
