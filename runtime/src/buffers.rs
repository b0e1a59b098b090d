//! Buffers of a plan: which form of which value, where, and for how long.

use crate::plan::{Operand, Place};
use skimjit_kernels::{Extent, Planes};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Index into [`Buffers`].
pub type BufferId = usize;

/// First and last step.
pub type Span = (usize, usize);

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
    /// Buffers whose gaps hold what others left there, by the first step that touches them.
    unclean: HashMap<usize, Vec<BufferId>>,
    /// Elements of an image arena.
    pub image_elems: usize,
    /// Elements of the batch arena.
    pub batch_elems: usize,
}

/// Buffers that may share memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Class {
    /// Of one image, with any layout: a gap is cleared before it is used.
    Image,
    /// Planes of a batch whose zero gaps coincide.
    Gapped { home: Home, hw: u32, pitch: u32 },
    /// Rows of all images as one array, or a value of the batch as a whole: any of them may follow another.
    Batch,
    /// The user's.
    Outside,
}

/// A piece of an arena that buffers of one class use one after the other.
#[derive(Default)]
struct Slot {
    before: usize,
    after: usize,
    users: Vec<BufferId>,
}

/// The slots of one class.
#[derive(Default)]
struct Slots {
    list: Vec<Slot>,
    /// Those that nobody uses, the one that was used last at the end.
    free: Vec<usize>,
    /// Those in use, by the step after which they are free.
    used: BinaryHeap<Reverse<(usize, usize)>>,
}

impl Slots {
    /// A slot for steps `first..=last`, grown where it is too small. Steps must not go backwards.
    fn take(
        &mut self,
        (id, class): (BufferId, Class),
        (first, last): Span,
        before: usize,
        after: usize,
    ) -> usize {
        while let Some(&Reverse((step, index))) = self.used.peek() {
            if step > first {
                break;
            }
            self.used.pop();
            self.free.push(index);
        }
        let size = |&free: &usize| self.list[self.free[free]].after;
        let mut enough = (0..self.free.len()).filter(|free| size(free) >= after);
        let found = match class {
            // What was used last is still in the caches.
            Class::Image => enough.next_back(),
            _ => enough.min_by_key(size),
        };
        let found = found.or_else(|| (0..self.free.len()).max_by_key(size));
        let index = match found {
            Some(free) => self.free.remove(free),
            None => {
                self.list.push(Slot::default());
                self.list.len() - 1
            }
        };
        let slot = &mut self.list[index];
        slot.before = slot.before.max(before);
        slot.after = slot.after.max(after);
        slot.users.push(id);
        self.used.push(Reverse((last + 1, index)));
        index
    }
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
        match home {
            Home::Input(_) | Home::Output(_) => Class::Outside,
            Home::Image => Class::Image,
            _ if planes.gap() > 0 => Class::Gapped {
                home: *home,
                hw: planes.hw(),
                pitch: planes.pitch,
            },
            Home::Batch | Home::Whole => Class::Batch,
        }
    }

    /// Elements behind the base that kernels touch: of one image where each has a part of its own.
    fn after(&self, id: BufferId, batch: usize) -> usize {
        let Buffer {
            planes,
            home,
            extent,
            ..
        } = &self.list[id];
        match home {
            Home::Batch if planes.gap() == 0 => planes.elems() * (batch - 1) + extent.after,
            _ => extent.after,
        }
    }

    /// First and last step during which the buffer is in use.
    fn lifetime(&self, id: BufferId, class: Class, spans: &[Span]) -> (usize, usize) {
        let (first, last) = self.list[id].alive.unwrap_or_default();
        match class {
            // Images do not follow each other step by step, and such buffers may lie across the parts of
            // several images.
            Class::Batch => {
                let span = |step: usize| spans.get(step).copied().unwrap_or((step, step));
                (span(first).0, span(last).1)
            }
            _ => (first, last),
        }
    }

    /// Assigns memory by lifetime: a slot is reused by buffers of the same class once its previous
    /// user is dead. `spans`: for each step the first and last that other images may be at meanwhile.
    pub fn place(&self, batch: usize, spans: &[Span]) -> Placement {
        let roots = (0..self.list.len())
            .filter(|&id| self.list[id].part_of.is_none() && self.list[id].alive.is_some());
        let mut order: Vec<((usize, usize), BufferId, Class)> = roots
            .map(|id| (id, self.class(id)))
            .filter(|&(_, class)| class != Class::Outside)
            .map(|(id, class)| (self.lifetime(id, class, spans), id, class))
            .collect();
        order.sort_by_key(|&(alive, id, _)| (alive, id));
        let mut slots: HashMap<Class, Slots> = HashMap::new();
        let mut classes: Vec<Class> = Vec::new();
        let mut slot_of: HashMap<BufferId, (Class, usize)> = HashMap::new();
        for (alive, id, class) in order {
            let list = slots.entry(class).or_insert_with(|| {
                classes.push(class);
                Slots::default()
            });
            let (before, after) = (self.list[id].extent.before, self.after(id, batch));
            slot_of.insert(id, (class, list.take((id, class), alive, before, after)));
        }
        let unclean = self.unclean(slots.get(&Class::Image), spans);
        Placement {
            unclean,
            ..self.lay_out(batch, &classes, &slots, &slot_of)
        }
    }

    /// Buffers of an image that follow one of another layout in their slot. The first one follows the last, and the
    /// first one of steps that are repeated for each image follows the last one of these as well.
    fn unclean(&self, slots: Option<&Slots>, spans: &[Span]) -> HashMap<usize, Vec<BufferId>> {
        let mut unclean: HashMap<usize, Vec<BufferId>> = HashMap::new();
        let first_step = |id: BufferId| self.list[id].alive.unwrap_or_default().0;
        for slot in slots.iter().flat_map(|slots| &slots.list) {
            let mut before = *slot.users.last().expect("a slot has users");
            for repeated in slot
                .users
                .chunk_by(|&a, &b| spans[first_step(a)] == spans[first_step(b)])
            {
                let again = repeated[repeated.len() - 1];
                for (index, &id) in repeated.iter().enumerate() {
                    let clean = self.leaves_clean(before, id);
                    if !clean || index == 0 && !self.leaves_clean(again, id) {
                        unclean.entry(first_step(id)).or_default().push(id);
                    }
                    before = id;
                }
            }
        }
        unclean
    }

    /// Whether the gaps of a buffer are zero where another one was before. Nobody writes into the gaps of a buffer
    /// that is all there is.
    fn leaves_clean(&self, before: BufferId, id: BufferId) -> bool {
        let [planes, left] = [id, before].map(|id| self.list[id].planes);
        let coincide = (left.hw(), left.pitch) == (planes.hw(), planes.pitch);
        planes.gap() == 0 || coincide && left.c >= planes.c
    }

    fn lay_out(
        &self,
        batch: usize,
        classes: &[Class],
        slots: &HashMap<Class, Slots>,
        slot_of: &HashMap<BufferId, (Class, usize)>,
    ) -> Placement {
        let mut sizes = [0usize; 2];
        let mut bases: HashMap<(Class, usize), (usize, usize)> = HashMap::new();
        for class in classes {
            // Parts of images where they must not touch each other's.
            let (arena, images) = match class {
                Class::Image => (0, 1),
                Class::Gapped { home, .. } if *home == Home::Batch => (1, batch),
                _ => (1, 1),
            };
            for (index, slot) in slots[class].list.iter().enumerate() {
                let stride = (slot.before + slot.after).next_multiple_of(16);
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
                let offset = base + offset;
                let planes = &self.list[root].planes;
                match self.list[root].home {
                    Home::Image => Place::Image { offset },
                    // The rows of a batch form one array.
                    Home::Batch if planes.gap() == 0 => Place::Batch {
                        offset,
                        stride: planes.elems(),
                    },
                    Home::Batch => Place::Batch { offset, stride },
                    _ => Place::Batch { offset, stride: 0 },
                }
            })
            .collect();
        Placement {
            places,
            unclean: HashMap::new(),
            image_elems: sizes[0],
            batch_elems: sizes[1],
        }
    }
}

impl Placement {
    /// Planes whose gaps have to become zero before a step.
    pub fn unclean(&self, buffers: &Buffers, step: usize) -> Vec<Operand> {
        let ids = self.unclean.get(&step).into_iter().flatten();
        ids.map(|&id| self.operand(buffers, id)).collect()
    }
    /// Operand of a buffer.
    pub fn operand(&self, buffers: &Buffers, id: BufferId) -> Operand {
        Operand {
            place: self.places[id],
            planes: buffers.planes(id),
        }
    }
}
