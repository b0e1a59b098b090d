//! Deterministic data for a case.

use crate::spec::Spec;
use skimjit_kernels::Planes;
use skimjit_models::Pattern;
use skimjit_testing::Noise;

/// The same numbers everywhere: the recorded bytes of kernels depend on them.
pub struct Random(Noise);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(Noise::new(
            seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66,
        ))
    }
    pub fn next(&mut self) -> u64 {
        self.0.bits()
    }
    /// Below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.below(end as u64) as usize
    }
    /// In −1 .. 1.
    pub fn value(&mut self) -> f32 {
        self.0.value()
    }
    /// In ±0.1 .. ±1.1.
    pub fn weight(&mut self) -> f32 {
        let value = self.value();
        value + 0.1f32.copysign(value)
    }
    pub fn values(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.value() * scale).collect()
    }
}

/// Operands and weights of a case, without gaps.
pub struct Data {
    /// Operands, and where each lies.
    pub src: Vec<(Planes, Vec<f32>)>,
    pub dst: Planes,
    pub values: Vec<f32>,
    pub pattern: Pattern,
    pub bias: Vec<f32>,
}

impl Data {
    pub fn new(spec: &Spec) -> Self {
        let operands = spec.problem.operands();
        let [rows, cols] = spec.problem.matrix().map(|n| n as u32);
        let mut random = Random::new(spec.seed);
        let src = operands
            .src
            .into_iter()
            .map(|p| (p, source(spec, p.c as usize * p.hw() as usize, &mut random)))
            .collect();
        let values = weights(spec, rows, cols, &mut random);
        let bias = if spec.bias {
            random.values(rows as usize, 1.0)
        } else {
            vec![]
        };
        let pattern = Pattern::from_weights(rows, cols, &values);
        Self {
            src,
            dst: operands.dst,
            values,
            pattern,
            bias,
        }
    }
}

fn source(spec: &Spec, count: usize, random: &mut Random) -> Vec<f32> {
    let mut values = random.values(count, spec.scale);
    // Few enough that most sums have none.
    let rarity = match spec.problem.is_weighted_sum() {
        true => 600,
        false => 12,
    };
    for value in values.iter_mut().filter(|_| spec.special) {
        match random.below(rarity) {
            0 => *value = f32::NAN,
            1 => *value = f32::NEG_INFINITY,
            2 => *value = f32::INFINITY,
            _ => {}
        }
    }
    values
}

fn weights(spec: &Spec, rows: u32, cols: u32, random: &mut Random) -> Vec<f32> {
    let mut values = Vec::with_capacity(rows as usize * cols as usize);
    for row in 0..rows {
        let empty = spec.holes && row % 3 == 1;
        for _ in 0..cols {
            let present = (random.next() >> 33) % 100 < u64::from(spec.density);
            let weight = random.weight();
            let bits = weight.to_bits() & if spec.bf16 { 0xFFFF_0000 } else { u32::MAX };
            let weight = f32::from_bits(bits);
            values.push(if present && !empty { weight } else { 0.0 });
        }
    }
    values
}
