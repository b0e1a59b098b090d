//! Winograd's transformations of convolutions, for output tiles of 4×4 (spec §5.1).

/// Outputs of a tile along one axis.
pub const TILE: usize = 4;
/// Largest tile of inputs along one axis (kernel 5).
pub const MAX_INPUT: usize = 8;
/// Largest kernel.
pub const MAX_KERNEL: usize = 5;

/// The matrices of one kernel size; unused rows and columns are 0.
///
/// U = G·w·Gᵀ of a kernel, V = Bᵀ·d·B of a tile of inputs, Y = Aᵀ·(U∘V)·A.
#[derive(Debug)]
pub struct WinogradTransform {
    /// Rows of a kernel: 3 or 5.
    pub kernel: usize,
    /// Rows of a tile of inputs, and of U and V: 6 or 8.
    pub input: usize,
    /// G.
    pub g: [[f64; MAX_KERNEL]; MAX_INPUT],
    /// Bᵀ.
    pub bt: [[f64; MAX_INPUT]; MAX_INPUT],
    /// Aᵀ.
    pub at: [[f64; MAX_INPUT]; TILE],
}

static KERNEL_3: WinogradTransform = WinogradTransform {
    kernel: 3,
    input: 6,
    g: [
        [1.0 / 4.0, 0.0, 0.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0, 0.0, 0.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0, 0.0, 0.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0, 0.0, 0.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0, 0.0],
        [0.0; MAX_KERNEL],
        [0.0; MAX_KERNEL],
    ],
    bt: [
        [4.0, 0.0, -5.0, 0.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, -4.0, -4.0, 1.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, 4.0, -4.0, -1.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, -2.0, -1.0, 2.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, 2.0, -1.0, -2.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, 4.0, 0.0, -5.0, 0.0, 1.0, 0.0, 0.0],
        [0.0; MAX_INPUT],
        [0.0; MAX_INPUT],
    ],
    at: [
        [1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, -1.0, 2.0, -2.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, 1.0, 4.0, 4.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, -1.0, 8.0, -8.0, 1.0, 0.0, 0.0],
    ],
};

static KERNEL_5: WinogradTransform = WinogradTransform {
    kernel: 5,
    input: 8,
    g: [
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [-2.0 / 9.0, -2.0 / 9.0, -2.0 / 9.0, -2.0 / 9.0, -2.0 / 9.0],
        [-2.0 / 9.0, 2.0 / 9.0, -2.0 / 9.0, 2.0 / 9.0, -2.0 / 9.0],
        [1.0 / 90.0, 2.0 / 90.0, 4.0 / 90.0, 8.0 / 90.0, 16.0 / 90.0],
        [
            1.0 / 90.0,
            -2.0 / 90.0,
            4.0 / 90.0,
            -8.0 / 90.0,
            16.0 / 90.0,
        ],
        [
            16.0 / 180.0,
            8.0 / 180.0,
            4.0 / 180.0,
            2.0 / 180.0,
            1.0 / 180.0,
        ],
        [
            16.0 / 180.0,
            -8.0 / 180.0,
            4.0 / 180.0,
            -2.0 / 180.0,
            1.0 / 180.0,
        ],
        [0.0, 0.0, 0.0, 0.0, 1.0],
    ],
    bt: [
        [1.0, 0.0, -5.25, 0.0, 5.25, 0.0, -1.0, 0.0],
        [0.0, 1.0, 1.0, -4.25, -4.25, 1.0, 1.0, 0.0],
        [0.0, -1.0, 1.0, 4.25, -4.25, -1.0, 1.0, 0.0],
        [0.0, 0.5, 0.25, -2.5, -1.25, 2.0, 1.0, 0.0],
        [0.0, -0.5, 0.25, 2.5, -1.25, -2.0, 1.0, 0.0],
        [0.0, 2.0, 4.0, -2.5, -5.0, 0.5, 1.0, 0.0],
        [0.0, -2.0, 4.0, 2.5, -5.0, -0.5, 1.0, 0.0],
        [0.0, -1.0, 0.0, 5.25, 0.0, -5.25, 0.0, 1.0],
    ],
    at: [
        [1.0, 1.0, 1.0, 1.0, 1.0, 8.0, 8.0, 0.0],
        [0.0, 1.0, -1.0, 2.0, -2.0, 4.0, -4.0, 0.0],
        [0.0, 1.0, 1.0, 4.0, 4.0, 2.0, 2.0, 0.0],
        [0.0, 1.0, -1.0, 8.0, -8.0, 1.0, -1.0, 1.0],
    ],
};

impl WinogradTransform {
    /// For kernels of 3×3 or 5×5.
    pub fn of(kernel: u32) -> Option<&'static Self> {
        match kernel {
            3 => Some(&KERNEL_3),
            5 => Some(&KERNEL_5),
            _ => None,
        }
    }

    /// Kernels one after the other, transformed: position by position, kernels in their order. As a
    /// tensor, oc × ic × k × k becomes m × m × oc × ic.
    pub fn kernels(&self, spatial: &[f32]) -> Vec<f32> {
        let (k, m) = (self.kernel, self.input);
        let count = spatial.len() / (k * k);
        let mut transformed = vec![0.0; count * m * m];
        for (index, kernel) in spatial.chunks_exact(k * k).enumerate() {
            for (i, j) in (0..m).flat_map(|i| (0..m).map(move |j| (i, j))) {
                let row = |a: usize| -> f64 {
                    let line = kernel[a * k..(a + 1) * k].iter().zip(&self.g[j]);
                    line.map(|(&w, g)| f64::from(w) * g).sum()
                };
                let u: f64 = (0..k).map(|a| self.g[i][a] * row(a)).sum();
                transformed[(i * m + j) * count + index] = u as f32;
            }
        }
        transformed
    }
}
