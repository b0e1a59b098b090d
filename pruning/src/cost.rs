//! Times of a network's layers on a machine, by their zeros: what guided pruning goes by.

use serde::{Deserialize, Serialize};
use skimjit_models::{Error, Result};
use std::path::Path;

/// What a layer must win before it counts as a gain.
const GAIN: f64 = 0.03;
const TABLE: &str = "a cost table (JSON)";
const HINT: &str = "make the table with `skimjit-train cost`";

/// Times of a network on a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostTable {
    /// CPU, for people.
    pub machine: String,
    /// Images computed together.
    pub batch: u32,
    /// Threads.
    pub threads: u32,
    /// Layers that can be pruned.
    pub layers: Vec<LayerCost>,
    /// Everything else, in milliseconds.
    pub rest_ms: f64,
}

/// Times of a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerCost {
    /// Layer.
    pub layer: String,
    /// Share of zeros and milliseconds, from dense on.
    pub points: Vec<[f64; 2]>,
}

impl LayerCost {
    /// Time without zeros.
    pub fn dense_ms(&self) -> f64 {
        self.points.first().map_or(0.0, |point| point[1])
    }
    /// Time at a share of zeros, between measured ones in proportion; never more than dense, as the dense
    /// kernel is there for it.
    pub fn ms(&self, zeros: f64) -> f64 {
        let above = self.points.iter().position(|point| point[0] >= zeros);
        let time = match above {
            Some(0) => self.dense_ms(),
            Some(index) => {
                let ([x0, y0], [x1, y1]) = (self.points[index - 1], self.points[index]);
                y0 + (y1 - y0) * (zeros - x0) / (x1 - x0).max(f64::MIN_POSITIVE)
            }
            None => self.points.last().map_or(0.0, |point| point[1]),
        };
        time.min(self.dense_ms())
    }
    /// Share of zeros from which on the layer is faster than dense; `None` when it never is.
    pub fn crossover(&self) -> Option<f64> {
        let limit = self.dense_ms() * (1.0 - GAIN);
        (0..=1000)
            .map(|n| f64::from(n) / 1000.0)
            .find(|&zeros| self.ms(zeros) <= limit)
    }
    /// Share of zeros beyond which nothing is won any more.
    pub fn bound(&self) -> f64 {
        let best = self
            .points
            .iter()
            .map(|point| point[1])
            .fold(f64::INFINITY, f64::min);
        let limit = best + GAIN * self.dense_ms();
        (0..=1000)
            .map(|n| f64::from(n) / 1000.0)
            .find(|&zeros| self.ms(zeros) <= limit)
            .unwrap_or(1.0)
    }
}

impl CostTable {
    /// Reads a table as [`CostTable`] is written.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::unreadable(path, &error, TABLE).hint(HINT))?;
        Self::parse(&text).map_err(|error| error.file(path))
    }
    /// Reads the text of a table.
    pub fn parse(text: &str) -> Result<Self> {
        let table: Self = serde_json::from_str(text)
            .map_err(|error| Error::new(error.to_string()).expected(TABLE).hint(HINT))?;
        table.check()?;
        Ok(table)
    }
    /// Refuses times that are in no order.
    pub fn check(&self) -> Result<()> {
        let fine = |layer: &LayerCost| {
            let sorted = layer.points.is_sorted_by(|a, b| a[0] < b[0]);
            let numbers = layer
                .points
                .iter()
                .flatten()
                .all(|x| x.is_finite() && *x >= 0.0);
            sorted && numbers && layer.points.first().is_some_and(|point| point[0] == 0.0)
        };
        match self.layers.iter().find(|layer| !fine(layer)) {
            None => Ok(()),
            Some(layer) => Err(Error::new("times that are not in order")
                .layer(layer.layer.clone())
                .expected("points [share of zeros, milliseconds] from 0 on")),
        }
    }
    /// Time of the whole network without zeros.
    pub fn dense_ms(&self) -> f64 {
        self.rest_ms + self.layers.iter().map(LayerCost::dense_ms).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(points: &[[f64; 2]]) -> LayerCost {
        LayerCost {
            layer: "l".to_owned(),
            points: points.to_vec(),
        }
    }

    #[test]
    fn times_crossovers_and_bounds() {
        let layer = cost(&[
            [0.0, 10.0],
            [0.5, 12.0],
            [0.8, 6.0],
            [0.9, 4.0],
            [0.98, 3.9],
        ]);
        assert_eq!(layer.ms(0.0), 10.0);
        assert_eq!(layer.ms(0.5), 10.0, "the dense kernel is there");
        assert!((layer.ms(0.85) - 5.0).abs() < 1e-9);
        assert_eq!(layer.ms(1.0), 3.9);
        // 12 − 20·(s − 0.5) reaches 9.7 at 0.615.
        assert!((layer.crossover().unwrap() - 0.615).abs() < 2e-3);
        // 4.2 on the way from 6 to 4.
        assert!((layer.bound() - 0.89).abs() < 2e-3);
        assert_eq!(cost(&[[0.0, 1.0], [0.9, 1.1]]).crossover(), None);
    }
}
