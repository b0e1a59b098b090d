//! Bad input: the exit code, one `error:` line that names the fault, and no panic.

use crate::support::{self, PROTOTXT, Workplace, outcome, ramp};
use skimjit::array::write_npy;
use skimjit_caffe::proto::NetParameter;
use skimjit_caffe::{write_binaryproto, write_caffemodel};
use skimjit_models::{Shape, Tensor};
use std::process::Command;

const USAGE: i32 = 2;
const INPUT: i32 = 3;

/// Runs a command that has to fail; collects what is wrong with how it fails.
fn check(command: &mut Command, code: i32, words: &[&str], faults: &mut Vec<String>) {
    let result = outcome(command);
    let lines: Vec<&str> = result.stderr.lines().collect();
    let errors = lines
        .iter()
        .filter(|line| line.starts_with("error: "))
        .count();
    let allowed = lines.iter().all(|line| {
        ["error: ", "warning: ", "note: "]
            .iter()
            .any(|what| line.starts_with(what))
    });
    let missing: Vec<_> = words
        .iter()
        .filter(|word| !result.stderr.contains(**word))
        .collect();
    let right = result.code == Some(code) && errors == 1 && allowed && missing.is_empty();
    if !right {
        let arguments: Vec<_> = command.get_args().collect();
        faults.push(format!(
            "{arguments:?}\n  code {:?}, expected {code}; missing words {missing:?}\n  {}",
            result.code, result.stderr
        ));
    }
}

fn report(faults: &[String]) {
    assert!(
        faults.is_empty(),
        "{} cases:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// A change of the tiny network's prototxt, and words of the error.
type Edit = (&'static str, &'static str, &'static [&'static str]);

#[rustfmt::skip]
const EDITS: &[Edit] = &[
    ("input_param { shape", "input_param shape", &["bad.prototxt:3:", "found"]),
    ("top: \"prob\" }", "top: \"prob\"", &["bad.prototxt:12:"]),
    ("\"tiny\"", "\"tiny", &["bad.prototxt:1:"]),
    ("type: \"Softmax\"", "type: \"Sofmax\"", &["\"prob\"", "Sofmax"]),
    ("type: \"Softmax\"", "", &["\"prob\"", "type"]),
    ("bottom: \"ip1\"", "bottom: \"ip2\"", &["\"prob\"", "ip2"]),
    ("bottom: \"data\"", "bottom: \"prob\"", &["\"conv1\"", "prob"]),
    ("bottom: \"ip1\"", "", &["\"prob\"", "bottom"]),
    ("bottom: \"ip1\"", "bottom: \"ip1\" bottom: \"ip1\"", &["\"prob\"", "bottom"]),
    ("top: \"ip1\"", "top: \"conv1\"", &["\"ip1\"", "conv1"]),
    ("top: \"pool1\"", "top: \"data\"", &["\"pool1\"", "data"]),
    ("pad: 1", "pad: 1 stride: 0", &["\"conv1\"", "stride", "0"]),
    ("pad: 1", "pad: 1 dilation: 9", &["\"conv1\"", "kernel", "19", "10"]),
    ("kernel_size: 3", "kernel_size: 0", &["\"conv1\"", "kernel", "0"]),
    ("kernel_size: 3", "", &["\"conv1\"", "kernel"]),
    ("kernel_size: 3", "kernel_size: 3 kernel_h: 3 kernel_w: 3", &["\"conv1\"", "kernel"]),
    ("kernel_size: 3", "kernel_size: 3 kernel_size: 3 kernel_size: 3", &["\"conv1\"", "kernel_size"]),
    ("kernel_size: 3", "kernel_size: 5", &["\"conv1\"", "4x3x3x3", "4x3x5x5"]),
    ("pad: 1", "pad: 1 group: 2", &["\"conv1\"", "group", "2"]),
    ("pad: 1", "pad: 1 group: 0", &["\"conv1\"", "group", "0"]),
    ("pad: 1", "pad: -1", &["bad.prototxt:5:", "pad", "'-'"]),
    ("pad: 1", "pad: 1 dilation: 0", &["\"conv1\"", "dilation"]),
    ("pad: 1", "pad: 4294967295", &["\"conv1\""]),
    ("num_output: 4", "num_output: 4 num_output: 4", &["bad.prototxt:5:", "num_output"]),
    ("num_output: 4", "num_output: 6", &["\"conv1\"", "4x3x3x3", "6x3x3x3"]),
    ("num_output: 4", "num_output: four", &["bad.prototxt:5:", "four"]),
    ("num_output: 5", "num_output: 0", &["\"ip1\"", "num_output", "0"]),
    ("num_output: 5", "num_output: 5 axis: 7", &["\"ip1\"", "axis", "7"]),
    ("pool: MAX", "pool: MEDIAN", &["bad.prototxt:8:", "MEDIAN"]),
    ("pool: MAX", "pool: MAX pool: AVE", &["bad.prototxt:8:", "pool"]),
    ("pool: MAX", "pool: STOCHASTIC pad: 1", &["\"pool1\"", "STOCHASTIC", "pad"]),
    ("kernel_size: 2 stride: 2", "kernel_size: 2 pad: 2", &["\"pool1\"", "pad"]),
    ("name: \"ip1\"", "name: \"ip9\"", &["\"ip9\"", "no weight file"]),
    ("dim: 1 dim: 3", "dim: 0 dim: 3", &["\"data\"", "0"]),
    ("dim: 1 dim: 3", "dim: -1 dim: 3", &["\"data\"", "-1"]),
    ("dim: 8 dim: 8", "dim: 99999999 dim: 99999999", &["\"data\"", "99999999"]),
    ("dim: 1 dim: 3 dim: 8", "dim: 1 dim: 3", &["\"conv1\""]),
    ("dim: 1 dim: 3", "dim: 1 dim: 5", &["\"conv1\"", "4x3x3x3", "4x5x3x3"]),
    ("shape { dim: 1 dim: 3 dim: 8 dim: 8 }", "", &["input", "--input-shape"]),
];

#[test]
fn bad_topologies() {
    let place = Workplace::with_tiny_network();
    let mut faults = Vec::new();
    for (from, to, words) in EDITS {
        assert!(PROTOTXT.contains(from), "{from}");
        place.write("bad.prototxt", PROTOTXT.replacen(from, to, 1));
        let arguments = ["inspect", "tiny.caffemodel", "--prototxt", "bad.prototxt"];
        let before = faults.len();
        check(&mut place.command(&arguments), INPUT, words, &mut faults);
        faults[before..]
            .iter_mut()
            .for_each(|fault| fault.insert_str(0, &format!("{from} -> {to}: ")));
    }
    report(&faults);
}

/// A change of the tiny network's caffemodel, and words of the error.
type Change = (fn(&mut NetParameter), &'static [&'static str]);

#[rustfmt::skip]
const CHANGES: &[Change] = &[
    (|net| net.layer[1].blobs[0].data[5] = f32::NAN, &["\"conv1\"", "blobs[0]", "NaN"]),
    (|net| net.layer[4].blobs[1].data[0] = f32::INFINITY, &["\"ip1\"", "blobs[1]", "inf"]),
    (|net| net.layer[1].blobs[0].data.truncate(107), &["\"conv1\"", "blobs[0]", "107", "108"]),
    (|net| net.layer[1].blobs[0].shape.as_mut().unwrap().dim[0] = 1 << 40, &["\"conv1\"", "blobs[0]"]),
    (|net| net.layer[1].blobs[0].shape.as_mut().unwrap().dim[1] = -3, &["\"conv1\"", "-3"]),
    (|net| net.layer[1].blobs.clear(), &["\"conv1\"", "blob"]),
    (|net| net.layer[4].blobs.truncate(1), &["\"ip1\"", "blob"]),
    (|net| net.layer[4].blobs.extend_from_within(1..), &["\"ip1\"", "3", "2"]),
    (|net| net.layer[4].bottom[0] = "nowhere".into(), &["\"ip1\"", "nowhere"]),
    (|net| net.layer[4].r#type = Some("Magic".into()), &["\"ip1\"", "Magic"]),
    (|net| net.layer[1].convolution_param.as_mut().unwrap().stride = vec![0], &["\"conv1\"", "stride"]),
];

#[test]
fn bad_caffemodels() {
    let place = Workplace::new();
    let mut faults = Vec::new();
    for (number, (change, words)) in CHANGES.iter().enumerate() {
        let mut net = support::tiny();
        change(&mut net);
        write_caffemodel(&net, &place.path("bad.caffemodel")).unwrap();
        let words = [&["bad.caffemodel"], *words].concat();
        let before = faults.len();
        check(
            &mut place.command(&["inspect", "bad.caffemodel"]),
            INPUT,
            &words,
            &mut faults,
        );
        faults[before..]
            .iter_mut()
            .for_each(|fault| fault.insert_str(0, &format!("change {number}: ")));
    }
    report(&faults);
}

#[test]
fn damaged_files() {
    let place = Workplace::with_tiny_network();
    place.ok(&["compile", "tiny.caffemodel"]);
    let caffemodel = std::fs::read(place.path("tiny.caffemodel")).unwrap();
    let skim = std::fs::read(place.path("tiny.skim")).unwrap();
    // Behind it lies only padding.
    let data = skim.iter().rposition(|&byte| byte != 0).unwrap();
    let changed = |at: usize, value: u8| {
        let mut bytes = skim.clone();
        bytes[at] = value;
        bytes
    };
    let files: Vec<(Vec<u8>, &[&str])> = vec![
        (vec![], &["empty"]),
        (caffemodel[..caffemodel.len() / 2].to_vec(), &["found"]),
        (caffemodel[..caffemodel.len() - 1].to_vec(), &["found"]),
        (b"name: \"tiny\"\nlayer { }\n".to_vec(), &["found"]),
        (
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
            &["Git LFS", "git lfs pull"],
        ),
        (b"<!DOCTYPE html><html></html>".to_vec(), &["web page"]),
        (b"\x89HDF\r\n\x1a\n and nothing more".to_vec(), &["found"]),
        (vec![0xff; 4096], &["found"]),
        (skim[..8].to_vec(), &["found"]),
        (skim[..skim.len() / 2].to_vec(), &["found"]),
        (skim[..skim.len() - 64].to_vec(), &["found"]),
        (changed(8, 5), &["format", "5", "2 to 4"]),
        (changed(40, 200), &["found"]),
        (changed(data, skim[data] ^ 1), &["checksum", "damaged"]),
        ([&skim[..], b"more"].concat(), &["found"]),
    ];
    let mut faults = Vec::new();
    for (number, (bytes, words)) in files.iter().enumerate() {
        place.write("damaged.file", bytes);
        let words = [&["damaged.file: "], *words].concat();
        let before = faults.len();
        check(
            &mut place.command(&["inspect", "damaged.file"]),
            INPUT,
            &words,
            &mut faults,
        );
        faults[before..]
            .iter_mut()
            .for_each(|fault| fault.insert_str(0, &format!("file {number}: ")));
    }
    report(&faults);
}

/// A folder with a network and faulty files of every other kind.
fn workplace() -> Workplace {
    let place = Workplace::with_tiny_network();
    place.ok(&["compile", "tiny.caffemodel"]);
    let picture = image::RgbImage::from_pixel(8, 8, image::Rgb([1, 2, 3]));
    picture.save(place.path("good.png")).unwrap();
    write_npy(&place.path("good.npy"), &ramp([2, 3, 8, 8], 1.0)).unwrap();
    write_npy(&place.path("other.npy"), &ramp([2, 3, 8, 9], 1.0)).unwrap();
    write_npy(
        &place.path("flat.npy"),
        &Tensor::zeros(Shape::new([192]).unwrap()),
    )
    .unwrap();
    let mean = Tensor::zeros(Shape::new([1, 3, 9, 9]).unwrap());
    write_binaryproto(mean, &place.path("mean.binaryproto")).unwrap();
    let good = std::fs::read(place.path("good.npy")).unwrap();
    place.write("short.npy", &good[..good.len() - 4]);
    let text = String::from_utf8_lossy(&good[..128]).replace("<f4", "<c8");
    assert_eq!(
        text.len() - good[..128].len(),
        2,
        "one byte of the magic is no UTF-8"
    );
    let complex = [&good[..6], &text.as_bytes()[8..], &good[128..]].concat();
    place.write("complex.npy", complex);
    place.write("not.png", "no picture");
    place.write(
        "bad.mtx",
        "%%MatrixMarket matrix coordinate real general\n4 27 1\n5 1 1\n",
    );
    place
}

/// Arguments, exit code, words of the error.
type Case = (&'static str, i32, &'static [&'static str]);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("", USAGE, &["subcommand", "compile", "run"]),
    ("frobnicate", USAGE, &["frobnicate"]),
    ("compile", USAGE, &["<MODEL>"]),
    ("compile tiny.caffemodel --frobnicate", USAGE, &["--frobnicate"]),
    ("compile tiny.caffemodel --batch 0", USAGE, &["--batch", "0", "1..="]),
    ("compile tiny.caffemodel --batch two", USAGE, &["--batch", "two"]),
    ("time tiny.skim --threads 9999", USAGE, &["--threads", "9999", "256"]),
    ("time tiny.skim --threads 0", USAGE, &["--threads", "0"]),
    ("time tiny.skim --iterations 0", USAGE, &["--iterations", "0"]),
    ("compile tiny.caffemodel --isa sse2", USAGE, &["--isa", "sse2", "avx2"]),
    ("compile tiny.caffemodel --input-shape 1,3,x", USAGE, &["--input-shape", "1,3,x", "1,3,227,227"]),
    ("compile tiny.caffemodel --input-shape 1,0,8,8", USAGE, &["--input-shape", "1,0,8,8"]),
    ("compile tiny.caffemodel --input-shape 1,5,8,8", INPUT, &["\"conv1\"", "4x3x3x3", "4x5x3x3"]),
    ("compile tiny.caffemodel --zero-below nan", USAGE, &["--zero-below", "nan"]),
    ("compile tiny.caffemodel --zero-below -1", USAGE, &["--zero-below", "-1"]),
    ("compile tiny.caffemodel --tolerance x", USAGE, &["--tolerance", "x"]),
    ("compile tiny.caffemodel -o no/such/folder/x.skim", INPUT, &["no/such/folder/x.skim"]),
    ("compile tiny.caffemodel -o tiny.caffemodel", USAGE, &["--output", "tiny.caffemodel"]),
    ("compile tiny.skim", USAGE, &["--output", "tiny.skim"]),
    ("inspect absent.caffemodel", INPUT, &["absent.caffemodel", "No such file"]),
    ("inspect .", INPUT, &["found a folder"]),
    ("inspect tiny.caffemodel --prototxt absent.prototxt", INPUT, &["absent.prototxt", "No such file"]),
    ("inspect tiny.caffemodel --near -3", USAGE, &["--near", "-3"]),
    ("inspect tiny.skim --zero-below 1e-3", USAGE, &["tiny.skim", "threshold"]),
    ("inspect tiny.skim --input-shape 1,3,9,30", INPUT, &["tiny.skim", "\"ip1\"", "expected 64"]),
    ("run tiny.skim", USAGE, &["--input"]),
    ("run tiny.skim --input absent.npy", INPUT, &["absent.npy", "No such file"]),
    ("run tiny.skim --input absent.png", INPUT, &["absent.png", "No such file"]),
    ("run tiny.skim --input not.png", INPUT, &["not.png", "picture"]),
    ("run tiny.skim --input tiny.caffemodel", INPUT, &["tiny.caffemodel", "picture"]),
    ("run tiny.skim --input other.npy", INPUT, &["other.npy", "2x3x8x9", "Nx3x8x8"]),
    ("run tiny.skim --input flat.npy", INPUT, &["flat.npy", "192", "Nx3x8x8"]),
    ("run tiny.skim --input short.npy", INPUT, &["short.npy", "bytes"]),
    ("run tiny.skim --input complex.npy", INPUT, &["complex.npy", "<c8", "f4"]),
    ("run tiny.skim --input pixels=good.npy", USAGE, &["--input", "pixels", "data"]),
    ("run tiny.skim --input good.png --crop 9", INPUT, &["crop", "8x8", "9x9"]),
    ("run tiny.skim --input good.png --crop 0", USAGE, &["--crop", "0"]),
    ("run tiny.skim --input good.png --resize 9x9", INPUT, &["resize", "9x9", "8x8"]),
    ("run tiny.skim --input good.png --resize 9", USAGE, &["--resize", "WxH"]),
    ("run tiny.skim --input good.png --resize short:0", USAGE, &["--resize", "short:0"]),
    ("run tiny.skim --input good.png --mean-file mean.binaryproto", INPUT, &["mean", "1x3x9x9", "3x8x8"]),
    ("run tiny.skim --input good.png --mean-file absent.npy", INPUT, &["absent.npy"]),
    ("run tiny.skim --input good.png --mean-file good.png", INPUT, &["good.png"]),
    ("run tiny.skim --input good.png --mean-value 1,2", INPUT, &["2 mean values", "3"]),
    ("run tiny.skim --input good.png --mean-value 1,b,3", USAGE, &["--mean-value", "'b'"]),
    ("run tiny.skim --input good.png --scale nan", USAGE, &["--scale", "nan"]),
    ("run tiny.skim --input good.png --channel-order gbr", USAGE, &["--channel-order", "gbr"]),
    ("run tiny.skim --input good.png --labels absent.txt", INPUT, &["absent.txt"]),
    ("run tiny.skim --input good.npy --mean-value 1", USAGE, &["--mean-value", "picture"]),
    ("run tiny.skim --input good.npy --dump-blob conv9=x.npy", INPUT, &["conv9", "conv1", "prob"]),
    ("run tiny.skim --input good.npy --dump-blob conv1", USAGE, &["--dump-blob", "NAME=FILE"]),
    ("run tiny.skim --input good.npy --output conv1=x.npy", USAGE, &["--output", "conv1", "prob"]),
    ("run tiny.skim --input good.npy --output no/x.npy", INPUT, &["no/x.npy"]),
    ("verify", USAGE, &["<MODEL>"]),
    ("verify tiny.skim --expect good.npy", USAGE, &["--input"]),
    ("verify tiny.skim --input good.png", INPUT, &["good.png", ".npy"]),
    ("verify tiny.skim --input good.npy --expect good.npy", INPUT, &["good.npy", "2x3x8x8", "2x5", "prob"]),
    ("verify tiny.skim --input good.npy --expect-blob x=good.npy", INPUT, &["\"x\"", "conv1"]),
    ("verify tiny.skim --tolerance -1", USAGE, &["--tolerance", "-1"]),
    ("verify --kernel sparse_conv.baked", USAGE, &["--problem"]),
    ("verify --kernel x --problem ic3ih8oc4kh3", USAGE, &["\"x\"", "sparse_conv.baked"]),
    ("verify --kernel sparse_conv.baked --problem ic3oc4kh3", USAGE, &["--problem", "\"ih\""]),
    ("verify --kernel sparse_conv.baked --problem ic3ih8oc4kh3oh7", USAGE, &["oh", "7", "6"]),
    ("verify --kernel sparse_conv.baked --problem g2ic3ih8oc4kh3", INPUT, &["group", "2"]),
    ("verify --kernel sparse_conv.baked --problem ic3ih8oc4kh3 --density 200", USAGE, &["--density", "200"]),
    ("disasm tiny.skim --layers relu1", USAGE, &["relu1", "conv1"]),
    ("disasm tiny.skim", USAGE, &["--layers"]),
    ("bench --net nonet", USAGE, &["nonet", "caffenet"]),
    ("bench --net lenet --layers conv9", USAGE, &["conv9", "conv1, conv2, ip1, ip2"]),
    ("bench --net lenet --sparsity published", INPUT, &["published", "lenet"]),
    ("bench --mtx bad.mtx", USAGE, &["--problem"]),
    ("bench --mtx nodir/absent.mtx", INPUT, &["absent.mtx"]),
    ("bench --mtx .", USAGE, &["--problem", "bad.mtx"]),
    ("bench --sweep --sparsity 90", USAGE, &["--sweep", "--sparsity"]),
    ("bench --batch 1,0", USAGE, &["0", "--batch"]),
    ("bench --mtx bad.mtx --problem ic3ih8oc4kh3", INPUT, &["bad.mtx:3:1", "5 1 1"]),
    ("bench --mtx bad.mtx --problem ic4ih8oc4kh3", INPUT, &["bad.mtx:2:1", "4 27 1", "36"]),
    ("bench --mtx absent.mtx --problem ic3ih8oc4kh3", INPUT, &["absent.mtx"]),
    ("synth nonet --sparsity 1 -o x", USAGE, &["nonet", "caffenet"]),
    ("synth lenet --sparsity 101 -o x", USAGE, &["101", "0 to 100"]),
    ("synth lenet --sparsity published -o x", INPUT, &["published", "lenet"]),
    ("synth lenet -o x", USAGE, &["--sparsity"]),
    ("synth lenet --sparsity 1", USAGE, &["--output"]),
    ("synth lenet --sparsity 1 --seed -1 -o x", USAGE, &["--seed"]),
    ("synth lenet --sparsity 1 -o no/such/x.caffemodel", INPUT, &["no/such/x.caffemodel"]),
];

#[test]
fn bad_command_lines() {
    let place = workplace();
    let mut faults = Vec::new();
    for (line, code, words) in CASES {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        check(&mut place.command(&arguments), *code, words, &mut faults);
    }
    report(&faults);
}

#[test]
fn bad_environments() {
    let place = workplace();
    let mut faults = Vec::new();
    for (name, value, word) in [
        ("SKIMJIT_MAX_ISA", "mmx", "avx2"),
        ("SKIMJIT_THREADS", "0", "1 to 256"),
        ("SKIMJIT_THREADS", "many", "1 to 256"),
        ("SKIMJIT_PERF_MAP", "yes", "0, 1"),
    ] {
        let mut command = place.command(&["time", "tiny.skim"]);
        check(
            command.env(name, value),
            USAGE,
            &[name, value, word],
            &mut faults,
        );
    }
    let mut command = place.command(&["time", "tiny.skim", "--isa", "avx512"]);
    let words = ["avx512", "avx2", "SKIMJIT_MAX_ISA"];
    check(
        command.env("SKIMJIT_MAX_ISA", "avx2"),
        USAGE,
        &words,
        &mut faults,
    );
    report(&faults);
}
