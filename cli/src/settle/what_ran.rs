//! Given these files and this edit, this is what ran.

use clnrm_engine::Memory;
use expect_test::{Expect, expect};

use super::lab::Lab;

const TEST: &str = r#"
[meta]
name = "a"
[services.app]
volumes = ["data/note:/note:ro"]
[[scenario]]
name = "one"
service = "app"
run = "span work"
[[expect.span]]
name = "work"
[expect.counts]
spans_total = { min = 1 }
"#;

const TEMPLATE: &str = r#"{% import "_lib.toml.tera" as lib %}[meta]
name = "b"
[[scenario]]
name = "two"
run = "{{ lib::command(word=env(name="WORD", default="x")) }}"
"#;

const LIBRARY: &str = "{% macro command(word) %}echo {{ word }}{% endmacro command %}";

/// A settled lab with one plain test and one template, and the number of a first run.
fn lab() -> Lab {
    let files = Memory::default();
    files.write("tests/a.clnrm.toml", TEST);
    files.write("tests/b.clnrm.toml", TEMPLATE);
    files.write("tests/_lib.toml.tera", LIBRARY);
    files.write("data/note", "hello");
    let mut lab = Lab::new(&files);
    assert_eq!(lab.run().runs, 2);
    lab
}

/// What runs after an edit, in the living process and in a new one, which must be the same.
fn check(edit: impl Fn(&Lab), expected: Expect) {
    let mut living = lab();
    edit(&living);
    let in_process = living.run();
    let mut restarted = lab();
    edit(&restarted);
    restarted.restart();
    let in_new_process = restarted.run();
    assert_eq!(in_process.reports, in_new_process.reports);
    assert_eq!(in_process.runs, in_new_process.runs);
    expected.assert_eq(&in_new_process.executed());
    restarted.restart();
    assert_eq!(restarted.run().executed(), "0 runs\n", "the run after it");
}

#[test]
fn nothing() {
    check(|_| {}, expect![["0 runs\n"]]);
}

#[test]
fn a_comment() {
    check(
        |lab| lab.files.write("tests/a.clnrm.toml", format!("# hello\n{TEST}")),
        expect![[r#"
            document tests/a.clnrm.toml (as before)
            rendered tests/a.clnrm.toml
            source tests/a.clnrm.toml
            0 runs
        "#]],
    );
}

#[test]
fn an_expectation() {
    check(
        |lab| lab.files.write("tests/a.clnrm.toml", TEST.replace("min = 1", "max = 9")),
        expect![[r#"
            document tests/a.clnrm.toml
            expectation tests/a.clnrm.toml#0 (as before)
            expectation tests/a.clnrm.toml#1
            gaps tests/a.clnrm.toml#0 (as before)
            lifecycle-named tests/a.clnrm.toml (as before)
            model tests/a.clnrm.toml
            plan tests/a.clnrm.toml#0 (as before)
            rendered tests/a.clnrm.toml
            report tests/a.clnrm.toml (as before)
            shape tests/a.clnrm.toml (as before)
            source tests/a.clnrm.toml
            traces tests/a.clnrm.toml (as before)
            verdict tests/a.clnrm.toml#1 (as before)
            0 runs
        "#]],
    );
}

#[test]
fn a_command() {
    check(
        |lab| lab.files.write("tests/a.clnrm.toml", TEST.replace("span work", "echo x; span work")),
        expect![[r#"
            document tests/a.clnrm.toml
            expectation tests/a.clnrm.toml#0 (as before)
            expectation tests/a.clnrm.toml#1 (as before)
            exporters tests/a.clnrm.toml#0 (as before)
            gaps tests/a.clnrm.toml#0 (as before)
            lifecycle-named tests/a.clnrm.toml (as before)
            model tests/a.clnrm.toml
            outcome tests/a.clnrm.toml#0
            outcome tests/a.clnrm.toml#0
            plan tests/a.clnrm.toml#0
            rendered tests/a.clnrm.toml
            report tests/a.clnrm.toml
            report tests/a.clnrm.toml
            shape tests/a.clnrm.toml (as before)
            source tests/a.clnrm.toml
            traces tests/a.clnrm.toml
            traces tests/a.clnrm.toml (as before)
            verdict tests/a.clnrm.toml#0
            verdict tests/a.clnrm.toml#1
            1 runs
        "#]],
    );
}

#[test]
fn a_mounted_file() {
    check(
        |lab| lab.files.write("data/note", "changed"),
        expect![[r#"
            exporters tests/a.clnrm.toml#0 (as before)
            gaps tests/a.clnrm.toml#0 (as before)
            outcome tests/a.clnrm.toml#0
            outcome tests/a.clnrm.toml#0
            plan tests/a.clnrm.toml#0
            report tests/a.clnrm.toml
            report tests/a.clnrm.toml
            traces tests/a.clnrm.toml
            traces tests/a.clnrm.toml (as before)
            verdict tests/a.clnrm.toml#0
            verdict tests/a.clnrm.toml#1
            1 runs
        "#]],
    );
}

#[test]
fn a_mounted_file_saved_as_it_was() {
    check(
        |lab| lab.files.write("data/note", "hello"),
        expect![[r#"
        0 runs
    "#]],
    );
}

#[test]
fn a_macro_that_comes_to_the_same() {
    let library = format!("{{# more #}}{LIBRARY}");
    check(
        move |lab| lab.files.write("tests/_lib.toml.tera", library.clone()),
        expect![[r#"
            fragment tests/_lib.toml.tera#w/command (as before)
            template-exists tests/_lib.toml.tera#w/ (as before)
            template-syntax tests/_lib.toml.tera#w/ (as before)
            template-text tests/_lib.toml.tera#w/
            0 runs
        "#]],
    );
}

#[test]
fn a_signature() {
    let mut lab = lab();
    let library =
        format!("{LIBRARY}{{% macro other(word) %}}true {{{{ word }}}}{{% endmacro other %}}");
    lab.files.write("tests/_lib.toml.tera", library.clone());
    let other = TEMPLATE.replace("\"b\"", "\"c\"").replace("lib::command", "lib::other");
    lab.files.write("tests/c.clnrm.toml", other);
    assert_eq!(lab.run().runs, 1);
    lab.restart();
    // A parameter more, which may be left out.
    lab.files.write("tests/_lib.toml.tera", library.replace("other(word)", "other(word, more={})"));
    expect![[r#"
        bundle tests/_lib.toml.tera#w/other
        fragment tests/_lib.toml.tera#w/command (as before)
        fragment tests/_lib.toml.tera#w/other
        rendered tests/c.clnrm.toml (as before)
        template-exists tests/_lib.toml.tera#w/ (as before)
        template-syntax tests/_lib.toml.tera#w/
        template-text tests/_lib.toml.tera#w/
        0 runs
    "#]]
    .assert_eq(&lab.run().executed());
}

#[test]
fn a_variable_that_is_read() {
    check(
        |lab| lab.files.set_env("WORD", Some("y")),
        expect![[r#"
            document tests/b.clnrm.toml
            exporters tests/b.clnrm.toml#0 (as before)
            gaps tests/b.clnrm.toml#0 (as before)
            model tests/b.clnrm.toml
            outcome tests/b.clnrm.toml#0
            outcome tests/b.clnrm.toml#0
            plan tests/b.clnrm.toml#0
            rendered tests/b.clnrm.toml
            report tests/b.clnrm.toml
            report tests/b.clnrm.toml
            shape tests/b.clnrm.toml (as before)
            1 runs
        "#]],
    );
}

#[test]
fn a_variable_that_is_not_read() {
    check(|lab| lab.files.set_env("OTHER", Some("y")), expect![["0 runs\n"]]);
}

#[test]
fn a_library_nearer_by_that_was_looked_for() {
    let nearer = LIBRARY.replace("echo", "echo nearer");
    let lab = lab();
    // It is looked for in the test's own folder first; there it is now. Nothing else moved.
    lab.files.remove("tests/_lib.toml.tera");
    lab.files.write("templates/_lib.toml.tera", LIBRARY);
    let mut lab = lab;
    assert_eq!(lab.run().runs, 0);
    lab.files.write("tests/_lib.toml.tera", nearer);
    assert_eq!(lab.run().runs, 1);
}

#[test]
fn a_failed_test_runs_again_and_a_newly_failing_one_does_not() {
    let mut lab = lab();
    lab.files.write("tests/a.clnrm.toml", TEST.replace("min = 1", "min = 5"));
    let first = lab.run();
    assert_eq!(first.runs, 0, "the evidence is there");
    lab.restart();
    assert_eq!(lab.run().runs, 1, "a failure is not trusted twice");
}

#[test]
fn an_engine_that_fails_is_asked_again() {
    let mut lab = lab();
    lab.files.write("tests/a.clnrm.toml", TEST.replace("span work", "crash"));
    assert_eq!(lab.run().runs, 1);
    lab.restart();
    assert_eq!(lab.run().runs, 1);
}
