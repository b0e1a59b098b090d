//! `skimjit device-query`.

use crate::support::args::{IsaArgument, MachineArguments};
use crate::support::output::Output;
use skimjit_program::progress;
use crate::support::table::{Table, left, right};
use crate::knobs;
use serde::Serialize;
use skimjit::{Error, Isa, Result};
use skimjit_runtime::jit::CpuInfo;
use skimjit_runtime::machine::{self, Peak, TeamPeak};
use skimjit_runtime::{ThreadPool, usable_cores};

/// Tells what this machine is and what it can do: CPU, instruction sets, caches, cores, memory, and
/// measured limits, which all shares of peak elsewhere refer to.
///
/// Limits are measured in a moment, for one core and for all threads together: arithmetic with generated
/// code, reading from memory and from cache.
#[derive(clap::Args)]
#[command(after_help = "Example:
  skimjit device-query")]
pub struct Arguments {
    #[command(flatten)]
    machine: MachineArguments,
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
    /// What is used: the best, up to SKIMJIT_MAX_ISA and `--isa`.
    used: Option<String>,
    l1d_bytes: Option<u64>,
    l2_bytes: Option<u64>,
    l3_bytes: Option<u64>,
    memory_bytes: Option<u64>,
    free_memory_bytes: Option<u64>,
    limits: Vec<Limits>,
    /// Of several threads together; none for one thread.
    team: Vec<TeamLimits>,
}

/// Limits of one core with an instruction set.
#[derive(Serialize)]
struct Limits {
    isa: String,
    #[serde(flatten)]
    peak: Peak,
}

/// Limits of several threads with an instruction set.
#[derive(Serialize)]
struct TeamLimits {
    isa: String,
    #[serde(flatten)]
    peak: TeamPeak,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let cpu = CpuInfo::query();
    let cap = knobs::max_isa()?;
    let asked = match arguments.machine.isa {
        IsaArgument::Auto => None,
        _ => Some(arguments.machine.isa()?),
    };
    let has = |isa: &Isa| cpu.best_isa.is_some_and(|best| best.contains(*isa));
    let sets: Vec<Isa> = Isa::ALL.into_iter().filter(has).collect();
    let (limits, team) = match arguments.no_measure {
        true => (vec![], vec![]),
        false => {
            let wanted = |isa: &&Isa| asked.is_none_or(|asked| asked.contains(**isa));
            let wanted: Vec<Isa> = sets.iter().filter(wanted).copied().collect();
            measure(&wanted, arguments.machine.threads()?)?
        }
    };
    // A cap above the machine limits nothing.
    let used = asked.or(cpu
        .best_isa
        .map(|best| cap.map_or(best, |cap| cap.min(best))));
    let report = Report {
        cpu: cpu.model_name,
        family: cpu.family,
        cores: cpu.logical_cores,
        instruction_sets: sets.iter().map(ToString::to_string).collect(),
        used: used.map(|isa| isa.to_string()),
        l1d_bytes: cpu.l1d_bytes,
        l2_bytes: cpu.l2_bytes,
        l3_bytes: cpu.l3_bytes,
        memory_bytes: machine::total_memory(),
        free_memory_bytes: machine::free_memory(),
        limits,
        team,
    };
    if arguments.json {
        return out.json(&report);
    }
    report.print(out);
    Ok(())
}

/// Limits of one core and of all threads.
fn measure(sets: &[Isa], threads: Option<usize>) -> Result<(Vec<Limits>, Vec<TeamLimits>)> {
    let threads = threads.unwrap_or_else(usable_cores);
    progress::spin("measuring", || {
        let limits = sets.iter().map(|&isa| {
            let peak = machine::measure(isa)?;
            let isa = isa.to_string();
            Ok(Limits { isa, peak })
        });
        let limits = limits.collect::<Result<_>>()?;
        if threads == 1 {
            return Ok((limits, vec![]));
        }
        let pool = ThreadPool::new(threads).map_err(Error::Usage)?;
        let team = sets.iter().map(|&isa| {
            let peak = machine::measure_team(isa, &pool)?;
            let isa = isa.to_string();
            Ok(TeamLimits { isa, peak })
        });
        Ok((limits, team.collect::<Result<_>>()?))
    })
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
            ("memory", size(self.memory_bytes)),
            ("free memory", size(self.free_memory_bytes)),
        ] {
            out.line(format!("{what:<20} {value}"));
        }
        if !self.limits.is_empty() {
            out.table(&self.limits_table());
        }
    }

    fn limits_table(&self) -> Table {
        let mut table = Table::new([
            left("measured"),
            right("GFLOP/s"),
            right("memory GB/s"),
            right("cache GB/s"),
            right("GHz"),
        ]);
        let mut row = |what: String, numbers: &[f64]| {
            let mut cells = vec![what];
            cells.extend(numbers.iter().map(|number| format!("{number:.1}")));
            table.row(cells);
        };
        for Limits { isa, peak } in &self.limits {
            let numbers = [peak.gflops, peak.read_gbps, peak.cache_gbps, peak.clock_ghz];
            row(format!("{isa}, 1 thread"), &numbers);
        }
        for TeamLimits { isa, peak } in &self.team {
            let numbers = [peak.gflops, peak.read_gbps];
            row(format!("{isa}, {} threads", peak.threads), &numbers);
        }
        table
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
