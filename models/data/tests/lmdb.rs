//! LMDB data bases: real ones of Caffe's tools, those of other writers and readers, and damaged ones.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use skimjit_caffe::datum::{Datum, Pixels};
use skimjit_data::lmdb::{Reader, Record, Writer};
use skimjit_testing::{data, skip};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

fn records(path: &Path) -> skimjit_models::Result<Vec<Record>> {
    let mut reader = Reader::open(path)?;
    let mut records = Vec::new();
    while let Some(record) = reader.next()? {
        records.push(record);
        assert!(records.len() as u64 <= reader.len());
    }
    assert_eq!(records.len() as u64, reader.len());
    Ok(records)
}

/// Checklist 25.
#[test]
fn data_bases_of_caffe_list_what_their_tables_say() {
    let Some(data) = data("") else { return };
    for name in ["train_lmdb", "test_lmdb"] {
        let folder = data.join("data/lmdb_coiss");
        let mut reader = Reader::open(&folder.join(name)).unwrap();
        let table = fs::read_to_string(folder.join(format!("{name}.entries.tsv"))).unwrap();
        for pass in 0..2 {
            let mut lines = 0;
            for (n, line) in table.lines().skip(1).enumerate() {
                let record = reader.next().unwrap().expect(line);
                assert_eq!(describe(n, &record), line, "pass {pass}");
                lines += 1;
            }
            assert_eq!((lines, reader.len()), (380, 380));
            assert_eq!(reader.next().unwrap(), None);
            reader.rewind();
        }
        let file = folder.join(name).join("data.mdb");
        assert_eq!(records(&file).unwrap().len(), 380, "the file itself");
    }
}

/// A line of the tables.
fn describe(n: usize, record: &Record) -> String {
    let datum = Datum::decode(&record.value).unwrap();
    let (encoded, bytes) = match &datum.pixels {
        Pixels::U8(bytes) => (0, bytes),
        Pixels::Encoded(bytes) => (1, bytes),
        Pixels::F32(_) => panic!("floats in record {n}"),
    };
    let hash = Sha256::digest(bytes);
    let hash = hash.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    let (key, label) = (String::from_utf8_lossy(&record.key), datum.label.unwrap());
    let (c, h, w) = (datum.channels, datum.height, datum.width);
    let size = bytes.len();
    format!("{n}\t{key}\t{c}\t{h}\t{w}\t{label}\t{encoded}\t{size}\t{hash}")
}

/// Records on three levels of pages, some with pages of their own; several transactions.
fn sample(folder: &Path) -> Vec<Record> {
    let mut writer = Writer::create(folder).unwrap();
    let mut written = Vec::new();
    for index in 0..3000u32 {
        let length = match index % 100 {
            7 => 9000,
            8 => 2000 + index,
            _ => 300 + index % 50,
        };
        let key = format!("{index:08}_{}", "k".repeat(index as usize % 90)).into_bytes();
        let value: Vec<u8> = (0..length).map(|i| (i * 7 + index) as u8).collect();
        writer.put(&key, value.clone()).unwrap();
        written.push(Record { key, value });
    }
    assert_eq!(writer.finish().unwrap(), 3000);
    written
}

/// Changes bytes of a file, and puts them back.
struct Damage<'a> {
    file: &'a File,
    old: Vec<(u64, Vec<u8>)>,
}

impl<'a> Damage<'a> {
    fn new(file: &'a File) -> Self {
        let old = Vec::new();
        Self { file, old }
    }
    fn write(&mut self, at: u64, bytes: &[u8]) {
        let mut old = vec![0; bytes.len()];
        self.file.read_exact_at(&mut old, at).unwrap();
        self.file.write_all_at(bytes, at).unwrap();
        self.old.push((at, old));
    }
}

impl Drop for Damage<'_> {
    fn drop(&mut self) {
        for (at, old) in self.old.iter().rev() {
            self.file.write_all_at(old, *at).unwrap();
        }
    }
}

#[test]
fn changed_bytes_give_an_error_or_change_no_other_record() {
    let folder = tempfile::tempdir().unwrap();
    let written = sample(folder.path());
    let path = folder.path().join("data.mdb");
    let file = OpenOptions::new().read(true).write(true).open(&path);
    let file = file.unwrap();
    let length = file.metadata().unwrap().len();
    let mut random = ChaCha8Rng::seed_from_u64(20_260_801);
    let mut refused = 0;
    for variant in 0..400 {
        let mut damage = Damage::new(&file);
        let count = random.random_range(1..=4);
        for _ in 0..count {
            // Heads of pages matter most.
            let page = random.random_range(0..length / 4096) * 4096;
            let within = [24, 160, 4096][variant % 3];
            let at = page + random.random_range(0..within);
            damage.write(at, &[random.random()]);
        }
        match records(&path) {
            Err(error) => {
                assert!(error.to_string().contains("data.mdb: "), "{error}");
                refused += 1;
            }
            Ok(read) => {
                assert_eq!(read.len(), written.len(), "variant {variant}");
                let differ = read.iter().zip(&written).filter(|(a, b)| a != b).count();
                assert!(differ <= count, "variant {variant}: {differ} of {count}");
            }
        }
    }
    assert!((100..400).contains(&refused), "{refused} refused");
    assert_eq!(records(&path).unwrap(), written, "the damage was undone");
}

#[test]
fn pages_in_wrong_places_end_in_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let written = sample(folder.path());
    let path = folder.path().join("data.mdb");
    let file = OpenOptions::new().read(true).write(true).open(&path);
    let file = file.unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..300 {
        let (from, to) = (random.random_range(0..pages), random.random_range(0..pages));
        let mut page = vec![0; 4096];
        file.read_exact_at(&mut page, from * 4096).unwrap();
        // With the right number, so that the rest of the checks is asked too.
        page[..8].copy_from_slice(&to.to_le_bytes());
        let mut damage = Damage::new(&file);
        damage.write(to * 4096, &page);
        if let Ok(read) = records(&path) {
            // Either nobody reads that page, or it is inside a long value.
            let differ = read.iter().zip(&written).filter(|(a, b)| a != b).count();
            assert!(differ <= 1 && read.len() == written.len(), "{from} to {to}");
        }
    }
}

#[test]
fn cut_files_give_an_error_or_all_records() {
    let folder = tempfile::tempdir().unwrap();
    let written = sample(folder.path());
    let whole = fs::read(folder.path().join("data.mdb")).unwrap();
    let path = folder.path().join("cut.mdb");
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let lengths = (0..150).map(|_| random.random_range(0..whole.len()));
    for length in lengths.chain([0, 1, 15, 16, 4095, 4096, 8191, 8192]) {
        fs::write(&path, &whole[..length]).unwrap();
        if let Ok(read) = records(&path) {
            assert_eq!(read, written, "{length} bytes");
        }
    }
}

#[test]
fn other_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.mdb");
    let text = |path: &Path| Reader::open(path).err().unwrap().to_string();
    assert!(text(folder.path()).contains("a folder with data.mdb"));
    fs::write(&path, vec![0; 8192]).unwrap();
    assert!(text(folder.path()).contains("no LMDB meta page"));
    let mut page = vec![0; 8192];
    page[12..16].copy_from_slice(&0xBEEF_C0DE_u32.to_le_bytes());
    fs::write(&path, &page).unwrap();
    assert!(text(&path).contains("32-bit"), "{}", text(&path));
}

const PYTHON: &str = r"
import lmdb, sys
with lmdb.open(sys.argv[1], readonly=True, lock=False) as ours:
    with ours.begin() as transaction:
        for n, (key, value) in enumerate(transaction.cursor()):
            assert key.startswith(b'%08d_' % n), key
            start = (7 * 0 + n) % 256
            assert value[:2] == bytes([start, (start + 7) % 256]), (key, value[:2])
        assert n + 1 == transaction.stat()['entries'] == 3000
with lmdb.open(sys.argv[2], map_size=1 << 28) as theirs:
    for part in range(5):
        with theirs.begin(write=True) as transaction:
            for n in range(part, 2000, 5):
                transaction.put(b'%05d' % n, bytes([n % 256]) * (n * 3))
    with theirs.begin(write=True) as transaction:
        for n in range(0, 2000, 4):
            transaction.delete(b'%05d' % n)
";

#[test]
fn python_reads_ours_and_we_read_pythons() {
    let python = |arguments: &[&str]| Command::new("python3").args(arguments).output();
    if !python(&["-c", "import lmdb"]).is_ok_and(|output| output.status.success()) {
        skip("no python3 with the package lmdb");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    sample(&ours);
    let paths = [ours.to_str().unwrap(), theirs.to_str().unwrap()];
    let output = python(&["-c", PYTHON, paths[0], paths[1]]).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let read = records(&theirs).unwrap();
    assert_eq!(read.len(), 1500);
    let mut expected = (0..2000u32).filter(|n| n % 4 != 0);
    for record in read {
        let n = expected.next().unwrap();
        assert_eq!(record.key, format!("{n:05}").into_bytes());
        assert_eq!(record.value, vec![n as u8; 3 * n as usize]);
    }
}
