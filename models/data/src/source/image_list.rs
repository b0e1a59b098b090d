//! Pictures that a text file lists: a path and, after the last space, a label per line.

use super::{Raw, Source};
use crate::image_list;
use crate::random::Random;
use crate::transform::find;
use skimjit_caffe::proto::ImageDataParameter;
use skimjit_models::Result;
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
    let entries = image_list::read(path)?.into_iter();
    let item = |entry: image_list::Entry| {
        let file = find(&format!("{root}{}", entry.path), folder);
        (file, entry.label as f32)
    };
    Ok(entries.map(item).collect())
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
