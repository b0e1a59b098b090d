//! How activations lie in memory.

use skimjit_models::ops::Window;

/// Channel planes of one image: plain NCHW without horizontal padding.
///
/// Pixel (c, y, x) is at element `c·pitch + y·w + x`. Elements `h·w .. pitch` of every plane are the
/// *gap*; it is always zero and serves as vertical padding of the neighbouring planes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Planes {
    /// Channels.
    pub c: u32,
    /// Height.
    pub h: u32,
    /// Width.
    pub w: u32,
    /// Elements from one plane to the next, at least `h·w`.
    pub pitch: u32,
}

/// Zeros that a window which keeps the size of planes of `width` reads around them: elements before the first
/// and behind the last pixel, whichever are more.
pub fn gap(window: &Window, width: u32) -> u64 {
    let around =
        |[rows, columns]: [u32; 2]| u64::from(rows) * u64::from(width) + u64::from(columns);
    around(window.pad_begin).max(around(window.pad_end))
}

impl Planes {
    /// Without gaps.
    pub fn compact(c: u32, h: u32, w: u32) -> Self {
        Self {
            c,
            h,
            w,
            pitch: h * w,
        }
    }
    /// With a gap of at least `gap` elements and a pitch of an odd number of 64-byte lines: an even
    /// number would put the same pixel of every channel into few L1 sets.
    pub fn with_gap(c: u32, h: u32, w: u32, gap: u32) -> Self {
        let pitch = (h * w + gap).next_multiple_of(16);
        let pitch = if (pitch / 16).is_multiple_of(2) {
            pitch + 16
        } else {
            pitch
        };
        Self { c, h, w, pitch }
    }
    /// Pixels of a plane.
    #[inline]
    pub fn hw(&self) -> u32 {
        self.h * self.w
    }
    /// Zero elements behind each plane.
    #[inline]
    pub fn gap(&self) -> u32 {
        self.pitch - self.hw()
    }
    /// Elements from plane 0 to the last plane.
    #[inline]
    pub fn last_plane(&self) -> usize {
        (self.c as usize - 1) * self.pitch as usize
    }
    /// Elements from plane 0 to the end of the last plane, its gap included.
    #[inline]
    pub fn elems(&self) -> usize {
        self.c as usize * self.pitch as usize
    }
}
