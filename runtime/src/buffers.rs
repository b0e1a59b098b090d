//! Buffers of a plan: which form of which value, where, and for how long.

use crate::plan::{Operand, Place};
use skimjit_kernels::{Extent, Planes};
use std::collections::HashMap;

/// Index into [`Buffers`].
pub type BufferId = usize;

/// How a value is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Form {
    /// Channel planes with zero gaps.
    Planes,
    /// One contiguous row per image.
    Rows,
    /// One contiguous row of the whole batch per element.
    Columns,
}

/// Which arena.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Home {
    /// Private to the image being computed.
    Image,
    /// One part per image, alive across segments.
    Batch,
    /// One for the whole batch.
    Whole,
    /// The user's array.
    Input(usize),
    /// The user's array.
    Output(usize),
}

/// One buffer, or a part of another one.
#[derive(Clone, Debug)]
struct Buffer {
    planes: Planes,
    home: Home,
    /// Part of another buffer, from this element on.
    part_of: Option<(BufferId, usize)>,
    /// Elements around the base that kernels touch.
    extent: Extent,
    /// First and last step that touch it.
    alive: Option<(usize, usize)>,
}

/// All buffers of a plan under construction.
#[derive(Default)]
pub struct Buffers {
    list: Vec<Buffer>,
}

/// Element offsets of every buffer, and the arenas' sizes.
pub struct Placement {
    places: Vec<Place>,
    /// Elements of an image arena.
    pub image_elems: usize,
    /// Elements of the batch arena.
    pub batch_elems: usize,
}

/// Buffers may share memory only when their zero gaps coincide.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Class {
    Gapped {
        home: Home,
        hw: u32,
        pitch: u32,
    },
    /// `row` is the image stride of a batch's rows, which must form one array.
    Gapless {
        home: Home,
        row: usize,
    },
}

/// A piece of an arena that buffers of one class use one after the other.
struct Slot {
    before: usize,
    after: usize,
    free_from: usize,
}

impl Buffers {
    /// Adds a buffer.
    pub fn add(&mut self, planes: Planes, home: Home) -> BufferId {
        let extent = Extent {
            before: 0,
            after: planes.elems(),
        };
        self.list.push(Buffer {
            planes,
            home,
            part_of: None,
            extent,
            alive: None,
        });
        self.list.len() - 1
    }
    /// Adds a part of another buffer, `offset` elements from its base.
    pub fn add_part(&mut self, of: BufferId, offset: usize, planes: Planes) -> BufferId {
        let (root, base) = self.root(of);
        let home = self.list[root].home;
        let id = self.add(planes, home);
        self.list[id].part_of = Some((root, base + offset));
        id
    }
    fn root(&self, id: BufferId) -> (BufferId, usize) {
        self.list[id].part_of.unwrap_or((id, 0))
    }
    /// True when `part` lies in `of` at `offset`.
    pub fn is_part(&self, part: BufferId, of: BufferId, offset: usize) -> bool {
        let (root, base) = self.root(of);
        self.root(part) == (root, base + offset)
    }
    /// True when the rows of a batch do not form one array: the buffer is a part of longer rows.
    pub fn rows_lie_apart(&self, id: BufferId) -> bool {
        let (root, _) = self.root(id);
        self.list[root].home == Home::Batch
            && self.list[root].planes.elems() != self.list[id].planes.elems()
    }
    /// Layout.
    pub fn planes(&self, id: BufferId) -> Planes {
        self.list[id].planes
    }
    /// Arena.
    pub fn home(&self, id: BufferId) -> Home {
        self.list[id].home
    }
    /// Notes that step `step` touches the buffer over `extent`.
    pub fn touch(&mut self, id: BufferId, step: usize, extent: Extent) {
        let (root, offset) = self.root(id);
        let buffer = &mut self.list[root];
        let (first, last) = buffer.alive.unwrap_or((step, step));
        buffer.alive = Some((first.min(step), last.max(step)));
        buffer.extent.before = buffer
            .extent
            .before
            .max(extent.before.saturating_sub(offset));
        buffer.extent.after = buffer.extent.after.max(offset + extent.after);
    }

    fn class(&self, id: BufferId) -> Class {
        let Buffer { planes, home, .. } = &self.list[id];
        if planes.gap() == 0 {
            let row = if *home == Home::Batch {
                planes.elems()
            } else {
                0
            };
            Class::Gapless { home: *home, row }
        } else {
            Class::Gapped {
                home: *home,
                hw: planes.hw(),
                pitch: planes.pitch,
            }
        }
    }

    /// Assigns memory by lifetime: a slot is reused by buffers of the same class once its previous
    /// user is dead.
    pub fn place(&self, batch: usize) -> Placement {
        let mut order: Vec<BufferId> = (0..self.list.len())
            .filter(|&id| self.list[id].part_of.is_none() && self.list[id].alive.is_some())
            .collect();
        order.sort_by_key(|&id| self.list[id].alive);
        let mut slots: HashMap<Class, Vec<Slot>> = HashMap::new();
        let mut classes: Vec<Class> = Vec::new();
        let mut slot_of: HashMap<BufferId, (Class, usize)> = HashMap::new();
        for id in order {
            let Buffer { extent, alive, .. } = &self.list[id];
            let (first, last) = alive.unwrap_or_default();
            let class = self.class(id);
            if !slots.contains_key(&class) {
                classes.push(class);
            }
            let list = slots.entry(class).or_default();
            let index = best_slot(list, first, extent.after).unwrap_or_else(|| {
                list.push(Slot {
                    before: 0,
                    after: 0,
                    free_from: 0,
                });
                list.len() - 1
            });
            let slot = &mut list[index];
            slot.before = slot.before.max(extent.before);
            slot.after = slot.after.max(extent.after);
            slot.free_from = last + 1;
            slot_of.insert(id, (class, index));
        }
        self.lay_out(batch, &classes, &slots, &slot_of)
    }

    fn lay_out(
        &self,
        batch: usize,
        classes: &[Class],
        slots: &HashMap<Class, Vec<Slot>>,
        slot_of: &HashMap<BufferId, (Class, usize)>,
    ) -> Placement {
        let mut sizes = [0usize; 2];
        let mut bases: HashMap<(Class, usize), (usize, usize)> = HashMap::new();
        for class in classes {
            let (Class::Gapped { home, .. } | Class::Gapless { home, .. }) = class;
            for (index, slot) in slots[class].iter().enumerate() {
                let (arena, images) = match home {
                    Home::Image => (0, 1),
                    Home::Batch => (1, batch),
                    Home::Whole => (1, 1),
                    Home::Input(_) | Home::Output(_) => continue,
                };
                let stride = match class {
                    Class::Gapless { row, .. } => *row,
                    Class::Gapped { .. } => (slot.before + slot.after).next_multiple_of(16),
                };
                let base = sizes[arena] + slot.before.next_multiple_of(16);
                bases.insert((*class, index), (base, stride));
                // Slack for over-reads, and an odd number of lines between slots.
                let end = base + stride * (images - 1) + slot.after + 64;
                sizes[arena] = end.next_multiple_of(16) + 16;
            }
        }
        let places = (0..self.list.len())
            .map(|id| {
                let (root, offset) = self.root(id);
                let Some(&(base, stride)) = slot_of.get(&root).and_then(|slot| bases.get(slot))
                else {
                    return match self.list[root].home {
                        Home::Input(index) => Place::Input { index },
                        Home::Output(index) => Place::Output { index },
                        // Never touched.
                        _ => Place::Image { offset: 0 },
                    };
                };
                match self.list[root].home {
                    Home::Image => Place::Image {
                        offset: base + offset,
                    },
                    Home::Batch => Place::Batch {
                        offset: base + offset,
                        stride,
                    },
                    _ => Place::Batch {
                        offset: base + offset,
                        stride: 0,
                    },
                }
            })
            .collect();
        Placement {
            places,
            image_elems: sizes[0],
            batch_elems: sizes[1],
        }
    }
}

/// Free slot whose size fits best: the smallest that is large enough, else the largest.
fn best_slot(slots: &[Slot], step: usize, wanted: usize) -> Option<usize> {
    let free = || {
        slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.free_from <= step)
    };
    let enough = free()
        .filter(|(_, slot)| slot.after >= wanted)
        .min_by_key(|(_, slot)| slot.after);
    enough
        .or_else(|| free().max_by_key(|(_, slot)| slot.after))
        .map(|(index, _)| index)
}

impl Placement {
    /// Operand of a buffer.
    pub fn operand(&self, buffers: &Buffers, id: BufferId) -> Operand {
        Operand {
            place: self.places[id],
            planes: buffers.planes(id),
        }
    }
}
