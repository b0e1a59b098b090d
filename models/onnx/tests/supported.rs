//! `SUPPORTED.md` says what the table of operators says. `SKIMJIT_BLESS=1` rewrites it.

#[test]
fn the_list_of_operators_is_that_of_the_table() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("SUPPORTED.md");
    let text = skimjit_onnx::supported_markdown();
    if std::env::var_os("SKIMJIT_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "run the test with SKIMJIT_BLESS=1");
}
