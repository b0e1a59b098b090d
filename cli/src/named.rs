//! Files with a name in front.

use std::path::Path;

/// The name, if there is one, and the file of `NAME=FILE` or `FILE`.
///
/// A path may contain "=", and names of PyTorch begin like a path: what is a file as a whole, or lies in a folder that
/// there is, has no name.
pub fn name_and_file(text: &str) -> (Option<&str>, &str) {
    match text.split_once('=') {
        Some((name, file)) if !is_path(text) => (Some(name), file),
        _ => (None, text),
    }
}

fn is_path(text: &str) -> bool {
    let path = Path::new(text);
    let in_folder = |folder: &Path| folder != Path::new("/") && folder.is_dir();
    let is_in_folder = || text.starts_with('/') && path.parent().is_some_and(in_folder);
    text.starts_with('.') || path.exists() || is_in_folder()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_begin_like_paths() {
        let path = format!("{}/a=b.npy", std::env::temp_dir().display());
        let relu = "/relu/Relu_output_0";
        let named = format!("{relu}=a.npy");
        assert_eq!(name_and_file(&named), (Some(relu), "a.npy"));
        assert_eq!(name_and_file("/in=x.npy"), (Some("/in"), "x.npy"));
        assert_eq!(name_and_file("data=/tmp/x"), (Some("data"), "/tmp/x"));
        assert_eq!(name_and_file(&path), (None, &path[..]));
        assert_eq!(name_and_file("./a=b.npy"), (None, "./a=b.npy"));
        assert_eq!(name_and_file("a.npy"), (None, "a.npy"));
    }
}
