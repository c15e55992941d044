//! The backends' own suite, on all of them.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use clnrm_backends::conformance::{Bench, Case, cases};
use clnrm_backends::{Backend, Fake, Podman, Sandbox};

use crate::case::{clnrm, tell};
use crate::engines::{BUSYBOX, podman};

/// A column of the table.
struct Column<'a> {
    name: &'static str,
    backend: &'a dyn Backend,
    image: &'static str,
    cases: fn(&Case) -> bool,
}

#[test]
fn every_backend_passes_every_case() {
    let folder = tempfile::Builder::new().prefix("clnrm-it-").tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/note"), "from the workspace\n").unwrap();
    let fake = Fake::default();
    let sandbox = Sandbox::new(folder.path(), Path::new(clnrm()));
    let mut columns = vec![
        Column { name: "fake", backend: &fake, image: "host", cases: |case| !case.real },
        Column { name: "sandbox", backend: &sandbox, image: "host", cases: |_| true },
    ];
    let podman = podman("conformance on Podman")
        .map(|found| Podman::connect(&found.socket, folder.path()).unwrap());
    if let Some(backend) = &podman {
        let column = |name, image| Column { name, backend, image, cases: |_| true };
        columns.extend([column("podman busybox", BUSYBOX), column("podman host", "host")]);
    }
    let results: Vec<_> = columns.iter().map(|column| run(column, folder.path())).collect();
    show(&columns, &results);
    let failures: String = columns
        .iter()
        .zip(&results)
        .flat_map(|(column, results)| results.iter().map(|result| (column.name, result)))
        .filter_map(|(name, (case, result))| {
            let reason = result.as_ref()?.as_ref().err()?;
            Some(format!("{name}: {case}: {reason}\n"))
        })
        .collect();
    assert!(failures.is_empty(), "\n{failures}");
}

/// A case's name, and what came of it if it was run.
type Row = (&'static str, Option<Result<(), String>>);

/// Runs a column, a few cases at once.
fn run(column: &Column<'_>, workspace: &Path) -> Vec<Row> {
    let image = column.backend.image(column.image).unwrap().expect(column.image);
    let bench = Bench { backend: column.backend, image, workspace };
    let cases = cases();
    let next = Mutex::new(0..cases.len());
    let results = Mutex::new(vec![None; cases.len()]);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(index) = { next.lock().unwrap().next() } {
                    let case = &cases[index];
                    let result = (column.cases)(case).then(|| case.run(&bench));
                    results.lock().unwrap()[index] = result;
                }
            });
        }
    });
    cases.iter().map(|case| case.name).zip(results.into_inner().unwrap()).collect()
}

fn show(columns: &[Column<'_>], results: &[Vec<Row>]) {
    let mut table = format!("{:70}", "");
    for column in columns {
        let _ = write!(table, "{:16}", column.name);
    }
    for (index, (case, _)) in results[0].iter().enumerate() {
        let _ = write!(table, "\n{case:70}");
        for column in results {
            let word = match column[index].1 {
                Some(Ok(())) => "ok",
                Some(Err(_)) => "FAILED",
                None => "-",
            };
            let _ = write!(table, "{word:16}");
        }
    }
    tell(&table);
}
