//! Lists, after all other tests, those that did not run, by what they need.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn main() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("not-run.tsv");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let _ = std::fs::remove_file(&file);
    // Lines of an earlier cargo that ended in the middle are none of this one's.
    let cargo = std::os::unix::process::parent_id().to_string();
    let mut by_need: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines() {
        if let [of, need, test] = line.split('\t').collect::<Vec<_>>()[..]
            && of == cargo
        {
            by_need.entry(need).or_default().insert(test);
        }
    }
    for (need, tests) in by_need {
        eprintln!("NOT RUN, {} for want of {need}:", plural(tests.len()));
        tests.iter().for_each(|test| eprintln!("  {test}"));
    }
}

fn plural(count: usize) -> String {
    if count == 1 { "1 test".to_owned() } else { format!("{count} tests") }
}
