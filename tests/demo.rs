//! The demonstration that the project ships: a pruned LeNet, and digits drawn here.
//!
//! `SKIMJIT_BLESS=1 cargo test --release --test demo` draws the digits anew.

use image::GrayImage;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Side of a picture, in pixels.
const SIDE: u32 = 28;
/// Half the width of a stroke, in pixels.
const RADIUS: f32 = 1.1;

type Point = [f32; 2];

/// Points of an ellipse's arc: angles in degrees, 0 to the right, 90 down.
fn arc(center: Point, radii: Point, from: f32, to: f32) -> Vec<Point> {
    let angle = |step: u32| (from + (to - from) * step as f32 / 24.0).to_radians();
    (0..=24)
        .map(angle)
        .map(|a| {
            [
                center[0] + radii[0] * a.cos(),
                center[1] + radii[1] * a.sin(),
            ]
        })
        .collect()
}

/// Strokes of a digit, in pixels: x to the right, y down.
fn strokes(digit: u32) -> Vec<Vec<Point>> {
    match digit {
        0 => vec![arc([14.0, 14.0], [5.5, 8.5], 0.0, 360.0)],
        1 => vec![vec![[11.5, 8.0], [14.5, 5.0], [13.8, 23.0]]],
        2 => {
            let mut hook = arc([14.0, 9.5], [5.0, 4.5], 195.0, 400.0);
            hook.extend([[9.0, 22.0], [19.5, 22.0]]);
            vec![hook]
        }
        3 => {
            let mut line = arc([13.0, 9.5], [5.0, 4.2], 210.0, 450.0);
            line.extend(arc([13.0, 18.2], [5.5, 4.6], 270.0, 510.0));
            vec![line]
        }
        4 => vec![
            vec![[11.5, 5.5], [8.5, 14.5], [19.5, 14.0]],
            vec![[17.5, 6.0], [16.5, 23.0]],
        ],
        5 => {
            let mut line = vec![[19.0, 5.5], [11.0, 5.8], [10.0, 13.0]];
            line.extend(arc([13.2, 17.6], [5.2, 5.0], 240.0, 500.0));
            vec![line]
        }
        6 => {
            let mut line = vec![[17.0, 5.0], [13.0, 8.5], [10.0, 13.5]];
            line.extend(arc([13.8, 18.0], [4.4, 4.8], 180.0, 550.0));
            vec![line]
        }
        7 => vec![vec![[8.5, 6.5], [19.0, 6.0], [15.5, 14.0], [13.0, 23.0]]],
        8 => vec![
            arc([14.0, 9.6], [3.9, 4.2], 90.0, 450.0),
            arc([14.0, 18.4], [4.7, 4.6], 270.0, 630.0),
        ],
        _ => {
            let mut line = arc([13.4, 10.2], [4.4, 4.6], 0.0, 360.0);
            line.extend([[17.6, 13.0], [16.8, 18.0], [15.0, 23.0]]);
            vec![line]
        }
    }
}

/// Distance of a point from the line between two others.
fn distance(p: Point, [a, b]: [Point; 2]) -> f32 {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let along = (p[0] - a[0]) * dx + (p[1] - a[1]) * dy;
    let t = (along / (dx * dx + dy * dy).max(1e-6)).clamp(0.0, 1.0);
    (p[0] - a[0] - t * dx).hypot(p[1] - a[1] - t * dy)
}

/// White strokes with soft edges on black.
fn draw(digit: u32) -> GrayImage {
    let strokes = strokes(digit);
    GrayImage::from_fn(SIDE, SIDE, |x, y| {
        let p = [x as f32 + 0.5, y as f32 + 0.5];
        let segments = strokes.iter().flat_map(|stroke| stroke.windows(2));
        let nearest = segments
            .map(|pair| distance(p, [pair[0], pair[1]]))
            .fold(f32::INFINITY, f32::min);
        let ink = (RADIUS + 0.5 - nearest).clamp(0.0, 1.0);
        image::Luma([(255.0 * ink).round() as u8])
    })
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo")
}

fn picture(digit: u32) -> PathBuf {
    folder().join(format!("{digit}.png"))
}

#[test]
fn the_pictures_are_those_drawn_here() {
    let bless = std::env::var_os("SKIMJIT_BLESS").is_some();
    for digit in 0..10 {
        let (drawn, path) = (draw(digit), picture(digit));
        if bless {
            drawn.save(&path).unwrap();
        }
        let shipped = image::open(&path).unwrap().into_luma8();
        let pairs = drawn.as_raw().iter().zip(shipped.as_raw());
        // Sines of other computers may differ in the last bit.
        let same = pairs.fold(true, |same, (&a, &b)| same && a.abs_diff(b) <= 1);
        assert!(same, "{digit}: renew it with SKIMJIT_BLESS=1");
    }
}

#[test]
fn the_shipped_network_reads_them() {
    for digit in 0..10 {
        let output = Command::new(env!("CARGO_BIN_EXE_skimjit"))
            .arg("run")
            .arg(folder().join("lenet.skim"))
            .args(["--json", "--input"])
            .arg(picture(digit))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        println!("{result}");
        let best = &result["images"][0]["classes"][0];
        assert_eq!(best["class"], digit, "{result}");
    }
}
