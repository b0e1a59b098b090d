//! What a bench finds, and its tables.

use crate::support::output::Output;
use crate::support::table::{Table, left, milliseconds, percent, right};
use crate::support::timing::Spread;
use serde::Serialize;
use skimjit::layer;
use skimjit_runtime::machine::Peak;

/// Everything measured.
#[derive(Serialize)]
pub struct Report {
    pub cpu: String,
    pub isa: String,
    pub threads: usize,
    /// Of one core.
    pub peak: Option<Peak>,
    pub seed: u64,
    pub cases: Vec<Case>,
}

/// Layers that were measured with one batch.
#[derive(Serialize)]
pub struct Case {
    pub network: String,
    pub batch: u32,
    /// Largest difference from the reference over largest value.
    pub verified_difference: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sweeps: Vec<Sweep>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole: Option<Whole>,
}

/// One layer.
#[derive(Serialize)]
pub struct Layer {
    pub layer: String,
    pub kind: &'static str,
    pub shape: String,
    pub density: f64,
    /// Variant that the planner chooses.
    pub chosen: String,
    /// The best estimate of its kind.
    pub sparse: Option<Kernel>,
    pub dense: Option<Kernel>,
}

/// One variant on one layer.
#[derive(Serialize)]
pub struct Kernel {
    pub variant: String,
    /// Median time of one batch.
    pub time_ms: f64,
    #[serde(flatten)]
    pub spread: Spread,
    /// As if every weight took part.
    pub dense_equivalent_gflops: f64,
    /// Multiply-adds that the variant does, two operations each.
    pub gflops: f64,
    /// Of the measured peak of all threads.
    pub peak_share: Option<f64>,
}

/// A layer at several sparsities.
#[derive(Serialize)]
pub struct Sweep {
    pub layer: String,
    pub kind: &'static str,
    pub shape: String,
    pub points: Vec<Point>,
    /// Zeros from which on the fastest sparse variant is at least as fast as the dense one.
    pub crossover_percent: Option<f64>,
}

/// A layer at one sparsity.
#[derive(Serialize)]
pub struct Point {
    pub zeros_percent: f64,
    /// Variant that the planner chooses.
    pub chosen: String,
    pub dense: Option<Kernel>,
    pub sparse: Vec<Kernel>,
}

/// The whole network.
#[derive(Serialize)]
pub struct Whole {
    pub time_ms: f64,
    pub dense_time_ms: f64,
    pub spread: Spread,
    pub dense_spread: Spread,
    pub images_per_second: f64,
    pub dense_images_per_second: f64,
}

impl Report {
    pub fn print(&self, out: &mut Output) {
        let threads = self.threads;
        out.sentence(format!("{}, {}, {threads} threads", self.cpu, self.isa));
        if let Some(peak) = self.peak {
            out.sentence(format!(
                "measured for one core: {:.1} GFLOP/s, {:.1} GB/s read from memory",
                peak.gflops, peak.read_gbps
            ));
        }
        for (index, case) in self.cases.iter().enumerate() {
            if index > 0 {
                out.line("");
            }
            case.print(self.seed, out);
        }
    }
}

impl Case {
    fn print(&self, seed: u64, out: &mut Output) {
        out.sentence(format!(
            "{}, batch {}, seed {seed}; verified against the reference, largest difference {:.1e}",
            self.network, self.batch, self.verified_difference
        ));
        if !self.layers.is_empty() {
            out.line("");
            out.table(&layer_table(&self.layers));
        }
        for sweep in &self.sweeps {
            out.line("");
            sweep.print(out);
        }
        if let Some(whole) = &self.whole {
            out.line("");
            whole.print(out);
        }
    }
}

impl Whole {
    fn print(&self, out: &mut Output) {
        out.sentence(format!(
            "whole network: {} ms ({:.1} images/s); all layers dense: {} ms ({:.1} images/s); {:.2} times as fast",
            milliseconds(self.time_ms),
            self.images_per_second,
            milliseconds(self.dense_time_ms),
            self.dense_images_per_second,
            self.dense_time_ms / self.time_ms.max(1e-9)
        ));
        let range = |spread: &Spread| {
            let [low, high] = spread.quartiles_ms.map(milliseconds);
            let least = milliseconds(spread.least_ms);
            format!("least {least} ms, half of the runs {low} to {high} ms")
        };
        out.sentence(format!(
            "times are medians; {}; dense: {}",
            range(&self.spread),
            range(&self.dense_spread)
        ));
    }
}

fn layer_table(layers: &[Layer]) -> Table {
    let mut table = Table::new([
        left("layer"),
        left("output"),
        right("density"),
        left("sparse variant").extra(),
        right("sparse ms"),
        right("least").extra(),
        right("dense ms"),
        right("least").extra(),
        right("speedup"),
        right("GF/s as dense").extra(),
        right("GF/s real"),
        right("peak"),
        right("dense GF/s").extra(),
        right("peak").extra(),
        left("planned"),
    ]);
    layers.iter().for_each(|layer| table.row(row(layer)));
    table
}

fn row(layer: &Layer) -> Vec<String> {
    let (sparse, dense) = (layer.sparse.as_ref(), layer.dense.as_ref());
    vec![
        layer.layer.clone(),
        layer.shape.clone(),
        percent(layer.density),
        cell(sparse, |kernel| kernel.variant.clone()),
        cell(sparse, |kernel| milliseconds(kernel.time_ms)),
        cell(sparse, |kernel| milliseconds(kernel.spread.least_ms)),
        cell(dense, |kernel| milliseconds(kernel.time_ms)),
        cell(dense, |kernel| milliseconds(kernel.spread.least_ms)),
        speedup(sparse, dense),
        cell(sparse, |kernel| {
            format!("{:.1}", kernel.dense_equivalent_gflops)
        }),
        cell(sparse, |kernel| format!("{:.1}", kernel.gflops)),
        cell(sparse, share),
        cell(dense, |kernel| format!("{:.1}", kernel.gflops)),
        cell(dense, share),
        planned(&layer.chosen).to_owned(),
    ]
}

fn cell(kernel: Option<&Kernel>, text: impl Fn(&Kernel) -> String) -> String {
    kernel.map_or_else(|| "-".to_owned(), text)
}

fn share(kernel: &Kernel) -> String {
    kernel.peak_share.map(percent).unwrap_or_default()
}

fn speedup(sparse: Option<&Kernel>, dense: Option<&Kernel>) -> String {
    match (sparse, dense) {
        (Some(sparse), Some(dense)) => format!("{:.2}", dense.time_ms / sparse.time_ms.max(1e-9)),
        _ => "-".to_owned(),
    }
}

fn planned(variant: &str) -> &'static str {
    if layer::is_sparse(variant) {
        "sparse"
    } else {
        "dense"
    }
}

impl Sweep {
    fn print(&self, out: &mut Output) {
        let crossover = match self.crossover_percent {
            Some(percent) => format!("sparse is as fast as dense from {percent:.0} % zeros on"),
            None => "sparse is not as fast as dense at any of these".to_owned(),
        };
        out.sentence(format!(
            "{} ({}, output {}): {crossover}",
            self.layer, self.kind, self.shape
        ));
        let variants = self.variants();
        let mut columns = vec![right("zeros"), right("dense ms"), right("peak")];
        for variant in &variants {
            let short = variant.rsplit('.').next().unwrap_or(variant);
            columns.extend([
                right(format!("{short} ms")),
                right("speedup"),
                right("peak"),
            ]);
        }
        columns.push(left("planned"));
        let mut table = Table::new(columns);
        self.points
            .iter()
            .for_each(|point| table.row(point.row(&variants)));
        out.table(&table);
    }

    /// Sparse variants that take part at some sparsity, in the order of appearance.
    fn variants(&self) -> Vec<&str> {
        let mut variants = Vec::new();
        for kernel in self.points.iter().flat_map(|point| &point.sparse) {
            if !variants.contains(&kernel.variant.as_str()) {
                variants.push(&kernel.variant);
            }
        }
        variants
    }
}

impl Point {
    fn row(&self, variants: &[&str]) -> Vec<String> {
        let dense = self.dense.as_ref();
        let mut cells = vec![
            format!("{:.0} %", self.zeros_percent),
            cell(dense, |kernel| milliseconds(kernel.time_ms)),
            cell(dense, share),
        ];
        for variant in variants {
            let kernel = self.sparse.iter().find(|kernel| kernel.variant == *variant);
            cells.extend([
                cell(kernel, |kernel| milliseconds(kernel.time_ms)),
                speedup(kernel, dense),
                cell(kernel, share),
            ]);
        }
        cells.push(self.chosen.clone());
        cells
    }
}
