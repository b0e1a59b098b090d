//! Processes that end while they write.

use rustix::process::{Pid, Signal, kill_process};
use skimjit_host::{interrupt, whole};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// This test program, as a process that writes a file with and one without a name, and a folder, and waits.
#[test]
#[ignore = "the child of other tests"]
fn child() {
    let folder = std::env::var_os("FOLDER").unwrap();
    let folder = Path::new(&folder);
    interrupt::clean_up_on_signals().unwrap();
    if std::env::var_os("PATIENT").is_some() {
        interrupt::be_patient();
    }
    let base = whole::Folder::create(&folder.join("base")).unwrap();
    std::fs::write(base.path().join("data"), "half").unwrap();
    let wait = || -> std::io::Result<()> {
        println!("\nready");
        loop {
            std::thread::park();
        }
    };
    let both = whole::write_with(&folder.join("nameless"), |out| {
        out.write_all(b"half")?;
        out.flush()?;
        whole::write_by_name(&folder.join("named"), |part| {
            std::fs::write(part, "half")?;
            wait()
        })
    });
    both.unwrap();
}

fn start(folder: &Path, patient: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture"]);
    command.env("FOLDER", folder).stdout(Stdio::piped());
    if patient {
        command.env("PATIENT", "1");
    }
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "ready"));
    child
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn who_asks_a_process_to_end_finds_nothing_of_it() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start(folder.path(), false);
        send(&child, signal);
        let status: ExitStatus = child.wait().unwrap();
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }
}

#[test]
fn a_patient_process_ends_when_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(folder.path(), true);
    for signal in [Signal::HUP, Signal::INT, Signal::HUP] {
        send(&child, signal);
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(child.try_wait().unwrap(), None);
    }
    send(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn a_process_that_is_killed_leaves_hidden_parts_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start(folder.path(), false);
    send(&child, Signal::KILL);
    child.wait().unwrap();
    let left = names(folder.path());
    assert!(
        left.iter()
            .all(|name| name.starts_with('.') && name.contains(".part")),
        "{left:?}"
    );
}
