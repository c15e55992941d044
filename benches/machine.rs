//! The machine that is measured on, in a few lines.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use crate::timing;

/// What a reader must know to make sense of the figures.
pub(crate) fn describe(folder: &Path) -> Vec<String> {
    let cores = available_parallelism().map_or(1, usize::from);
    vec![
        format!(
            "{}, {cores} cores, Linux {}",
            processor(),
            first_line("/proc/sys/kernel/osrelease")
        ),
        format!("trees on {}, load {}", file_system(folder), first_line("/proc/loadavg")),
        [&["git", "--version"], &["ninja", "--version"], &["rustc", "-V"]].map(version).join(", "),
    ]
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
    name.unwrap_or("a processor without a name").to_owned()
}

/// The type of what is mounted where `folder` lies.
fn file_system(folder: &Path) -> String {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let around = fields.filter(|fields| fields.len() > 2 && folder.starts_with(fields[1]));
    // Of two at one place, the later one covers the other.
    let nearest = around.max_by_key(|fields| Path::new(fields[1]).components().count());
    nearest.map_or("an unknown file system".to_owned(), |fields| fields[2].to_owned())
}

fn first_line(file: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

fn version(argv: &[&str; 2]) -> String {
    let [program, flag] = argv;
    let told = timing::output(Command::new(program).arg(flag));
    let told = told.map_or("not found".to_owned(), |told| told.trim().to_owned());
    if told.starts_with(program) { told } else { format!("{program} {told}") }
}
