//! Instruction sets, numbers and data.

use skimjit_jit::Isa;
use skimjit_testing::{Noise, data, isas, runs};

#[test]
fn instruction_sets_are_those_that_run() {
    let isas = isas();
    assert!(isas.contains(&Isa::Avx2) && isas.is_sorted());
    for isa in Isa::ALL {
        assert_eq!(isas.contains(&isa), runs(isa));
    }
    let best = *isas.last().unwrap();
    assert!(best <= Isa::detect(None).unwrap());
}

/// Recorded results depend on them.
#[test]
fn numbers_are_those_of_the_published_generator() {
    let mut noise = Noise::new(1_234_567);
    let found = [0; 5].map(|_| noise.bits());
    let published = [
        6_457_827_717_110_365_317,
        3_203_168_211_198_807_973,
        9_817_491_932_198_370_423,
        4_593_380_528_125_082_431,
        16_408_922_859_458_223_821,
    ];
    assert_eq!(found, published);
}

#[test]
fn numbers_are_spread_over_their_range() {
    let mut noise = Noise::new(1);
    let values = noise.values(10_000);
    assert!(values.iter().all(|value| (-1.0..1.0).contains(value)));
    let mean = values.iter().sum::<f32>() / 10_000.0;
    assert!(mean.abs() < 0.03, "{mean}");
    let pixels = noise.pixels(10_000);
    let whole = |pixel: &f32| pixel.fract() == 0.0 && (-128.0..=127.0).contains(pixel);
    assert!(pixels.iter().all(whole));
    assert!(pixels.contains(&-128.0) && pixels.contains(&127.0));
    assert!((0..1000).all(|_| noise.below(7) < 7));
    assert_eq!(noise.below(0), 0);
}

#[test]
fn data_are_found_from_any_crate() {
    let Some(folder) = data("") else { return };
    assert!(folder.is_absolute() && folder.is_dir());
    let entry = folder.read_dir().unwrap().next().unwrap().unwrap();
    let found = data(entry.file_name().to_str().unwrap());
    assert_eq!(found, Some(entry.path()));
}
