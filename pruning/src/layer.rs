//! What is pruned: weights of layers.

use skimjit_models::{Error, Result};

/// The weights of a layer of which some may become zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Name of the layer.
    pub name: String,
    /// Name of the parameter, which what is saved goes by.
    pub parameter: String,
    /// Dims: oc, ic / groups, kh, kw of a convolution; outputs, inputs of an inner product.
    pub dims: Vec<usize>,
    /// Groups of a convolution, else 1.
    pub groups: usize,
    /// Output channels can share positions: a convolution.
    pub has_positions: bool,
}

impl Layer {
    /// Number of weights.
    pub fn count(&self) -> usize {
        self.dims.iter().product()
    }
}

#[cfg(test)]
impl Layer {
    /// A convolution where there are four dims, else an inner product.
    pub fn of(name: &str, dims: &[usize]) -> Self {
        Self {
            name: name.to_owned(),
            parameter: format!("{name}[0]"),
            dims: dims.to_vec(),
            groups: 1,
            has_positions: dims.len() == 4,
        }
    }
}

/// Indices of the layers that `field` names, or of all where it names none.
pub fn chosen(layers: &[Layer], names: &[String], field: &str) -> Result<Vec<usize>> {
    let known = || layers.iter().map(|layer| layer.name.as_str());
    if let Some(missing) = names.iter().find(|name| !known().any(|one| one == **name)) {
        let known: Vec<&str> = known().collect();
        return Err(Error::new(format!("layer {missing:?}"))
            .field(field)
            .expected(format!("layers with weights: {}", known.join(", "))));
    }
    let named = |index: &usize| names.is_empty() || names.contains(&layers[*index].name);
    Ok((0..layers.len()).filter(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_are_not_there_are_refused() {
        let layers = [Layer::of("a", &[2, 2]), Layer::of("b", &[2, 2])];
        let named = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            chosen(&layers, &names, "layers")
        };
        assert_eq!(named(&[]).unwrap(), [0, 1]);
        assert_eq!(named(&["b"]).unwrap(), [1]);
        let error = named(&["c"]).unwrap_err().to_string();
        assert!(error.contains("layers with weights: a, b"), "{error}");
    }
}
