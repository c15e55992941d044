//! What runs again after an edit, and what does not.

use std::fs;
use std::path::Path;

use expect_test::expect;

use crate::case::Case;

/// Three tests, each with a run of its own.
const THREE: &str = r#"
//- /a.clnrm.toml
[meta]
name = "a"

[[scenario]]
name = "one"
run = "echo a"

[[expect.span]]
name = "clnrm.step:one"

//- /b.clnrm.toml
[meta]
name = "b"

[[scenario]]
name = "one"
run = "echo b"

//- /c.clnrm.toml
[meta]
name = "c"

[[scenario]]
name = "one"
run = "echo c"
"#;

fn three() -> Case {
    let case = Case::new(THREE);
    let report = case.run(&[]);
    assert_eq!((report.exit, report.containers_started()), (Some(0), 3), "{}", report.seen());
    case
}

#[test]
fn without_an_edit_nothing_is_executed() {
    let case = three();
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        0 started, 3 reused, no queries executed
    "#]]);
}

#[test]
fn a_comment_runs_nothing() {
    let case = three();
    case.replace("a.clnrm.toml", "[meta]", "# Hello.\n[meta]");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        0 started, 3 reused, some queries executed
    "#]]);
}

#[test]
fn an_expectation_runs_nothing() {
    let case = three();
    case.replace("a.clnrm.toml", "clnrm.step:one\"", "clnrm.step:one\"\nstatus = \"ok\"");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        0 started, 3 reused, some queries executed
    "#]]);
}

#[test]
fn an_expectation_that_fails_runs_nothing_at_first() {
    let case = three();
    case.replace("a.clnrm.toml", "clnrm.step:one\"", "clnrm.step:one\"\nstatus = \"error\"");
    case.run(&[]).check(expect![[r#"
        exit 1
        failed  a.clnrm.toml
          8: expect.span[0]: the span `clnrm.step:one` does not satisfy all of it (7 spans looked at)
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        0 started, 3 reused, some queries executed
    "#]]);
    // What failed is run again by whoever asks again.
    case.run(&[]).check(expect![[r#"
        exit 1
        failed  a.clnrm.toml
          8: expect.span[0]: the span `clnrm.step:one` does not satisfy all of it (7 spans looked at)
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        1 started, 2 reused, some queries executed
    "#]]);
    case.replace("a.clnrm.toml", "status = \"error\"", "status = \"ok\"");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        0 started, 3 reused, some queries executed
    "#]]);
}

#[test]
fn a_failing_command_runs_again() {
    let case = three();
    case.replace("a.clnrm.toml", "echo a", "exit 7");
    case.run(&[]).check(expect![[r#"
        exit 1
        failed  a.clnrm.toml
          6: step `one`: ended with exit code 7, expected exit code 0
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        1 started, 2 reused, some queries executed
    "#]]);
    case.run(&[]).check(expect![[r#"
        exit 1
        failed  a.clnrm.toml
          6: step `one`: ended with exit code 7, expected exit code 0
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        1 started, 2 reused, some queries executed
    "#]]);
}

#[test]
fn a_command_runs_its_own_test_only() {
    let case = three();
    case.replace("b.clnrm.toml", "echo b", "echo B");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        1 started, 2 reused, some queries executed
    "#]]);
    // The former outcome is still known.
    case.replace("b.clnrm.toml", "echo B", "echo b");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        0 started, 3 reused, some queries executed
    "#]]);
}

#[test]
fn a_new_test_runs_alone() {
    let case = three();
    case.write("d.clnrm.toml", case.read("a.clnrm.toml").replace("echo a", "echo d"));
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        passed  d.clnrm.toml
        1 started, 3 reused, some queries executed
    "#]]);
    case.remove("d.clnrm.toml");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        0 started, 3 reused, some queries executed
    "#]]);
}

#[test]
fn equal_runs_are_shared_between_tests() {
    let case = three();
    case.write("d.clnrm.toml", case.read("a.clnrm.toml").replace("\"a\"", "\"d\""));
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        passed  d.clnrm.toml
        0 started, 4 reused, some queries executed
    "#]]);
}

#[test]
fn a_variable_that_is_read_runs_its_test() {
    let mut case = Case::new(
        r#"
//- /greeting.clnrm.toml
[meta]
name = "greeting"

[[scenario]]
name = "say"
run = "echo {{ env(name="GREETING", default="hello") }}"
"#,
    );
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  greeting.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]);
    case.set_env("SOMETHING_ELSE", "1");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  greeting.clnrm.toml
        0 started, 1 reused, no queries executed
    "#]]);
    // The value that was the default: another text was read, the same one was rendered.
    case.set_env("GREETING", "hello");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  greeting.clnrm.toml
        0 started, 1 reused, some queries executed
    "#]]);
    case.set_env("GREETING", "bonjour");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  greeting.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]);
    assert!(case.clnrm(&["render", "greeting.clnrm.toml"]).stdout.contains("echo bonjour"));
}

const IMPORTING: &str = r#"
//- /tests/say.clnrm.toml
{% import "_say.tera" as say -%}
[meta]
name = "say"

{{ say::scenario(word="hello") }}

//- /tests/plain.clnrm.toml
[meta]
name = "plain"

[[scenario]]
name = "plain"
run = "echo plain"
"#;

const MACRO: &str = r#"{% macro scenario(word) -%}
[[scenario]]
name = "say"
run = "echo {{ word }}"
{%- endmacro %}
"#;

#[test]
fn an_imported_file_is_part_of_the_test() {
    let case = Case::new(IMPORTING);
    case.run(&[]).check(expect![[r#"
        exit 3
        passed  tests/plain.clnrm.toml
        broken  tests/say.clnrm.toml
        tests/say.clnrm.toml:1:12: error[render/missing-template]: there is no template `_say.tera`
        1 started, 0 reused, some queries executed
    "#]]);
    // Its absence was seen, so its coming is.
    case.write("templates/_say.tera", MACRO);
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  tests/plain.clnrm.toml
        passed  tests/say.clnrm.toml
        1 started, 1 reused, some queries executed
    "#]]);
    // So is that of one that is looked for first.
    case.write("tests/_say.tera", MACRO.replace("echo", "printf"));
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  tests/plain.clnrm.toml
        passed  tests/say.clnrm.toml
        1 started, 1 reused, some queries executed
    "#]]);
    case.write("tests/_say.tera", format!("{{# Hello. #}}{}", MACRO.replace("echo", "printf")));
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  tests/plain.clnrm.toml
        passed  tests/say.clnrm.toml
        0 started, 2 reused, some queries executed
    "#]]);
    case.remove("tests/_say.tera");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  tests/plain.clnrm.toml
        passed  tests/say.clnrm.toml
        0 started, 2 reused, some queries executed
    "#]]);
    case.remove("templates/_say.tera");
    case.run(&[]).check(expect![[r#"
        exit 3
        passed  tests/plain.clnrm.toml
        broken  tests/say.clnrm.toml
        tests/say.clnrm.toml:1:12: error[render/missing-template]: there is no template `_say.tera`
        0 started, 1 reused, some queries executed
    "#]]);
}

const MOUNTING: &str = r#"
//- /read.clnrm.toml
[meta]
name = "read"

[services.reader]
volumes = ["./data:/data:ro"]

[[scenario]]
name = "read"
service = "reader"

[[scenario.steps]]
command = ["cat", "/data/note"]
expected_output_contains = "one"

//- /plain.clnrm.toml
[meta]
name = "plain"

[[scenario]]
name = "plain"
run = "echo plain"

//- /data/note
one

//- /unmounted
one
"#;

#[test]
fn a_mounted_file_is_part_of_the_run() {
    let case = Case::new(MOUNTING);
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  plain.clnrm.toml
        passed  read.clnrm.toml
        2 started, 0 reused, some queries executed
    "#]]);
    case.write("unmounted", "two\n");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  plain.clnrm.toml
        passed  read.clnrm.toml
        0 started, 2 reused, no queries executed
    "#]]);
    // The same bytes, written later.
    case.write("data/note", "one\n");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  plain.clnrm.toml
        passed  read.clnrm.toml
        0 started, 2 reused, no queries executed
    "#]]);
    case.write("data/new", "");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  plain.clnrm.toml
        passed  read.clnrm.toml
        1 started, 1 reused, some queries executed
    "#]]);
    case.remove("data/new");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  plain.clnrm.toml
        passed  read.clnrm.toml
        0 started, 2 reused, some queries executed
    "#]]);
    case.write("data/note", "two\n");
    case.run(&[]).check(expect![[r#"
        exit 1
        passed  plain.clnrm.toml
        failed  read.clnrm.toml
          13: step `step-1`: standard output does not contain `one`
        1 started, 1 reused, some queries executed
    "#]]);
    case.remove("data");
    case.run(&[]).check(expect![[r#"
        exit 3
        passed  plain.clnrm.toml
        broken  read.clnrm.toml
        read.clnrm.toml:5:12: error[plan/missing-volume]: `data` is mounted, but is not there
        0 started, 1 reused, some queries executed
    "#]]);
}

#[test]
fn a_mounted_program_may_become_executable() {
    use std::os::unix::fs::PermissionsExt;
    let case = Case::new(MOUNTING);
    case.run(&[]);
    let note = case.root().join("data/note");
    fs::set_permissions(note, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(case.run(&[]).containers_started(), 1);
}

#[test]
fn force_runs_everything() {
    let case = three();
    case.run(&["--force"]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        3 started, 0 reused, some queries executed
    "#]]);
    case.run(&["--force", "a.clnrm.toml"]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]);
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        0 started, 3 reused, no queries executed
    "#]]);
}

#[test]
fn the_settings_count_where_they_are_used() {
    let case = three();
    case.write("clnrm.toml", "backend = \"sandbox\"\njobs = 1\n");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        0 started, 3 reused, some queries executed
    "#]]);
    // The limit of a step is part of what is asked for.
    case.write("clnrm.toml", "backend = \"sandbox\"\ntimeout = \"9s\"\n");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        3 started, 0 reused, some queries executed
    "#]]);
}

#[test]
fn without_the_store_only_the_time_differs() {
    let case = Case::new(THREE);
    case.replace("c.clnrm.toml", "echo c", "echo c; exit 1");
    let cold = case.run(&[]);
    let warm = case.run(&[]);
    case.remove(".clnrm");
    let cold_again = case.run(&[]);
    assert_eq!(cold_again.containers_started(), 3);
    assert_eq!(warm.containers_started(), 1);
    assert_eq!(cold.without_measurements(), warm.without_measurements());
    assert_eq!(cold.without_measurements(), cold_again.without_measurements());
}

#[test]
fn the_whole_workspace_can_be_mounted() {
    let case = Case::new(
        r#"
//- /a.clnrm.toml
[meta]
name = "a"

[services.app]
volumes = [".:/ws:ro"]

[[scenario]]
name = "one"
service = "app"
run = '''
cat /ws/note && test -z "$(ls -A /ws/.clnrm)" && ! touch /ws/x && ! touch /ws/.clnrm/x
'''

[[scenario]]
name = "two"
service = "app"
steps = [{ command = "cat /ws/note", expected_output_regex = "^hello" }]

//- /note
hello
"#,
    );
    for runs in [2, 0] {
        let report = case.run(&[]);
        assert_eq!(
            (report.exit, report.containers_started()),
            (Some(0), runs),
            "{}",
            report.seen()
        );
    }
    // The store is there by now, and still no part of what is seen.
    for backend in ["auto", "sandbox"] {
        let report = case.run(&["--force", "--backend", backend]);
        assert_eq!((report.exit, report.containers_started()), (Some(0), 2), "{}", report.seen());
    }
    case.write("note", "bye");
    assert_eq!(case.run(&[]).exit, Some(1));
}

#[test]
fn an_outcome_that_is_shared_is_renewed_for_all() {
    // Both tests run the same action; one of them expects what does not come.
    let case = Case::new(
        r#"
//- /a.clnrm.toml
[meta]
name = "a"

[[scenario]]
name = "one"
run = "date +%N"

//- /b.clnrm.toml
[meta]
name = "b"

[[scenario]]
name = "one"
run = "date +%N"

[[expect.span]]
name = "never"
"#,
    );
    assert_eq!(case.run(&[]).containers_started(), 1);
    let report = case.run(&[]);
    assert_eq!((report.exit, report.containers_started()), (Some(1), 1), "{}", report.seen());
    let durations: Vec<_> =
        report.json["tests"].as_array().unwrap().iter().map(|test| &test["duration_ms"]).collect();
    assert_eq!(durations[0], durations[1], "both reports are of the same run");
}

#[test]
fn a_copy_of_the_workspace_remembers() {
    let case = Case::new(MOUNTING);
    case.run(&[]);
    let copy = Case::empty();
    copy_folder(&case.root(), &copy.root());
    copy.run(&[]).check(expect![[r#"
        exit 0
        passed  plain.clnrm.toml
        passed  read.clnrm.toml
        0 started, 2 reused, no queries executed
    "#]]);
    copy.write("data/note", "one more\n");
    copy.run(&[]).check(expect![[r#"
        exit 0
        passed  plain.clnrm.toml
        passed  read.clnrm.toml
        1 started, 1 reused, some queries executed
    "#]]);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target);
        } else {
            // The bytes alone: as a version control system or a cache of a build server does.
            fs::write(target, fs::read(source).unwrap()).unwrap();
        }
    }
}

#[test]
fn a_broken_file_leaves_the_others_their_verdicts() {
    let case = three();
    case.replace("a.clnrm.toml", "[meta]", "[meta");
    case.run(&[]).check(expect![[r#"
        exit 3
        broken  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        a.clnrm.toml:1:6: error[parse/syntax]: unclosed table, expected `]`
        0 started, 2 reused, some queries executed
    "#]]);
    case.replace("b.clnrm.toml", "echo b", "exit 1");
    case.run(&[]).check(expect![[r#"
        exit 3
        broken  a.clnrm.toml
        failed  b.clnrm.toml
          6: step `one`: ended with exit code 1, expected exit code 0
        passed  c.clnrm.toml
        a.clnrm.toml:1:6: error[parse/syntax]: unclosed table, expected `]`
        1 started, 1 reused, some queries executed
    "#]]);
    case.replace("a.clnrm.toml", "[meta", "[meta]");
    case.replace("b.clnrm.toml", "exit 1", "echo b");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        0 started, 3 reused, some queries executed
    "#]]);
}

#[test]
fn a_selection_does_not_touch_the_rest() {
    let case = three();
    case.replace("a.clnrm.toml", "echo a", "echo A");
    case.replace("b.clnrm.toml", "echo b", "echo B");
    case.run(&["a.clnrm.toml"]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]);
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        1 started, 2 reused, some queries executed
    "#]]);
}

#[test]
fn two_runs_at_once_do_not_hinder_each_other() {
    let case = Case::new(THREE);
    let both = [case.start(&["run"]), case.start(&["run"])];
    for ran in both.map(|running| running.finish()) {
        assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""), "{}", ran.seen());
    }
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        passed  b.clnrm.toml
        passed  c.clnrm.toml
        0 started, 3 reused, no queries executed
    "#]]);
    assert!(case.leftovers().is_empty());
}

#[test]
fn a_clock_that_is_not_frozen_is_never_reused() {
    let fixture = r#"
//- /a.clnrm.toml.tera
[meta]
name = "a"
version = "1"

[determinism]
freeze_clock = false

[[scenario]]
name = "s"

[[scenario.steps]]
name = "tell"
command = "sh -c 'echo ${SOURCE_DATE_EPOCH:-unset} {{ now_rfc3339() }}'"
expected_output_contains = "unset 20"

[[expect.span]]
name = "clnrm.step:tell"
"#;
    let case = Case::new(fixture);
    for _ in 0..2 {
        let report = case.run(&[]);
        assert_eq!((report.exit, report.containers_started()), (Some(0), 1), "{}", report.seen());
    }
    let rendered = case.clnrm(&["render", "a.clnrm.toml.tera"]).stdout;
    assert!(!rendered.contains("2025-01-01T00:00:00Z"), "{rendered}");
}
