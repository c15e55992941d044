//! A store from another machine, and the other things one does with a store.

use std::fs;
use std::path::Path;
use std::process::Command;

use expect_test::expect;

use crate::case::{Case, clnrm};
use crate::engines::{BUSYBOX, podman};

/// Tests that run, half of them templates that import one library.
fn six() -> Case {
    let case = Case::empty();
    case.write("clnrm.toml", "backend = \"sandbox\"\n");
    case.write("templates/lib.tera", "{% macro say(w) %}echo {{ w }}{% endmacro say %}\n");
    for name in ["a", "b", "c"] {
        let text = |run: &str| {
            format!(
                "[meta]\nname = \"{name}\"\nversion = \"1\"\n\n\
                 [[scenario]]\nname = \"s\"\nrun = \"{run}\"\n"
            )
        };
        case.write(&format!("{name}.clnrm.toml"), text(&format!("echo {name}")));
        let import = "{% import \"lib.tera\" as m %}";
        let call = format!("{{{{ m::say(w=\"{name} {name}\") }}}}");
        case.write(&format!("t/{name}.clnrm.toml.tera"), format!("{import}{}", text(&call)));
    }
    case
}

/// The same files in another place, written anew, without what clnrm remembers.
fn clone(case: &Case) -> Case {
    let clone = Case::empty();
    let mut open = vec![case.root()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if entry.file_name() == ".clnrm" {
            } else if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(case.root()).unwrap().to_str().unwrap();
                clone.write(name, fs::read(&path).unwrap());
            }
        }
    }
    clone
}

fn store(case: &Case) -> std::path::PathBuf {
    case.root().join(".clnrm/store-v1.redb")
}

fn restored(case: &Case, to: &Case) {
    fs::create_dir_all(to.root().join(".clnrm")).unwrap();
    fs::copy(store(case), store(to)).unwrap();
}

#[test]
fn a_restored_store_runs_nothing_again() {
    let case = six();
    case.run(&[]);
    let exported = case.beside("exported.redb");
    let export = case.clnrm(&["cache", "export", exported.to_str().unwrap()]);
    assert_eq!(export.exit, Some(0), "{}", export.seen());
    let [copied, imported] = [clone(&case), clone(&case)];
    restored(&case, &copied);
    let import = imported.clnrm(&["cache", "import", exported.to_str().unwrap()]);
    assert_eq!(import.exit, Some(0), "{}", import.seen());
    for clone in [copied, imported] {
        clone.run(&["--frozen"]).check(expect![[r#"
            exit 0
            passed  a.clnrm.toml
            passed  b.clnrm.toml
            passed  c.clnrm.toml
            passed  t/a.clnrm.toml.tera
            passed  t/b.clnrm.toml.tera
            passed  t/c.clnrm.toml.tera
            0 started, 6 reused, no queries executed
        "#]]);
        // Three files say something else, one of which changes no run.
        clone.replace("a.clnrm.toml", "echo a", "echo A");
        clone.replace("t/b.clnrm.toml.tera", "b b", "b B");
        clone.replace("c.clnrm.toml", "version", "# a comment\nversion");
        clone.run(&["--frozen"]).check(expect![[r#"
            exit 1
            skipped  a.clnrm.toml
            passed  b.clnrm.toml
            passed  c.clnrm.toml
            passed  t/a.clnrm.toml.tera
            skipped  t/b.clnrm.toml.tera
            passed  t/c.clnrm.toml.tera
            0 started, 4 reused, some queries executed
        "#]]);
        clone.run(&[]).check(expect![[r#"
            exit 0
            passed  a.clnrm.toml
            passed  b.clnrm.toml
            passed  c.clnrm.toml
            passed  t/a.clnrm.toml.tera
            passed  t/b.clnrm.toml.tera
            passed  t/c.clnrm.toml.tera
            2 started, 4 reused, some queries executed
        "#]]);
    }
}

#[test]
fn outcomes_of_others_are_reused_as_far_as_they_are_trusted() {
    let case = six();
    let run = |case: &Case, key: &str, trust: &str| {
        let mut command =
            case.program(clnrm(), &["run", "--format", "json", "--cache-trust", trust]);
        command.env("CLNRM_CACHE_KEY", key);
        let report = case.start_program(command).finish().report();
        assert_eq!(report.exit, Some(0), "{}", report.seen());
        (report.containers_started(), report.stat("outcomes_reused"))
    };
    assert_eq!(run(&case, "of the team", "all"), (6, 0));
    for (key, trust, started) in [
        ("of the team", "all", 0),
        ("of the team", "signed", 0),
        ("of somebody else", "signed", 6),
        ("of the team", "none", 6),
    ] {
        let clone = clone(&case);
        restored(&case, &clone);
        assert_eq!(run(&clone, key, trust), (started, 6 - started), "{trust}, the key {key}");
        assert_eq!(run(&clone, key, trust), (0, 6), "its own are trusted");
    }
    assert_eq!(run(&case, "", "none"), (0, 6), "they were computed here");
    case.clnrm(&["run", "--cache-trust", "signed"]).check(expect![[r#"
        exit 2
        -- stderr
        error: --cache-trust signed needs the key that signers share in CLNRM_CACHE_KEY
    "#]]);
}

#[test]
fn frozen_says_what_would_run_and_why() {
    let case = six();
    case.run(&[]);
    case.replace("a.clnrm.toml", "echo a", "echo A");
    case.write("new.clnrm.toml", case.read("b.clnrm.toml").replace("echo b", "echo new"));
    case.clnrm(&["run", "--frozen", "a.clnrm.toml", "b.clnrm.toml", "new.clnrm.toml"]).check(
        expect![[r#"
            exit 1
            -- stdout
            SKIP  a.clnrm.toml    a
            PASS  b.clnrm.toml    b  [TIME]
            SKIP  new.clnrm.toml  b

            1 passed, 2 not run in [TIME]
            0 runs, 1 outcome reused, [N] queries executed, [N] recalled; the built-in sandbox
            -- stderr
            error: 2 of 3 tests would have to run, and --frozen forbids it
              a.clnrm.toml: s: steps[0].argv[2] was "echo a", is "echo A"
              new.clnrm.toml: s has never run
        "#]],
    );
}

#[test]
fn an_image_that_has_moved_runs_its_users_again() {
    let Some(podman) = podman("an_image_that_has_moved_runs_its_users_again") else { return };
    let tag = format!("localhost/clnrm/moving:{}", std::process::id());
    let engine = |args: &[&str], input: &str| {
        use std::io::Write;
        let mut child = Command::new("podman")
            .args(args)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "podman {args:?}");
    };
    engine(&["tag", BUSYBOX, &tag], "");
    let mut case = Case::empty();
    podman.show_to(&mut case);
    case.write("clnrm.toml", "backend = \"podman\"\n");
    for (name, image) in [("stays", BUSYBOX), ("moves", &tag)] {
        case.write(
            &format!("{name}.clnrm.toml"),
            format!(
                "[meta]\nname = \"{name}\"\nversion = \"1\"\n\n[services.app]\nimage = \"{image}\"\n\n\
                 [[scenario]]\nname = \"s\"\nservice = \"app\"\nrun = \"echo {name}\"\n"
            ),
        );
    }
    case.run(&[]);
    let mut elsewhere = clone(&case);
    podman.show_to(&mut elsewhere);
    restored(&case, &elsewhere);
    assert_eq!(elsewhere.run(&["--frozen"]).exit, Some(0));
    engine(&["build", "-q", "-t", &tag, "-"], &format!("FROM {BUSYBOX}\nENV MOVED=1\n"));
    let report = elsewhere.run(&[]);
    engine(&["rmi", &tag], "");
    report.check(expect![[r#"
        exit 0
        passed  moves.clnrm.toml
        passed  stays.clnrm.toml
        1 started, 1 reused, some queries executed
    "#]]);
}

#[test]
fn a_cache_is_verified_collected_and_not_overwritten() {
    let case = six();
    case.run(&[]);
    let verify = || case.clnrm(&["cache", "verify"]);
    assert_eq!(verify().exit, Some(0), "{}", verify().seen());
    case.remove("c.clnrm.toml");
    case.remove("t");
    case.clnrm(&["cache", "gc"]).check(expect![[r#"
        exit 0
        -- stdout
        files     6
        outcomes  0
        bytes     0
    "#]]);
    assert_eq!(case.run(&["--frozen"]).exit, Some(0), "what is used is kept");
    let taken = case.beside("taken");
    fs::write(&taken, "mine").unwrap();
    let export = case.clnrm(&["cache", "export", taken.to_str().unwrap()]);
    assert_eq!(export.exit, Some(2), "{}", export.seen());
    assert_eq!(fs::read_to_string(&taken).unwrap(), "mine");
    let mut bytes = fs::read(store(&case)).unwrap();
    let quarter = bytes.len() / 4;
    bytes[quarter..3 * quarter].fill(0xA5);
    fs::write(store(&case), bytes).unwrap();
    let damaged = verify();
    assert_eq!(damaged.exit, Some(1), "{}", damaged.seen());
    assert!(damaged.stderr.contains("store-v1.redb.bad"), "{}", damaged.seen());
    assert_eq!(case.run(&[]).exit, Some(0));
}

#[test]
fn two_workspaces_may_share_a_store() {
    let [one, other] = [six(), six()];
    other.replace("a.clnrm.toml", "echo a", "false");
    let shared = one.beside("shared.redb");
    let run = |case: &Case| case.run(&["--store", shared.to_str().unwrap()]);
    for _ in 0..2 {
        assert_eq!(run(&one).exit, Some(0), "its own verdict");
        assert_eq!(run(&other).exit, Some(1), "its own verdict");
    }
    assert!(!Path::new(&store(&one)).exists());
}
