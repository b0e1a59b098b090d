//! Recipes: several runs one after the other, in one file.
//!
//! Paths in a recipe follow [`paths`]; after [`Recipe::read`] they are absolute.

use crate::prune::distillation::{Distillation, DistillationOptions};
use crate::prune::masked::Masked;
use crate::solver::method::Method;
use serde::Deserialize;
use skimjit_caffe::{Definition, paths, solver::SolverDefinition};
use skimjit_models::Care;
use skimjit_models::{Error, Result};
use skimjit_pruning::acdc::{Alternating, AlternatingOptions};
use skimjit_pruning::cost::CostTable;
use skimjit_pruning::frozen::Frozen;
use skimjit_pruning::gradual::{Gradual, GradualOptions};
use skimjit_pruning::guided::{Guided, GuidedOptions};
use skimjit_pruning::surgery::{Surgery, SurgeryOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A recipe file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name: also that of the folder that it writes into, unless another is named.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub about: String,
    /// The train_val prototxt.
    pub net: PathBuf,
    /// Weights that the first phase starts from.
    #[serde(default)]
    pub weights: Option<PathBuf>,
    /// Batches from which BatchNorm's statistics are gathered anew before each test of a phase that prunes,
    /// and at its end; 0: never.
    #[serde(default = "usual_batches")]
    pub recalibrate: u32,
    /// Data bases: what the prototxt calls `source`, and where that is.
    #[serde(default)]
    pub data: BTreeMap<String, PathBuf>,
    /// Fields of the solver definition, for all phases.
    #[serde(default)]
    pub solver: toml::Table,
    /// The runs.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
    /// What is odd about the file.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

fn usual_batches() -> u32 {
    50
}

/// One run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Name: also that of its folder.
    pub name: String,
    /// Fields of the solver definition, over those of all phases.
    #[serde(default)]
    pub solver: toml::Table,
    /// `regularization_type` of single layers' weights.
    #[serde(default)]
    pub regularization: BTreeMap<String, String>,
    /// Instead of the recipe's `recalibrate`, in whatever phase.
    #[serde(default)]
    pub recalibrate: Option<u32>,
    /// Methods that change weights and masks.
    #[serde(default, rename = "method")]
    pub methods: Vec<MethodOptions>,
}

/// A method and its options.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MethodOptions {
    /// Gradual magnitude pruning.
    Gradual(GradualOptions),
    /// As far as it makes layers faster.
    Guided(GuidedOptions<PathBuf>),
    /// AC/DC: masked and dense training take turns.
    #[serde(rename = "ac-dc")]
    Alternating(AlternatingOptions),
    /// Dynamic network surgery with two thresholds.
    Surgery(SurgeryOptions),
    /// A trained network teaches.
    Distillation(DistillationOptions),
    /// Zeros stay zeros.
    Frozen {
        /// Layers; all convolutions and inner products when empty.
        #[serde(default)]
        layers: Vec<String>,
    },
}

impl MethodOptions {
    /// Checks what can be checked before the run has come to it.
    pub fn check(&self) -> Result<()> {
        match self {
            // Costs are measured with weights that an earlier phase may have to make.
            Self::Guided(options) => options.check(),
            _ => self.build(&Definition::default()).map(drop),
        }
    }

    /// Refuses what a phase of so many iterations never comes to.
    pub fn check_schedule(&self, iterations: u64) -> Result<()> {
        let within = |field: &str, end: u64| match (1..=iterations).contains(&end) {
            true => Ok(()),
            false => Err(Error::new(end.to_string()).field(field).expected(format!(
                "1 to {iterations}, the phase's max_iter, so that the method comes to its end"
            ))),
        };
        match self {
            Self::Gradual(options) => within("end", options.end),
            Self::Guided(options) => within("end", options.end),
            Self::Surgery(options) => within("end", options.end),
            Self::Alternating(options) => within("end", options.end),
            Self::Distillation(_) | Self::Frozen { .. } => Ok(()),
        }
    }

    /// As a recipe says it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Gradual(_) => "gradual",
            Self::Guided(_) => "guided",
            Self::Alternating(_) => "ac-dc",
            Self::Surgery(_) => "surgery",
            Self::Distillation(_) => "distillation",
            Self::Frozen { .. } => "frozen",
        }
    }

    /// The method, for a network's definition.
    pub fn build(&self, net: &Definition) -> Result<Box<dyn Method>> {
        let masked = |method| Box::new(Masked::new(method, None)) as Box<dyn Method>;
        Ok(match self {
            Self::Gradual(options) => masked(Box::new(Gradual::new(options.clone())?)),
            Self::Guided(options) => {
                options.check()?;
                let guided = Guided::new(options, CostTable::read(&options.cost)?)?;
                Box::new(Masked::new(Box::new(guided), Some(options.cost.clone())))
            }
            Self::Alternating(options) => masked(Box::new(Alternating::new(options.clone())?)),
            Self::Surgery(options) => masked(Box::new(Surgery::new(options.clone())?)),
            Self::Distillation(options) => Box::new(Distillation::new(options.clone(), net)?),
            Self::Frozen { layers } => masked(Box::new(Frozen {
                layers: layers.clone(),
            })),
        })
    }
}

impl Recipe {
    /// Reads and checks a recipe.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::unreadable(path, &error, "a recipe (.toml)"))?;
        let mut recipe: Self =
            toml::from_str(&text).map_err(|error| parse_error(&error, &text).file(path))?;
        recipe.check().map_err(|error| error.file(path))?;
        recipe.warn_of_shares(&text);
        recipe.find_files(path.parent().unwrap_or(Path::new("")));
        Ok(recipe)
    }

    /// Tells which zeros are written as shares.
    fn warn_of_shares(&mut self, text: &str) {
        let Ok(table) = text.parse::<toml::Table>() else {
            return;
        };
        let list = |value: Option<&toml::Value>| {
            let values = value.and_then(toml::Value::as_array);
            values.cloned().unwrap_or_default()
        };
        for phase in list(table.get("phase")) {
            for method in list(phase.get("method")) {
                let fields =
                    ["sparsity", "initial"].map(|field| (field.to_owned(), method.get(field)));
                let targets = method.get("targets").and_then(toml::Value::as_table);
                let targets = targets.into_iter().flatten();
                let targets =
                    targets.map(|(layer, value)| (format!("targets.{layer}"), Some(value)));
                let all = fields.into_iter().chain(targets);
                let told = all.filter_map(|(field, value)| share_warning(&field, value?));
                self.warnings.extend(told);
            }
        }
    }

    /// Makes all paths absolute.
    fn find_files(&mut self, folder: &Path) {
        let methods = self.phases.iter_mut().flat_map(|phase| &mut phase.methods);
        let files = methods.filter_map(|method| match method {
            MethodOptions::Guided(options) => Some(&mut options.cost),
            MethodOptions::Distillation(options) => options.teacher.as_mut(),
            _ => None,
        });
        let own = [&mut self.net].into_iter().chain(&mut self.weights);
        for path in own.chain(self.data.values_mut()).chain(files) {
            self.warnings.extend(paths::ambiguity(&*path, folder));
            *path = paths::find_absolute(&*path, folder);
        }
    }

    /// Batches that BatchNorm's statistics are gathered anew from before tests of a phase.
    pub fn recalibration(&self, phase: &Phase, solver: &SolverDefinition, net: &Definition) -> u32 {
        let mut kinds = net.regularizations().chain(solver.regularization());
        let teaches = |method: &MethodOptions| matches!(method, MethodOptions::Distillation(_));
        let prunes =
            !phase.methods.iter().all(teaches) || kinds.any(|kind| !["", "L2"].contains(&kind));
        let usual = if prunes { self.recalibrate } else { 0 };
        phase.recalibrate.unwrap_or(usual)
    }

    fn check(&self) -> Result<()> {
        if !is_plain(&self.name) {
            return Err(Error::new(format!("{:?}", self.name))
                .field("name")
                .expected(format!("{PLAIN}: it names the folder that is written to"))
                .hint("--output says where another folder is"));
        }
        if self.phases.is_empty() {
            return Err(Error::new("no phase")
                .field("phase")
                .expected("at least one [[phase]]"));
        }
        for (index, phase) in self.phases.iter().enumerate() {
            let twice = self.phases[..index]
                .iter()
                .any(|other| other.name == phase.name);
            if !is_plain(&phase.name) || twice {
                return Err(Error::new(format!("phase {:?}", phase.name))
                    .field("phase.name")
                    .expected(format!("{PLAIN}, another name for each phase")));
            }
            let iterations = self.solver(phase)?.iterations();
            for method in &phase.methods {
                let fault = |error| in_phase(error, phase);
                let checked = method.check();
                let checked = checked.and_then(|()| method.check_schedule(iterations));
                let in_method = |error| in_method(error, method);
                checked.map_err(in_method).map_err(fault)?;
                self.check_teacher(index, method).map_err(fault)?;
            }
        }
        Ok(())
    }

    /// A phase that teaches comes before the one that learns.
    fn check_teacher(&self, index: usize, method: &MethodOptions) -> Result<()> {
        let MethodOptions::Distillation(DistillationOptions {
            phase: Some(teacher),
            ..
        }) = method
        else {
            return Ok(());
        };
        let earlier: Vec<&str> = self.phases[..index]
            .iter()
            .map(|phase| phase.name.as_str())
            .collect();
        if earlier.contains(&teacher.as_str()) {
            return Ok(());
        }
        Err(Error::new(format!("phase {teacher:?}"))
            .field("method.phase")
            .expected(format!("an earlier phase: {}", earlier.join(", "))))
    }

    /// Solver definition of a phase, without the network's name.
    pub fn solver(&self, phase: &Phase) -> Result<SolverDefinition> {
        let in_phase = |error| in_phase(error, phase);
        let mut fields = self.solver.clone();
        fields.extend(phase.solver.clone());
        let mut lines = String::new();
        for (key, value) in &fields {
            lines += &field(key, value).map_err(in_phase)?;
        }
        let (solver, warnings) = SolverDefinition::parse(&lines).map_err(in_phase)?;
        if let Some(warning) = warnings.first() {
            return Err(
                in_phase(Error::new(warning.to_string())).expected("fields of a solver definition")
            );
        }
        solver.upgraded().map_err(in_phase)
    }

    /// The network, with data bases where the recipe or `more` say that they are, and files as paths that mean
    /// the same in any folder. Who runs the recipe has told what is odd about its file.
    pub fn network(
        &self,
        more: &BTreeMap<String, PathBuf>,
        phase: &Phase,
        care: Care,
    ) -> Result<Definition> {
        let mut net = Definition::read(&self.net, care, &mut |_| ())?;
        // What a phase writes would lack them.
        net.refuse_unknown()?;
        net.place_data(|name| {
            let place = more.get(name).or_else(|| self.data.get(name));
            place.map(|path| paths::absolute(path))
        });
        for (layer, kind) in &phase.regularization {
            if !net.regularize(layer, kind) {
                let missing = Error::new(format!("layer {layer:?}")).field("regularization");
                return Err(in_phase(missing, phase).expected("a layer of the network"));
            }
        }
        net.anchor();
        Ok(net)
    }
}

/// What to tell of a field of a recipe that is written as a share.
fn share_warning(field: &str, value: &toml::Value) -> Option<String> {
    let share = match value {
        toml::Value::Float(number) => Some(*number),
        toml::Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let share = share.filter(|share| 0.0 < *share && *share < 1.0)?;
    Some(format!(
        "{field} = {share} is read as a share of 1; write {0} or \"{0}%\"",
        (1e11 * share).round() / 1e9
    ))
}

/// What names of folders consist of.
const PLAIN: &str = "letters, digits, '-', '_' and '.', no '.' first";

/// Whether a name can be that of a folder, and of no other place than beside others.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
}

/// An error with the method that it is in.
fn in_method(error: Error, method: &MethodOptions) -> Error {
    within(error, format!("method {:?}", method.kind()))
}

/// An error with the phase that it is in.
pub fn in_phase(error: Error, phase: &Phase) -> Error {
    within(error, format!("phase {:?}", phase.name))
}

fn within(mut error: Error, place: String) -> Error {
    let field = error.field.take().filter(|field| !field.is_empty());
    error.field(field.map_or(place.clone(), |field| format!("{place}: {field}")))
}

/// Fields whose values are names, not texts.
const NAMES: [&str; 2] = ["solver_mode", "snapshot_format"];

/// A line of a solver definition for each value.
fn field(key: &str, value: &toml::Value) -> Result<String> {
    Ok(match value {
        toml::Value::Array(values) => {
            let lines: Result<Vec<String>> = values.iter().map(|value| field(key, value)).collect();
            lines?.concat()
        }
        toml::Value::String(text) if NAMES.contains(&key) => format!("{key}: {text}\n"),
        toml::Value::String(text) => format!("{key}: {text:?}\n"),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
            format!("{key}: {value}\n")
        }
        _ => {
            return Err(Error::new(value.to_string())
                .field(format!("solver.{key}"))
                .expected("a number, a text, true, false, or a list of them"));
        }
    })
}

fn parse_error(error: &toml::de::Error, text: &str) -> Error {
    let found = Error::new(error.message().replace('\n', ", "))
        .hint("see the recipes that come with the trainer");
    match error.span() {
        None => found,
        Some(span) => {
            let before = &text[..span.start.min(text.len())];
            let line = before.matches('\n').count() + 1;
            let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1;
            found.position(line as u32, column as u32)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
name = "small"
net = "net.prototxt"
[solver]
base_lr = 0.01
lr_policy = "fixed"
[[phase]]
name = "dense"
solver = { max_iter = 100, stepvalue = [10, 20] }
[[phase]]
name = "prune"
solver = { max_iter = 50 }
[[phase.method]]
kind = "gradual"
sparsity = 0.9
end = 50
"#;

    fn read(text: &str) -> Result<Recipe> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.toml");
        std::fs::write(&path, text).unwrap();
        Recipe::read(&path)
    }

    #[test]
    fn phases_have_solvers_and_methods() {
        let recipe = read(TEXT).unwrap();
        let solver = recipe.solver(&recipe.phases[0]).unwrap();
        for line in [
            "base_lr: 0.01",
            "max_iter: 100",
            "stepvalue: 10\nstepvalue: 20",
        ] {
            assert!(solver.text().contains(line), "{}", solver.text());
        }
        assert_eq!(recipe.phases[1].methods.len(), 1);
        let solver = recipe.solver(&recipe.phases[1]).unwrap();
        assert_eq!(solver.iterations(), 50);
        assert_eq!(recipe.warnings.len(), 1, "{:?}", recipe.warnings);
        assert!(recipe.warnings[0].contains("sparsity = 0.9"));
        let percent = read(&TEXT.replace("0.9", "\"90%\"")).unwrap();
        assert_eq!(percent.warnings, [""; 0]);
        assert_eq!(
            format!("{:?}", percent.phases),
            format!("{:?}", recipe.phases)
        );
    }

    #[test]
    fn shares_are_told() {
        let told = |text: &str| share_warning("sparsity", &toml::Value::try_from(text).unwrap());
        assert_eq!(told("90%"), None);
        let told = share_warning("sparsity", &toml::Value::Float(0.57)).unwrap();
        assert!(told.contains("write 57 or \"57%\""), "{told}");
        assert_eq!(share_warning("sparsity", &toml::Value::Integer(57)), None);
    }

    #[test]
    fn the_recipes_that_come_with_the_trainer_are_right() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let mut count = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let recipe = Recipe::read(&path).unwrap();
            assert_eq!(
                Some(recipe.name.as_ref()),
                path.file_stem().map(|stem| stem.to_str().unwrap())
            );
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(
                text.contains(&format!("recipe trainer/recipes/{}.toml", recipe.name)),
                "{path:?}"
            );
            for phase in &recipe.phases {
                recipe
                    .network(&BTreeMap::new(), phase, Care::default())
                    .unwrap();
            }
            count += 1;
        }
        assert!(count >= 7, "{count}");
    }

    #[test]
    fn faults_are_placed() {
        for (from, to, words) in [
            (
                "sparsity = 0.9",
                "sparsity = 100",
                ["phase \"prune\"", "less than 100 %"],
            ),
            (
                "kind = \"gradual\"",
                "kind = \"magic\"",
                ["r.toml:14", "magic"],
            ),
            (
                "base_lr = 0.01",
                "base_rate = 0.01",
                ["base_rate", "phase \"dense\""],
            ),
            (
                "max_iter = 100",
                "max_iter = \"many\"",
                ["phase \"dense\"", "max_iter"],
            ),
            (
                "name = \"prune\"",
                "name = \"dense\"",
                ["phase.name", "another name"],
            ),
            ("net = \"net.prototxt\"", "nets = 1", ["r.toml:", "nets"]),
            ("sparsity = 0.9", "sparsity = 190", ["r.toml:", "0 to 100"]),
        ] {
            let error = read(&TEXT.replace(from, to)).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{to}: {error}");
            }
        }
    }

    /// A method that the phase never comes to would prune nothing, without a word.
    #[test]
    fn schedules_that_a_phase_never_comes_to_are_refused() {
        let phase = |method: &str| {
            let (head, _) = TEXT.split_once("kind = \"gradual\"").unwrap();
            read(&format!("{head}{method}"))
        };
        let guided = "kind = \"guided\"\ncost = \"a\"\ntarget_speedup = 2\n";
        let turns = "kind = \"ac-dc\"\nsparsity = 90\n";
        for (method, field, found) in [
            ("kind = \"gradual\"\nsparsity = 90\nend = 51", "end", "51"),
            ("kind = \"gradual\"\nsparsity = 90\nend = 0", "end", "0"),
            (
                "kind = \"gradual\"\nsparsity = 90\nbegin = 60\nend = 70",
                "end",
                "70",
            ),
            ("kind = \"surgery\"\nrate = 1\nend = 100", "end", "100"),
            (&format!("{guided}end = 100"), "end", "100"),
            (
                &format!("{turns}warm_up = 0\ncompressed = 5\ndense = 5\nend = 99"),
                "end",
                "99",
            ),
            (
                &format!("{turns}warm_up = 40\ncompressed = 5\ndense = 5\nend = 40"),
                "warm_up, compressed",
                "40 and 5",
            ),
            (
                &format!("{turns}warm_up = 20\ncompressed = 20\ndense = 5\nend = 40"),
                "warm_up, compressed",
                "20 and 20",
            ),
        ] {
            let error = phase(method).unwrap_err().to_string();
            let kind = method.split('"').nth(1).unwrap();
            let place = format!("phase \"prune\": method {kind:?}: {field}: found {found}");
            assert!(error.contains(&place), "{error}");
            assert!(error.contains("expected"), "{error}");
        }
        for method in [
            "kind = \"gradual\"\nsparsity = 90\nend = 50",
            "kind = \"gradual\"\nsparsity = 90\nbegin = 50\nend = 50",
            "kind = \"surgery\"\nrate = 1\nend = 50",
            &format!("{turns}warm_up = 0\ncompressed = 5\ndense = 5\nend = 50"),
        ] {
            assert!(phase(method).is_ok(), "{method}");
        }
    }

    #[test]
    fn names_are_no_paths() {
        for name in ["/abs/x", "../x", "..", ".hidden", "a/b", ""] {
            let text = TEXT.replace("\"small\"", &format!("{name:?}"));
            let error = read(&text).unwrap_err().to_string();
            let words = format!("name: found {name:?}, expected letters, digits");
            assert!(error.contains(&words), "{error}");
        }
    }

    #[test]
    fn what_is_no_text_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Recipe::read(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("found a folder, expected a recipe (.toml)"),
            "{error}"
        );
        let path = folder.path().join("r.toml");
        std::fs::write(&path, b"name = \"\xff\"").unwrap();
        let error = Recipe::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("found bytes that are no UTF-8 text, expected"),
            "{error}"
        );
    }
}
