//! What a run has come to, and what can be done with it.

use super::console::{Tracked, judged};
use skimjit_trainer::param::Role;
use skimjit_trainer::prune::sparsity::{measure, total};
use skimjit_trainer::solver::Solver;
use std::path::Path;

/// Zeros in percent from which on BatchNorm's statistics no longer fit.
const MANY_ZEROS: f64 = 5.0;

/// The last figures of a run, and the commands to run next, as lines.
pub fn describe(solver: &mut Solver, tracked: &Tracked) -> Vec<String> {
    let zeros = zeros(solver);
    let mut figures = vec![format!("iteration {}", solver.iteration())];
    figures.extend(tracked.loss.map(|loss| format!("loss {loss:.4}")));
    for (number, (iteration, outputs)) in &tracked.tests {
        let net = match number {
            0 => String::new(),
            number => format!(" #{number}"),
        };
        let judged = judged(outputs);
        figures.push(format!("{judged} (test{net} at {iteration})"));
    }
    figures.push(format!("{zeros:.2} % zeros"));
    let mut lines = vec![figures.join("; ")];
    let Some(weights) = &tracked.snapshot else {
        return lines;
    };
    lines.push(format!("weights: {weights}"));
    let file = solver.file().to_owned();
    if has_statistics(solver) && zeros > MANY_ZEROS {
        lines.push(format!(
            "next: skimjit-train recalibrate --prototxt {} --weights {} -o recalibrated.caffemodel, as zeros change what BatchNorm layers see",
            quoted(&file.display().to_string()),
            quoted(weights)
        ));
    }
    let command = compile(solver, &file, weights);
    lines.extend(command.map(|command| format!("next: {command}")));
    lines
}

/// The command that makes an artifact of weights; the data tells the size of an image. `None` for a network
/// without inputs, which has learnt from DummyData.
pub fn compile(solver: &mut Solver, net: &Path, weights: &str) -> Option<String> {
    let id = solver.net();
    if solver.engine().net(id).graph.inputs.is_empty() {
        return None;
    }
    let shape = match solver.image().as_deref() {
        Some(image) => {
            let dims: Vec<String> = image.iter().map(u32::to_string).collect();
            format!(" --input-shape 1,{}", dims.join(","))
        }
        None => String::new(),
    };
    let name = Path::new(weights).file_name().unwrap_or_default();
    let name = name.to_string_lossy();
    let stem = name.split(".caffemodel").next().unwrap_or(&name);
    Some(format!(
        "skimjit compile {} --prototxt {}{shape} -o {}",
        quoted(weights),
        quoted(&net.display().to_string()),
        quoted(&format!("{stem}.skim"))
    ))
}

/// Zeros of all parameters of two axes or more, in percent.
fn zeros(solver: &mut Solver) -> f64 {
    let engine = solver.engine();
    let mut all = Vec::new();
    for index in 0..engine.params().len() {
        engine.read(index, &mut |param, state| {
            all.extend(measure(param, &state.data, 0.0));
        });
    }
    total(&all)
}

fn has_statistics(solver: &mut Solver) -> bool {
    let params = solver.engine().params();
    params.iter().any(|param| param.role == Role::Statistic)
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,=:@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
