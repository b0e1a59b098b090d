//! Maxima and minima, as the machine takes them, without an order of the field's elements.
//!
//! The value of `max(a, max(b, c))` is the *set* {a, b, c}: an element that is hashed from the sorted
//! members, so every order of comparisons gives the same one, and one wrong member another. Members
//! are remembered, so that a set can grow.
//!
//! `vmaxps a, b` is `a > b ? a : b`: the second operand wins when either is NaN. A member is therefore
//! either *sticky* (the result is NaN when it is) or ignored when it is NaN. Constants that maxima
//! start from have their real order.

use crate::value::{Lane, mix};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Maximum or minimum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extreme {
    Max,
    Min,
}

/// Constants with an order, from the lowest.
const CONSTANTS: [f32; 5] = [f32::NEG_INFINITY, f32::MIN, 0.0, f32::MAX, f32::INFINITY];

/// Members that are remembered. Beyond that, sets are forgotten: a proof may then fail, not succeed.
const MOST_MEMBERS: usize = 1 << 24;

/// An element and whether its NaN is the result's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Member {
    element: u64,
    sticky: bool,
}

/// Elements are hashes already.
#[derive(Default)]
struct Direct(u64);

impl Hasher for Direct {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 << 8 ^ u64::from(byte);
        }
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// A set that is known: where its members are.
struct Known {
    extreme: Extreme,
    constant: Option<u8>,
    start: u32,
    count: u32,
}

/// All sets that were made.
#[derive(Default)]
pub struct Extremes {
    known: HashMap<u64, Known, BuildHasherDefault<Direct>>,
    members: Vec<Member>,
    /// Reused.
    set: Vec<Member>,
    /// Images of [`CONSTANTS`].
    constants: Option<[u64; 5]>,
}

impl Extremes {
    /// Forgets the members of all sets: they stay different from each other but cannot grow.
    pub fn forget(&mut self) {
        self.known.clear();
        self.members.clear();
    }

    /// `a > b ? a : b`, or `a < b ? a : b`.
    pub fn of(&mut self, extreme: Extreme, a: Lane, b: Lane) -> Lane {
        let (Some(a), Some(b)) = (a.as_element(), b.as_element()) else {
            return Lane::POISON;
        };
        if a == b {
            return Lane::element(b);
        }
        if self.members.len() > MOST_MEMBERS {
            self.forget();
        }
        let mut set = std::mem::take(&mut self.set);
        set.clear();
        let of_b = self.expand(extreme, b, &mut set);
        let start = set.len();
        let of_a = self.expand(extreme, a, &mut set);
        let constant = absorb(extreme, &mut set, start, [of_a, of_b], a);
        let result = self.make(extreme, constant, &mut set);
        self.set = set;
        result
    }

    /// The larger.
    pub fn max(&mut self, a: Lane, b: Lane) -> Lane {
        self.of(Extreme::Max, a, b)
    }

    /// The smaller.
    pub fn min(&mut self, a: Lane, b: Lane) -> Lane {
        self.of(Extreme::Min, a, b)
    }

    /// Appends the members of an element, and returns its constant.
    fn expand(&mut self, extreme: Extreme, element: u64, set: &mut Vec<Member>) -> Option<u8> {
        if let Some(known) = self
            .known
            .get(&element)
            .filter(|known| known.extreme == extreme)
        {
            let members = self.members.get(known.start as usize..).unwrap_or_default();
            set.extend(members.iter().take(known.count as usize));
            return known.constant;
        }
        let constant = self.constants().iter().position(|&image| image == element);
        if constant.is_none() {
            set.push(Member {
                element,
                sticky: true,
            });
        }
        constant.map(|constant| constant as u8)
    }

    fn constants(&mut self) -> [u64; 5] {
        let images = || CONSTANTS.map(|value| Lane::float(value).as_element().unwrap_or_default());
        *self.constants.get_or_insert_with(images)
    }

    /// The element of a set.
    fn make(&mut self, extreme: Extreme, constant: Option<u8>, set: &mut Vec<Member>) -> Lane {
        // Of an element that is in it twice, the sticky one counts.
        set.sort_unstable_by(|a, b| b.cmp(a));
        set.dedup_by_key(|member| member.element);
        // Nothing is below −∞; NaN is the result's anyway.
        let neutral = match extreme {
            Extreme::Max => 0,
            Extreme::Min => CONSTANTS.len() as u8 - 1,
        };
        let any_sticky = set.iter().any(|member| member.sticky);
        let constant = constant.filter(|&constant| !(any_sticky && constant == neutral));
        match (constant, &set[..]) {
            (Some(constant), []) => return Lane::float(CONSTANTS[usize::from(constant)]),
            (None, [member]) if member.sticky => return Lane::element(member.element),
            _ => {}
        }
        let start = 1 + 2 * extreme as u64;
        let hash = mix(start << 8 | constant.map_or(0, |constant| 1 + u64::from(constant)));
        let hash = set.iter().fold(hash, |hash, member| {
            mix(hash ^ (member.element << 1 | u64::from(member.sticky)))
        });
        let lane = Lane::element(hash);
        let (at, count) = (self.members.len() as u32, set.len() as u32);
        if let Some(element) = lane.as_element()
            && !self.known.contains_key(&element)
        {
            self.members.extend_from_slice(set);
            let known = Known {
                extreme,
                constant,
                start: at,
                count,
            };
            self.known.insert(element, known);
        }
        lane
    }
}

/// Makes the members from `start` on, those of the first operand `a`, what they are for the result;
/// returns the constant.
fn absorb(
    extreme: Extreme,
    set: &mut Vec<Member>,
    start: usize,
    [of_a, of_b]: [Option<u8>; 2],
    a: u64,
) -> Option<u8> {
    let members = &mut set[start..];
    let may_be_nan = members.iter().any(|member| member.sticky);
    let alone = members.len() == 1 && of_a.is_none();
    if may_be_nan && !alone {
        // When one member is NaN, the others are lost with it: the set is a member as a whole.
        set.truncate(start);
        set.push(Member {
            element: a,
            sticky: false,
        });
        return of_b;
    }
    members.iter_mut().for_each(|member| member.sticky = false);
    match extreme {
        Extreme::Max => of_a.max(of_b),
        Extreme::Min => [of_a, of_b].into_iter().flatten().min(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn random(seed: u64) -> Lane {
        Lane::random([seed, 0, 0])
    }

    proptest! {
        #[test]
        fn maxima_do_not_depend_on_their_order(seeds in prop::collection::vec(any::<u64>(), 1..8)) {
            let extremes = &mut Extremes::default();
            let start = Lane::float(f32::MIN);
            // As pooling does: a new value is the first operand.
            let forward = seeds.iter().fold(start, |max, &seed| extremes.max(random(seed), max));
            let backward = seeds.iter().rev().fold(start, |max, &seed| extremes.max(random(seed), max));
            prop_assert_eq!(forward, backward);
            let halves = [&seeds[..seeds.len() / 2], &seeds[seeds.len() / 2..]];
            let [a, b] = halves.map(|half| half.iter().fold(start, |max, &seed| extremes.max(random(seed), max)));
            prop_assert_eq!(extremes.max(a, b), forward);
            prop_assert_eq!(extremes.max(forward, a), forward);
        }

        #[test]
        fn another_member_is_another_maximum(seeds in prop::collection::hash_set(any::<u64>(), 2..8)) {
            let extremes = &mut Extremes::default();
            let start = Lane::float(f32::MIN);
            let all = seeds.iter().fold(start, |max, &seed| extremes.max(random(seed), max));
            for left_out in &seeds {
                let others = seeds.iter().filter(|seed| *seed != left_out);
                let max = others.fold(start, |max, &seed| extremes.max(random(seed), max));
                prop_assert_ne!(max, all);
            }
        }
    }

    #[test]
    fn a_fault_under_a_relu_is_seen_in_every_lane() {
        let extremes = &mut Extremes::default();
        for seed in 0..1000 {
            let [right, wrong] = [random(seed), random(seed).plus(Lane::float(1.0))];
            let relu = |extremes: &mut Extremes, x| extremes.max(Lane::ZERO, x);
            assert_ne!(relu(extremes, right), relu(extremes, wrong));
        }
    }

    #[test]
    fn constants_have_their_order() {
        let extremes = &mut Extremes::default();
        let x = random(1);
        let [infinity, most, least] = [f32::INFINITY, f32::MAX, f32::MIN].map(Lane::float);
        let negative = Lane::float(f32::NEG_INFINITY);
        assert_eq!(extremes.max(least, most), most);
        assert_eq!(extremes.max(Lane::ZERO, least), Lane::ZERO);
        assert_eq!(extremes.min(infinity, Lane::ZERO), Lane::ZERO);
        assert_eq!(extremes.max(negative, x), x);
        let [low, high] = [least, most].map(|start| extremes.max(x, start));
        assert!(low != high && low != x && high != x);
    }

    #[test]
    fn the_operand_that_wins_over_nan_is_part_of_the_value() {
        let extremes = &mut Extremes::default();
        let x = random(1);
        assert_ne!(extremes.max(Lane::ZERO, x), extremes.max(x, Lane::ZERO));
        assert_ne!(
            extremes.max(random(1), random(2)),
            extremes.max(random(2), random(1))
        );
    }

    #[test]
    fn what_is_undefined_stays_so() {
        let extremes = &mut Extremes::default();
        assert!(extremes.max(Lane::POISON, Lane::ZERO).is_poison());
        assert!(extremes.min(Lane::ZERO, Lane::POISON).is_poison());
    }
}
