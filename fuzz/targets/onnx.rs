#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| skimjit_fuzz::run("onnx", data));
