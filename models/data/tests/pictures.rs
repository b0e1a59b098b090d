//! Picture files of every kind that is read: whole, cut off at every byte, and of impossible size.
//!
//! `pictures/` holds the same 37 × 29 pixels in many forms.

use skimjit_data::picture::{ChannelOrder, FORMATS, Picture};
use std::path::{Path, PathBuf};

const SIZE: (u32, u32) = (37, 29);

fn files() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let read = |path: &PathBuf| (name(path), std::fs::read(path).unwrap());
    paths.iter().map(read).collect()
}

fn file(name: &str) -> Vec<u8> {
    let found = files().into_iter().find(|(other, _)| other == name);
    found.unwrap_or_else(|| panic!("{name}")).1
}

fn decode(file: &[u8]) -> Result<Picture, String> {
    Picture::decode(file, Some(3), ChannelOrder::Rgb).map_err(|error| error.to_string())
}

fn mean_difference(a: &Picture, b: &Picture) -> f64 {
    let pairs = a.data().iter().zip(b.data());
    let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.data().len() as f64
}

#[test]
fn every_kind_is_read() {
    let original = decode(&file("colour.png")).unwrap();
    let gray = decode(&file("gray.pgm")).unwrap();
    for (name, file) in files() {
        let picture = decode(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        if name == "rotated.jpg" {
            assert_eq!((picture.height(), picture.width()), SIZE, "{name}");
            continue;
        }
        assert_eq!((picture.width(), picture.height()), SIZE, "{name}");
        let expected = if name.starts_with("gray") {
            &gray
        } else {
            &original
        };
        let most = match &*name {
            "colour.png" | "colour.bmp" | "colour.ppm" | "lossless.webp" | "gray.pgm" => 0.0,
            "gray16.png" => 0.0,
            name if name.ends_with(".tif") => 0.0,
            // Few colours, or half the colours' resolution.
            _ => 25.0,
        };
        let difference = mean_difference(&picture, expected);
        assert!(difference <= most, "{name}: {difference}");
    }
}

#[test]
fn what_is_cut_off_is_an_error_or_the_whole_picture() {
    for (name, file) in files() {
        let whole = decode(&file).unwrap();
        let mut refused = 0;
        for length in 0..file.len() {
            match decode(&file[..length]) {
                Ok(picture) => assert!(
                    picture == whole,
                    "{name}: {length} of {} bytes give other pixels",
                    file.len()
                ),
                Err(_) => refused += 1,
            }
        }
        // The second picture of two is not needed.
        let needed = file.len() * if name.ends_with(".gif") { 3 } else { 8 } / 10;
        assert!(refused > needed, "{name}: {refused} refused");
    }
}

#[test]
fn a_jpeg_that_ends_early_is_refused_even_with_an_end_marker() {
    for name in [
        "baseline.jpg",
        "gray.jpg",
        "cmyk.jpg",
        "full-colour.jpg",
        "restart.jpg",
    ] {
        let file = file(name);
        let scan = file
            .windows(2)
            .position(|pair| pair == [0xff, 0xda])
            .unwrap();
        for length in scan + 20..file.len() - 24 {
            let ended = [&file[..length], &[0xff, 0xd9]].concat();
            let text = decode(&ended)
                .err()
                .unwrap_or_else(|| panic!("{name}: {length}"));
            assert!(text.contains("no readable picture"), "{text}");
        }
    }
}

#[test]
fn what_follows_a_jpegs_end_and_fills_its_gaps_is_left_out() {
    for name in ["baseline.jpg", "progressive.jpg", "restart.jpg"] {
        let whole = file(name);
        let expected = decode(&whole).unwrap();
        let longer = [&whole[..], &[0, 0xff, 0xda, 7, 0xff]].concat();
        assert!(decode(&longer).unwrap() == expected, "{name}");
        // Stray bytes behind the first segment, as some cameras write.
        let first = 4 + usize::from(u16::from_be_bytes([whole[4], whole[5]]));
        let stray = [&whole[..first], &[0; 5], &whole[first..]].concat();
        assert!(decode(&stray).unwrap() == expected, "{name}");
    }
}

#[test]
fn a_png_with_a_wrong_checksum_is_refused() {
    let mut file = file("colour.png");
    let data = file.windows(4).position(|kind| kind == b"IDAT").unwrap();
    file[data + 40] ^= 1;
    assert!(decode(&file).is_err());
}

/// Bottom-up rows of blue, green, red, each filled up to four bytes.
fn bitmap(file: &[u8]) -> Vec<u8> {
    let start = u32::from_le_bytes(file[10..14].try_into().unwrap()) as usize;
    let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
    let pitch = (3 * width).next_multiple_of(4);
    let row = |y: usize| &file[start + (height - 1 - y) * pitch..][..3 * width];
    let pixels = (0..height).flat_map(|y| row(y).chunks_exact(3).map(|p| [p[2], p[1], p[0]]));
    pixels.flatten().collect()
}

#[test]
fn bitmaps_and_portable_maps_are_what_a_few_lines_read() {
    let bmp = file("colour.bmp");
    assert_eq!(decode(&bmp).unwrap().data(), bitmap(&bmp));
    let ppm = file("colour.ppm");
    let values = &ppm[ppm.len() - 3 * 37 * 29..];
    assert_eq!(decode(&ppm).unwrap().data(), values);
}

#[test]
fn the_first_of_moving_pictures_is_taken() {
    let picture = decode(&file("two-frames.gif")).unwrap();
    let original = decode(&file("colour.png")).unwrap();
    assert!(mean_difference(&picture, &original) < 10.0);
}

#[test]
fn a_picture_of_impossible_size_is_refused_before_it_is_decoded() {
    let claims = |width: u32, height: u32| {
        let mut file = file("colour.ppm");
        let text = format!("P6\n{width} {height}\n255\n");
        file.splice(..13, text.bytes());
        decode(&file).err().unwrap()
    };
    for (width, height) in [(16_384, 16_384), (1 << 20, 1), (1, 1 << 20)] {
        let text = claims(width, height);
        assert!(text.len() < 250, "{text}");
    }
    assert!(claims(16_384, 16_384).contains("512 MiB of pixels"));
}

#[test]
fn what_is_no_picture_is_told_what_is_read() {
    for file in [&b"no picture at all"[..], b"", b"\x93NUMPY\x01\0v\0"] {
        let text = decode(file).err().unwrap();
        assert!(text.contains(FORMATS), "{text}");
    }
}
