//! `clnrm init`, and the way from there to green.

use expect_test::expect;

use crate::case::Case;
use crate::engines::podman;

#[test]
fn a_new_folder_is_green_at_once() {
    let case = Case::empty();
    case.clnrm(&["init", "demo"]).check(expect![[r#"
        exit 0
        -- stderr
        wrote demo/clnrm.toml
        wrote demo/tests/hello.clnrm.toml
        wrote demo/tests/greeting.clnrm.toml.tera
        wrote demo/tests/_my_app.clnrm.toml
        wrote demo/.gitignore
        now: clnrm run demo
    "#]]);
    case.clnrm(&["run", "demo", "--backend", "sandbox"]).check(expect![[r#"
        exit 0
        -- stdout
        PASS  tests/greeting.clnrm.toml.tera  greeting  [TIME]
        PASS  tests/hello.clnrm.toml          hello  [TIME]

        2 passed in [TIME]
        3 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]]);
}

#[test]
fn a_new_folder_is_green_on_podman() {
    let Some(podman) = podman("init::a_new_folder_is_green_on_podman") else { return };
    let mut case = Case::empty();
    podman.show_to(&mut case);
    case.clnrm(&["init", "demo"]);
    let report = case.run(&["demo", "--backend", "podman"]);
    report.check(expect![[r#"
        exit 0
        passed  tests/greeting.clnrm.toml.tera
        passed  tests/hello.clnrm.toml
        3 started, 0 reused, some queries executed
    "#]]);
    assert!(report.json["backend"].as_str().unwrap().starts_with("Podman answers at "));
}

#[test]
fn the_current_folder_is_enough() {
    let case = Case::empty();
    case.clnrm(&["init"]).check(expect![[r#"
        exit 0
        -- stderr
        wrote ./clnrm.toml
        wrote ./tests/hello.clnrm.toml
        wrote ./tests/greeting.clnrm.toml.tera
        wrote ./tests/_my_app.clnrm.toml
        wrote ./.gitignore
        now: clnrm run
    "#]]);
    let report = case.run(&["--backend", "sandbox"]);
    report.check(expect![[r#"
        exit 0
        passed  tests/greeting.clnrm.toml.tera
        passed  tests/hello.clnrm.toml
        3 started, 0 reused, some queries executed
    "#]]);
}

#[test]
fn what_is_there_already_is_left_as_it_is() {
    let case = Case::empty();
    case.clnrm(&["init", "."]);
    case.write("clnrm.toml", "jobs = 1\n");
    case.remove("tests/hello.clnrm.toml");
    case.clnrm(&["init", "."]).check(expect![[r#"
        exit 0
        -- stderr
        left ./clnrm.toml as it is
        wrote ./tests/hello.clnrm.toml
        left ./tests/greeting.clnrm.toml.tera as it is
        left ./tests/_my_app.clnrm.toml as it is
        left ./.gitignore as it is
        now: clnrm run
    "#]]);
    assert_eq!(case.read("clnrm.toml"), "jobs = 1\n");
    let twice = case.clnrm(&["init"]);
    assert!(!twice.stderr.contains("wrote"), "{}", twice.stderr);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let case = Case::new("//- /file\n");
    case.clnrm(&["init", "file/demo"]).check(expect![[r#"
        exit 2
        -- stderr
        error: cannot make file/demo: Not a directory (os error 20)
    "#]]);
}
