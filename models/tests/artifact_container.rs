//! The container: what goes in comes out, and no damage goes unnoticed.

use proptest::prelude::*;
use skimjit_models::artifact::container::{ALIGNMENT, FORMAT};
use skimjit_models::artifact::limits::{MAX_NAME_BYTES, MAX_SECTIONS};
use skimjit_models::artifact::{Kind, Reader, Writer};

/// Where the header keeps the checksum of itself and the table, and where the table begins.
const CRC: std::ops::Range<usize> = 28..32;
const TABLE: usize = 64;

fn small() -> Vec<u8> {
    let mut writer = Writer::new();
    writer
        .add(Kind::GRAPH, "graph", b"nodes and values".to_vec())
        .unwrap();
    writer.add(Kind::WEIGHT, "weight.0", vec![7; 200]).unwrap();
    writer.add(Kind::META, "weight.0", vec![]).unwrap();
    writer
        .add(Kind(99), "of-the-future", vec![1, 2, 3])
        .unwrap();
    writer.to_bytes()
}

/// Changes the head with `edit` and makes its checksum fit again.
fn forged(edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut file = small();
    edit(&mut file);
    let table = u32::from_le_bytes(file[24..28].try_into().unwrap()) as usize;
    let mut head = file[..(TABLE + table).min(file.len())].to_vec();
    head[CRC].fill(0);
    let crc = crc32fast::hash(&head);
    file[CRC].copy_from_slice(&crc.to_le_bytes());
    file
}

fn refusal(file: &[u8]) -> String {
    Reader::new(file).err().expect("a refusal").to_string()
}

#[test]
fn sections_come_back_aligned() {
    let file = small();
    let reader = Reader::new(&file).unwrap();
    assert_eq!(reader.product_version(), env!("CARGO_PKG_VERSION"));
    assert_eq!(
        reader.section(Kind::GRAPH, "graph"),
        Some(&b"nodes and values"[..])
    );
    assert_eq!(
        reader.section(Kind::WEIGHT, "weight.0"),
        Some(&[7u8; 200][..])
    );
    assert_eq!(reader.section(Kind::META, "weight.0"), Some(&[][..]));
    assert_eq!(
        reader.section(Kind(99), "of-the-future"),
        Some(&[1u8, 2, 3][..])
    );
    assert_eq!(reader.section(Kind::PLAN, "graph"), None);
    assert!(
        reader
            .sections()
            .iter()
            .all(|section| section.offset % ALIGNMENT == 0)
    );
    assert_eq!(file, small(), "same sections, same bytes");
    assert!(
        Reader::new(&Writer::new().to_bytes())
            .unwrap()
            .sections()
            .is_empty()
    );
}

#[test]
fn every_truncation_and_every_extension_is_refused() {
    let file = small();
    for length in 0..file.len() {
        assert!(Reader::new(&file[..length]).is_err(), "{length} bytes");
    }
    let longer = [&file[..], &[0]].concat();
    assert!(refusal(&longer).contains("copy it again"));
}

#[test]
fn every_changed_byte_is_refused_or_harmless() {
    let file = small();
    let good = Reader::new(&file).unwrap();
    for (at, flip) in (0..file.len()).flat_map(|at| [1, 0x80, 0xff].map(|flip| (at, flip))) {
        let mut damaged = file.clone();
        damaged[at] ^= flip;
        if let Ok(reader) = Reader::new(&damaged) {
            for (a, b) in good.sections().iter().zip(reader.sections()) {
                assert_eq!(
                    (a.kind, a.name, a.bytes),
                    (b.kind, b.name, b.bytes),
                    "byte {at}"
                );
            }
        }
    }
}

#[test]
fn damage_names_the_section() {
    let mut file = small();
    let at = file.iter().rposition(|&byte| byte == 7).unwrap();
    file[at] = 8;
    assert!(
        refusal(&file).contains("section weight.0 (weight)"),
        "{}",
        refusal(&file)
    );
}

#[test]
fn another_format_names_the_version_that_wrote_it() {
    let newer = forged(|file| {
        file[8..12].copy_from_slice(&(FORMAT + 1).to_le_bytes());
        file[32..64].fill(0);
        file[32..37].copy_from_slice(b"7.8.9");
    });
    let text = refusal(&newer);
    assert!(
        text.contains("7.8.9") && text.contains("update this program"),
        "{text}"
    );
    let older = refusal(&forged(|file| file[8..12].fill(0)));
    assert!(older.contains("compile the network again"), "{older}");
    assert!(refusal(b"layer { name: \"conv1\" }").contains("does not start like"));
}

#[test]
fn forged_tables_are_refused() {
    type Edit = fn(&mut Vec<u8>);
    let cases: [(&str, Edit); 8] = [
        ("overlap", |file| {
            file[TABLE + 8..TABLE + 16].copy_from_slice(&64u64.to_le_bytes())
        }),
        ("gap", |file| file[TABLE + 8] += 64),
        ("beyond the end", |file| file[TABLE + 17] = 0x40),
        ("offset that wraps", |file| {
            file[TABLE + 8..TABLE + 16].fill(0xff)
        }),
        ("length that wraps", |file| {
            file[TABLE + 16..TABLE + 24].fill(0xff)
        }),
        ("not aligned", |file| file[TABLE + 8] += 4),
        ("long name", |file| file[TABLE + 4..TABLE + 8].fill(0xff)),
        ("too many", |file| file[12..16].fill(0xff)),
    ];
    for (what, edit) in cases {
        assert!(Reader::new(&forged(edit)).is_err(), "{what}");
    }
    let fewer = refusal(&forged(|file| file[12] -= 1));
    assert!(fewer.contains("belong to no section"), "{fewer}");
    // The third entry, meta, becomes a second weight.0.
    let twice = refusal(&forged(|file| file[TABLE + 2 * (32 + 8)] = 2));
    assert!(twice.contains("two sections weight.0"), "{twice}");
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let mut writer = Writer::new();
    assert!(writer.add(Kind::META, "", vec![]).is_err());
    assert!(writer.add(Kind::META, "with space", vec![]).is_err());
    assert!(
        writer
            .add(Kind::META, &"n".repeat(MAX_NAME_BYTES + 1), vec![])
            .is_err()
    );
    writer.add(Kind::META, "once", vec![]).unwrap();
    assert!(writer.add(Kind::META, "once", vec![]).is_err());
    for index in 1..MAX_SECTIONS {
        writer.add(Kind::META, &index.to_string(), vec![]).unwrap();
    }
    assert!(writer.add(Kind::META, "more", vec![]).is_err());
    assert_eq!(
        Reader::new(&writer.to_bytes()).unwrap().sections().len(),
        MAX_SECTIONS
    );
}

proptest! {
    #[test]
    fn any_sections_come_back(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
    ) {
        let mut writer = Writer::new();
        for (index, part) in parts.iter().enumerate() {
            writer.add(Kind(index as u32 % 3), &format!("s{index}"), &part[..]).unwrap();
        }
        let file = writer.to_bytes();
        let reader = Reader::new(&file).unwrap();
        for (index, part) in parts.iter().enumerate() {
            let found = reader.section(Kind(index as u32 % 3), &format!("s{index}"));
            prop_assert_eq!(found, Some(&part[..]));
        }
    }

    #[test]
    fn any_forged_head_is_survived(at in 8usize..224, byte: u8) {
        let _ = Reader::new(&forged(|file| file[at] = byte));
    }
}
