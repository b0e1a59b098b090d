//! Every feature of SkimCaffe that is core or secondary has a test, and the test says so: its documentation
//! holds `Checklist` and the numbers of its rows.

use std::path::Path;

/// How much a feature matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    Core,
    Secondary,
    Experimental,
}

/// Where a feature is tested, or why it is not.
#[derive(Clone, Copy, Debug)]
enum Cover {
    /// `file::function`, from the root of the repository.
    Tests(&'static [&'static str]),
    /// Not planned, and why.
    NotPlanned(&'static str),
}

use Class::{Core, Experimental, Secondary};
use Cover::{NotPlanned, Tests};

/// Number, class, feature, tests.
type Row = (usize, Class, &'static str, Cover);

static ROWS: &[Row] = &[
    (
        1,
        Core,
        "prototxt",
        Tests(&[
            "models/caffe/tests/caffe_text.rs::messages_lists_and_separators",
            "models/caffe/tests/caffe_text.rs::enums_by_name_number_and_alias",
            "models/caffe/tests/caffe_files.rs::every_prototxt_of_the_corpus",
        ]),
    ),
    (
        2,
        Core,
        "caffemodel and solverstate, V0 and V1",
        Tests(&[
            "models/caffe/tests/caffe_binary.rs::what_is_written_is_read",
            "models/caffe/tests/caffe_upgrade.rs::v0_layers",
            "models/caffe/tests/caffe_upgrade.rs::v1_layers",
            "models/caffe/tests/caffe_files.rs::solver_states_and_means",
            "tests/cli/tools.rs::upgraded_v0_files_compute_the_same",
            "tests/cli/tools.rs::upgraded_v1_files_compute_the_same",
        ]),
    ),
    (
        3,
        Secondary,
        "HDF5 weights",
        Tests(&["models/caffe/tests/caffe_files.rs::hdf5_weights_equal_their_binary_form"]),
    ),
    (
        4,
        Core,
        "input fields",
        Tests(&["models/caffe/tests/caffe_upgrade.rs::inputs_become_a_layer"]),
    ),
    (
        5,
        Core,
        "phase, stage, level",
        Tests(&[
            "models/caffe/tests/caffe_upgrade.rs::rules_of_phase_level_and_stage",
            "models/caffe/tests/import_wiring.rs::rules_choose_layers",
        ]),
    ),
    (
        6,
        Core,
        "splits, in-place layers, outputs",
        Tests(&[
            "models/caffe/tests/import_wiring.rs::in_place_layers_get_fresh_values_of_the_same_name",
            "models/caffe/tests/import_wiring.rs::results_are_the_blobs_nobody_takes_by_name",
        ]),
    ),
    (
        7,
        Secondary,
        "shared parameters",
        Tests(&[
            "models/caffe/tests/import_weights.rs::shared_parameters_are_one_weight",
            "models/caffe/tests/import_weights.rs::permissive_sharing_reshapes",
        ]),
    ),
    (
        8,
        Core,
        "weights by name",
        Tests(&[
            "models/caffe/tests/import_weights.rs::matched_by_name_and_later_files_win",
            "models/caffe/tests/import_weights.rs::legacy_shapes_have_leading_ones",
        ]),
    ),
    (
        9,
        Core,
        "convolution",
        Tests(&[
            "models/caffe/tests/import_layers.rs::convolution",
            "models/tests/ops_brute_force.rs::convolution_and_deconvolution",
        ]),
    ),
    (
        10,
        Core,
        "convolution, backward",
        Tests(&["trainer/tests/gradients.rs::convolutions"]),
    ),
    (
        11,
        Experimental,
        "convolution of other ranks",
        NotPlanned("experimental in SkimCaffe, where it does not work"),
    ),
    (
        12,
        Secondary,
        "deconvolution",
        Tests(&["models/caffe/tests/import_layers.rs::deconvolution_and_winograd"]),
    ),
    (
        13,
        Core,
        "pooling",
        Tests(&[
            "models/caffe/tests/import_layers.rs::pooling",
            "models/tests/ops_brute_force.rs::pooling",
        ]),
    ),
    (
        14,
        Experimental,
        "stochastic pooling, round_mode",
        Tests(&["models/caffe/tests/import_sequences.rs::stochastic_pooling"]),
    ),
    (
        15,
        Core,
        "inner product",
        Tests(&[
            "models/caffe/tests/import_layers.rs::inner_product",
            "models/tests/ops_brute_force.rs::inner_product",
        ]),
    ),
    (
        16,
        Core,
        "elementwise functions",
        Tests(&[
            "models/caffe/tests/import_layers.rs::activations",
            "models/caffe/tests/import_layers.rs::prelu",
            "models/caffe/tests/import_values.rs::elementwise_functions",
        ]),
    ),
    (
        17,
        Core,
        "LRN",
        Tests(&[
            "models/caffe/tests/import_layers.rs::normalizations",
            "kernels/tests/suite/main.rs::normalisations",
        ]),
    ),
    (
        18,
        Core,
        "BatchNorm, Scale, Bias",
        Tests(&[
            "models/caffe/tests/import_layers.rs::normalizations",
            "models/caffe/tests/import_layers.rs::scale_and_bias",
            "models/tests/ops_passes.rs::folding_keeps_zeros",
        ]),
    ),
    (
        19,
        Core,
        "layers that combine and move",
        Tests(&[
            "models/caffe/tests/import_layers.rs::movers",
            "models/caffe/tests/import_layers.rs::eltwise",
            "models/caffe/tests/import_layers.rs::concat_and_slice",
            "models/caffe/tests/import_values.rs::movements",
            "models/caffe/tests/import_values.rs::choices_and_sums",
        ]),
    ),
    (
        20,
        Core,
        "dropout",
        Tests(&["models/caffe/tests/import_layers.rs::split_silence_and_dropout"]),
    ),
    (
        21,
        Core,
        "softmax and its loss",
        Tests(&["models/caffe/tests/import_layers.rs::losses"]),
    ),
    (
        22,
        Secondary,
        "other losses",
        Tests(&[
            "models/caffe/tests/import_layers.rs::losses_of_three_bottoms",
            "models/caffe/tests/import_values.rs::losses",
        ]),
    ),
    (
        23,
        Core,
        "accuracy",
        Tests(&["models/caffe/tests/import_layers.rs::losses"]),
    ),
    (
        24,
        Secondary,
        "recurrent layers and the like",
        Tests(&[
            "models/caffe/tests/import_sequences.rs::lstm",
            "models/caffe/tests/import_sequences.rs::rnn",
            "models/caffe/tests/import_sequences.rs::embed",
            "models/caffe/tests/import_sequences.rs::pyramids",
            "models/caffe/tests/import_sequences.rs::chosen_images",
            "tests/cli/sequences.rs::python_layers_are_refused_by_name",
        ]),
    ),
    (
        25,
        Core,
        "LMDB and transformations",
        Tests(&[
            "models/data/tests/lmdb.rs::data_bases_of_caffe_list_what_their_tables_say",
            "models/data/tests/feed.rs::records_come_in_order_and_begin_again",
            "models/data/tests/feed.rs::transformations_are_caffes",
        ]),
    ),
    (
        26,
        Secondary,
        "encoded datums, LevelDB",
        Tests(&[
            "tests/cli/convert.rs::encoded_records_hold_files",
            "models/data/tests/feed.rs::encoded_records_are_decoded",
            "models/data/tests/leveldb.rs::records_are_read_without_writing_to_the_folder",
        ]),
    ),
    (
        27,
        Secondary,
        "other sources of data",
        Tests(&[
            "models/data/tests/feed.rs::a_list_of_photographs_gives_the_reference_pixels",
            "models/data/tests/feed.rs::hdf5_samples_give_their_values",
            "models/data/tests/feed.rs::missing_files_are_named",
            "models/caffe/tests/import_layers.rs::data_sources",
            "models/caffe/tests/import_sequences.rs::dummy_data_draws_once",
            "models/caffe/tests/import_sequences.rs::parameters_and_outputs",
        ]),
    ),
    (
        28,
        Core,
        "fillers",
        Tests(&["models/caffe/tests/import_sequences.rs::fillers_make_missing_weights"]),
    ),
    (
        29,
        Core,
        "DIRECT_SCONV",
        Tests(&[
            "models/caffe/tests/import_layers.rs::convolution",
            "kernels/tests/suite/main.rs::conv_layers",
        ]),
    ),
    (
        30,
        Core,
        "sparse convolution of any shape",
        Tests(&[
            "kernels/tests/suite/main.rs::conv_windows",
            "runtime/tests/random_networks.rs::engine_and_interpreter_agree",
        ]),
    ),
    (
        31,
        Core,
        "fused convolutions",
        Tests(&["models/caffe/tests/import_layers.rs::fused_layers"]),
    ),
    (
        32,
        Core,
        "ReLUPooling",
        Tests(&["models/caffe/tests/import_layers.rs::fused_layers"]),
    ),
    (
        33,
        Secondary,
        "LOWERED_CCNMM",
        Tests(&["models/caffe/tests/import_fields.rs::implementation_hints_change_nothing"]),
    ),
    (
        34,
        Core,
        "DIRECT_DCONV",
        Tests(&["models/caffe/tests/import_fields.rs::implementation_hints_change_nothing"]),
    ),
    (
        35,
        Secondary,
        "MKL types",
        Tests(&["models/caffe/tests/import_fields.rs::mkl_types_are_the_plain_ones"]),
    ),
    (
        36,
        Core,
        "SPMDM",
        Tests(&[
            "models/caffe/tests/import_fields.rs::implementation_hints_change_nothing",
            "kernels/tests/suite/main.rs::inner_products",
        ]),
    ),
    (
        37,
        Core,
        "InnerProductReLUDropout",
        Tests(&["models/caffe/tests/import_layers.rs::fused_layers"]),
    ),
    (
        38,
        Experimental,
        "SPGEMM",
        NotPlanned("experimental in SkimCaffe, where it does not work"),
    ),
    (
        39,
        Core,
        "threads and small batches",
        Tests(&[
            "runtime/tests/networks.rs::every_isa_thread_count_and_batch_agrees_with_the_interpreter",
            "tests/cli/main.rs::results_do_not_depend_on_batch_and_threads",
        ]),
    ),
    (
        40,
        Core,
        "report of `test`",
        Tests(&[
            "tests/cli/testing.rs::every_layer_is_accounted_for",
            "tests/cli/testing.rs::the_text_is_the_one_that_caffe_users_know",
        ]),
    ),
    (
        41,
        Secondary,
        "dumps as MatrixMarket",
        Tests(&[
            "tests/cli/tools.rs::weights_are_dumped_as_matrices",
            "tests/cli/dump.rs::matrices_hold_the_weights_bit_for_bit",
        ]),
    ),
    (
        42,
        Secondary,
        "pattern histogram and statistics",
        Tests(&[
            "tests/cli/tools.rs::patterns_and_fibers_are_counted",
            "tests/cli/dump.rs::fibers_and_slices_are_skimcaffes",
            "tests/cli/dump.rs::every_pattern_is_in_the_json",
        ]),
    ),
    (
        43,
        Core,
        "solvers",
        Tests(&["trainer/src/update.rs::rules_by_hand"]),
    ),
    (
        44,
        Core,
        "learning rate policies",
        Tests(&["models/caffe/src/solver/rate.rs::curves"]),
    ),
    (
        45,
        Core,
        "clipping, iter_size, multipliers",
        Tests(&[
            "trainer/tests/cli/solver.rs::gradients_are_clipped_to_a_norm_of_all",
            "trainer/tests/cli/solver.rs::two_batches_of_an_iteration_equal_one_of_both",
        ]),
    ),
    (
        46,
        Core,
        "L1 and L2",
        Tests(&["trainer/src/update.rs::decay_and_thresholds"]),
    ),
    (
        47,
        Core,
        "threshold pruning",
        Tests(&["trainer/src/update.rs::decay_and_thresholds"]),
    ),
    (
        48,
        Experimental,
        "ISTA, DNS",
        Tests(&["trainer/src/update.rs::masks_and_shadows"]),
    ),
    (
        49,
        Secondary,
        "group lasso",
        Tests(&["trainer/src/prune/lasso.rs::norms_of_blocks"]),
    ),
    (
        50,
        Core,
        "connectivity_mode",
        Tests(&["trainer/src/prune/connectivity.rs::masks_of_both_modes"]),
    ),
    (
        51,
        Core,
        "sparsity in the log",
        Tests(&["trainer/src/prune/sparsity.rs::fibers_and_slices"]),
    ),
    (
        52,
        Experimental,
        "L1_Winograd",
        Tests(&["trainer/src/prune/winograd.rs::transforms_and_gradients"]),
    ),
    (
        53,
        Experimental,
        "Winograd layer training",
        Tests(&["trainer/tests/winograd.rs::a_winograd_layer_is_trained_pruned_and_exported"]),
    ),
    (
        54,
        Experimental,
        "sparse Winograd inference",
        NotPlanned("experimental in SkimCaffe, where it does not work"),
    ),
    (
        55,
        Core,
        "snapshots, resume, signals",
        Tests(&[
            "trainer/tests/cli/interruption.rs::killed_runs_go_on_to_the_same_bits",
            "trainer/tests/cli/interruption.rs::signals_snapshot_and_stop",
        ]),
    ),
    (
        56,
        Experimental,
        "data parallel",
        Tests(&["trainer/tests/cli/interruption.rs::killed_runs_go_on_to_the_same_bits"]),
    ),
    (
        57,
        Secondary,
        "GPU",
        Tests(&["trainer/src/cuda/tests.rs::every_layer_agrees_with_the_cpu"]),
    ),
    (
        58,
        Core,
        "command line",
        Tests(&[
            "tests/cli/testing.rs::the_text_is_the_one_that_caffe_users_know",
            "tests/cli/tools.rs::a_definition_is_timed",
            "tests/cli/tools.rs::the_machine_is_described",
        ]),
    ),
    (
        59,
        Core,
        "tools for data sets",
        Tests(&[
            "tests/cli/convert.rs::pictures_become_records_in_the_order_of_the_list",
            "tests/cli/convert.rs::sizes_gray_and_crop_are_those_asked_for",
            "tests/cli/convert.rs::the_mean_of_a_real_data_base_is_the_one_beside_it",
            "tests/cli/convert.rs::features_are_those_that_run_writes",
            "tests/cli/tools.rs::old_files_are_upgraded",
            "tests/cli/tools.rs::upgraded_v0_files_compute_the_same",
            "tests/cli/tools.rs::upgraded_v1_files_compute_the_same",
        ]),
    ),
    (
        60,
        Core,
        "training scripts and plots",
        Tests(&["trainer/tests/cli/quick.rs::a_network_is_pruned_fine_tuned_and_drawn"]),
    ),
    (
        61,
        Secondary,
        "net surgery",
        Tests(&["tests/cli/main.rs::inspect_counts_what_a_threshold_zeroes"]),
    ),
    (
        62,
        Secondary,
        "Python interface",
        NotPlanned("not pycaffe's classes: docs/PYTHON.md is another one, tested by python/tests"),
    ),
    (
        63,
        Experimental,
        "MATLAB interface",
        NotPlanned("nobody asked for it"),
    ),
    (
        64,
        Secondary,
        "benchmarks on MatrixMarket files",
        Tests(&[
            "tests/cli/main.rs::bench_takes_a_matrix_market_file",
            "tests/cli/main.rs::bench_sweeps_sparsities",
        ]),
    ),
    (
        65,
        Core,
        "model zoo",
        Tests(&[
            "models/caffe/tests/zoo_layers.rs::totals_are_the_published_ones",
            "models/caffe/tests/zoo_layers.rs::every_layer_is_that_of_the_specification",
        ]),
    ),
];

/// Core and secondary rows that may be without a test for now.
const EXCUSED: &[usize] = &[62];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Documentation and attributes before a function.
fn heading(source: &str, function: &str) -> Option<String> {
    let lines: Vec<&str> = source.lines().collect();
    let start = format!("fn {function}(");
    let at = lines
        .iter()
        .position(|line| line.trim_start().starts_with(&start))?;
    let is_heading =
        |line: &&&str| line.trim_start().starts_with("///") || line.trim_start().starts_with("#[");
    let above = lines[..at].iter().rev().take_while(is_heading);
    Some(above.copied().collect::<Vec<_>>().join("\n"))
}

/// Numbers behind `Checklist` in a heading.
fn tagged(heading: &str) -> Vec<usize> {
    let Some((_, numbers)) = heading.split_once("Checklist ") else {
        return Vec::new();
    };
    let numbers = numbers
        .trim_start_matches("rows ")
        .trim_start_matches("row ");
    let end = numbers.find(|c: char| !c.is_ascii_digit() && c != ',' && c != ' ');
    let numbers = &numbers[..end.unwrap_or(numbers.len())];
    numbers
        .split(',')
        .filter_map(|number| number.trim().parse().ok())
        .collect()
}

#[test]
fn every_row_has_tests_that_name_it() {
    let mut faults = Vec::new();
    for (number, class, feature, cover) in ROWS {
        let matters = *class != Experimental;
        match cover {
            Tests([]) => faults.push(format!("row {number} ({feature}) lists no test")),
            Tests(tests) => faults.extend(tests.iter().filter_map(|test| fault(*number, test))),
            NotPlanned(reason) if matters && !EXCUSED.contains(number) => {
                faults.push(format!("row {number} ({feature}) is not planned: {reason}"));
            }
            NotPlanned(reason) => println!("not planned: row {number} ({feature}): {reason}"),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn fault(number: usize, test: &str) -> Option<String> {
    let (file, function) = test.split_once("::")?;
    let Ok(source) = std::fs::read_to_string(root().join(file)) else {
        return Some(format!("row {number}: no file {file}"));
    };
    match heading(&source, function) {
        None => Some(format!("row {number}: no function {function} in {file}")),
        Some(heading) if !tagged(&heading).contains(&number) => Some(format!(
            "row {number}: {test} does not say \"Checklist {number}\""
        )),
        // Functions of proptest! and of macros are tests too.
        Some(_) => None,
    }
}

#[test]
fn tags_are_read() {
    assert_eq!(
        tagged("/// Text.\n///\n/// Checklist 3, 14.\n#[test]"),
        [3, 14]
    );
    assert_eq!(tagged("/// Checklist 7: why."), [7]);
    assert_eq!(tagged("/// Checklist rows 8, 9: why."), [8, 9]);
    assert_eq!(tagged("#[test]"), [0; 0]);
    let source = "/// Checklist 1.\n#[test]\nfn a() {}\nfn b() {}";
    assert!(heading(source, "a").is_some_and(|h| tagged(&h) == [1]));
    assert_eq!(heading(source, "b").as_deref(), Some(""));
    assert_eq!(heading(source, "c"), None);
}
