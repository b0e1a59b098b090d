//! Windows of an image as columns of a matrix (im2col), and back.

use skimjit_models::Shape;
use skimjit_models::ops::{Convolution, Window};

/// How windows lie in a plane.
#[derive(Clone, Debug)]
pub struct Columns {
    /// Input channels of a group.
    pub channels: usize,
    /// Input height and width.
    pub input: [usize; 2],
    /// Output height and width.
    pub output: [usize; 2],
    /// Kernel, stride, pad, dilation.
    pub window: Window,
}

impl Columns {
    /// Rows of the matrix: channels·kh·kw.
    pub fn rows(&self) -> usize {
        self.channels * (self.window.kernel[0] * self.window.kernel[1]) as usize
    }
    /// Columns of the matrix: output pixels.
    pub fn columns(&self) -> usize {
        self.output[0] * self.output[1]
    }
    /// True when the matrix is the image itself.
    pub fn is_image(&self) -> bool {
        let w = &self.window;
        let pads = [w.pad_begin, w.pad_end];
        w.kernel == [1, 1] && w.stride == [1, 1] && pads == [[0, 0]; 2]
    }
    /// For tap `k` of an axis: first and one past the last output position whose input lies inside the
    /// plane, and the input position of the first.
    fn span(&self, axis: usize, k: usize) -> (usize, usize, usize) {
        let w = &self.window;
        let (stride, pad) = (w.stride[axis] as usize, w.pad_begin[axis] as usize);
        let offset = k * w.dilation[axis] as usize;
        let begin = pad.saturating_sub(offset).div_ceil(stride);
        let limit = (self.input[axis] + pad).saturating_sub(offset);
        let end = limit.div_ceil(stride).min(self.output[axis]);
        let begin = begin.min(end);
        (begin, end, (begin * stride + offset).saturating_sub(pad))
    }
    /// Writes the matrix of one image's group.
    pub fn gather(&self, image: &[f32], matrix: &mut [f32]) {
        let [ih, iw] = self.input;
        let rows = matrix.chunks_exact_mut(self.columns());
        for ((plane, ky, kx), row) in self.taps(image.chunks_exact(ih * iw)).zip(rows) {
            let (top, bottom, mut y) = self.span(0, ky);
            let (left, right, x) = self.span(1, kx);
            let [stride_h, stride_w] = self.window.stride.map(|stride| stride as usize);
            let ow = self.output[1];
            row[..top * ow].fill(0.0);
            row[bottom * ow..].fill(0.0);
            for line in row[top * ow..bottom * ow].chunks_exact_mut(ow) {
                line[..left].fill(0.0);
                line[right..].fill(0.0);
                let line = &mut line[left..right];
                let source = &plane[y * iw..(y + 1) * iw];
                if stride_w == 1 {
                    line.copy_from_slice(&source[x..x + line.len()]);
                } else {
                    let source = source.iter().skip(x).step_by(stride_w);
                    line.iter_mut()
                        .zip(source)
                        .for_each(|(to, from)| *to = *from);
                }
                y += stride_h;
            }
        }
    }
    /// Adds the matrix to one image's group: the transpose of [`Columns::gather`].
    pub fn scatter_add(&self, matrix: &[f32], image: &mut [f32]) {
        let [ih, iw] = self.input;
        let [kh, kw] = self.window.kernel.map(|size| size as usize);
        let [stride_h, stride_w] = self.window.stride.map(|stride| stride as usize);
        let ow = self.output[1];
        let mut rows = matrix.chunks_exact(self.columns());
        for plane in image.chunks_exact_mut(ih * iw) {
            for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                let Some(row) = rows.next() else { return };
                let (top, bottom, mut y) = self.span(0, ky);
                let (left, right, x) = self.span(1, kx);
                for line in row[top * ow..bottom * ow].chunks_exact(ow) {
                    let line = &line[left..right];
                    let target = &mut plane[y * iw..(y + 1) * iw];
                    if stride_w == 1 {
                        let target = &mut target[x..x + line.len()];
                        target
                            .iter_mut()
                            .zip(line)
                            .for_each(|(to, from)| *to += *from);
                    } else {
                        let target = target.iter_mut().skip(x).step_by(stride_w);
                        target.zip(line).for_each(|(to, from)| *to += *from);
                    }
                    y += stride_h;
                }
            }
        }
    }
    fn taps<'a>(
        &self,
        planes: impl Iterator<Item = &'a [f32]>,
    ) -> impl Iterator<Item = (&'a [f32], usize, usize)> {
        let [kh, kw] = self.window.kernel.map(|size| size as usize);
        planes.flat_map(move |plane| {
            (0..kh).flat_map(move |ky| (0..kw).map(move |kx| (plane, ky, kx)))
        })
    }
}

/// Shapes of a convolution as seen from its images (`wide`: what windows are gathered from) to its
/// filters' results (`narrow`).
pub struct Geometry {
    /// Images of a batch.
    pub images: usize,
    /// Groups.
    pub groups: usize,
    /// Channels of the narrow side in a group.
    pub filters: usize,
    /// Windows of a group.
    pub columns: Columns,
}

impl Geometry {
    /// From attributes and the shapes of both sides.
    pub fn new(op: &Convolution, wide: &Shape, narrow: &Shape) -> Self {
        let groups = op.groups as usize;
        let plane = |shape: &Shape| [shape.dim(2) as usize, shape.dim(3) as usize];
        Self {
            images: wide.dim(0) as usize,
            groups,
            filters: narrow.dim(1) as usize / groups,
            columns: Columns {
                channels: wide.dim(1) as usize / groups,
                input: plane(wide),
                output: plane(narrow),
                window: op.window,
            },
        }
    }
    /// Elements of the wide side in a group of an image.
    pub fn wide(&self) -> usize {
        self.columns.channels * self.columns.input[0] * self.columns.input[1]
    }
    /// Elements of the narrow side in a group of an image.
    pub fn narrow(&self) -> usize {
        self.filters * self.columns.columns()
    }
    /// Weights of a group.
    pub fn weights(&self) -> usize {
        self.filters * self.columns.rows()
    }
}
