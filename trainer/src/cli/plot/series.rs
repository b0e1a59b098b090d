//! Numbers over iterations as a chart of a certain size shows them.

use skimjit_trainer::history::Series;
use std::ops::Range;

/// A point: iteration and value.
type Point = (f64, f64);

/// Part of a run at its beginning in which networks learn most.
const BEGINNING: f64 = 0.1;
/// Room above and below the values, as a part of their range.
const ROOM: f64 = 0.08;

/// Range of an axis of percentages that shows where series differ: that of the values after the beginning.
/// Earlier ones may lie below.
pub fn zoomed(series: &[&Series], end: f64) -> Range<f64> {
    let values = |from: f64| {
        let points = series.iter().flat_map(|series| series.iter());
        let late = points.filter(move |(n, _)| *n >= from);
        late.map(|(_, value)| *value)
            .filter(|value| value.is_finite())
    };
    let from = match values(BEGINNING * end).next() {
        Some(_) => BEGINNING * end,
        None => 0.0,
    };
    let least = values(from).fold(f64::INFINITY, f64::min);
    let most = values(from).fold(f64::NEG_INFINITY, f64::max);
    if least > most {
        return 0.0..100.0;
    }
    let room = ROOM * (most - least).max(1.0);
    // A value of 100 % keeps some room, so that its line is not cut.
    (least - room).max(0.0)..most + room
}

/// The segments between points, as far as they are in a range of values.
pub fn clipped(points: &[Point], range: &Range<f64>) -> Vec<[Point; 2]> {
    let pairs = points.windows(2);
    let segments = pairs.filter_map(|pair| segment(pair[0], pair[1], range));
    segments.collect()
}

fn segment(a: Point, b: Point, range: &Range<f64>) -> Option<[Point; 2]> {
    if !a.1.is_finite() || !b.1.is_finite() {
        return None;
    }
    // Where the segment is, as parts of its length: inside both limits.
    let (mut from, mut to) = (0f64, 1f64);
    let rise = b.1 - a.1;
    for (limit, inside) in [(range.start, 1.0), (range.end, -1.0)] {
        let (start, slope) = ((a.1 - limit) * inside, rise * inside);
        match slope {
            0.0 if start < 0.0 => return None,
            0.0 => {}
            _ if slope > 0.0 => from = from.max(-start / slope),
            _ => to = to.min(-start / slope),
        }
    }
    let at = |part: f64| {
        let value = a.1 + part * rise;
        (
            a.0 + part * (b.0 - a.0),
            value.clamp(range.start, range.end),
        )
    };
    (from <= to).then(|| [at(from), at(to)])
}

/// Cells of a row: from, to, and the value that held at the end of it. A value holds until the next one.
pub fn sampled(series: &Series, end: f64, columns: usize) -> Vec<(f64, f64, f64)> {
    let Some(&(first, _)) = series.first() else {
        return Vec::new();
    };
    let width = end / columns.max(1) as f64;
    let cell = |column: usize| {
        let (from, to) = (column as f64 * width, (column + 1) as f64 * width);
        let held = series.partition_point(|(n, _)| *n <= to);
        let (_, value) = series.get(held.checked_sub(1)?)?;
        (to > first).then_some((from, to, *value))
    };
    (0..columns).filter_map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_shows_where_accuracies_differ() {
        let learnt = vec![(0.0, 10.0), (100.0, 98.0), (200.0, 98.5), (1000.0, 98.6)];
        let range = zoomed(&[&learnt], 1000.0);
        assert!(range.start > 97.0 && range.end < 99.0, "{range:?}");
        let range = zoomed(&[&vec![(0.0, 10.0)]], 1000.0);
        assert!(range.contains(&10.0) && range.end < 20.0, "{range:?}");
        assert_eq!(zoomed(&[], 1000.0), 0.0..100.0);
        assert!(zoomed(&[&vec![(5.0, 100.0)]], 5.0).end > 100.0);
    }

    #[test]
    fn segments_end_at_the_axis() {
        let points = [(0.0, 10.0), (100.0, 90.0), (200.0, 95.0), (300.0, f64::NAN)];
        let found = clipped(&points, &(50.0..100.0));
        assert_eq!(
            found,
            [
                [(50.0, 50.0), (100.0, 90.0)],
                [(100.0, 90.0), (200.0, 95.0)]
            ]
        );
        assert!(clipped(&[(0.0, 1.0), (1.0, 1.0)], &(2.0..3.0)).is_empty());
        assert_eq!(clipped(&[(0.0, 4.0), (1.0, 1.0)], &(2.0..4.0)).len(), 1);
        let peak = clipped(&[(0.0, 0.0), (2.0, 8.0)], &(0.0..4.0));
        assert_eq!(peak, [[(0.0, 0.0), (1.0, 4.0)]]);
    }

    #[test]
    fn cells_hold_the_last_value() {
        let series = vec![(0.0, 0.0), (40.0, 50.0), (90.0, 80.0)];
        let values: Vec<f64> = sampled(&series, 100.0, 4)
            .iter()
            .map(|cell| cell.2)
            .collect();
        assert_eq!(values, [0.0, 50.0, 50.0, 80.0]);
        assert!(sampled(&Vec::new(), 100.0, 4).is_empty());
    }
}
