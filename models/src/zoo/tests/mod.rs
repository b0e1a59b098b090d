mod layers;
mod synth;
