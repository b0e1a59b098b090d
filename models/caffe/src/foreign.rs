//! Files of another kind than the one that is read: what they are, and what to do instead.
//!
//! One table, used wherever a definition, weights, a solver's state or an array is read.

use super::text;
use super::wire::TopLevel;
use skimjit_models::{Error, Result};
use std::path::Path;

/// The start of a file in which a text's kind shows.
const TEXT_START: usize = 1 << 12;
/// The start of an HDF5 file in which the names in its root group are.
const HDF5_START: usize = 1 << 16;
/// The end of a zip archive in which the list of its files is, at most.
const ZIP_END: usize = 1 << 20;

/// What is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// A text: the definition of a network or a solver.
    Definition,
    /// Weights, `.caffemodel` or `.caffemodel.h5`.
    Weights,
    /// The state of a solver.
    State,
    /// An array, `.binaryproto`.
    Array,
}

impl Wanted {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Definition => "a text file (prototxt)",
            Self::Weights => "weights (.caffemodel or .caffemodel.h5)",
            Self::State => "the state of a solver (.solverstate)",
            Self::Array => "an array (.binaryproto, or .npy where an option names it)",
        }
    }
}

/// A file as it is recognised.
struct File<'a> {
    bytes: &'a [u8],
    /// File name in small letters.
    name: String,
}

impl<'a> File<'a> {
    fn new(path: &Path, bytes: &'a [u8]) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self {
            bytes,
            name: name.to_ascii_lowercase(),
        }
    }
    fn starts(&self, with: &[u8]) -> bool {
        self.bytes.starts_with(with)
    }
    fn at(&self, offset: usize, part: &[u8]) -> bool {
        self.bytes
            .get(offset..)
            .is_some_and(|rest| rest.starts_with(part))
    }
    fn ends(&self, endings: &[&str]) -> bool {
        endings.iter().any(|ending| self.name.ends_with(ending))
    }
    /// The start of a file that is text, up to what is not UTF-8; empty otherwise.
    fn text(&self) -> &'a str {
        let start = &self.bytes[..self.bytes.len().min(TEXT_START)];
        if !is_text(start) {
            return "";
        }
        let end = match std::str::from_utf8(start) {
            Ok(text) => return text,
            Err(error) => error.valid_up_to(),
        };
        std::str::from_utf8(&start[..end]).unwrap_or_default()
    }
    fn is_zip(&self) -> bool {
        self.starts(b"PK\x03\x04")
    }
    /// Whether the list of files in a zip archive has such a name.
    fn zip_has(&self, name: &[u8]) -> bool {
        let end = self.bytes.len().saturating_sub(ZIP_END);
        self.is_zip() && has(&self.bytes[end..], name)
    }
    fn hdf5_has(&self, name: &[u8]) -> bool {
        let start = &self.bytes[..self.bytes.len().min(HDF5_START)];
        self.starts(super::hdf5::SIGNATURE) && has(start, name)
    }
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A kind of file that nothing here reads.
struct Kind {
    /// As an error names it.
    found: &'static str,
    is: fn(&File<'_>) -> bool,
    /// What to do.
    hint: &'static str,
}

const CONVERT: &str = "skimjit reads ONNX models and Caffe's networks: convert it to ONNX (PyTorch: torch.onnx.export, \
                       TensorFlow and Keras: tf2onnx), or take the file that it was made from";
const ORIGINAL: &str = "it was made from another file, whose layers it no longer holds as they were: take the Caffe \
                        files (prototxt and caffemodel) that the network comes from";

const DATA: &str = "it holds pictures, not weights: data layers name its folder as their source";

const fn kind(found: &'static str, hint: &'static str, is: fn(&File<'_>) -> bool) -> Kind {
    Kind { found, is, hint }
}

/// True for text; false for caffemodels, HDF5 files and artifacts, which have control characters near their
/// beginning. Text may be in any encoding: comments often are.
pub fn is_text(start: &[u8]) -> bool {
    let is_control = |byte: &u8| byte.is_ascii_control() && !(b'\t'..=b'\r').contains(byte);
    !start.is_empty() && !start.starts_with(b"\x89HDF") && !start.iter().any(is_control)
}

/// The table. The first row that fits counts: contents come before file names.
#[rustfmt::skip]
static KINDS: &[Kind] = &[
    kind("an empty file", "the download or the copy did not finish", |f| f.bytes.is_empty()),
    kind("a Git LFS pointer", "fetch the file itself with `git lfs pull`", |f| f.starts(b"version https://git-lfs")),
    kind("a network compiled by skimjit (.skim)", "it is complete, definition and weights: give it alone, as MODEL",
        |f| f.starts(&skimjit_models::artifact::container::MAGIC)),
    kind("an OpenVINO network (.xml)", CONVERT, |f| f.text().starts_with("<?xml") && f.text().contains("<net ") || f.text().starts_with("<net ")),
    kind("a web page", "download the raw file", |f| f.starts(b"<!") || f.starts(b"<html")),
    kind("a TorchScript archive", CONVERT, |f| f.zip_has(b"constants.pkl")),
    kind("a PyTorch file (.pt, .pth)", CONVERT, |f| f.zip_has(b"data.pkl")),
    kind("a Keras model (.keras)", CONVERT, |f| f.zip_has(b"model.weights.h5")),
    kind("arrays of NumPy (.npz)", "weights are read from .caffemodel and .caffemodel.h5 files",
        |f| f.is_zip() && (f.ends(&[".npz"]) || f.zip_has(b".npy"))),
    kind("a compressed file", "unpack it first", |f| f.is_zip() || f.starts(b"\x1f\x8b") || f.starts(b"BZh") || f.starts(b"\xfd7zXZ") || f.starts(b"7z\xbc\xaf") || f.starts(b"\x28\xb5\x2f\xfd")),
    kind("a PyTorch file of before version 1.6 (.pt, .pth)", CONVERT, |f| f.starts(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19")),
    kind("a Python pickle", CONVERT, |f| f.starts(b"\x80\x02") || f.starts(b"\x80\x03") || f.starts(b"\x80\x04\x95") || f.starts(b"\x80\x05\x95")),
    kind("a safetensors file", CONVERT, |f| is_safetensors(f.bytes)),
    kind("a Keras model in HDF5 (.h5)", CONVERT,
        |f| f.hdf5_has(b"keras_version") || f.hdf5_has(b"model_weights") || f.hdf5_has(b"layer_names")),
    kind("a TFLite model", CONVERT, |f| f.at(4, b"TFL3")),
    kind("a TensorRT engine", "it holds code for one kind of GPU, from which no network can be had back: take the \
        Caffe files (prototxt and caffemodel) that it was built from", |f| f.starts(b"ftrt") || f.starts(b"ptrt") || f.ends(&[".engine", ".plan", ".trt"])),
    kind("an array of NumPy (.npy)", "inputs go with --input, weights are read from .caffemodel and .caffemodel.h5 files", |f| f.starts(b"\x93NUMPY")),
    kind("a picture", "pictures go behind the network, with --input", |f| f.starts(b"\x89PNG") || f.starts(b"\xff\xd8\xff") || f.starts(b"GIF8")
        || f.starts(b"II*\0") || f.starts(b"MM\0*") || f.at(8, b"WEBP") || f.starts(b"BM") && f.at(6, &[0; 4])),
    kind("an LMDB data base (data.mdb)", DATA, |f| f.at(16, &0xBEEF_C0DE_u32.to_le_bytes())),
    kind("a table of a LevelDB data base (.ldb, .sst)", DATA, |f| f.bytes.ends_with(&0xdb47_7524_8b80_fb57_u64.to_le_bytes())),
    kind("a program or a library", "give the network that it was made from", |f| f.starts(b"\x7fELF")),
    kind("a Darknet network (.cfg)", CONVERT, |f| sections(f.text()).any(|line| line == "[net]" || line == "[network]")),
    kind("Darknet weights (.weights)", CONVERT, |f| f.ends(&[".weights"]) && f.bytes.first() == Some(&0)),
    kind("an ncnn network (.param)", ORIGINAL, |f| f.text().trim_start().starts_with("7767517") || f.starts(&7_767_517_u32.to_le_bytes())),
    kind("weights of ncnn (.bin)", ORIGINAL, |f| f.starts(&0x0130_6b47_u32.to_le_bytes()) || f.starts(&0x000d_4b38_u32.to_le_bytes())),
    kind("weights of MXNet (.params)", CONVERT, |f| f.starts(&0x112_u64.to_le_bytes())),
    kind("an ONNX model", "it is complete, definition and weights: give it alone, as MODEL", is_onnx),
    kind("a Core ML model, by its name", CONVERT, |f| f.ends(&[".mlmodel"])),
    kind("a PaddlePaddle model, by its name", CONVERT, |f| f.ends(&[".pdmodel", ".pdiparams", ".pdparams", "__model__", "__params__"])),
    kind("a graph of TensorFlow or Caffe2 (.pb), by its name", CONVERT, |f| f.ends(&[".pb", ".pbtxt"])),
    kind("raw weights (.bin) of ncnn, OpenVINO or PyTorch, by its name", ORIGINAL, |f| f.ends(&[".bin"]) && TopLevel::of(f.bytes).is_none()),
];

fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return false;
    };
    let length = u64::from_le_bytes(*length);
    length <= rest.len() as u64 && rest.starts_with(b"{\"")
}

/// Lines of a text that open a section.
fn sections(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with('['))
}

/// A version, then a graph and sets of operators. A prototxt's binary twin begins with a name.
fn is_onnx(file: &File<'_>) -> bool {
    let fields = TopLevel::of(file.bytes);
    fields.is_some_and(|fields| fields.has_number(1) && fields.has_bytes(7) && !fields.has_bytes(5))
}

/// Caffe's own kinds, where their contents tell.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Own {
    Network,
    Solver,
    Caffemodel,
    /// With the file of weights that it names.
    State(String),
    Array,
}

impl Own {
    fn of(file: &File<'_>) -> Option<Self> {
        if !file.text().is_empty() {
            return match text::is_solver(file.bytes) {
                true => Some(Self::Solver),
                false => text::is_network(file.bytes).then_some(Self::Network),
            };
        }
        if file.starts(super::hdf5::SIGNATURE) {
            return None;
        }
        let fields = TopLevel::of(file.bytes)?;
        if fields.has_number(1) && fields.only(&[1, 2, 3, 4]) && !fields.has_number(2) {
            let net = fields.bytes(2).unwrap_or_default();
            return Some(Self::State(String::from_utf8_lossy(net).into_owned()));
        }
        let values = fields.has_bytes(5) || fields.has_bytes(8);
        let shaped = fields.has_number(1) || fields.has_bytes(7);
        if values && shaped && !(1..=4).any(|number| fields.has_bytes(number)) {
            return Some(Self::Array);
        }
        let old = fields.has_bytes(1) && fields.has_bytes(2) && !file.ends(&[".pb"]);
        (fields.has_bytes(100) || old).then_some(Self::Caffemodel)
    }

    fn is(&self, wanted: Wanted) -> bool {
        match self {
            Self::Network | Self::Solver => wanted == Wanted::Definition,
            Self::Caffemodel => wanted == Wanted::Weights,
            Self::State(_) => wanted == Wanted::State,
            Self::Array => wanted == Wanted::Array,
        }
    }

    fn refusal(&self) -> Error {
        match self {
            Self::Network => Error::new("a network definition (prototxt), which is text").hint(
                "weights are in the .caffemodel; a definition goes beside them, with --prototxt",
            ),
            Self::Solver => Error::new("a solver definition (prototxt), which is text")
                .hint("weights are in the .caffemodel that training with it saves"),
            Self::Caffemodel => Error::new("a caffemodel")
                .hint("it goes where weights are expected: as MODEL or with --weights"),
            Self::State(net) if net.is_empty() => {
                Error::new("the state of a solver (.solverstate)")
                    .hint("the weights are in the .caffemodel that was saved with it")
            }
            Self::State(net) => Error::new("the state of a solver (.solverstate)").hint(format!(
                "the weights are in the file that was saved with it: {net:?}"
            )),
            Self::Array => Error::new("one array (.binaryproto), as mean images are saved")
                .hint("a mean image goes with --mean-file or in a data layer's mean_file"),
        }
    }
}

/// Nothing in an empty file says what it should have been; its name does.
fn expected_of(wanted: Wanted, file: &File<'_>) -> &'static str {
    match file.bytes {
        [] if file.ends(&[".prototxt", ".txt"]) => Wanted::Definition.name(),
        [] if file.ends(&[".skim"]) => "a network compiled by skimjit (.skim)",
        _ => wanted.name(),
    }
}

/// Refuses a file that is recognised as something else than what is wanted.
pub(super) fn check(wanted: Wanted, path: &Path, bytes: &[u8]) -> Result<()> {
    let file = File::new(path, bytes);
    let expected = |error: Error| error.expected(expected_of(wanted, &file));
    let own = Own::of(&file);
    if own.as_ref().is_some_and(|own| own.is(wanted)) {
        return Ok(());
    }
    if let Some(kind) = KINDS.iter().find(|kind| (kind.is)(&file)) {
        // An empty text is an empty definition, which its reader refuses in its own words.
        if wanted == Wanted::Definition && bytes.is_empty() {
            return Ok(());
        }
        return Err(expected(Error::new(kind.found).hint(kind.hint)));
    }
    match own {
        Some(own) => Err(expected(own.refusal())),
        None => Ok(()),
    }
}

/// True for the text of a network definition.
pub fn is_definition(bytes: &[u8]) -> bool {
    Own::of(&File::new(Path::new(""), bytes)) == Some(Own::Network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(wanted: Wanted, name: &str, bytes: &[u8]) -> String {
        let checked = check(wanted, Path::new(name), bytes);
        checked.map_or_else(|error| error.to_string(), |()| "read".to_owned())
    }

    /// A zip archive of empty files, as far as its list of names goes.
    fn zip(names: &[&str]) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04".to_vec();
        names
            .iter()
            .for_each(|name| bytes.extend([b"PK\x01\x02", name.as_bytes()].concat()));
        bytes
    }

    #[test]
    fn files_of_other_programs_are_named() {
        let safetensors = [&[2_u8, 0, 0, 0, 0, 0, 0, 0][..], b"{\"a\":{}}"].concat();
        let onnx = [
            &[8, 7, 0x12, 7][..],
            b"pytorch",
            &[0x1a, 1, b'1', 0x3a, 0, 0x42, 0],
        ]
        .concat();
        let legacy = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02".to_vec();
        let cases: &[(&str, Vec<u8>, &str)] = &[
            ("net.onnx", onnx, "an ONNX model"),
            (
                "net.pt",
                zip(&["net/data.pkl", "net/version"]),
                "a PyTorch file",
            ),
            (
                "net.pt",
                zip(&["net/data.pkl", "net/constants.pkl"]),
                "a TorchScript archive",
            ),
            ("net.pth", legacy, "a PyTorch file of before"),
            ("net.pkl", b"\x80\x04\x95\0\0".to_vec(), "a Python pickle"),
            ("net.safetensors", safetensors, "a safetensors file"),
            (
                "net.keras",
                zip(&["metadata.json", "model.weights.h5"]),
                "a Keras model (.keras)",
            ),
            (
                "net.h5",
                b"\x89HDF\r\n\x1a\n...keras_version...".to_vec(),
                "a Keras model in HDF5",
            ),
            ("net.tflite", b"\x1c\0\0\0TFL3".to_vec(), "a TFLite model"),
            (
                "net.xml",
                b"<?xml version=\"1.0\"?>\n<net name=\"a\" version=\"10\">".to_vec(),
                "an OpenVINO network",
            ),
            ("net.bin", vec![0xff; 16], "raw weights (.bin)"),
            (
                "yolo.cfg",
                b"# tiny\n[net]\nbatch=1\n[convolutional]\n".to_vec(),
                "a Darknet network",
            ),
            (
                "yolo.weights",
                vec![0, 0, 0, 0, 2, 0, 0, 0],
                "Darknet weights",
            ),
            (
                "net.param",
                b"7767517\n2 2\nInput data 0 1 data\n".to_vec(),
                "an ncnn network",
            ),
            (
                "net.bin",
                vec![0x47, 0x6b, 0x30, 1, 0, 0],
                "weights of ncnn",
            ),
            (
                "data.mdb",
                [&[0; 16][..], &[0xde, 0xc0, 0xef, 0xbe, 1, 0, 0, 0]].concat(),
                "an LMDB data base (data.mdb)",
            ),
            (
                "000005.ldb",
                b"\x01\0\xff\x57\xfb\x80\x8b\x24\x75\x47\xdb".to_vec(),
                "a table of a LevelDB data base",
            ),
            (
                "net.bin",
                vec![0xff],
                "raw weights (.bin) of ncnn, OpenVINO or PyTorch, by its name",
            ),
            ("net.engine", b"ftrt\0\0\0\0".to_vec(), "a TensorRT engine"),
            ("inference.pdmodel", vec![0x0a, 0], "a PaddlePaddle model"),
            ("net.npz", zip(&["w.npy"]), "arrays of NumPy (.npz)"),
            ("net.zip", zip(&["net.caffemodel"]), "a compressed file"),
            (
                "net-0001.params",
                vec![0x12, 1, 0, 0, 0, 0, 0, 0],
                "weights of MXNet",
            ),
            (
                "net.skim",
                b"\x89SKIM\r\n\x1a".to_vec(),
                "a network compiled by skimjit",
            ),
        ];
        for (name, bytes, words) in cases {
            for wanted in [
                Wanted::Weights,
                Wanted::State,
                Wanted::Array,
                Wanted::Definition,
            ] {
                let refusal = refusal(wanted, name, bytes);
                assert!(
                    refusal.starts_with(&format!("found {words}")),
                    "{name}: {refusal}"
                );
                assert!(refusal.contains("; "), "nothing to do in {refusal}");
            }
        }
    }

    #[test]
    fn files_of_caffe_are_told_from_each_other() {
        let layer = b"\x0a\x01n\xa2\x06\x03\x0a\x01a";
        let old = b"\x0a\x01n\x12\x02\x22\0";
        let state = b"\x08\x64\x12\x0ea_1.caffemodel\x1a\x00";
        let mean = b"\x08\x01\x10\x01\x18\x01\x20\x01\x2a\x04\0\0\0\0";
        let shaped = b"\x3a\x03\x0a\x01\x01\x2a\x04\0\0\0\0";
        let files: &[(&[u8], Wanted, &str)] = &[
            (layer, Wanted::Weights, "a caffemodel"),
            (old, Wanted::Weights, "a caffemodel"),
            (state, Wanted::State, "the state of a solver"),
            (mean, Wanted::Array, "one array"),
            (shaped, Wanted::Array, "one array"),
            (
                b"name: 'a' layer { name: 'b' }",
                Wanted::Definition,
                "a network definition",
            ),
            (
                b"# caf\xe9\ninput: 'a'",
                Wanted::Definition,
                "a network definition",
            ),
            (
                b"net: 'a' base_lr: 1",
                Wanted::Definition,
                "a solver definition",
            ),
        ];
        for (bytes, own, words) in files {
            for wanted in [
                Wanted::Weights,
                Wanted::State,
                Wanted::Array,
                Wanted::Definition,
            ] {
                let refusal = refusal(wanted, "file", bytes);
                if wanted == *own {
                    assert_eq!(refusal, "read", "{bytes:?}");
                } else {
                    assert!(refusal.starts_with(&format!("found {words}")), "{refusal}");
                }
            }
        }
        assert!(refusal(Wanted::Weights, "x", state).contains("a_1.caffemodel"));
    }

    #[test]
    fn text_is_told_from_binary_files() {
        for text in [&b"name: \"x\"\r\n\t# caf\xe9"[..], b"layer {}"] {
            assert!(is_text(text), "{text:?}");
        }
        for binary in [&b"\n\x03two"[..], b"\x89HDF\r\n\x1a\n", b"", b"a\0"] {
            assert!(!is_text(binary), "{binary:?}");
        }
    }

    #[test]
    fn an_empty_file_should_have_been_what_its_name_says() {
        for (name, words) in [
            ("solver.prototxt", "expected a text file (prototxt)"),
            ("net.skim", "expected a network compiled by skimjit (.skim)"),
            ("net.caffemodel", "expected weights (.caffemodel"),
        ] {
            let text = refusal(Wanted::Weights, name, b"");
            assert!(text.starts_with("found an empty file"), "{text}");
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn anything_else_is_left_to_the_reader() {
        let hdf5 = b"\x89HDF\r\n\x1a\n\0\0data";
        for bytes in [&b"\x0a\x01x"[..], b"\xff\xff\xff", b"hello", hdf5] {
            assert_eq!(refusal(Wanted::Weights, "x", bytes), "read");
        }
        assert_eq!(refusal(Wanted::Definition, "x", b""), "read");
    }
}
