//! Where files are that nets, solvers and recipes name: one rule for all of them.
//!
//! A relative path is looked for from the working folder, which is Caffe's rule; where there is nothing,
//! from the folder of the file that names it. What a run writes (`snapshot_prefix`) goes to the working
//! folder. Copies of definitions name their files absolutely, so that they keep meaning the same ones.

use crate::proto::{LayerParameter, NetParameter, SolverParameter};
use std::path::{Path, PathBuf};

/// Where a file is that another one in `folder` names.
pub fn find(name: impl AsRef<Path>, folder: &Path) -> PathBuf {
    let name = name.as_ref();
    let beside = folder.join(name);
    if !name.exists() && beside.exists() {
        return beside;
    }
    name.to_owned()
}

/// [`find`] as an absolute path.
pub fn find_absolute(name: impl AsRef<Path>, folder: &Path) -> PathBuf {
    absolute(&find(name, folder))
}

/// Of a path that need not exist.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// What to tell where a name means one file from the working folder and another one beside the file that
/// names it.
pub fn ambiguity(name: impl AsRef<Path>, folder: &Path) -> Option<String> {
    let name = name.as_ref();
    let (direct, beside) = (name.canonicalize().ok()?, folder.join(name));
    let beside = beside.canonicalize().ok()?;
    (direct != beside).then(|| {
        format!(
            "{} is in the working folder and in {}: the one in the working folder is taken",
            name.display(),
            folder.display()
        )
    })
}

/// Makes names of files absolute where files are found, seen from a definition in `folder`.
pub(crate) fn anchor(net: &mut NetParameter, folder: &Path) {
    for layer in &mut net.layer {
        root_folder(layer, folder);
        for name in names(layer).into_iter().flatten() {
            let found = find(&*name, folder);
            if !name.is_empty() && found.exists() {
                *name = absolute(&found).display().to_string();
            }
        }
    }
}

/// The names of files in a layer that its data, or its loss, is read from.
fn names(layer: &mut LayerParameter) -> [Option<&mut String>; 9] {
    let data = layer.data_param.as_mut();
    let [source, mean] = match data {
        Some(data) => [data.source.as_mut(), data.mean_file.as_mut()],
        None => [None, None],
    };
    let [images, image_mean] = match layer.image_data_param.as_mut() {
        Some(data) => [data.source.as_mut(), data.mean_file.as_mut()],
        None => [None, None],
    };
    let [windows, window_mean] = match layer.window_data_param.as_mut() {
        Some(data) => [data.source.as_mut(), data.mean_file.as_mut()],
        None => [None, None],
    };
    let arrays = layer.hdf5_data_param.as_mut();
    let transform = layer.transform_param.as_mut();
    let infogain = layer.infogain_loss_param.as_mut();
    [
        source,
        mean,
        images,
        image_mean,
        windows,
        window_mean,
        arrays.and_then(|data| data.source.as_mut()),
        transform.and_then(|transform| transform.mean_file.as_mut()),
        infogain.and_then(|loss| loss.source.as_mut()),
    ]
}

/// What comes before the names in a list of pictures, joined without a separator: absolute too, by where the
/// first picture of the list is.
fn root_folder(layer: &mut LayerParameter, folder: &Path) {
    let Some(images) = layer.image_data_param.as_mut() else {
        return;
    };
    let list = find(images.source(), folder);
    let root = images.root_folder().to_owned();
    let Some(first) = first_picture(&list) else {
        return;
    };
    let picture = format!("{root}{first}");
    if Path::new(&picture).is_absolute() {
        return;
    }
    let base = match find(&picture, folder) {
        found if found == Path::new(&picture) => PathBuf::new(),
        _ => folder.to_owned(),
    };
    if base.join(&picture).exists() {
        let base = std::env::current_dir().unwrap_or_default().join(base);
        images.root_folder = Some(format!("{}/{root}", base.display()));
    }
}

/// Name of the first picture of a list: all of a line but its label.
fn first_picture(list: &Path) -> Option<String> {
    use std::io::{BufRead, BufReader};
    let file = BufReader::new(std::fs::File::open(list).ok()?);
    let lines = file.lines().map_while(Result::ok);
    let line = lines.map(|line| line.trim().to_owned());
    let first = line.into_iter().find(|line| !line.is_empty())?;
    let (name, _) = first.rsplit_once(char::is_whitespace)?;
    Some(name.trim_end().to_owned())
}

/// Names of matrices of losses as they are found, seen from a definition in `folder`: data layers look for
/// theirs themselves.
pub(crate) fn find_matrices(net: &mut NetParameter, folder: &Path) {
    for layer in &mut net.layer {
        let loss = layer.infogain_loss_param.as_mut();
        if let Some(source) = loss.and_then(|loss| loss.source.as_mut()) {
            *source = find(&*source, folder).display().to_string();
        }
    }
}

/// Makes names of files in a solver definition in `folder` absolute where files are found.
pub(crate) fn anchor_solver(solver: &mut SolverParameter, folder: &Path) {
    let nets = solver.net.iter_mut().chain(&mut solver.train_net);
    for name in nets.chain(&mut solver.test_net) {
        *name = find_absolute(&*name, folder).display().to_string();
    }
    for list in &mut solver.weights {
        let names = list
            .split(',')
            .map(|name| find_absolute(name.trim(), folder));
        let names: Vec<String> = names.map(|path| path.display().to_string()).collect();
        *list = names.join(",");
    }
    let inline = solver
        .net_param
        .iter_mut()
        .chain(&mut solver.train_net_param);
    for net in inline.chain(&mut solver.test_net_param) {
        anchor(net, folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names in the definition, and names in a list of pictures, which follow a root.
    #[test]
    fn copies_name_the_files_that_are_meant() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("pictures")).unwrap();
        for (name, text) in [
            ("list.txt", "a picture.png 3\n"),
            ("rooted.txt", "a picture.png 3\n"),
            ("a picture.png", ""),
            ("pictures/a picture.png", ""),
            ("mean.binaryproto", ""),
            ("matrix.binaryproto", ""),
        ] {
            std::fs::write(path(name), text).unwrap();
        }
        let text = r#"
            layer { name: "a" type: "ImageData" top: "a"
              transform_param { mean_file: "mean.binaryproto" } image_data_param { source: "list.txt" } }
            layer { name: "b" type: "ImageData" top: "b"
              image_data_param { source: "rooted.txt" root_folder: "pictures/" } }
            layer { name: "c" type: "InfogainLoss" bottom: "a" bottom: "b" top: "c"
              infogain_loss_param { source: "matrix.binaryproto" } }
            layer { name: "d" type: "Data" top: "d" data_param { source: "absent_lmdb" } }"#;
        let (mut net, _) = crate::parse_prototxt(text, "net.prototxt").unwrap();
        anchor(&mut net, folder.path());
        let named = |name: &str| path(name).display().to_string();
        let [a, b, c, d] = &net.layer[..] else {
            panic!("{net:?}");
        };
        let images = |layer: &LayerParameter| layer.image_data_param.clone().unwrap();
        assert_eq!(images(a).source(), named("list.txt"));
        assert_eq!(images(a).root_folder(), named(""));
        assert_eq!(images(b).root_folder(), named("pictures/"));
        let transform = a.transform_param.as_ref().unwrap();
        assert_eq!(transform.mean_file(), named("mean.binaryproto"));
        let loss = c.infogain_loss_param.as_ref().unwrap();
        assert_eq!(loss.source(), named("matrix.binaryproto"));
        assert_eq!(d.data_param.as_ref().unwrap().source(), "absent_lmdb");
    }

    #[test]
    fn the_working_folder_goes_before_the_folder_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let name = "only-beside.prototxt";
        std::fs::write(folder.path().join(name), "").unwrap();
        assert_eq!(find(name, folder.path()), folder.path().join(name));
        assert_eq!(ambiguity(name, folder.path()), None);
        // Tests run in the folder of the manifest.
        std::fs::write(folder.path().join("Cargo.toml"), "").unwrap();
        assert_eq!(find("Cargo.toml", folder.path()), Path::new("Cargo.toml"));
        let told = ambiguity("Cargo.toml", folder.path()).unwrap();
        assert!(told.contains("working folder is taken"), "{told}");
        assert_eq!(find("nowhere", folder.path()), Path::new("nowhere"));
    }
}
