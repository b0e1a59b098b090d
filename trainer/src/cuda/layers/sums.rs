//! Sums over all images and pixels of a channel, in two steps of fixed order.

use crate::cuda::device::{Args, Device};
use skimjit_models::{Result, Shape};

/// Elements that a thread sums in the first step, unless rows are very long.
const LENGTH: usize = 64;
/// Most pieces of a row.
const PIECES: usize = 64;

/// Sums of the elements of shape images × channels × pixels that belong to a channel.
pub struct ChannelSums {
    /// Positions before the channel.
    pub images: usize,
    /// Channels.
    pub channels: usize,
    /// Positions behind the channel.
    pub pixels: usize,
    /// Parts that a row of pixels is summed in: elements k, k + pieces, and so on.
    pub pieces: usize,
    partial: u64,
}

/// What is summed.
#[derive(Clone, Copy)]
pub enum Summed {
    /// x.
    Plain(u64),
    /// x·y.
    Product(u64, u64),
    /// x·min(y, 0).
    Negative(u64, u64),
}

impl ChannelSums {
    /// With memory for the first step, two numbers a piece.
    pub fn new(device: &mut dyn Device, [images, channels, pixels]: [usize; 3]) -> Result<Self> {
        let pieces = pixels.div_ceil(LENGTH).clamp(1, PIECES);
        Ok(Self {
            images,
            channels,
            pixels,
            pieces,
            partial: device.allocate(2 * images * channels * pieces)?,
        })
    }
    /// For an operand that `shared` elements belong to from an axis on.
    pub fn broadcast(
        device: &mut dyn Device,
        input: &Shape,
        axis: usize,
        shared: usize,
    ) -> Result<Self> {
        let behind = input.count_of(axis, input.rank());
        let images = input.count() / behind.max(1);
        Self::new(device, [images, shared, behind / shared.max(1)])
    }
    /// Memory of the first step.
    pub fn partial(&self) -> u64 {
        self.partial
    }
    /// Threads of the first step.
    pub fn threads(&self) -> usize {
        self.images * self.channels * self.pieces
    }
    /// All elements, and where they belong: what kernels with a shared operand ask for.
    pub fn numbers(&self) -> [usize; 3] {
        let count = self.images * self.channels * self.pixels;
        [count, self.pixels, self.channels]
    }
    /// Adds the sums to `into`.
    pub fn add(&self, device: &mut dyn Device, what: Summed, into: u64) -> Result<()> {
        self.sum(device, what, into, false)
    }
    /// Writes the sums to `into`.
    pub fn write(&self, device: &mut dyn Device, what: Summed, into: u64) -> Result<()> {
        self.sum(device, what, into, true)
    }
    fn sum(&self, device: &mut dyn Device, what: Summed, into: u64, instead: bool) -> Result<()> {
        let (x, y, negative) = match what {
            Summed::Plain(x) => (x, 0, 0),
            Summed::Product(x, y) => (x, y, 0),
            Summed::Negative(x, y) => (x, y, 1),
        };
        let numbers = [self.threads(), self.pixels, self.pieces, negative];
        device.launch("row_sums", &Args::new(&[x, y, self.partial], &numbers, &[]))?;
        let numbers = [
            self.channels,
            self.images,
            self.pieces,
            usize::from(instead),
        ];
        let args = Args::new(&[self.partial, into], &numbers, &[]);
        device.launch("add_image_sums", &args)
    }
}
