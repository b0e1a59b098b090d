//! Places for boxes: ranks by the longest path from an input, few crossings within them.

/// Sweeps over all ranks for the order, and for the places.
const SWEEPS: usize = 12;
/// Gaps between boxes of a rank, and between ranks.
const GAP: [f64; 2] = [18.0, 34.0];
/// Width of a place where an edge passes a rank.
const PASSAGE: f64 = 10.0;

/// Where everything is.
pub struct Layout {
    /// Left upper corner of each box.
    pub corners: Vec<[f64; 2]>,
    /// Points that each edge passes, its ends included.
    pub paths: Vec<Vec<[f64; 2]>>,
    /// Width and height of the whole.
    pub size: [f64; 2],
}

/// A box, or a place where an edge passes a rank.
struct Spot {
    rank: usize,
    width: f64,
    /// Middle.
    x: f64,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// Places boxes of the given sizes; edges go from earlier to later boxes.
pub fn layout(sizes: &[[f64; 2]], edges: &[[usize; 2]]) -> Layout {
    let mut spots = spots(sizes, edges);
    let passages = add_passages(&mut spots, edges);
    let mut ranks = ranks(&spots);
    for sweep in 0..SWEEPS {
        order(&mut spots, &mut ranks, sweep % 2 == 0);
    }
    spread(&mut spots, &ranks);
    for sweep in 0..SWEEPS {
        straighten(&mut spots, &ranks, sweep % 2 == 0);
    }
    place(&spots, &ranks, sizes, edges, &passages)
}

fn spots(sizes: &[[f64; 2]], edges: &[[usize; 2]]) -> Vec<Spot> {
    let mut rank = vec![0; sizes.len()];
    // Boxes are in an order in which every one comes after those before it.
    for &[from, to] in edges {
        rank[to] = rank[to].max(rank[from] + 1);
    }
    let spot = |(&rank, size): (&usize, &[f64; 2])| Spot {
        rank,
        width: size[0],
        x: 0.0,
        above: vec![],
        below: vec![],
    };
    rank.iter().zip(sizes).map(spot).collect()
}

/// Breaks edges over several ranks; the spots that each edge passes, its ends left out.
fn add_passages(spots: &mut Vec<Spot>, edges: &[[usize; 2]]) -> Vec<Vec<usize>> {
    let mut all = Vec::new();
    for &[from, to] in edges {
        let mut passed = Vec::new();
        let mut last = from;
        for rank in spots[from].rank + 1..spots[to].rank {
            let spot = spots.len();
            spots.push(Spot {
                rank,
                width: PASSAGE,
                x: 0.0,
                above: vec![last],
                below: vec![],
            });
            spots[last].below.push(spot);
            passed.push(spot);
            last = spot;
        }
        spots[last].below.push(to);
        spots[to].above.push(last);
        all.push(passed);
    }
    all
}

fn ranks(spots: &[Spot]) -> Vec<Vec<usize>> {
    let count = spots
        .iter()
        .map(|spot| spot.rank + 1)
        .max()
        .unwrap_or_default();
    let mut ranks = vec![Vec::new(); count];
    for (index, spot) in spots.iter().enumerate() {
        ranks[spot.rank].push(index);
    }
    ranks
}

/// Sorts each rank by the mean place of its neighbours in the rank before.
fn order(spots: &mut [Spot], ranks: &mut [Vec<usize>], down: bool) {
    let mut place = vec![0.0; spots.len()];
    for rank in ranks.iter() {
        rank.iter()
            .enumerate()
            .for_each(|(index, &spot)| place[spot] = index as f64);
    }
    let count = ranks.len();
    for step in 0..count {
        let rank = &mut ranks[if down { step } else { count - 1 - step }];
        let key = |spot: usize| {
            let neighbours = if down {
                &spots[spot].above
            } else {
                &spots[spot].below
            };
            let sum: f64 = neighbours.iter().map(|&other| place[other]).sum();
            if neighbours.is_empty() {
                place[spot]
            } else {
                sum / neighbours.len() as f64
            }
        };
        let mut keyed: Vec<(f64, usize)> = rank.iter().map(|&spot| (key(spot), spot)).collect();
        keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
        *rank = keyed.into_iter().map(|(_, spot)| spot).collect();
        rank.iter()
            .enumerate()
            .for_each(|(index, &spot)| place[spot] = index as f64);
    }
}

/// Least distance of the middles of two neighbours.
fn distance(a: &Spot, b: &Spot) -> f64 {
    (a.width + b.width) / 2.0 + GAP[0]
}

/// Side by side, each rank around 0.
fn spread(spots: &mut [Spot], ranks: &[Vec<usize>]) {
    for rank in ranks {
        let mut x = 0.0;
        for (index, &spot) in rank.iter().enumerate() {
            if index > 0 {
                x += distance(&spots[rank[index - 1]], &spots[spot]);
            }
            spots[spot].x = x;
        }
        rank.iter().for_each(|&spot| spots[spot].x -= x / 2.0);
    }
}

/// Moves spots towards the mean of their neighbours on one side, in order and apart.
fn straighten(spots: &mut [Spot], ranks: &[Vec<usize>], down: bool) {
    let count = ranks.len();
    for step in 0..count {
        let rank = &ranks[if down { step } else { count - 1 - step }];
        let wanted = |spot: &usize| {
            let neighbours = if down {
                &spots[*spot].above
            } else {
                &spots[*spot].below
            };
            let sum: f64 = neighbours.iter().map(|&other| spots[other].x).sum();
            if neighbours.is_empty() {
                spots[*spot].x
            } else {
                sum / neighbours.len() as f64
            }
        };
        let wanted: Vec<f64> = rank.iter().map(wanted).collect();
        // Once pushed to the right only, once to the left only; the middle of both keeps the distances.
        let mut right = wanted.clone();
        let mut left = wanted;
        for index in 1..rank.len() {
            let least = right[index - 1] + distance(&spots[rank[index - 1]], &spots[rank[index]]);
            right[index] = right[index].max(least);
        }
        for index in (0..rank.len().saturating_sub(1)).rev() {
            let most = left[index + 1] - distance(&spots[rank[index]], &spots[rank[index + 1]]);
            left[index] = left[index].min(most);
        }
        for (index, &spot) in rank.iter().enumerate() {
            spots[spot].x = (left[index] + right[index]) / 2.0;
        }
    }
}

fn place(
    spots: &[Spot],
    ranks: &[Vec<usize>],
    sizes: &[[f64; 2]],
    edges: &[[usize; 2]],
    passages: &[Vec<usize>],
) -> Layout {
    let edge_of = |side: f64| {
        spots
            .iter()
            .map(move |spot| spot.x + side * spot.width / 2.0)
    };
    let left = edge_of(-1.0).fold(f64::INFINITY, f64::min);
    let right = edge_of(1.0).fold(f64::NEG_INFINITY, f64::max);
    let margin = GAP[0];
    let shift = margin - left;
    let height = |rank: &[usize]| {
        let boxes = rank.iter().filter_map(|&spot| sizes.get(spot));
        boxes.map(|size| size[1]).fold(0.0, f64::max)
    };
    let mut tops = Vec::new();
    let mut y = margin;
    for rank in ranks {
        tops.push([y, y + height(rank)]);
        y += height(rank) + GAP[1];
    }
    let middle = |spot: usize| spots[spot].x + shift;
    let corner = |(index, size): (usize, &[f64; 2])| {
        let [top, bottom] = tops[spots[index].rank];
        [
            middle(index) - size[0] / 2.0,
            (top + bottom - size[1]) / 2.0,
        ]
    };
    let corners: Vec<[f64; 2]> = sizes.iter().enumerate().map(corner).collect();
    let path = |(&[from, to], passed): (&[usize; 2], &Vec<usize>)| {
        let mut points = vec![[middle(from), corners[from][1] + sizes[from][1]]];
        for &spot in passed {
            let [top, bottom] = tops[spots[spot].rank];
            points.extend([[middle(spot), top], [middle(spot), bottom]]);
        }
        points.push([middle(to), corners[to][1]]);
        points
    };
    Layout {
        paths: edges.iter().zip(passages).map(path).collect(),
        corners,
        size: [right - left + 2.0 * margin, y - GAP[1] + margin],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_do_not_overlap_and_edges_go_down() {
        // A diamond with a long edge, and a second input.
        let sizes = vec![[80.0, 30.0]; 7];
        let edges = [
            [0, 1],
            [0, 2],
            [1, 3],
            [2, 3],
            [0, 4],
            [3, 4],
            [5, 6],
            [4, 6],
        ];
        let layout = layout(&sizes, &edges);
        for (a, first) in layout.corners.iter().enumerate() {
            assert!(first[0] >= 0.0 && first[0] + 80.0 <= layout.size[0]);
            assert!(first[1] >= 0.0 && first[1] + 30.0 <= layout.size[1]);
            for second in &layout.corners[a + 1..] {
                let apart =
                    (first[0] - second[0]).abs() >= 80.0 || (first[1] - second[1]).abs() >= 30.0;
                assert!(apart, "{first:?} {second:?}");
            }
        }
        for path in &layout.paths {
            assert!(path.is_sorted_by(|a, b| a[1] <= b[1]), "{path:?}");
        }
        assert_eq!(layout.paths[4].len(), 6, "past two ranks");
    }
}
