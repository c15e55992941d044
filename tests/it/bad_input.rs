//! Broken files, and programs that do not end as they should: what is said, and what stands
//! nevertheless.

use std::fs;
use std::time::Duration;

use expect_test::{Expect, expect};

use crate::case::{Case, ONE, wait_until};
use crate::engines::On;

/// What `run` says of one file.
#[track_caller]
fn check(text: &str, expected: Expect) {
    let case = Case::new("");
    case.write("a.clnrm.toml", text);
    case.clnrm(&["run"]).check(expected);
}

#[test]
fn toml_that_does_not_parse() {
    check(
        "[meta]\nname = \"a\nversion = 1\n",
        expect![[r#"
            exit 3
            -- stdout
            ERR   a.clnrm.toml  a.clnrm.toml
              a.clnrm.toml:2:10: error[parse/syntax]: invalid basic string, expected `"`
                |
              2 | name = "a
                |          ^

            0 passed, 1 not run in [TIME]
            0 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
    check(
        "[meta]\nname = \"a\"\n\n[[scenario]]\nname = \"s\"\nrun = \n",
        expect![[r#"
            exit 3
            -- stdout
            ERR   a.clnrm.toml  a.clnrm.toml
              a.clnrm.toml:6:7: error[parse/syntax]: string values must be quoted, expected literal string
                |
              6 | run =
                |       ^

            0 passed, 1 not run in [TIME]
            0 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
    check(
        "[meta]\nname = \"a\"\nname = \"b\"\n",
        expect![[r#"
            exit 3
            -- stdout
            ERR   a.clnrm.toml  a.clnrm.toml
              a.clnrm.toml:3:1: error[parse/syntax]: duplicate key
                |
              3 | name = "b"
                | ^
                hint: a key may be set once; merge the two

            0 passed, 1 not run in [TIME]
            0 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
    check(
        "",
        expect![[r#"
            exit 3
            -- stdout
            ERR   a.clnrm.toml  a.clnrm.toml
              a.clnrm.toml:1:1: error[shape/no-name]: the test has no name
                hint: add `[meta]` with `name = "…"`
              a.clnrm.toml:1:1: error[shape/nothing-to-run]: there is nothing to run: no `[[scenario]]` and no `[[steps]]`

            0 passed, 1 not run in [TIME]
            0 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
}

#[test]
fn a_file_that_is_not_utf8() {
    let case = Case::new("");
    case.write("a.clnrm.toml", b"[meta]\nname = \"a\xff\"\n");
    case.clnrm(&["run"]).check(expect![[r#"
        exit 3
        -- stdout
        ERR   a.clnrm.toml  a.clnrm.toml
          a.clnrm.toml:2:10: error[source/not-utf8]: byte 16 is not UTF-8
            hint: save the file as UTF-8

        0 passed, 1 not run in [TIME]
        0 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]]);
}

#[test]
fn templates_that_do_not_render() {
    check(
        "[meta]\nname = \"{{ nobody }}\"\n",
        expect![[r#"
            exit 3
            -- stdout
            ERR   a.clnrm.toml  a.clnrm.toml
              a.clnrm.toml:2:12: error[render/failed]: variable `nobody` not found in context
                |
              2 | name = "{{ nobody }}"
                |            ^
                hint: set it in [vars], with -D, or give it a default: `| default(value=…)`

            0 passed, 1 not run in [TIME]
            0 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
    check(
        "[meta]\nname = \"{{ oops\"\n",
        expect![[r#"
            exit 3
            -- stdout
            ERR   a.clnrm.toml  a.clnrm.toml
              a.clnrm.toml:2:16: error[render/syntax]: this string is not closed
                |
              2 | name = "{{ oops"
                |                ^

            0 passed, 1 not run in [TIME]
            0 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
    check(
        "{% for x in [1] %}\n[meta]\nname = \"a\"\n",
        expect![[r#"
        exit 3
        -- stdout
        ERR   a.clnrm.toml  a.clnrm.toml
          a.clnrm.toml:4:1: error[render/syntax]: expected tag or some content

        0 passed, 1 not run in [TIME]
        0 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]],
    );
    check(
        "{% import \"_missing.tera\" as m %}\n[meta]\nname = \"a\"\n",
        expect![[r#"
            exit 3
            -- stdout
            ERR   a.clnrm.toml  a.clnrm.toml
              a.clnrm.toml:1:12: error[render/missing-template]: there is no template `_missing.tera`
                |
              1 | {% import "_missing.tera" as m %}
                |            ^
                hint: looked for _missing.tera, templates/_missing.tera, ~/.clnrm/templates/_missing.tera, <pack>/_missing.tera

            0 passed, 1 not run in [TIME]
            0 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
    check(
        "[meta]\nname = \"{{ env(name=\"UNSET\") }}\"\n",
        expect![[r#"
            exit 3
            -- stdout
            ERR   a.clnrm.toml  a.clnrm.toml
              a.clnrm.toml:2:12: error[render/failed]: function call `env` failed: the environment variable `UNSET` is not set, and there is no default
                |
              2 | name = "{{ env(name="UNSET") }}"
                |            ^

            0 passed, 1 not run in [TIME]
            0 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
    check(
        "{# nothing #}\n[meta]\nname = \"a\n",
        expect![[r#"
            exit 3
            -- stdout
            ERR   a.clnrm.toml  a.clnrm.toml
              a.clnrm.toml:3:10: error[parse/syntax]: invalid basic string, expected `"`
                |
              3 | name = "a
                |          ^

            0 passed, 1 not run in [TIME]
            0 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
}

#[test]
fn an_imported_file_that_does_not_parse() {
    let case = Case::new(
        r#"
//- /a.clnrm.toml
{% import "_broken.tera" as broken %}
[meta]
name = "a"

//- /_broken.tera
{% macro m() %}
"#,
    );
    let ran = case.clnrm(&["run"]);
    assert_eq!(ran.exit, Some(3), "{}", ran.seen());
    // The place is that of the import; where the mistake is must be told as well.
    assert!(ran.stdout.contains("a.clnrm.toml:1:12: error[render/syntax]"), "{}", ran.seen());
    assert!(ran.stdout.contains("_broken.tera"), "{}", ran.seen());
}

#[test]
fn a_service_that_is_not_there() {
    check(
        r#"[meta]
name = "a"

[services.api]
args = ["sleep", "1"]

[[scenario]]
name = "login"
service = "apii"
run = "true"
"#,
        expect![[r#"
            exit 3
            -- stdout
            ERR   a.clnrm.toml  a
              a.clnrm.toml:9:1: error[shape/unknown-service]: scenario `login` uses service `apii`, which is not in [services]
                |
              9 | service = "apii"
                | ^^^^^^^
                hint: did you mean `api`?

            0 passed, 1 not run in [TIME]
            0 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
}

#[test]
fn keys_that_are_left_out_yet() {
    check(
        r#"[meta]
name = "a"
isolation = "test"

[report]
html = "report.html"

[[scenario]]
name = "s"
run = "true"

[expect.hermeticity]
no_external_services = true
"#,
        expect![[r#"
            exit 0
            -- stdout
            PASS  a.clnrm.toml  a  [TIME]
              a.clnrm.toml:5:1: warning[left-out]: not supported yet: `report` is left out
                |
              5 | [report]
                | ^^^^^^^^

            1 passed in [TIME]
            1 run, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
}

#[test]
fn keys_that_nobody_knows() {
    check(
        r#"[meta]
name = "a"

[[scenario]]
nmae = "s"
name = "s"
run = "true"
"#,
        expect![[r#"
            exit 0
            -- stdout
            PASS  a.clnrm.toml  a  [TIME]
              a.clnrm.toml:5:1: warning[parse/unknown-key]: unknown key `nmae`
                |
              5 | nmae = "s"
                | ^^^^
                hint: did you mean `name`?

            1 passed in [TIME]
            1 run, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
}

#[test]
fn expectations_that_cannot_hold() {
    check(
        r#"[meta]
name = "a"

[[scenario]]
name = "s"
run = "true"

[[expect.span]]
kind = "sever"

[expect.order]
must_precede = [["a", "b"], ["b", "a"]]

[expect.counts]
spans_total = { min = 3, max = 2 }

[expect.status]
all = "fine"
"#,
        expect![[r#"
            exit 3
            -- stdout
            ERR   a.clnrm.toml  a
              a.clnrm.toml:8:1: error[shape/span-name]: an expected span needs a name
                |
              8 | [[expect.span]]
                | ^^^^^^^^^^^^^^^
                hint: add `name = "…"`; `*` stands for any
              a.clnrm.toml:9:1: error[shape/span-kind]: `sever` is no span kind
                |
              9 | kind = "sever"
                | ^^^^
                hint: did you mean `server`? the kinds are internal, server, client, producer, consumer
              a.clnrm.toml:11:1: error[shape/order-cycle]: no order satisfies a → b → a
                 |
              11 | [expect.order]
                 | ^^^^^^^^^^^^^^
                hint: take one of these pairs out
              a.clnrm.toml:15:1: error[shape/min-max]: nothing is at least 3 and at most 2
                 |
              15 | spans_total = { min = 3, max = 2 }
                 | ^^^^^^^^^^^
                hint: swap the two?
              a.clnrm.toml:18:1: error[parse/status]: `fine` is no status
                 |
              18 | all = "fine"
                 | ^^^
                hint: one of ok, error, unset, explicit_ok

            0 passed, 1 not run in [TIME]
            0 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
}

#[test]
fn the_settings_may_be_wrong_too() {
    let case = Case::new(
        r#"
//- /clnrm.toml
backend = "sandbx"
default_imgae = "host"

//- /a.clnrm.toml
[meta]
name = "a"

[[scenario]]
name = "s"
run = "true"
"#,
    );
    let ran = case.clnrm(&["run", "--backend", "sandbox"]);
    ran.check(expect![[r#"
        exit 3
        -- stdout
        clnrm.toml:1:1: error[settings/backend]: unknown backend `sandbx`
          |
        1 | backend = "sandbx"
          | ^^^^^^^
          hint: did you mean `sandbox`?
        clnrm.toml:2:1: warning[parse/unknown-key]: unknown key `default_imgae`
          |
        2 | default_imgae = "host"
          | ^^^^^^^^^^^^^
          hint: did you mean `default_image`?

        0 passed in [TIME]
        0 runs, 0 outcomes reused, [N] queries executed, [N] recalled
    "#]]);
    let dry = case.clnrm(&["dry-run"]);
    assert_eq!(dry.exit, Some(3), "{}", dry.seen());
    assert!(dry.stdout.contains("clnrm.toml:1:1: error[settings/backend]"), "{}", dry.seen());
    assert_eq!(case.clnrm(&["build"]).exit, Some(3));
    case.write("clnrm.toml", "jobs = [\n");
    let ran = case.clnrm(&["run", "--backend", "sandbox"]);
    assert_eq!(ran.exit, Some(3), "{}", ran.seen());
    assert!(ran.stdout.contains("clnrm.toml:1:9: error[parse/syntax]"), "{}", ran.seen());
}

const NAMED_IMAGE: &str = r#"
//- /a.clnrm.toml
[meta]
name = "a"

[services.app]
image = "localhost/clnrm/no-such-image:1"

[[scenario]]
name = "s"
service = "app"
run = "echo on the host"

//- /b.clnrm.toml
[meta]
name = "b"

[[scenario]]
name = "s"
run = "true"
"#;

#[test]
fn an_image_the_sandbox_does_not_have() {
    let case = Case::new(NAMED_IMAGE);
    case.clnrm(&["run"]).check(expect![[r#"
        exit 5
        -- stdout
        ERR   a.clnrm.toml  a
          a.clnrm.toml:5:1: error[image/unavailable]: the sandbox backend does not have the image `localhost/clnrm/no-such-image:1`
            |
          5 | image = "localhost/clnrm/no-such-image:1"
            | ^^^^^
            hint: it takes images from a Podman or Docker of this machine, a registry, or a file: `oci:image.tar`
        PASS  b.clnrm.toml  b  [TIME]

        1 passed, 1 not run in [TIME]
        1 run, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]]);
    case.run(&[]).check(expect![[r#"
        exit 5
        broken  a.clnrm.toml
        passed  b.clnrm.toml
        a.clnrm.toml:5:1: error[image/unavailable]: the sandbox backend does not have the image `localhost/clnrm/no-such-image:1`
        0 started, 1 reused, no queries executed
    "#]]);
}

#[test]
fn an_image_podman_does_not_have() {
    let test = "bad_input::an_image_podman_does_not_have";
    let Some(case) = On::Podman("host").case(test, NAMED_IMAGE) else { return };
    case.run(&[]).check(expect![[r#"
        exit 5
        broken  a.clnrm.toml
        passed  b.clnrm.toml
        a.clnrm.toml:5:1: error[image/unavailable]: the podman backend does not have the image `localhost/clnrm/no-such-image:1`
        1 started, 0 reused, some queries executed
    "#]]);
}

#[test]
fn a_mounted_file_that_is_not_there() {
    check(
        r#"[meta]
name = "a"

[services.app]
volumes = ["./target/release/app:/app:ro"]

[[scenario]]
name = "s"
service = "app"
run = "/app"
"#,
        expect![[r#"
            exit 3
            -- stdout
            ERR   a.clnrm.toml  a
              a.clnrm.toml:5:12: error[plan/missing-volume]: `target/release/app` is mounted, but is not there
                |
              5 | volumes = ["./target/release/app:/app:ro"]
                |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
                hint: paths are relative to the workspace

            0 passed, 1 not run in [TIME]
            0 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
}

#[test]
fn a_step_that_never_ends() {
    let case = Case::new(
        r#"
//- /a.clnrm.toml
[meta]
name = "a"

[[scenario]]
name = "s"

[[scenario.steps]]
name = "wait"
command = "echo waiting; sleep 1000"
timeout = "300ms"

[[scenario.steps]]
name = "after"
command = "echo never"
"#,
    );
    case.clnrm(&["run"]).check(expect![[r#"
        exit 1
        -- stdout
        FAIL  a.clnrm.toml  a  [TIME]
          a.clnrm.toml:7:1: scenario `s`, step `wait`
            was killed at its limit after [TIME], expected exit code 0
            | waiting

        0 passed, 1 failed in [TIME]
        1 run, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]]);
    // Such a run is not complete, so nobody may rest on it.
    assert_eq!(case.run(&[]).containers_started(), 1);
}

#[test]
fn a_test_that_never_ends() {
    check(
        r#"[meta]
name = "a"
timeout = "400ms"

[[scenario]]
name = "s"
run = "sleep 1000"
"#,
        expect![[r#"
            exit 1
            -- stdout
            FAIL  a.clnrm.toml  a  [TIME]
              a.clnrm.toml:7:1: scenario `s`, step `s`
                was killed at its limit after [TIME], expected exit code 0
              a.clnrm.toml:5:1: scenario `s`, the run
                the run reached its limit of 400ms

            0 passed, 1 failed in [TIME]
            1 run, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
}

#[test]
fn a_service_that_never_gets_ready() {
    check(
        r#"[meta]
name = "a"

[services.app]
args = ["sh", "-c", "echo starting; exec sleep 1000"]
wait_for = { port = 80, timeout = "300ms" }

[[scenario]]
name = "s"
service = "app"
run = "true"
"#,
        expect![[r#"
            exit 1
            -- stdout
            FAIL  a.clnrm.toml  a  [TIME]
              a.clnrm.toml:4:1: scenario `s`, service `app`
                service `app` was not ready within 300ms: port 80 does not accept a connection: nothing listens on any port
                | starting

            0 passed, 1 failed in [TIME]
            1 run, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
}

#[test]
fn a_step_that_fails() {
    check(
        r#"[meta]
name = "a"

[[scenario]]
name = "s"

[[scenario.steps]]
name = "one"
command = "echo out; echo err >&2; exit 7"

[[scenario.steps]]
name = "two"
command = "echo never"

[[scenario]]
name = "t"

[[scenario.steps]]
name = "program"
command = ["no-such-program"]
"#,
        expect![[r#"
            exit 1
            -- stdout
            FAIL  a.clnrm.toml  a  [TIME]
              a.clnrm.toml:7:1: scenario `s`, step `one`
                ended with exit code 7, expected exit code 0
                | out
                | err
              a.clnrm.toml:18:1: scenario `t`, step `program`
                did not start: cannot start `no-such-program`: No such file or directory (os error 2), expected exit code 0

            0 passed, 1 failed in [TIME]
            2 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
}

#[test]
fn a_span_that_never_comes() {
    check(
        r#"[meta]
name = "a"

[[scenario]]
name = "s"

[[scenario.steps]]
name = "greet"
command = "echo hello"

[[expect.span]]
name = "clnrm.step:greeet"

[[expect.span]]
name = "clnrm.step:greet"
kind = "server"

[[expect.span]]
name = "GET /"
"#,
        expect![[r#"
            exit 1
            -- stdout
            FAIL  a.clnrm.toml  a  [TIME]
              a.clnrm.toml:11:1: expect.span[0]
                no span is named `clnrm.step:greeet` (7 spans looked at)
                nearest: did you mean `clnrm.step:greet`? there are `clnrm.run` (1), `clnrm.scenario.s` (1), `clnrm.step:greet` (1), `clnrm.test` (1), `default.exec` (1), `default.start` (1), `default.stop` (1)
              a.clnrm.toml:14:1: expect.span[1]
                the span `clnrm.step:greet` does not satisfy all of it (7 spans looked at)
                nearest: `clnrm.step:greet`: kind is internal, expected server
              a.clnrm.toml:18:1: expect.span[2]
                no spans were collected from the code under test; it may not export OTLP, or not to the address in OTEL_EXPORTER_OTLP_ENDPOINT (0 spans looked at)

            0 passed, 1 failed in [TIME]
            1 run, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        "#]],
    );
}

#[test]
fn endless_output_takes_no_memory() {
    let case = Case::new(
        r#"
//- /a.clnrm.toml
[meta]
name = "a"

[[scenario]]
name = "s"

[[scenario.steps]]
command = "head -c 200000000 /dev/zero"

[[scenario.steps]]
command = "echo told"
expected_output_contains = "told"
"#,
    );
    let mut running = case.start(&["run"]);
    let (mut peak, status) = (0, format!("/proc/{}/status", running.pid()));
    wait_until("its end", Duration::from_secs(60), || {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
        peak = peak.max(kilobytes.unwrap_or(0));
        !running.is_running()
    });
    let ran = running.finish();
    assert_eq!(ran.exit, Some(0), "{}", ran.seen());
    assert!((1..200_000).contains(&peak), "{peak} kB");
}

#[test]
fn nothing_to_run() {
    let case = Case::new("//- /notes.toml\nkey = 1\n\n//- /_library.clnrm.toml\n[meta]\n");
    case.clnrm(&["run"]).check(expect![[r#"
        exit 4
        -- stderr
        no tests found; `clnrm init` makes some
    "#]]);
    case.clnrm(&["dry-run"]).check(expect![[r#"
        exit 4
        -- stderr
        no tests found; `clnrm init` makes some
    "#]]);
    case.clnrm(&["build"]).check(expect![[r#"
        exit 4
        -- stderr
        no tests found; `clnrm init` makes some
    "#]]);
}

#[test]
fn a_path_that_does_not_exist() {
    let case = Case::new(ONE);
    case.clnrm(&["run", "nowhere"]).check(expect![[r#"
        exit 2
        -- stderr
        error: cannot find nowhere: No such file or directory (os error 2)
    "#]]);
    case.clnrm(&["render", "nowhere.clnrm.toml"]).check(expect![[r#"
        exit 2
        -- stderr
        error: cannot find nowhere.clnrm.toml: No such file or directory (os error 2)
    "#]]);
    case.clnrm(&["render", "."]).check(expect![[r#"
        exit 2
        -- stderr
        error: . is a folder; name one file
    "#]]);
    assert_eq!(case.clnrm(&["dry-run", "nowhere"]).exit, Some(2));
    assert_eq!(case.clnrm(&["build", "nowhere"]).exit, Some(2));
}

#[test]
fn a_command_line_that_says_nothing() {
    let case = Case::new(ONE);
    for args in [&["rnu"][..], &["run", "--jobs", "0"], &["run", "--backend", "dcoker"], &[]] {
        let ran = case.clnrm(args);
        assert_eq!((ran.exit, ran.stdout.as_str()), (Some(2), ""), "{args:?}: {}", ran.seen());
    }
}
