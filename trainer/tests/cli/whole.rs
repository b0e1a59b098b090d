//! Files appear whole or not at all, where there is no room for them.

use crate::support::{Outcome, Workplace, outcome};
use std::process::Command;

/// A command for whose files there is room for `blocks` of 512 bytes each.
fn with_room(place: &Workplace, blocks: u32, arguments: &[&str]) -> Outcome {
    let program = place.command(&[]);
    let mut command = Command::new("sh");
    // Writing beyond the limit is an error instead of a signal.
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(program.get_program());
    command.args(arguments).current_dir(place.path("."));
    outcome(command.output().unwrap())
}

#[test]
fn without_room_old_files_stay() {
    const OLD: &str = "OLD CONTENTS";
    let place = Workplace::with_tiny_network();
    place.solver("max_iter: 2 snapshot: 2 test_interval: 2 snapshot_prefix: \"old\"");
    let train = ["train", "--solver", "solver.prototxt", "--quiet"];
    place.run(&[&train[..], &["--log", "run"]].concat());
    for (file, blocks, command) in [
        ("n.prototxt", 0, "net lenet -o n.prototxt"),
        ("p.svg", 1, "plot run -o p"),
        (
            "old_iter_2.caffemodel",
            1,
            "train --solver solver.prototxt --quiet",
        ),
    ] {
        place.write(file, OLD);
        let before = place.files(".");
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let result = with_room(&place, blocks, &arguments);
        let said = &result.stderr;
        assert_eq!(result.code, Some(3), "{command}: {said}");
        assert!(
            said.contains(file) && said.contains("writing"),
            "{command}: {said}"
        );
        let kept = std::fs::read_to_string(place.path(file)).unwrap();
        assert_eq!(kept, OLD, "{command}");
        assert_eq!(place.files("."), before, "{command}");
    }
}
