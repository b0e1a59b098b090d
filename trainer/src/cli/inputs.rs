//! What a network is given where it names no data: pictures and arrays.

use super::console::warn;
use super::pictures::PictureArguments;
use skimjit_data::npy;
use skimjit_data::picture::{self, FORMATS, Preprocess};
use skimjit_host::memory;
use skimjit_models::{Error, Result, Shape, Tensor};
use skimjit_trainer::onnx::OnnxNetwork;
use skimjit_trainer::trial::Batches;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Endings of the files that are taken from folders.
const ENDINGS: [&str; 14] = [
    "bmp", "gif", "jpeg", "jpg", "npy", "pam", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff",
    "webp",
];
/// Depth of folders in folders.
const MOST_DEPTH: usize = 64;
/// Largest list, in bytes.
const MOST_LIST_BYTES: u64 = 1 << 32;
/// Bytes of inputs that are held in memory at most.
const MOST_BYTES: u64 = 4 << 30;

/// Pictures and arrays for an ONNX network.
#[derive(clap::Args)]
pub struct InputArguments {
    #[arg(long, short, value_name = "[NAME=]FILE", num_args = 1.., value_parser = NamedFile::parse, help = what())]
    input: Vec<NamedFile>,
    /// File with the name of one picture or array per line (- for standard input), from the working folder or
    /// else from the list's; a number behind a name, as ImageData's lists have, is left out
    #[arg(long, value_name = "FILE")]
    input_list: Option<PathBuf>,
    /// Shape of the input of an ONNX network, instead of the network's or where that leaves it open; NAME=N,C,H,W
    /// where the network has several inputs
    #[arg(long, value_name = "[NAME=]N,C,H,W", value_parser = parse_named_shape)]
    input_shape: Vec<(Option<String>, Shape)>,
    #[command(flatten)]
    pictures: PictureArguments,
}

/// The help of `--input`.
fn what() -> String {
    format!(
        "Inputs of an ONNX network: pictures ({FORMATS}), .npy arrays (N,C,H,W, any N), folders of them; \
         NAME=FILE where the network has several inputs"
    )
}

/// A file, with the name of an input in front where there is one.
#[derive(Clone, Debug)]
pub struct NamedFile {
    name: Option<String>,
    /// The file.
    pub file: PathBuf,
}

impl NamedFile {
    /// `NAME=FILE` or `FILE`.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let (name, file) = skimjit_program::name_and_file(text);
        match file.is_empty() || name == Some("") {
            true => Err("expected FILE or NAME=FILE".to_owned()),
            false => Ok(Self {
                name: name.map(str::to_owned),
                file: PathBuf::from(file),
            }),
        }
    }
}

/// Elements of one input over all images.
struct Port {
    /// Shape as the network has it.
    shape: Shape,
    images: u32,
    data: Vec<f32>,
    /// There is one array for all images.
    whole: bool,
}

impl InputArguments {
    /// First argument that is given: a Caffe network names its data itself.
    pub fn given(&self) -> Option<&'static str> {
        let own = [
            (!self.input.is_empty(), "--input"),
            (self.input_list.is_some(), "--input-list"),
            (!self.input_shape.is_empty(), "--input-shape"),
        ];
        let mut given = own.iter().filter(|(given, _)| *given);
        given
            .next()
            .map(|(_, name)| *name)
            .or_else(|| self.pictures.given())
    }

    /// Reads the network of a file.
    pub fn network(&self, path: &Path) -> Result<OnnxNetwork> {
        let network = OnnxNetwork::read(path, self.input_shape.clone())?;
        network.warnings.iter().for_each(warn);
        Ok(network)
    }

    /// Reads all inputs: the images of a batch, and the batches.
    pub fn read(&self, network: &OnnxNetwork) -> Result<(u32, Batches)> {
        let graph = network.graph();
        let named: Vec<(&str, &Shape)> = graph
            .inputs
            .iter()
            .map(|&id| (graph.value(id).name.as_str(), graph.shape(id)))
            .collect();
        let ports = match named[..] {
            [(name, shape)] => vec![self.single(name, shape)?],
            _ => self.arrays(&named)?,
        };
        let batched = ports.iter().filter(|port| !port.whole);
        let counts: Vec<u32> = batched.map(|port| port.images).collect();
        if counts.windows(2).any(|pair| pair[0] != pair[1]) {
            let counts: Vec<String> = counts.iter().map(u32::to_string).collect();
            return Err(Error::new(format!("{} images", counts.join(" and ")))
                .field("--input")
                .expected("the same number for every input"));
        }
        let images = counts.first().copied().unwrap_or(1);
        let batch = network
            .batch_for(images)
            .map_err(|error| error.field("--input"))?;
        let cut = |at: u32| ports.iter().map(|port| port.batch(at, batch)).collect();
        let batches: Result<Vec<Vec<Tensor>>> = (0..images / batch).map(cut).collect();
        Ok((batch, batches?.into()))
    }

    /// The images of a network of one input.
    fn single(&self, input: &str, shape: &Shape) -> Result<Port> {
        let files = self.files(input)?;
        let pictures = files.iter().filter(|file| !is_npy(file)).count();
        let preprocess = self.preprocess(shape, pictures)?;
        let mut port = Port {
            shape: shape.clone(),
            images: 0,
            data: Vec::new(),
            whole: false,
        };
        for file in &files {
            let (images, data) = match is_npy(file) {
                true => array(file, shape, false)?,
                false => (1, load(file, shape, &preprocess)?),
            };
            port.images = port.images.saturating_add(images);
            port.data.extend(data);
            check_bytes(port.data.len())?;
        }
        Ok(port)
    }

    fn preprocess(&self, shape: &Shape, pictures: usize) -> Result<Preprocess> {
        let preprocess = self.pictures.preprocess()?;
        match self.pictures.given() {
            Some(name) if pictures == 0 => {
                return Err(
                    Error::new("only arrays as inputs, which are used as they are")
                        .field(name)
                        .expected("a picture"),
                );
            }
            Some(_) => preprocess.check_against(shape)?,
            None if pictures > 0 => warn(format!(
                "no preprocessing known: {preprocess} are used as they are; give --mean-value, --scale, \
                 --channel-order as the network was trained with"
            )),
            None => {}
        }
        Ok(preprocess)
    }

    /// An array for each of several inputs.
    fn arrays(&self, ports: &[(&str, &Shape)]) -> Result<Vec<Port>> {
        let names: Vec<&str> = ports.iter().map(|(name, _)| *name).collect();
        let wanted = || format!("NAME=FILE.npy for each of: {}", names.join(", "));
        let fault = |found: String| Error::new(found).field("--input").expected(wanted());
        if let Some(name) = self
            .input_list
            .as_ref()
            .map(|_| "--input-list")
            .or_else(|| self.pictures.given())
        {
            return Err(Error::new("a network of several inputs")
                .field(name)
                .expected("one of one input"));
        }
        let known = |named: &&NamedFile| {
            named
                .name
                .as_deref()
                .is_some_and(|name| names.contains(&name))
        };
        if let Some(other) = self.input.iter().find(|named| !known(named)) {
            return Err(fault(other.file.display().to_string()));
        }
        let first = ports
            .first()
            .map(|(_, shape)| shape.dims().first().copied());
        let port = |&(name, shape): &(&str, &Shape)| {
            let mut files = self
                .input
                .iter()
                .filter(|named| named.name.as_deref() == Some(name));
            let (Some(named), None) = (files.next(), files.next()) else {
                return Err(fault(format!("no array, or several, for \"{name}\"")));
            };
            let whole = Some(shape.dims().first().copied()) != first;
            let (images, data) = array(&named.file, shape, whole)?;
            check_bytes(data.len())?;
            let shape = shape.clone();
            Ok(Port {
                shape,
                images,
                data,
                whole,
            })
        };
        ports.iter().map(port).collect()
    }

    /// All files, folders opened.
    fn files(&self, input: &str) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for named in &self.input {
            if let Some(name) = named.name.as_deref().filter(|&name| name != input) {
                return Err(Error::new(format!("\"{name}\""))
                    .field("--input")
                    .expected(format!("{input:?}, or no name")));
            }
            match named.file.is_dir() {
                true => files.extend(folder(&named.file)?),
                false => files.push(named.file.clone()),
            }
        }
        if let Some(list) = &self.input_list {
            files.extend(listed(list)?);
        }
        match files.is_empty() {
            false => Ok(files),
            true => Err(Error::new("nothing")
                .field("--input")
                .expected("pictures, .npy arrays or folders of them: an ONNX file names no data")
                .hint("a few dozen pictures of what the network will see are enough")),
        }
    }
}

impl Port {
    /// The images from `at · batch` on.
    fn batch(&self, at: u32, batch: u32) -> Result<Tensor> {
        if self.whole {
            return Ok(Tensor::new(self.shape.clone(), self.data.clone()));
        }
        let shape = self.shape.with_batch(batch);
        let count = shape.count();
        let first = at as usize * count;
        Ok(Tensor::new(
            Shape::new(shape.dims())?,
            self.data[first..first + count].to_vec(),
        ))
    }
}

fn check_bytes(elements: usize) -> Result<()> {
    match 4 * elements as u64 <= MOST_BYTES {
        true => Ok(()),
        false => Err(Error::new("inputs of more than 4 GiB")
            .field("--input")
            .expected("inputs that fit into 4 GiB")
            .hint("give fewer")),
    }
}

fn is_npy(path: &Path) -> bool {
    path.extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("npy"))
}

fn load(file: &Path, shape: &Shape, preprocess: &Preprocess) -> Result<Vec<f32>> {
    let &[_, c, h, w] = shape.dims() else {
        return Err(Error::new("a picture")
            .file(file)
            .expected(format!("a .npy array, as the network's input is {shape}")));
    };
    // The reader's own hint names an option of `skimjit run` that is not one here.
    let fitting = |error: Error| match &error.hint {
        Some(hint) if hint.contains("--reshape") => error.hint(format!(
            "bring it to that size with --resize {w}x{h}, or with --resize and --crop"
        )),
        _ => error,
    };
    picture::load(file, [c, h, w], preprocess)
        .map(Tensor::into_data)
        .map_err(fitting)
}

/// An array of finite numbers: its images, or the `whole` of an input.
fn array(file: &Path, shape: &Shape, whole: bool) -> Result<(u32, Vec<f32>)> {
    let array = npy::read_npy(file)?;
    let (found, wanted) = (array.shape().dims(), shape.dims());
    let behind = |dims: &'_ [u32]| dims.get(1..).map(<[u32]>::to_vec);
    if found.is_empty() || behind(found) != behind(wanted) || whole && found != wanted {
        let dims: String = wanted.iter().skip(1).map(|dim| format!("x{dim}")).collect();
        let expected = match whole {
            true => shape.to_string(),
            false => format!("N{dims}, N images of the network's input shape"),
        };
        return Err(Error::new(format!("an array of shape {}", array.shape()))
            .file(file)
            .expected(expected));
    }
    let images = found[0];
    match array.data().iter().position(|element| !element.is_finite()) {
        None => Ok((images, array.into_data())),
        Some(at) => Err(Error::new(format!("{} at element {at}", array.data()[at]))
            .file(file)
            .expected("finite numbers")),
    }
}

/// Pictures and arrays in a folder and the folders in it, sorted; hidden ones are left out.
fn folder(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    walk(path, MOST_DEPTH, &mut found)?;
    found.sort();
    match found.is_empty() {
        false => Ok(found),
        true => Err(Error::new("no picture and no array")
            .file(path)
            .expected(format!("names that end in {}", ENDINGS.join(", ")))),
    }
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = |error: io::Error| Error::unreadable(folder, &error, "a folder");
    if depth == 0 {
        return Err(Error::new(format!("folders more than {MOST_DEPTH} deep"))
            .file(folder)
            .expected("fewer"));
    }
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        let end = path
            .extension()
            .map(|end| end.to_string_lossy().to_ascii_lowercase());
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // A link to a folder could lead back here.
        if entry.file_type().map_err(unreadable)?.is_dir() {
            walk(&path, depth - 1, found)?;
        } else if end.is_some_and(|end| ENDINGS.contains(&&*end)) {
            found.push(path);
        }
    }
    Ok(())
}

/// The files that a list names.
fn listed(list: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |error: io::Error| Error::unreadable(list, &error, "a list of files");
    let bytes = match list == Path::new("-") {
        true => memory::read_all(io::stdin(), 0, MOST_LIST_BYTES),
        false => memory::read_file(list, MOST_LIST_BYTES),
    };
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
    let text = text.map_err(unreadable)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let files: Vec<PathBuf> = lines
        .map(|line| named(line.trim_end(), list.parent()))
        .collect();
    match files.is_empty() {
        false => Ok(files),
        true => Err(Error::new("an empty list")
            .file(list)
            .expected("the name of a file on each line")),
    }
}

/// The file that a line of a list names, perhaps with a label behind it.
fn named(line: &str, folder: Option<&Path>) -> PathBuf {
    let find = |name: &str| {
        let beside = folder.map(|folder| folder.join(name));
        let mut places = std::iter::once(PathBuf::from(name)).chain(beside);
        places.find(|path| path.exists())
    };
    let without_label = || {
        let (name, label) = line.rsplit_once([' ', '\t'])?;
        label.parse::<i64>().ok()?;
        find(name.trim_end())
    };
    find(line)
        .or_else(without_label)
        .unwrap_or_else(|| line.into())
}

/// A shape, with the name of an input in front where there is one.
fn parse_named_shape(text: &str) -> std::result::Result<(Option<String>, Shape), String> {
    let (name, dims) = match text.rsplit_once('=') {
        Some(("", _)) => return Err("expected the name of an input before =".to_owned()),
        Some((name, dims)) => (Some(name.to_owned()), dims),
        None => (None, text),
    };
    let dims = dims.split([',', 'x']).map(|dim| dim.trim().parse());
    let dims: Option<Vec<u32>> = dims.map(std::result::Result::ok).collect();
    let dims = dims.ok_or("expected dims of 1 or more with commas between, like 1,3,227,227")?;
    let shape = Shape::new(dims).map_err(|error| error.to_string())?;
    Ok((name, shape))
}
