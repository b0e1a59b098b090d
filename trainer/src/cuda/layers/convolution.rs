//! Convolution and deconvolution: matrix products over the gathered windows of many images at once.

use super::native::{Backward, Forward, Native, plain, transposed};
use super::sums::{ChannelSums, Summed};
use crate::columns::Geometry;
use crate::cuda::device::{Args, Device, Product, behind};
use skimjit_models::ops;
use skimjit_models::{Result, Shape};

/// Elements of gathered windows that are held at a time: 256 MiB. A batch that needs more runs in parts.
const GATHERED: usize = 1 << 26;

/// Convolution, or its transpose. Windows are gathered from the wide side; filters' results are the narrow side.
pub struct Convolution {
    geometry: Geometry,
    /// From the narrow side to the wide one: a deconvolution.
    backwards: bool,
    /// Images of a part of the batch.
    part: usize,
    bias: ChannelSums,
}

/// Some images, a group of them: addresses of both sides, and memory for matrices.
#[derive(Clone, Copy)]
struct Group {
    images: usize,
    wide: u64,
    narrow: u64,
    /// First element of the group's weights, or of their gradient.
    weights: u64,
    /// First of the group's offsets; 0 when there are none.
    bias: u64,
    scratch: u64,
}

/// What a run passes to every group.
struct Sides {
    wide: u64,
    narrow: u64,
    weights: u64,
    bias: u64,
    scratch: u64,
}

impl Convolution {
    /// From attributes and the shapes of the wide and the narrow side.
    pub fn new(
        device: &mut dyn Device,
        op: &ops::Convolution,
        [wide, narrow]: [&Shape; 2],
        backwards: bool,
    ) -> Result<Self> {
        let geometry = Geometry::new(op, wide, narrow);
        let of_image = geometry.columns.rows() * geometry.columns.columns() + geometry.narrow();
        let output = if backwards { wide } else { narrow };
        let sums = [0, 1].map(|axis| output.dim(axis) as usize);
        Ok(Self {
            part: (GATHERED / of_image.max(1)).clamp(1, geometry.images.max(1)),
            bias: ChannelSums::new(device, [sums[0], sums[1], output.count_of(2, 4)])?,
            geometry,
            backwards,
        })
    }
    fn pixels(&self) -> usize {
        self.geometry.columns.columns()
    }
    /// All groups of all parts of the batch.
    fn all(&self, sides: &Sides) -> Vec<Group> {
        let groups = self.geometry.groups;
        let parts = (0..self.geometry.images).step_by(self.part);
        let group = |first: usize, group: usize| Group {
            images: self.part.min(self.geometry.images - first),
            wide: behind(sides.wide, (first * groups + group) * self.geometry.wide()),
            narrow: behind(
                sides.narrow,
                (first * groups + group) * self.geometry.narrow(),
            ),
            weights: behind(sides.weights, group * self.geometry.weights()),
            bias: match sides.bias {
                0 => 0,
                bias => behind(bias, group * self.geometry.filters),
            },
            scratch: sides.scratch,
        };
        parts
            .flat_map(|first| (0..groups).map(move |index| (first, index)))
            .map(|(first, index)| group(first, index))
            .collect()
    }
    /// Memory for the windows' matrix of a group, and behind it that of the narrow side.
    fn matrices(&self, group: Group) -> [u64; 2] {
        let windows = self.geometry.columns.rows() * group.images * self.pixels();
        [group.scratch, behind(group.scratch, windows)]
    }
    /// What `gather` and `scatter` ask for.
    fn geometry(&self, count: usize, images: usize) -> Vec<usize> {
        let window = &self.geometry.columns.window;
        let mut numbers = vec![count];
        numbers.extend(self.geometry.columns.input);
        numbers.extend(self.geometry.columns.output);
        for pair in [
            window.kernel,
            window.stride,
            window.pad_begin,
            window.dilation,
        ] {
            numbers.extend(pair.map(|number| number as usize));
        }
        numbers.extend([
            images,
            self.geometry.groups * self.geometry.wide(),
            self.geometry.columns.channels,
        ]);
        numbers
    }
    /// The windows of a group: taps × (images × pixels).
    fn gather(&self, device: &mut dyn Device, group: Group) -> Result<u64> {
        let [windows, _] = self.matrices(group);
        let count = self.geometry.columns.rows() * group.images * self.pixels();
        let numbers = self.geometry(count, group.images);
        device.launch("gather", &Args::new(&[group.wide, windows], &numbers, &[]))?;
        Ok(windows)
    }
    /// What `to_images` and `to_matrix` ask for.
    fn narrow_numbers(&self, images: usize) -> [usize; 5] {
        let count = images * self.geometry.narrow();
        let image = self.geometry.groups * self.geometry.narrow();
        [count, images, image, self.geometry.filters, self.pixels()]
    }
    /// The narrow side of a group: filters × (images × pixels).
    fn narrow_matrix(&self, device: &mut dyn Device, group: Group) -> Result<u64> {
        let [_, matrix] = self.matrices(group);
        let numbers = self.narrow_numbers(group.images);
        device.launch(
            "to_matrix",
            &Args::new(&[group.narrow, matrix], &numbers, &[]),
        )?;
        Ok(matrix)
    }
    /// narrow = weights · windows(wide) + bias.
    fn contract(&self, device: &mut dyn Device, group: Group) -> Result<()> {
        let windows = self.gather(device, group)?;
        let [_, product] = self.matrices(group);
        let columns = group.images * self.pixels();
        device.multiply(&Product {
            size: [self.geometry.filters, columns, self.geometry.columns.rows()],
            a: plain(group.weights),
            b: plain(windows),
            c: product,
            accumulate: false,
        })?;
        let numbers = self.narrow_numbers(group.images);
        let p = [product, group.bias, group.narrow];
        device.launch("to_images", &Args::new(&p, &numbers, &[]))
    }
    /// wide = windowsᵀ(weightsᵀ · narrow).
    fn expand(&self, device: &mut dyn Device, group: Group) -> Result<()> {
        let narrow = self.narrow_matrix(device, group)?;
        let [windows, _] = self.matrices(group);
        let columns = group.images * self.pixels();
        device.multiply(&Product {
            size: [self.geometry.columns.rows(), columns, self.geometry.filters],
            a: transposed(group.weights),
            b: plain(narrow),
            c: windows,
            accumulate: false,
        })?;
        let numbers = self.geometry(group.images * self.geometry.wide(), group.images);
        device.launch("scatter", &Args::new(&[windows, group.wide], &numbers, &[]))
    }
    /// gradient += narrow · windows(wide)ᵀ.
    fn correlate(&self, device: &mut dyn Device, group: Group) -> Result<()> {
        let windows = self.gather(device, group)?;
        let narrow = self.narrow_matrix(device, group)?;
        let columns = group.images * self.pixels();
        device.multiply(&Product {
            size: [self.geometry.filters, self.geometry.columns.rows(), columns],
            a: plain(narrow),
            b: transposed(windows),
            c: group.weights,
            accumulate: true,
        })
    }
    /// Both sides from the operand's and the result's.
    fn sides(&self, input: u64, output: u64, weights: u64, scratch: u64) -> Sides {
        let (wide, narrow) = if self.backwards {
            (output, input)
        } else {
            (input, output)
        };
        Sides {
            wide,
            narrow,
            weights,
            bias: 0,
            scratch,
        }
    }
}

impl Native for Convolution {
    fn scratch(&self) -> usize {
        self.part * (self.geometry.columns.rows() + self.geometry.filters) * self.pixels()
    }

    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
        let bias = run.weights.get(1).copied().unwrap_or_default();
        let mut sides = self.sides(run.inputs[0], run.output, run.weights[0], run.scratch);
        if !self.backwards {
            sides.bias = bias;
            let mut all = self.all(&sides).into_iter();
            return all.try_for_each(|group| self.contract(device, group));
        }
        for group in self.all(&sides) {
            self.expand(device, group)?;
        }
        match bias {
            0 => Ok(()),
            _ => {
                let p = [run.output, 0, bias, run.output];
                device.launch("scale", &Args::new(&p, &self.bias.numbers(), &[]))
            }
        }
    }

    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let dy = run.output_gradient;
        let (gradient, into) = (run.weight_gradients[0], run.input_gradients[0]);
        if gradient != 0 {
            let sides = self.sides(run.inputs[0], dy, gradient, run.scratch);
            for group in self.all(&sides) {
                self.correlate(device, group)?;
            }
        }
        if into != 0 {
            let sides = self.sides(into, dy, run.weights[0], run.scratch);
            for group in self.all(&sides) {
                if self.backwards {
                    self.contract(device, group)?;
                } else {
                    self.expand(device, group)?;
                }
            }
        }
        match run.weight_gradients.get(1) {
            Some(&into) if into != 0 => self.bias.add(device, Summed::Plain(dy), into),
            _ => Ok(()),
        }
    }
}
