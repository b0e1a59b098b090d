//! `skimjit run` on many inputs, and the forms of its results.

use crate::support::{Outcome, Workplace, ramp};
use serde_json::Value;
use skimjit::array::{parse_npy, read_npy, write_npy};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

/// A picture of 8 × 8 pixels of one shade.
fn picture(place: &Workplace, file: &str, shade: u8) {
    let path = place.path(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let picture = image::RgbImage::from_fn(8, 8, |x, y| image::Rgb([shade, x as u8 * 9, y as u8]));
    picture.save(path).unwrap();
}

/// A network, and pictures in a folder and a folder in it.
fn workplace() -> Workplace {
    let place = Workplace::with_tiny_network();
    for (shade, file) in ["photos/b.png", "photos/a.jpg", "photos/more/c d.png"]
        .iter()
        .enumerate()
    {
        picture(&place, file, shade as u8 * 60);
    }
    place.write("photos/notes.txt", "no picture, and no error");
    place.write("photos/.hidden.png", "no picture");
    place
}

/// Arguments without preprocessing, which is said to be right.
fn run<'a>(inputs: &[&'a str]) -> Vec<&'a str> {
    [
        &["run", "tiny.caffemodel", "--scale", "1", "--top", "1"],
        inputs,
    ]
    .concat()
}

/// The first cells of lines of CSV behind the titles.
fn names(csv: &str) -> Vec<String> {
    let lines = csv.lines().skip(1);
    lines
        .map(|line| line.split(',').next().unwrap().to_owned())
        .collect()
}

fn with_stdin(place: &Workplace, arguments: &[&str], text: &str) -> Outcome {
    let mut command = place.command(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn folders_patterns_and_lists_name_pictures() {
    let place = workplace();
    let csv = ["--format", "csv"];
    let found = |inputs: &[&str]| names(&place.ok(&run(&[inputs, &csv].concat())));
    let all = ["photos/a.jpg", "photos/b.png", "photos/more/c d.png"];
    assert_eq!(found(&["photos"]), all);
    assert_eq!(found(&["photos/*.png", "photos/more"]), &all[1..]);
    assert_eq!(
        found(&["--input", "photos/a.jpg", "photos/b.png"]),
        &all[..2]
    );
    place.write("list.txt", "photos/a.jpg 3\n\nphotos/more/c d.png\n");
    assert_eq!(
        found(&["--input-list", "list.txt"]),
        ["photos/a.jpg", "photos/more/c d.png"]
    );
    // Names from the list's folder.
    place.write("photos/list.txt", "b.png 0\nmore/c d.png 1\n");
    let beside = found(&["--input-list", "photos/list.txt"]);
    assert_eq!(beside, &all[1..]);
    for inputs in [&["-"][..], &["-i", "-"], &["--input-list", "-"]] {
        let result = with_stdin(
            &place,
            &run(&[inputs, &csv].concat()),
            "photos/b.png\nphotos/a.jpg",
        );
        assert_eq!((result.code, &result.stderr[..]), (Some(0), ""));
        assert_eq!(names(&result.stdout), ["photos/b.png", "photos/a.jpg"]);
    }
}

#[test]
fn what_names_no_picture_is_refused() {
    let place = workplace();
    place.write("empty.txt", "\n");
    #[rustfmt::skip]
    let cases: [(&[&str], i32, &[&str]); 6] = [
        (&[], 2, &["--input", "found nothing", "standard input"]),
        (&["empty"], 3, &["empty", "no picture", "npy", "png"]),
        (&["photos/*.gif"], 3, &["photos/*.gif", "no file that fits"]),
        (&["--input-list", "empty.txt"], 3, &["empty.txt", "empty list"]),
        (&["--input-list", "absent.txt"], 3, &["absent.txt", "No such file"]),
        (&["other=photos/a.jpg"], 2, &["other", "data"]),
    ];
    std::fs::create_dir_all(place.path("empty")).unwrap();
    for (inputs, code, words) in cases {
        let result = place.skimjit(&run(inputs));
        assert_eq!(result.code, Some(code), "{inputs:?}: {}", result.stderr);
        assert_eq!(result.stderr.lines().count(), 1, "{}", result.stderr);
        for word in words {
            assert!(
                result.stderr.contains(word),
                "no {word:?} in {}",
                result.stderr
            );
        }
    }
}

#[test]
fn a_bad_picture_is_one_line_and_the_others_are_done() {
    let place = workplace();
    place.write("bad.png", "no picture");
    for more in [
        &[][..],
        &["--batch", "1"],
        &["--batch", "2"],
        &["--reshape"],
    ] {
        let inputs = [
            "photos/a.jpg",
            "bad.png",
            "absent.png",
            "photos/b.png",
            "--format",
            "jsonl",
        ];
        let result = place.skimjit(&run(&[&inputs, more].concat()));
        assert_eq!(result.code, Some(3), "{}", result.stderr);
        let errors: Vec<&str> = result.stderr.lines().collect();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(
            errors[0].contains("bad.png") && errors[1].contains("absent.png"),
            "{errors:?}"
        );
        assert!(errors[2].contains("2 of 4"), "{errors:?}");
        let lines: Vec<Value> = result
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let done = |name: &str| {
            lines
                .iter()
                .any(|line| line["input"] == name && line["outputs"].is_array())
        };
        assert!(
            done("photos/a.jpg") && done("photos/b.png"),
            "{}",
            result.stdout
        );
        assert_eq!(lines.len(), 4, "{}", result.stdout);
    }
}

#[test]
fn the_row_of_a_bad_picture_is_nan() {
    let place = workplace();
    place.write("bad.png", "no picture");
    let inputs = [
        "photos/a.jpg",
        "bad.png",
        "photos/b.png",
        "--output",
        "out.npy",
    ];
    let result = place.skimjit(&run(&inputs));
    assert_eq!(result.code, Some(3), "{}", result.stderr);
    let rows = read_npy(&place.path("out.npy")).unwrap();
    assert_eq!(rows.shape().dims(), [3, 5]);
    let is_nan: Vec<bool> = rows
        .data()
        .chunks(5)
        .map(|row| row.iter().all(|x| x.is_nan()))
        .collect();
    assert_eq!(is_nan, [false, true, false]);
    place.ok(&run(&[
        "photos/a.jpg",
        "photos/b.png",
        "--output",
        "two.npy",
    ]));
    let two = read_npy(&place.path("two.npy")).unwrap();
    assert_eq!([&rows.data()[..5], &rows.data()[10..]].concat(), two.data());
}

#[test]
fn every_form_has_a_line_for_a_picture() {
    let place = workplace();
    place.write(
        "names.json",
        r#"["ant, small", "bee", "cat", "dog", "elk"]"#,
    );
    let inputs = ["photos", "--labels", "names.json", "--top", "2"];
    let inputs = [&["run", "tiny.caffemodel", "--scale", "1"], &inputs[..]].concat();
    let csv = place.ok(&[&inputs[..], &["--format", "csv"]].concat());
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines[0],
        "input,output,class1,label1,score1,class2,label2,score2"
    );
    assert_eq!(lines.len(), 4, "{csv}");
    assert!(lines[1].starts_with("photos/a.jpg,prob,"), "{csv}");
    let jsonl = place.ok(&[&inputs[..], &["--format", "jsonl"]].concat());
    assert_eq!(jsonl.lines().count(), 3);
    let line: Value = serde_json::from_str(jsonl.lines().next().unwrap()).unwrap();
    let classes = line["outputs"][0]["classes"].as_array().unwrap();
    assert_eq!(
        (classes.len(), &line["outputs"][0]["output"]),
        (2, &"prob".into())
    );
    assert!(
        classes[0]["label"].is_string() && classes[0]["score"].is_number(),
        "{line}"
    );
    assert!(
        !csv.contains("ant, small") || csv.contains("\"ant, small\""),
        "{csv}"
    );
    let text = place.ok(&inputs);
    assert!(
        text.contains("photos/a.jpg\n") && text.contains("label"),
        "{text}"
    );
}

#[test]
fn arrays_are_written_as_npy_or_to_standard_output() {
    let place = workplace();
    write_npy(&place.path("in.npy"), &ramp([5, 3, 8, 8], 1.0)).unwrap();
    let inputs = ["run", "tiny.caffemodel", "in.npy"];
    place.ok(&[&inputs[..], &["--output", "out.npy"]].concat());
    let mut command = place.command(&[&inputs[..], &["--output", "-"]].concat());
    let output = command.output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    assert_eq!(
        parse_npy(&output.stdout).unwrap(),
        read_npy(&place.path("out.npy")).unwrap()
    );
    #[rustfmt::skip]
    let refused: [(&[&str], &[&str]); 6] = [
        (&["--output", "x.csv"], &["--output", "x.csv", ".npy", "--format csv"]),
        (&["--output", "x"], &["--output", ".npy"]),
        (&["--dump-blob", "conv1=x.h5"], &["--dump-blob", "x.h5", ".npy"]),
        (&["--output", "-", "--json"], &["--output", "standard output"]),
        (&["--output", "-", "--format", "csv"], &["--output", "standard output"]),
        (&["--output", "-", "--dump-blob", "conv1=-"], &["standard output"]),
    ];
    for (more, words) in refused {
        let result = place.skimjit(&[&inputs[..], more].concat());
        assert_eq!(result.code, Some(2), "{more:?}: {}", result.stderr);
        for word in words {
            assert!(
                result.stderr.contains(word),
                "no {word:?} in {}",
                result.stderr
            );
        }
        assert!(!place.path("x.csv").exists());
    }
}

/// The command waits for more when it is stopped.
#[test]
fn results_come_before_the_next_picture_is_named() {
    let place = workplace();
    for more in [
        &["--format", "jsonl"][..],
        &["--reshape", "--format", "jsonl"],
    ] {
        let mut command = place.command(&run(&[&["-", "--batch", "1"], more].concat()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"photos/a.jpg\n").unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert!(line.contains("photos/a.jpg"), "{line}");
        child.kill().unwrap();
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
        child.wait().unwrap();
    }
}
