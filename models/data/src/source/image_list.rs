//! Pictures that a text file lists: a path and, after the last space, a label per line.

use super::{Raw, Source};
use crate::random::Random;
use crate::transform::find;
use skimjit_models::caffe::limits;
use skimjit_models::caffe::proto::ImageDataParameter;
use skimjit_models::{Error, Result};
use std::path::{Path, PathBuf};

/// See the module.
pub struct ImageList {
    path: PathBuf,
    items: Vec<(PathBuf, f32)>,
    next: usize,
    shuffle: Option<Random>,
}

impl ImageList {
    /// Reads the list.
    pub fn open(
        param: &ImageDataParameter,
        folder: Option<&Path>,
        mut random: Random,
    ) -> Result<Self> {
        let path = find(param.source(), folder);
        let items = read(&path, param.root_folder(), folder)?;
        let skip = random.below(u64::from(param.rand_skip()));
        let mut list = Self {
            path,
            next: 0,
            shuffle: param.shuffle().then_some(random),
            items,
        };
        if let Some(random) = &mut list.shuffle {
            random.shuffle(&mut list.items);
        }
        list.skip(skip)?;
        Ok(list)
    }
}

fn read(path: &Path, root: &str, folder: Option<&Path>) -> Result<Vec<(PathBuf, f32)>> {
    let unreadable = |found: String| {
        Error::new(found)
            .file(path)
            .expected("a text file with a path and a label per line")
    };
    let size = std::fs::metadata(path).map_or(0, |file| file.len());
    if size > limits::MAX_TEXT_BYTES as u64 {
        return Err(unreadable(format!("{size} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let mut items = Vec::new();
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let item = line.trim_end().rsplit_once(' ');
        let item = item.and_then(|(path, label)| Some((path, label.parse::<i32>().ok()?)));
        let Some((file, label)) = item else {
            let error = unreadable(format!("{line:?}, without a label"));
            return Err(error.position(number as u32 + 1, 1));
        };
        items.push((find(&format!("{root}{file}"), folder), label as f32));
    }
    match items.is_empty() {
        true => Err(unreadable("no lines".to_owned())),
        false => Ok(items),
    }
}

impl Source for ImageList {
    fn next(&mut self) -> Result<Raw> {
        if self.next == self.items.len() {
            self.next = 0;
            if let Some(random) = &mut self.shuffle {
                random.shuffle(&mut self.items);
            }
        }
        let (file, label) = self.items[self.next].clone();
        self.next += 1;
        Ok(Raw::Picture { file, label })
    }
    fn len(&self) -> Option<u64> {
        // What is shuffled is not the same the next time.
        self.shuffle.is_none().then_some(self.items.len() as u64)
    }
    fn path(&self) -> &Path {
        &self.path
    }
}
