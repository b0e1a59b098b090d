//! Fields that nothing knows: refused inside layers, told outside of them, never lost on the way into
//! another file. And windows whose offsets would wrap.

use crate::support::{PROTOTXT, Workplace};
use skimjit::array::{read_npy, write_npy};
use skimjit_models::{Shape, Tensor};

/// A caffemodel of nothing but a name.
const EMPTY: &[u8] = b"\x0a\x01x";

fn place_with(file: &str, text: &str) -> Workplace {
    let place = Workplace::with_tiny_network();
    place.write(file, text);
    place.write("empty.caffemodel", EMPTY);
    place
}

/// Standard error of a command that fails for bad input.
#[track_caller]
fn refused(place: &Workplace, arguments: &[&str]) -> String {
    let result = place.skimjit(arguments);
    assert_eq!(result.code, Some(3), "{arguments:?}: {}", result.stderr);
    result.stderr
}

/// Standard error of a command that succeeds.
#[track_caller]
fn told(place: &Workplace, arguments: &[&str]) -> String {
    let result = place.skimjit(arguments);
    assert_eq!(result.code, Some(0), "{arguments:?}: {}", result.stderr);
    result.stderr
}

/// Case 03: the pool rounded up although the file said not to.
#[test]
fn ceil_mode_is_obeyed() {
    let place = place_with(
        "net.prototxt",
        include_str!("unknown_fields/ceil_mode.prototxt"),
    );
    let shape = Shape::new([1, 1, 6, 6]).unwrap();
    let ramp = Tensor::new(shape, (0..36u8).map(f32::from).collect());
    write_npy(&place.path("in.npy"), &ramp).unwrap();
    let run = "run empty.caffemodel --prototxt net.prototxt --input in.npy --dump-blob p=p.npy";
    let arguments: Vec<&str> = run.split(' ').chain(["--output", "g=g.npy"]).collect();
    place.ok(&arguments);
    let [p, g] = ["p.npy", "g.npy"].map(|file| read_npy(&place.path(file)).unwrap());
    assert_eq!(p.shape().dims(), [1, 1, 2, 2]);
    assert_eq!(g.data(), [21.0]);
}

#[test]
fn an_unknown_field_inside_a_layer_is_refused_by_every_reader() {
    let odd = PROTOTXT.replace("num_output: 5", "num_output: 5 num_outputs: 3");
    let place = place_with("odd.prototxt", &odd);
    write_npy(
        &place.path("in.npy"),
        &crate::support::ramp([1, 3, 8, 8], 1.0),
    )
    .unwrap();
    let said = "odd.prototxt:10:39: layer \"ip1\": inner_product_param.num_outputs: found an unknown field \
                of InnerProductParameter";
    let closest = "; the closest is num_output; --ignore-unknown-fields";
    for command in [
        "inspect tiny.caffemodel --prototxt odd.prototxt",
        "compile tiny.caffemodel --prototxt odd.prototxt -o odd.skim",
        "export tiny.caffemodel odd.npz --prototxt odd.prototxt",
        "draw odd.prototxt",
        "time --prototxt odd.prototxt",
        "extract-features conv1 --prototxt odd.prototxt --weights tiny.caffemodel --input in.npy --output o",
    ] {
        let error = refused(&place, &command.split(' ').collect::<Vec<_>>());
        assert!(
            error.contains(said) && error.contains(closest),
            "{command}: {error}"
        );
    }
    assert!(!place.path("odd.skim").exists() && !place.path("odd.npz").exists());
    let inspect = "inspect tiny.caffemodel --prototxt odd.prototxt --ignore-unknown-fields";
    let ignored = told(&place, &inspect.split(' ').collect::<Vec<_>>());
    assert_eq!(
        ignored,
        "warning: odd.prototxt:10:39: unknown field \"num_outputs\" of InnerProductParameter; \
         the closest is \"num_output\"\n"
    );
}

#[test]
fn unknown_fields_outside_of_layers_are_warnings_and_strict_makes_them_errors() {
    let place = place_with("odd.prototxt", &format!("{PROTOTXT}batch: 3\n"));
    let compile =
        "compile tiny.caffemodel --prototxt odd.prototxt --no-tune --no-verify -o odd.skim";
    let compile: Vec<&str> = compile.split(' ').collect();
    let error = refused(&place, &[&compile[..], &["--strict"]].concat());
    assert!(
        error.contains("warning: odd.prototxt:12:1: unknown field \"batch\""),
        "{error}"
    );
    assert!(
        error.contains("error: found 1 warning, expected none"),
        "{error}"
    );
    assert!(!place.path("odd.skim").exists());
    assert!(told(&place, &compile).contains("\"batch\""));
    let draw = told(&place, &["draw", "odd.prototxt"]);
    assert_eq!(draw.matches("\"batch\"").count(), 1, "{draw}");
    refused(&place, &["draw", "odd.prototxt", "--strict"]);
}

/// Case 04: `upgrade` lost them without a word.
#[test]
fn upgrade_refuses_a_text_with_unknown_fields_and_keeps_those_of_a_caffemodel() {
    let text = include_str!("unknown_fields/shuffle.prototxt");
    let place = place_with("net.prototxt", text);
    let error = refused(&place, &["upgrade", "net.prototxt", "new.prototxt"]);
    assert!(error.contains("net.prototxt:3:"), "{error}");
    assert!(error.contains("shuffle_channel_param"), "{error}");
    assert!(!place.path("new.prototxt").exists());
    told(
        &place,
        &[
            "upgrade",
            "net.prototxt",
            "new.prototxt",
            "--ignore-unknown-fields",
        ],
    );
    let new = std::fs::read_to_string(place.path("new.prototxt")).unwrap();
    assert!(
        new.contains("ceil_mode: false") && !new.contains("shuffle_channel_param"),
        "{new}"
    );

    let bytes: &[u8] = include_bytes!("unknown_fields/shuffle.caffemodel");
    place.write("net.caffemodel", bytes);
    for command in ["upgrade", "export"] {
        place.ok(&[command, "net.caffemodel", "new.caffemodel"]);
        assert_eq!(
            std::fs::read(place.path("new.caffemodel")).unwrap(),
            bytes,
            "{command}"
        );
    }
    let text = [
        "export",
        "net.caffemodel",
        "new.caffemodel",
        "--prototxt-out",
        "new.prototxt",
    ];
    let error = refused(&place, &text);
    assert!(
        error.contains("unknown field 210 of LayerParameter"),
        "{error}"
    );

    place.write("solver.prototxt", "net: \"a\" base_rl: 0.1\n");
    let error = refused(&place, &["upgrade", "solver.prototxt", "solver2.prototxt"]);
    assert!(error.contains("solver.prototxt:1:10: base_rl"), "{error}");
    assert!(error.contains("the closest is \"base_lr\""), "{error}");
}

/// Layers that are not used do not count; but what is written would lack their fields.
#[test]
fn export_with_a_definition_loses_no_field_of_another_phase() {
    let train = "layer { name: \"extra\" type: \"Split\" bottom: \"conv1\" top: \"e\" odd: 1 \
                 include { phase: TRAIN } }";
    let place = place_with("odd.prototxt", &format!("{PROTOTXT}{train}\n"));
    let with = ["tiny.caffemodel", "--prototxt", "odd.prototxt"];
    assert!(told(&place, &[&["inspect"][..], &with].concat()).contains("\"odd\""));
    let error = refused(
        &place,
        &[&["export"][..], &with[..1], &["o.caffemodel"], &with[1..]].concat(),
    );
    assert!(
        error.contains("odd: found an unknown field of LayerParameter"),
        "{error}"
    );
    assert!(
        error.contains("leaves unknown fields out of what is written"),
        "{error}"
    );
}

/// Case 19: accepted, and single kernels computed wrong numbers.
#[test]
fn windows_whose_offsets_would_wrap_are_refused() {
    let place = place_with(
        "net.prototxt",
        include_str!("unknown_fields/wrapped.prototxt"),
    );
    let time = "time empty.caffemodel --prototxt net.prototxt --allow-missing-weights";
    let error = refused(&place, &time.split(' ').collect::<Vec<_>>());
    let said = "layer \"c\": convolution_param.stride_w: found 2147483647, expected 1 to 32768";
    assert!(error.contains(said), "{error}");
    let problem = "ic9ih4iw9oc1kh3ph1pw4294967295";
    let result = place.skimjit(&[
        "verify",
        "--kernel",
        "dense_conv.rolled",
        "--problem",
        problem,
    ]);
    assert_ne!(result.code, Some(0));
    assert!(
        result
            .stderr
            .contains("found 4294967295, expected 0 to 32768"),
        "{}",
        result.stderr
    );
}
