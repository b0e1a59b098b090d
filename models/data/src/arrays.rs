//! Writes arrays to HDF5 files, as HDF5Data layers read them: one dataset of floats per name.

use hdf5_pure::FileBuilder;
use skimjit_host::whole;
use skimjit_models::{Error, Result, Tensor};
use std::path::Path;

/// Writes a file of named arrays, or none.
pub fn write_hdf5(path: &Path, arrays: &[(&str, &Tensor)]) -> Result<()> {
    let mut file = FileBuilder::new();
    for (name, array) in arrays {
        let dims: Vec<u64> = array.shape().dims().iter().map(|&dim| dim.into()).collect();
        // HDF5 takes slashes in a name for a path of groups.
        let dataset = file.create_dataset(&name.replace('/', "_"));
        dataset.with_f32_data(array.data()).with_shape(&dims);
    }
    let unwritable = |error: std::io::Error| Error::unwritable(path, &error);
    let bytes = file.finish().map_err(std::io::Error::other);
    whole::write(path, bytes.map_err(unwritable)?).map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skimjit_models::Shape;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.h5");
        let data = vec![1.5, -2.0, 3.0, 4.0, 5.0, 6.0];
        let array = Tensor::new(Shape::new([3, 2]).unwrap(), data.clone());
        write_hdf5(&path, &[("inception_3a/1x1", &array), ("b", &array)]).unwrap();
        let file = hdf5_pure::File::open(&path).unwrap();
        for name in ["inception_3a_1x1", "b"] {
            let dataset = file.dataset(name).unwrap();
            assert_eq!(dataset.shape().unwrap(), [3, 2]);
            assert_eq!(dataset.read_f32().unwrap(), data);
        }
    }
}
