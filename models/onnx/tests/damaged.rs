//! Damaged and hostile models: each is refused by one line that says where and what.

mod support;

use prost::Message;
use skimjit_onnx::proto::*;
use support::Attribute::{Float, Int, Ints, Text};
use support::{attribute, error, floats, import, import_bytes, info, ints, model, node};

/// x → Conv → Relu → y.
fn whole() -> ModelProto {
    let conv = node(
        "Conv",
        &["x", "w", "b"],
        &["c"],
        &[attribute("pads", Ints(&[1; 4]))],
    );
    let relu = node("Relu", &["c"], &["y"], &[]);
    model(GraphProto {
        node: vec![conv, relu],
        initializer: vec![
            floats("w", &[4, 3, 3, 3], &[0.5; 108]),
            floats("b", &[4], &[0.25; 4]),
        ],
        input: vec![info("x", &[0, 3, 8, 8])],
        output: vec![info("y", &[0, 4, 8, 8])],
        ..GraphProto::default()
    })
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

fn tensor(model: &mut ModelProto, index: usize) -> &mut TensorProto {
    &mut graph(model).initializer[index]
}

/// One attribute of the convolution instead of its pads.
fn conv_with(model: &mut ModelProto, attributes: &[AttributeProto]) {
    graph(model).node[0].attribute = attributes.to_vec();
}

/// Puts a node between the convolution and the end.
fn relu_becomes(model: &mut ModelProto, node: NodeProto) {
    graph(model).node[1] = node;
}

type Damage = fn(&mut ModelProto);

#[test]
fn the_whole_model_is_read() {
    let imported = import(&whole()).unwrap();
    assert!(imported.warnings.is_empty(), "{:?}", imported.warnings);
    assert_eq!(
        imported
            .graph
            .with_batch(7)
            .unwrap()
            .shape(imported.graph.outputs[0])
            .dim(0),
        7
    );
}

#[rustfmt::skip]
const DAMAGES: &[(&str, Damage, &[&str])] = &[
    ("no graph", |m| m.graph = None, &["no graph"]),
    ("old format", |m| m.ir_version = Some(2), &["ir_version", "3 to 14"]),
    ("newer format", |m| m.ir_version = Some(99), &["ir_version", "99"]),
    ("no version of the format", |m| m.ir_version = None, &["ir_version"]),
    ("no operators", |m| m.opset_import.clear(), &["opset_import", "6 to 28"]),
    ("old operators", |m| m.opset_import[0].version = Some(5), &["opset_import", "version 5"]),
    ("newer operators", |m| m.opset_import[0].version = Some(i64::MAX), &["opset_import"]),
    ("no outputs", |m| graph(m).output.clear(), &["without outputs"]),
    ("an output that nothing makes", |m| graph(m).output[0].name = Some("z".into()), &["output \"z\"", "nothing that makes"]),
    ("a circle", |m| graph(m).node[0].input[0] = "y".into(), &["its own result", "circles"]),
    ("a node that reads itself", |m| graph(m).node[1].input[0] = "y".into(), &["its own result"]),
    ("missing initializer", |m| { graph(m).initializer.remove(0); }, &["input[1]", "nothing that makes \"w\""]),
    ("missing operand", |m| { graph(m).node[0].input.truncate(1); }, &["Conv.input[1]", "found nothing"]),
    ("empty operand", |m| graph(m).node[0].input[1].clear(), &["Conv.input[1]", "found nothing"]),
    ("two initializers of one name", |m| { let w = tensor(m, 0).clone(); graph(m).initializer.push(w); }, &["initializer \"w\"", "two"]),
    ("an initializer without a name", |m| tensor(m, 0).name = None, &["without a name"]),
    ("two nodes make one name", |m| { let relu = graph(m).node[1].clone(); graph(m).node.push(relu); }, &["second thing named \"y\""]),
    ("a node makes the input", |m| graph(m).node[1].output[0] = "x".into(), &["second thing named \"x\""]),
    ("a node makes an initializer", |m| graph(m).node[1].output[0] = "w".into(), &["second thing named \"w\""]),
    ("two inputs of one name", |m| { let x = graph(m).input[0].clone(); graph(m).input.push(x); }, &["two inputs \"x\""]),
    ("too few elements", |m| tensor(m, 0).raw_data = Some(vec![0; 8].into()), &["initializer \"w\".raw_data", "8 bytes", "432"]),
    ("too many elements", |m| tensor(m, 1).raw_data = Some(vec![0; 20].into()), &["initializer \"b\".raw_data", "20 bytes"]),
    ("wrong dims", |m| tensor(m, 0).dims = vec![4, 3, 3, 4], &["initializer \"w\".raw_data", "576"]),
    ("negative dims", |m| tensor(m, 0).dims = vec![4, -3, 3, 3], &["initializer \"w\".dims", "-3"]),
    ("dims of 2^63", |m| tensor(m, 0).dims = vec![i64::MAX], &["initializer \"w\".dims"]),
    ("dims whose product overflows", |m| tensor(m, 0).dims = vec![1 << 31, 1 << 31, 4], &["initializer \"w\".dims", "elements"]),
    ("too many axes", |m| tensor(m, 0).dims = vec![1; 40], &["initializer \"w\".dims", "40 axes"]),
    ("elements twice", |m| tensor(m, 1).float_data = vec![1.0; 4], &["initializer \"b\"", "raw and typed"]),
    ("no elements", |m| tensor(m, 1).raw_data = None, &["initializer \"b\".float_data", "0 elements", "4"]),
    ("another list of elements", |m| { let b = tensor(m, 1); b.raw_data = None; b.int32_data = vec![1; 4]; }, &["initializer \"b\""]),
    ("strings", |m| tensor(m, 1).data_type = Some(8), &["initializer \"b\".data_type", "string"]),
    ("an element type that there is not", |m| tensor(m, 1).data_type = Some(77), &["initializer \"b\"", "77"]),
    ("no element type", |m| tensor(m, 1).data_type = None, &["initializer \"b\".data_type", "undefined"]),
    ("integers as weights", |m| *tensor(m, 0) = ints("w", &[4, 3, 3, 3], &[1; 108]), &["Conv.input[1]", "floats"]),
    ("a part of a tensor", |m| tensor(m, 0).segment = Some(vec![8, 1].into()), &["initializer \"w\".segment"]),
    ("elements elsewhere, in memory", |m| external(tensor(m, 0), "w.bin"), &["initializer \"w\".external_data", "path"]),
    ("elements somewhere", |m| tensor(m, 0).data_location = Some(7), &["initializer \"w\".data_location", "7"]),
    ("a bias of another length", |m| *tensor(m, 1) = floats("b", &[5], &[0.0; 5]), &["Conv.input[2]", "dims 5", "expected 4"]),
    ("a bias of another shape", |m| tensor(m, 1).dims = vec![1, 4], &["Conv.input[2]"]),
    ("weights of other channels", |m| *tensor(m, 0) = floats("w", &[4, 2, 3, 3], &[0.0; 72]), &["Conv.input[1]"]),
    ("weights of two axes", |m| *tensor(m, 0) = floats("w", &[4, 3], &[0.0; 12]), &["Conv.input[1]", "4 axes"]),
    ("a kernel_shape that is not the weights'", |m| conv_with(m, &[attribute("kernel_shape", Ints(&[5, 5]))]), &["Conv.kernel_shape"]),
    ("groups that do not divide", |m| conv_with(m, &[attribute("group", Int(2))]), &["Conv.group"]),
    ("no groups", |m| conv_with(m, &[attribute("group", Int(0))]), &["Conv.group"]),
    ("negative groups", |m| conv_with(m, &[attribute("group", Int(-1))]), &["Conv.group"]),
    ("strides of zero", |m| conv_with(m, &[attribute("strides", Ints(&[0, 1]))]), &["Conv.strides"]),
    ("strides of three axes", |m| conv_with(m, &[attribute("strides", Ints(&[1, 1, 1]))]), &["Conv.strides", "3 numbers"]),
    ("negative pads", |m| conv_with(m, &[attribute("pads", Ints(&[-1, 0, 0, 0]))]), &["Conv.pads", "-1"]),
    ("huge pads", |m| conv_with(m, &[attribute("pads", Ints(&[1 << 40, 0, 0, 0]))]), &["Conv.pads"]),
    ("huge dilations", |m| conv_with(m, &[attribute("dilations", Ints(&[1 << 31, 1]))]), &["Conv.dilations"]),
    ("a kernel larger than the input", |m| conv_with(m, &[attribute("dilations", Ints(&[99, 1]))]), &["Conv"]),
    ("pads twice", |m| conv_with(m, &[attribute("auto_pad", Text("SAME_UPPER")), attribute("pads", Ints(&[1; 4]))]), &["Conv.pads", "auto_pad"]),
    ("an auto_pad that there is not", |m| conv_with(m, &[attribute("auto_pad", Text("MIRROR"))]), &["Conv.auto_pad", "MIRROR"]),
    ("an unknown attribute", |m| conv_with(m, &[attribute("activation", Text("Relu"))]), &["Conv.activation", "unknown attribute"]),
    ("an attribute twice", |m| conv_with(m, &[attribute("group", Int(1)), attribute("group", Int(1))]), &["Conv.group", "twice"]),
    ("an attribute of another type", |m| conv_with(m, &[attribute("group", Float(1.0))]), &["Conv.group", "FLOAT"]),
    ("a reference to an attribute", |m| { conv_with(m, &[attribute("group", Int(1))]); graph(m).node[0].attribute[0].ref_attr_name = Some("g".into()); }, &["Conv.group", "function"]),
    ("an unknown operator", |m| graph(m).node[1].op_type = Some("Frobnicate".into()), &["Frobnicate", "not known"]),
    ("no operator", |m| graph(m).node[1].op_type = None, &["not known"]),
    ("an unknown domain", |m| graph(m).node[1].domain = Some("com.example".into()), &["com.example.Relu"]),
    ("a function", |m| { m.functions.push(FunctionProto { name: Some("Relu".into()), ..Default::default() }); }, &["function"]),
    ("a graph inside", |m| { let mut inside = attribute("body", Int(0)); inside.g = Some(vec![].into()); relu_becomes(m, node("Loop", &["c"], &["y"], &[inside])); }, &["Loop", "graph inside"]),
    ("an open size", |m| graph(m).input[0] = info("x", &[0, 3, 0, 8]), &["input \"x\"", "axis 2 (batch)", "--input-shape x="]),
    ("no shape", |m| graph(m).input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape = None, &["input \"x\"", "no shape"]),
    ("no type", |m| graph(m).input[0].r#type = None, &["input \"x\"", "no tensor"]),
    ("an input of integers", |m| graph(m).input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = Some(7), &["input \"x\"", "int64"]),
    ("a huge input", |m| graph(m).input[0] = info("x", &[0, 3, 1 << 20, 1 << 20]), &["input \"x\"", "elements"]),
    ("sizes of 2^63", |m| graph(m).input[0] = info("x", &[0, 3, 8, i64::MAX]), &["input \"x\""]),
    ("an input of many axes", |m| graph(m).input[0] = info("x", &[1; 30]), &["input \"x\"", "30 axes"]),
    ("weights that are computed", |m| { graph(m).node[0].input[1] = "x".into(); }, &["Conv.input[1]", "computes"]),
    ("a reshape to nothing", |m| { graph(m).initializer.push(ints("s", &[1], &[0])); relu_becomes(m, node("Reshape", &["c", "s"], &["y"], &[])); }, &["Reshape.shape"]),
    ("a reshape with two rests", |m| { graph(m).initializer.push(ints("s", &[2], &[-1, -1])); relu_becomes(m, node("Reshape", &["c", "s"], &["y"], &[])); }, &["Reshape.shape"]),
    ("a reshape of 2^62", |m| { graph(m).initializer.push(ints("s", &[2], &[0, 1 << 62])); relu_becomes(m, node("Reshape", &["c", "s"], &["y"], &[])); }, &["Reshape"]),
    ("a split into other sizes", |m| { graph(m).initializer.push(ints("s", &[2], &[1, 1])); relu_becomes(m, node("Split", &["c", "s"], &["y", "z"], &[attribute("axis", Int(1))])); }, &["Split.split"]),
    ("an axis that there is not", |m| relu_becomes(m, node("Softmax", &["c"], &["y"], &[attribute("axis", Int(9))])), &["Softmax.axis", "9"]),
    ("a constant of 2^40 elements", |m| { graph(m).initializer.push(ints("s", &[2], &[1 << 20, 1 << 20])); let made = node("ConstantOfShape", &["s"], &["k"], &[]); graph(m).node.push(made); relu_becomes(m, node("Add", &["c", "k"], &["y"], &[])); }, &["ConstantOfShape"]),
    ("a tile of 2^40", |m| { graph(m).initializer.push(ints("s", &[4], &[1, 1 << 40, 1, 1])); relu_becomes(m, node("Tile", &["c", "s"], &["y"], &[])); }, &["Tile"]),
    ("a range without end", |m| { graph(m).initializer.extend([ints("a", &[], &[0]), ints("e", &[], &[i64::MAX]), ints("d", &[], &[1])]); let made = node("Range", &["a", "e", "d"], &["k"], &[]); graph(m).node.push(made); relu_becomes(m, node("Add", &["c", "k"], &["y"], &[])); }, &["Range"]),
    ("an int8 of 300", |m| { let mut s = ints("s", &[1], &[]); s.data_type = Some(3); s.int32_data = vec![300]; graph(m).initializer.push(s); relu_becomes(m, node("Reshape", &["c", "s"], &["y"], &[])); }, &["initializer \"s\"", "300", "-128 to 127"]),
    ("a double that is too large", |m| { let b = tensor(m, 1); b.raw_data = None; b.data_type = Some(11); b.double_data = vec![1e300; 4]; }, &["initializer \"b\"", "single floats"]),
    ("a constant expanded to 2^31 elements", |m| { graph(m).initializer.extend([floats("k", &[1], &[1.0]), ints("s", &[4], &[1, 4, 1 << 14, 1 << 15])]); let made = node("Expand", &["k", "s"], &["e"], &[]); graph(m).node.push(made); relu_becomes(m, node("Add", &["c", "e"], &["y"], &[])); }, &["Expand", "memory"]),
    ("integers broadcast to 2^40", |m| { graph(m).initializer.extend([ints("n", &[1], &[1 << 20]), ints("o", &[2], &[1 << 20, 1])]); let nodes = [node("ConstantOfShape", &["n"], &["f"], &[whole_number()]), node("ConstantOfShape", &["o"], &["g"], &[whole_number()]), node("Mul", &["f", "g"], &["h"], &[])]; graph(m).node.extend(nodes); relu_becomes(m, node("Reshape", &["c", "h"], &["y"], &[])); }, &["Mul", "memory"]),
    ("statistics of the batch", |m| { let b = ["b"; 4]; relu_becomes(m, node("BatchNormalization", &["c", b[0], b[1], b[2], b[3]], &["y"], &[attribute("training_mode", Int(1))])); }, &["BatchNormalization.training_mode"]),
];

/// What a ConstantOfShape repeats: an integer.
fn whole_number() -> AttributeProto {
    let mut value = attribute("value", Int(0));
    value.t = Some(ints("", &[1], &[1]));
    value.i = None;
    value.set_type(attribute_proto::AttributeType::Tensor);
    value
}

fn external(tensor: &mut TensorProto, location: &str) {
    tensor.raw_data = None;
    tensor.data_location = Some(1);
    tensor.external_data = vec![StringStringEntryProto {
        key: Some("location".to_owned()),
        value: Some(location.to_owned()),
    }];
}

#[test]
fn each_damage_is_named_in_one_line() {
    assert!(DAMAGES.len() >= 60, "{}", DAMAGES.len());
    for (name, damage, words) in DAMAGES {
        let mut model = whole();
        damage(&mut model);
        let found = skimjit_host::memory::within(Some(1 << 30), || error(&model));
        let text = found.to_string();
        assert!(
            !text.contains('\n') && text.contains("test.onnx"),
            "{name}: {text}"
        );
        for word in *words {
            assert!(text.contains(word), "{name}: no {word:?} in: {text}");
        }
    }
}

#[test]
fn all_nodes_that_cannot_be_read_are_named_at_once() {
    let mut model = whole();
    conv_with(&mut model, &[attribute("group", Int(2))]);
    let made = [
        node("Foo", &["x"], &["f"], &[]),
        node("Relu", &["f"], &["g"], &[]),
        node("Relu", &["g"], &["h"], &[attribute("slope", Int(2))]),
        node("Bar", &["h"], &["z"], &[]),
    ];
    graph(&mut model).node.extend(made);
    graph(&mut model).output.push(info("z", &[0]));
    let text = error(&model).to_string();
    for words in ["4 nodes", "Conv.group", "(Foo)", "Relu.slope", "(Bar)"] {
        assert!(text.contains(words), "no {words} in {text}");
    }
    // Of the first Relu nothing is wrong but its operand, which is said already.
    assert!(!text.contains("g_Relu"), "{text}");
}

#[test]
fn what_is_cut_short_is_refused() {
    let bytes = whole().encode_to_vec();
    for length in 0..bytes.len() {
        // A cut between two fields of the model is a model without them.
        let cut = import_bytes(bytes[..length].to_vec());
        assert!(cut.is_err(), "{length} bytes of {}", bytes.len());
    }
}

#[test]
fn changed_bytes_never_panic() {
    let bytes = whole().encode_to_vec();
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            let _ = import_bytes(changed);
        }
    }
}

#[test]
fn unknown_fields_are_refused_by_number() {
    let mut bytes = whole().encode_to_vec();
    bytes.extend([0xf8, 0x07, 1]);
    let text = import_bytes(bytes).unwrap_err().to_string();
    assert!(
        text.contains("unknown field 127") && text.contains("ModelProto"),
        "{text}"
    );
}

#[test]
fn many_empty_messages_cannot_take_the_memory() {
    let graph = [0x0a, 0x00].repeat(1 << 20);
    let mut bytes = vec![0x08, 10, 0x3a];
    prost::encoding::encode_varint(graph.len() as u64, &mut bytes);
    bytes.extend(graph);
    let result = skimjit_host::memory::within(Some(64 << 20), || import_bytes(bytes));
    let text = result.unwrap_err().to_string();
    assert!(text.contains("of memory"), "{text}");
}
