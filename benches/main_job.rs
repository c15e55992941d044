//! The main job, timed beside its peers in one run: `cargo bench -p clnrm --bench main_job`.
//!
//! Each row is the median of so many processes, from start to exit; a peer's row has the ratio of
//! ours to it. Needs git; Podman's rows need its socket and the image of `.ci/engines-up.sh`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

const CLNRM: &str = env!("CARGO_BIN_EXE_clnrm");
const FILES: usize = 1_000;
const IMAGE: &str = "localhost/clnrm/busybox:1";

fn main() {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    println!("{:52} {:>9} {:>9}", "", "wall ms", "cpu ms");
    no_op(folder.path());
    sandbox(folder.path());
    podman(folder.path());
    first_minute(folder.path());
}

/// A thousand tests that are green: nothing changed, and a comment in one of them.
fn no_op(folder: &Path) {
    let tree = folder.join("tree");
    generate(&tree);
    let clnrm = |arguments: &[&str]| {
        let mut command = Command::new(CLNRM);
        command.args(arguments).args(["--backend", "sandbox"]).current_dir(&tree);
        command
    };
    git(&tree);
    succeed(clnrm(&["run"]));
    // Once more, so that no file is too young for its times to be trusted.
    succeed(clnrm(&["run", "--force"]));
    let ours = show("no-op `clnrm run`, 1,000 files", 30, None, || clnrm(&["run"]));
    let mut status = Command::new("git");
    status.args(["status", "--porcelain", "-uno"]).current_dir(&tree);
    show("  `git status --porcelain -uno`", 30, Some(ours), || copy(&status));
    let mut dry = Command::new(CLNRM);
    dry.arg("dry-run").current_dir(&tree);
    succeed(copy(&dry));
    let ours = show("no-op `clnrm dry-run`, 1,000 files", 30, None, || copy(&dry));
    show("  `git status --porcelain -uno`", 30, Some(ours), || copy(&status));
    let (edited, mut edits) = (tree.join("tests/d0/t500.clnrm.toml"), 0);
    let text = fs::read_to_string(&edited).expect("it was just written");
    show("`clnrm run`, a comment in one of 1,000 files", 15, None, || {
        edits += 1;
        fs::write(&edited, format!("# edit {edits}\n{text}")).expect("it can be written");
        clnrm(&["run"])
    });
}

/// One trivial scenario in a process of its own.
fn sandbox(folder: &Path) {
    let file = one_test(&folder.join("one"), "host");
    let command = || {
        let mut command = Command::new(CLNRM);
        command.args(["run", "--force", "--backend", "sandbox"]).arg(&file);
        command
    };
    show("one trivial scenario, sandbox, whole process", 20, None, command);
}

fn podman(folder: &Path) {
    if !Path::new("/run/podman/podman.sock").exists() {
        println!("NOT RUN: there is no Podman socket at /run/podman/podman.sock");
        return;
    }
    let file = one_test(&folder.join("podman"), IMAGE);
    let command = || {
        let mut command = Command::new(CLNRM);
        command.args(["run", "--force", "--backend", "podman"]).arg(&file);
        command
    };
    let ours = show("one trivial scenario, Podman, whole process", 10, None, command);
    show("  `podman run --rm --network none IMAGE true`", 10, Some(ours), || {
        let mut command = Command::new("podman");
        command.args(["run", "--rm", "--network", "none", IMAGE, "true"]);
        command
    });
}

/// `clnrm init && clnrm run` in a new folder.
fn first_minute(folder: &Path) {
    let mut number = 0;
    show("`clnrm init && clnrm run`, new folder, sandbox", 5, None, || {
        number += 1;
        let demo = folder.join(format!("demo{number}"));
        let script =
            format!("{CLNRM} init {0} && {CLNRM} run {0} --backend sandbox", demo.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        command
    });
}

/// Times a command and prints its row; gives its medians.
fn show(
    name: &str,
    times: usize,
    ours: Option<(Duration, Duration)>,
    mut command: impl FnMut() -> Command,
) -> (Duration, Duration) {
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let command = command();
        let (cpu, began) = (children_cpu(), Instant::now());
        succeed(command);
        walls.push(began.elapsed());
        cpus.push(children_cpu() - cpu);
    }
    let median = |mut all: Vec<Duration>| {
        all.sort();
        all[all.len() / 2]
    };
    let (wall, cpu) = (median(walls), median(cpus));
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let ratio = ours.map_or(String::new(), |(our_wall, our_cpu)| {
        let of = |ours: Duration, theirs: Duration| ours.as_secs_f64() / theirs.as_secs_f64();
        format!("   clnrm/this: wall {:.2}, cpu {:.2}", of(our_wall, wall), of(our_cpu, cpu))
    });
    println!("{name:52} {:9.1} {:9.1}{ratio}", ms(wall), ms(cpu));
    (wall, cpu)
}

fn children_cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("there is no other answer");
    let times = [usage.user_time(), usage.system_time()];
    times.iter().map(|t| Duration::from_micros((t.tv_sec() * 1_000_000 + t.tv_usec()) as u64)).sum()
}

fn succeed(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().expect("the program can be started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn copy(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    copy.current_dir(command.get_current_dir().expect("it was set"));
    copy
}

fn generate(tree: &Path) {
    for number in 0..FILES {
        let folder = tree.join(format!("tests/d{}", number / 1_000));
        fs::create_dir_all(&folder).expect("it can be made");
        let name = format!("t{number:03}");
        write_test(&folder.join(format!("{name}.clnrm.toml")), &name, "host");
    }
    fs::write(tree.join("clnrm.toml"), "").expect("it can be written");
    fs::write(tree.join(".gitignore"), ".clnrm/\n").expect("it can be written");
}

fn one_test(folder: &Path, image: &str) -> PathBuf {
    fs::create_dir_all(folder).expect("it can be made");
    fs::write(folder.join("clnrm.toml"), "").expect("it can be written");
    let file = folder.join("one.clnrm.toml");
    write_test(&file, "one", image);
    file
}

fn write_test(file: &Path, name: &str, image: &str) {
    let text = format!(
        "[meta]\nname = \"{name}\"\nversion = \"1\"\n\n[services.app]\nimage = \"{image}\"\n\n\
         [[scenario]]\nname = \"s\"\nservice = \"app\"\nrun = \"true # {name}\"\n\n\
         [[expect.span]]\nname = \"app.exec\"\n"
    );
    fs::write(file, text).expect("it can be written");
}

fn git(tree: &Path) {
    let script = "git init -q && git add -A && \
                  git -c user.name=bench -c user.email=bench@localhost commit -qm bench && git status";
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(tree);
    succeed(command);
}
