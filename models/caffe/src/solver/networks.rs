//! The networks that a solver definition names.

use super::SolverDefinition;
use super::field::fault;
use crate::Phase;
use crate::definition::Definition;
use crate::filter::merge;
use crate::paths;
use crate::proto::{NetParameter, NetState};
use skimjit_models::{Care, Result, Warning};

/// All networks of a solver, in their states.
#[derive(Clone, Debug)]
pub struct Networks {
    /// To train.
    pub train: Definition,
    /// To test.
    pub tests: Vec<Definition>,
}

impl SolverDefinition {
    /// Reads the networks that it names. What is odd about their files is told once.
    pub fn networks(&self, care: Care, tell: &mut dyn FnMut(&Warning)) -> Result<Networks> {
        let mut told: Vec<Warning> = Vec::new();
        let mut once = |warning: &Warning| {
            if !told.contains(warning) {
                told.push(warning.clone());
                tell(warning);
            }
        };
        let reader = &mut Reader {
            from: self,
            care,
            tell: &mut once,
        };
        let solver = &self.solver;
        let generic = reader.one_of(&solver.net, &solver.net_param, "net")?;
        let own = reader.one_of(&solver.train_net, &solver.train_net_param, "train_net")?;
        let net = match (&generic, own) {
            (Some(_), Some(_)) => {
                return Err(fault("net", "net and train_net".to_owned()).expected("one of them"));
            }
            (Some(net), None) => net.clone(),
            (None, Some(net)) => net,
            (None, None) => {
                let nothing = fault("net", "nothing".to_owned());
                return Err(nothing.expected("the prototxt of the network"));
            }
        };
        let train = in_state(net, Phase::Train, solver.train_state.as_ref());
        let tests = reader.tests(generic)?;
        Ok(Networks { train, tests })
    }
}

/// The state that a phase has, and what the solver says over it.
fn in_state(net: Definition, phase: Phase, over: Option<&NetState>) -> Definition {
    let phase = NetState {
        phase: Some(phase as i32),
        ..NetState::default()
    };
    let over = over.cloned().unwrap_or_default();
    net.in_state(merge(Some(&phase), &over))
}

/// Reads the definitions that a solver names.
struct Reader<'a> {
    from: &'a SolverDefinition,
    care: Care,
    tell: &'a mut dyn FnMut(&Warning),
}

impl Reader<'_> {
    fn tests(&mut self, generic: Option<Definition>) -> Result<Vec<Definition>> {
        let solver = &self.from.solver;
        let mut nets: Vec<Definition> = Vec::new();
        for net in &solver.test_net_param {
            nets.push(self.inline(net)?);
        }
        for net in &solver.test_net {
            nets.push(self.read(net)?);
        }
        let wanted = solver.test_iter.len();
        let expected = match generic {
            Some(net) => {
                let missing = wanted.saturating_sub(nets.len());
                nets.extend(std::iter::repeat_n(net, missing));
                "one per test network at least"
            }
            None => "one per test network",
        };
        if nets.len() != wanted {
            let found = format!("{wanted} values for {} test networks", nets.len());
            return Err(fault("test_iter", found).expected(expected));
        }
        let states = &solver.test_state;
        if !states.is_empty() && states.len() != wanted {
            let expected = format!("{wanted}, as there are values of test_iter, or none");
            let found = format!("{} of them", states.len());
            return Err(fault("test_state", found).expected(expected));
        }
        let test = |(index, net)| in_state(net, Phase::Test, states.get(index));
        Ok(nets.into_iter().enumerate().map(test).collect())
    }

    /// The network of a field with a path, or of the one with the definition itself.
    fn one_of(
        &mut self,
        path: &Option<String>,
        inline: &Option<NetParameter>,
        field: &str,
    ) -> Result<Option<Definition>> {
        let path = path.as_deref().filter(|path| !path.is_empty());
        match (path, inline) {
            (Some(_), Some(_)) => {
                Err(fault(field, format!("{field} and {field}_param")).expected("one of them"))
            }
            (Some(path), None) => {
                let net = self.read(path).map_err(|error| error.field(field));
                net.map(Some)
            }
            (None, Some(net)) => self.inline(net).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn inline(&self, net: &NetParameter) -> Result<Definition> {
        Definition::new(net.clone(), &self.from.file)
    }

    fn read(&mut self, path: &str) -> Result<Definition> {
        let path = paths::find(path, self.from.folder());
        Definition::read(&path, self.care, self.tell)
    }
}
