//! The backends' own suite, on all of them.

use std::fmt::Write;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use clnrm_backends::conformance::{Bench, Case, cases};
use clnrm_backends::{Action, Backend, Cancel, Docker, Ended, Fake, Podman, Sandbox};
use rustix::process::geteuid;

use crate::case::tell;
use crate::engines::{BUSYBOX, docker, podman, processes};
use crate::lacking::open_networks;
use crate::nobody::Nobody;

/// A column of the table.
struct Column<'a> {
    name: &'static str,
    backend: &'a dyn Backend,
    image: &'static str,
    cases: fn(&Case) -> bool,
    /// Whether its runs are those of a user without privileges.
    unprivileged: bool,
}

#[test]
fn every_backend_passes_every_case() {
    let folder = tempfile::Builder::new().prefix("clnrm-it-").tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/note"), "from the workspace\n").unwrap();
    // A copy has the owner and the mode of what it is a copy of, and everybody is to write to it.
    if geteuid().is_root() {
        Nobody::owns(&folder.path().join("data"));
        Nobody::owns(&folder.path().join("data/note"));
    }
    for (path, mode) in [("data", 0o777), ("data/note", 0o666)] {
        fs::set_permissions(folder.path().join(path), Permissions::from_mode(mode)).unwrap();
    }
    let (podman, docker) = (podman("conformance on Podman"), docker("conformance on Docker"));
    let fake = Fake::default();
    let program = Nobody::program(folder.path());
    let [root, user] = ["root's images", "a user's images"].map(|images| {
        let images = folder.path().join(images);
        fs::create_dir(&images).unwrap();
        Sandbox::new(folder.path(), &program).keep_images_in(&images)
    });
    let mut columns = vec![column("fake", &fake, "host"), column("sandbox host", &root, "host")];
    columns[0].cases = |case| !case.real;
    let has_open_networks = open_networks("conformance of open networks in the sandbox");
    let mut images = vec!["host"];
    if let Some(engine) = podman.as_ref().or(docker.as_ref()) {
        engine.save(BUSYBOX, &folder.path().join("busybox.tar"));
        columns.push(column("… busybox", &root, "oci:busybox.tar"));
        images.push("oci:busybox.tar");
    }
    if Nobody::can_be("conformance of the sandbox without privileges") {
        Nobody::owns(&folder.path().join("a user's images"));
        let names = ["… a user, host", "… a user, busyb."];
        columns.extend(names.into_iter().zip(images).map(|(name, image)| {
            let column = column(name, &user, image);
            Column { unprivileged: true, ..column }
        }));
    }
    if !has_open_networks {
        let sandboxes = columns.iter_mut().skip(1);
        sandboxes.for_each(|column| column.cases = |case| !case.name.contains("open network"));
    }
    let podman = podman.map(|found| Podman::connect(&found.socket, folder.path()).unwrap());
    if let Some(backend) = &podman {
        let busybox = column("podman busybox", backend, BUSYBOX);
        columns.extend([busybox, column("podman host", backend, "host")]);
    }
    let docker = docker.map(|found| Docker::connect(&found.socket, folder.path()).unwrap());
    if let Some(backend) = &docker {
        let busybox = column("docker busybox", backend, BUSYBOX);
        columns.extend([busybox, column("docker host", backend, "host")]);
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

#[test]
fn podman_is_started_where_none_listens() {
    let test = "conformance::podman_is_started_where_none_listens";
    if podman(test).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let ours = || processes().into_iter().filter(|it| it.parent == std::process::id() as i32);
    let services = || ours().filter(|it| it.command.contains("podman system service")).count();
    let backend = Podman::start(folder.path()).expect("it is installed").unwrap();
    assert_eq!(services(), 1);
    let image = backend.image(BUSYBOX).unwrap().expect("it has the same images");
    let limit = Duration::from_secs(60);
    let action = Action::of_steps(backend.kind(), image, limit, &[&["true"]]);
    let outcome = backend.run(&action, &Cancel::default()).unwrap();
    assert_eq!(outcome.steps[0].ended, Ended::Code(0));
    backend.finish().unwrap();
    drop(backend);
    assert_eq!(services(), 0);
}

fn column<'a>(name: &'static str, backend: &'a dyn Backend, image: &'static str) -> Column<'a> {
    Column { name, backend, image, cases: |_| true, unprivileged: false }
}

/// A case's name, and what came of it if it was run.
type Row = (&'static str, Option<Result<(), String>>);

/// Runs a column, a few cases at once.
fn run(column: &Column<'_>, workspace: &Path) -> Vec<Row> {
    let image = column.backend.image(column.image).unwrap().expect(column.image);
    let privileged = !column.unprivileged;
    let bench = Bench { backend: column.backend, image, workspace, privileged };
    let cases = cases();
    let next = Mutex::new(0..cases.len());
    let results = Mutex::new(vec![None; cases.len()]);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                if column.unprivileged {
                    Nobody::become_it();
                }
                while let Some(index) = { next.lock().unwrap().next() } {
                    let case = &cases[index];
                    let result = (column.cases)(case).then(|| case.run(&bench));
                    results.lock().unwrap()[index] = result;
                }
            });
        }
    });
    column.backend.finish().expect("all can be removed");
    cases.iter().map(|case| case.name).zip(results.into_inner().unwrap()).collect()
}

fn show(columns: &[Column<'_>], results: &[Vec<Row>]) {
    let mut table = format!("{:70}", "");
    for column in columns {
        let _ = write!(table, "{:17}", column.name);
    }
    for (index, (case, _)) in results[0].iter().enumerate() {
        let _ = write!(table, "\n{case:70}");
        for column in results {
            let word = match column[index].1 {
                Some(Ok(())) => "ok",
                Some(Err(_)) => "FAILED",
                None => "-",
            };
            let _ = write!(table, "{word:17}");
        }
    }
    tell(&table);
}
