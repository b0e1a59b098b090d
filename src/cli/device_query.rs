//! `skimjit device-query`.

use super::output::Output;
use super::progress;
use super::table::{Table, left, right};
use serde::Serialize;
use skimjit::runtime::jit::CpuInfo;
use skimjit::runtime::machine::{self, Peak};
use skimjit::{Isa, Result, knobs};

/// Tells what this machine is and what it can do: CPU, instruction sets, caches, cores, memory, and
/// measured limits, which all shares of peak elsewhere refer to.
///
/// Limits are of one core, measured in a moment: arithmetic with generated code, reading from memory and
/// from cache. All cores together have as many times the arithmetic, but share the memory.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit device-query")]
pub struct Arguments {
    /// Measure nothing
    #[arg(long)]
    no_measure: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    cpu: String,
    /// Family, model, stepping.
    family: Option<[u8; 3]>,
    cores: usize,
    /// What the CPU has.
    instruction_sets: Vec<String>,
    /// What is used: the best, up to SKIMJIT_MAX_ISA.
    used: Option<String>,
    l1d_bytes: Option<u64>,
    l2_bytes: Option<u64>,
    l3_bytes: Option<u64>,
    free_memory_bytes: Option<u64>,
    limits: Vec<Limits>,
}

/// Limits of one core with an instruction set.
#[derive(Serialize)]
struct Limits {
    isa: String,
    #[serde(flatten)]
    peak: Peak,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let cpu = CpuInfo::query();
    let cap = knobs::max_isa()?;
    let has = |isa: &Isa| cpu.best_isa.is_some_and(|best| *isa <= best);
    let sets: Vec<Isa> = Isa::ALL.into_iter().filter(has).collect();
    let used = Isa::detect(cap).ok();
    let measured = progress::spin("measuring", || {
        let wanted = sets.iter().filter(|_| !arguments.no_measure);
        let limits = wanted.filter_map(|&isa| {
            let isa_name = isa.to_string();
            machine::measure(isa).map(|peak| Limits {
                isa: isa_name,
                peak,
            })
        });
        limits.collect()
    });
    let report = Report {
        cpu: cpu.model_name,
        family: cpu.family,
        cores: cpu.logical_cores,
        instruction_sets: sets.iter().map(ToString::to_string).collect(),
        used: used.map(|isa| isa.to_string()),
        l1d_bytes: cpu.l1d_bytes,
        l2_bytes: cpu.l2_bytes,
        l3_bytes: cpu.l3_bytes,
        free_memory_bytes: machine::free_memory(),
        limits: measured,
    };
    if arguments.json {
        return out.json(&report);
    }
    report.print(out);
    Ok(())
}

impl Report {
    fn print(&self, out: &mut Output) {
        let family = self
            .family
            .map_or(String::new(), |[family, model, stepping]| {
                format!(", family {family} model {model} stepping {stepping}")
            });
        let size = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), size);
        let used = self
            .used
            .as_deref()
            .unwrap_or("none: skimjit needs AVX2 and FMA");
        for (what, value) in [
            ("CPU", format!("{}{family}", self.cpu)),
            ("cores", self.cores.to_string()),
            ("instruction sets", self.instruction_sets.join(", ")),
            ("used", used.to_owned()),
            ("cache, level 1 data", size(self.l1d_bytes)),
            ("cache, level 2", size(self.l2_bytes)),
            ("cache, level 3", size(self.l3_bytes)),
            ("free memory", size(self.free_memory_bytes)),
        ] {
            out.line(format!("{what:<20} {value}"));
        }
        if self.limits.is_empty() {
            return;
        }
        let mut table = Table::new([
            left("measured, one core"),
            right("GFLOP/s"),
            right("memory GB/s"),
            right("cache GB/s"),
            right("GHz"),
        ]);
        for Limits { isa, peak } in &self.limits {
            let numbers = [peak.gflops, peak.read_gbps, peak.cache_gbps, peak.clock_ghz];
            let mut row = vec![isa.clone()];
            row.extend(numbers.iter().map(|number| format!("{number:.1}")));
            table.row(row);
        }
        out.line(table);
    }
}

/// Bytes in the largest unit that leaves a whole part.
fn size(bytes: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.iter().find(|(unit, _)| bytes >= *unit);
    unit.map_or(format!("{bytes} bytes"), |(unit, name)| {
        format!("{:.1} {name}", bytes as f64 / *unit as f64)
    })
}
