//! Weights that an artifact stores by their non-zeros go to their kernels as they are.

use skimjit::{CompileOptions, Engine, LoadOptions, Model, Tensor};
use std::path::Path;

#[test]
fn no_weight_is_made_dense_on_its_way_to_a_kernel() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/demo/lenet.skim");
    let model = Model::load(&path, &LoadOptions::default()).unwrap();
    let sparse = |model: &Model| {
        let weights = model.graph().weights.iter();
        weights.filter(|weight| weight.stayed_sparse()).count()
    };
    let before = sparse(&model);
    assert!(before >= 3, "{before} sparse weights");
    let engine = model.compile(&CompileOptions::default()).unwrap();
    let mut session = engine.session();
    let shape = model.graph().shape(model.graph().inputs[0]).clone();
    engine.run(&mut session, &[Tensor::zeros(shape)]).unwrap();
    assert_eq!(sparse(&model), before);
    // Kernels have packed them.
    let elements = |engine: &Engine| {
        let weights = engine.graph().weights.iter();
        weights.filter(|weight| weight.elements().is_some()).count()
    };
    assert_eq!(elements(&engine), 0);
    let options = CompileOptions {
        keep_weights: true,
        ..CompileOptions::default()
    };
    assert_eq!(elements(&model.compile(&options).unwrap()), before);
    // Who asks for all elements gets them.
    let weights = &model.graph().weights;
    let zeros = weights.iter().flat_map(|weight| weight.data());
    assert!(zeros.filter(|value| **value == 0.0).count() > 1000);
    assert_eq!(sparse(&model), 0);
}
