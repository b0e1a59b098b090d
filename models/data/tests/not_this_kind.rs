//! Files and folders that are something else than a data set: what was expected is said.

use skimjit_caffe::{read_caffemodel, read_prototxt};
use skimjit_data::data_base::Reader;
use skimjit_data::{image_list, leveldb, lmdb};

#[test]
fn a_folder_without_a_data_base_is_told_both_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let texts = [
        Reader::open(folder.path()).err(),
        leveldb::Reader::open(folder.path()).err(),
        lmdb::Reader::open(folder.path()).err(),
    ];
    for text in texts {
        let text = text.unwrap().to_string();
        for word in ["LMDB", "data.mdb", "LevelDB", "CURRENT"] {
            assert!(text.contains(word), "{text}");
        }
    }
}

#[test]
fn data_bases_given_as_networks_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let mut writer = lmdb::Writer::create(&path).unwrap();
    writer.put(b"key", vec![1]).unwrap();
    writer.finish().unwrap();
    let text = read_caffemodel(&path.join("data.mdb")).unwrap_err();
    let text = text.to_string();
    assert!(
        text.contains("found an LMDB data base (data.mdb)"),
        "{text}"
    );
    for text in [
        read_caffemodel(&path).unwrap_err(),
        read_prototxt(&path).unwrap_err(),
    ] {
        let text = text.to_string();
        assert!(text.contains("found an LMDB data base (a folder"), "{text}");
        assert!(text.contains("expected"), "{text}");
    }
}

#[test]
fn a_folder_is_no_list() {
    let folder = tempfile::tempdir().unwrap();
    let text = image_list::read(folder.path()).unwrap_err().to_string();
    assert!(
        text.contains("found a folder, expected a text file"),
        "{text}"
    );
}
