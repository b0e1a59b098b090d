//! Runs a whole graph with the references of its ops: the oracle.

use crate::{Error, Graph, Result, Tensor, TensorRef, ValueId};

/// Computes every value of the graph, indexed by [`ValueId`].
pub fn run(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let values = execute(graph, inputs, &vec![usize::MAX; graph.values.len()])?;
    let missing = |id: usize| {
        Error::new(format!(
            "value {id} ({}) that nothing computes",
            graph.values[id].name
        ))
    };
    values
        .into_iter()
        .enumerate()
        .map(|(id, value)| value.ok_or_else(|| missing(id)))
        .collect()
}

/// Computes `graph.outputs`, in that order. Keeps each other value only as long as it is needed.
pub fn run_outputs(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    graph.check()?;
    let mut last_use = vec![0; graph.values.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        for id in &node.inputs {
            last_use[id.0 as usize] = index;
        }
    }
    for id in &graph.outputs {
        last_use[id.0 as usize] = usize::MAX;
    }
    let values = execute(graph, inputs, &last_use)?;
    let output = |id: &ValueId| values[id.0 as usize].clone();
    graph
        .outputs
        .iter()
        .map(|id| output(id).ok_or_else(|| Error::new("no output")))
        .collect()
}

/// Runs all nodes; drops each value after the node numbered `last_use[value]`.
fn execute(graph: &Graph, inputs: &[Tensor], last_use: &[usize]) -> Result<Vec<Option<Tensor>>> {
    graph.check()?;
    check_inputs(graph, inputs)?;
    let mut values: Vec<Option<Tensor>> = vec![None; graph.values.len()];
    for (id, input) in graph.inputs.iter().zip(inputs) {
        values[id.0 as usize] = Some(input.clone());
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        let operand = |id: &ValueId| values[id.0 as usize].as_ref().map(Tensor::view);
        let operands: Option<Vec<TensorRef<'_>>> = node.inputs.iter().map(operand).collect();
        let operands = operands.ok_or_else(|| {
            Error::new("an operand that is not computed").layer(node.name.clone())
        })?;
        let shapes: Vec<_> = operands.iter().map(|operand| operand.shape).collect();
        let shape = node
            .op
            .infer_shape(&shapes, &graph.weights)
            .map_err(|error| error.layer(node.name.clone()))?;
        let mut output = Tensor::zeros(shape.clone());
        node.op
            .evaluate(&operands, &graph.weights, &shape, output.data_mut());
        values[node.output.0 as usize] = Some(output);
        for id in node
            .inputs
            .iter()
            .filter(|id| last_use[id.0 as usize] == index)
        {
            values[id.0 as usize] = None;
        }
    }
    Ok(values)
}

fn check_inputs(graph: &Graph, inputs: &[Tensor]) -> Result<()> {
    if inputs.len() != graph.inputs.len() {
        return Err(Error::new(format!("{} inputs", inputs.len()))
            .expected(format!("{}, the inputs of the network", graph.inputs.len())));
    }
    for (&id, input) in graph.inputs.iter().zip(inputs) {
        if graph.shape(id) != input.shape() {
            return Err(Error::new(format!("shape {}", input.shape()))
                .field(format!("input {:?}", graph.value(id).name))
                .expected(graph.shape(id).to_string()));
        }
    }
    Ok(())
}
