//! Given this file, this is what the stages before a run say of it.

mod misspelt;

use std::sync::Arc;

use clnrm_engine::{Engine, Memory, Options, Unit};
use expect_test::{Expect, expect};
use proptest::prelude::*;

use crate::diagnostic::Problem;
use crate::{CHECK, PLAN, QUERIES, RENDERED, facts};

const FILE: &str = "tests/t.clnrm.toml";

fn engine(files: &[(&str, &str)]) -> Engine {
    let memory = Memory::default();
    files.iter().for_each(|(path, text)| memory.write(path, *text));
    memory.set_env("SET", Some("from the environment"));
    Engine::new(Options {
        system: Arc::new(memory),
        facts: Arc::new(|kind, name| match (kind, name) {
            (facts::BACKEND, _) => Some(br#""sandbox""#.to_vec()),
            (facts::IMAGE, "host") => Some(br#"{"Ok":{"Host":"h"}}"#.to_vec()),
            (facts::IMAGE, _) => Some(br#"{"Ok":null}"#.to_vec()),
            _ => None,
        }),
        tool: b"test",
        queries: &QUERIES,
        store: None,
        checking: clnrm_engine::Checking::Nothing,
        trust: Default::default(),
    })
}

/// What the check says of a file, a line each.
fn check(text: &str, expected: Expect) {
    let mut engine = engine(&[(FILE, text)]);
    let check = engine.demand(&CHECK, &[Unit::file(FILE)]).pop().unwrap().unwrap();
    let mut said = String::new();
    for d in &check.diagnostics {
        said += &format!("{}:{} {:?}[{}] {}\n", d.line, d.column, d.severity, d.code, d.message);
        if let Some(hint) = &d.hint {
            said += &format!("    {hint}\n");
        }
    }
    expected.assert_eq(&said);
}

/// What a template renders to, or why it does not.
fn render(files: &[(&str, &str)], expected: Expect) {
    let mut engine = engine(files);
    let rendered = engine.demand(&RENDERED, &[Unit::file(files[0].0)]).pop().unwrap().unwrap();
    expected.assert_eq(&match rendered.as_ref() {
        Ok(text) => text.0.to_string(),
        Err(problem) => format!("{:?} [{}] {}\n", problem.at, problem.code, problem.message),
    });
}

/// The action of a file's first scenario.
fn plan(files: &[(&str, &str)], expected: Expect) {
    let mut engine = engine(files);
    let unit = Unit::file(files[0].0).part("0");
    let plan = engine.demand(&PLAN, &[unit]).pop().unwrap().unwrap();
    expected.assert_eq(&match plan.as_ref() {
        Ok(action) => format!("{action:#?}\n"),
        Err(problems) => problems.iter().map(|p| format!("[{}] {}\n", p.code, p.message)).collect(),
    });
}

#[test]
fn the_three_families_are_read() {
    for text in [
        "[meta]\nname = \"a\"\nversion = \"1\"\n[[scenario]]\nname = \"s\"\nrun = \"true\"\n",
        "[test.metadata]\nname = \"a\"\n[services.x]\ntype = \"generic_container\"\n\
         [[steps]]\nname = \"s\"\ncommand = [\"true\"]\nservice = \"x\"\n",
        "name = \"a\"\n[[scenarios]]\nname = \"s\"\nsteps = [\n  { name = \"x\", cmd = [\"true\"] },\n]\n",
    ] {
        check(text, expect![[""]]);
    }
}

#[test]
fn toml_errors_have_a_place() {
    check(
        "[meta]\nname = \"a\n",
        expect![[r#"
        2:10 Error[parse/syntax] invalid basic string, expected `"`
    "#]],
    );
    check(
        "[meta]\nname = \"a\"\nname = \"b\"\n",
        expect![[r#"
        3:1 Error[parse/syntax] duplicate key
            a key may be set once; merge the two
    "#]],
    );
}

#[test]
fn names_are_needed_and_told_apart() {
    check(
        "[meta]\n[[scenario]]\nrun = \"true\"\n[[scenario]]\nname = \"s\"\nrun = \"true\"\n\
         [[scenario]]\nname = \"s\"\n",
        expect![[r#"
            1:1 Error[shape/no-name] the test has no name
                add `[meta]` with `name = "…"`
            2:1 Error[shape/no-name] the scenario has no name
            7:1 Error[shape/duplicate-name] two scenarios are named `s`
            7:1 Error[shape/nothing-to-run] the scenario `s` does nothing
                add `run = "…"` or steps
        "#]],
    );
}

#[test]
fn services_are_found_and_started_in_some_order() {
    check(
        "[meta]\nname = \"a\"\n[services.api]\ndepends_on = [\"db\"]\n[services.db]\n\
         depends_on = [\"api\"]\n[services.x]\ndepends_on = [\"y\"]\n\
         [[scenario]]\nname = \"s\"\nservice = \"apii\"\nrun = \"true\"\n",
        expect![[r#"
            4:1 Error[shape/dependency-cycle] services depend on each other in a circle: api → db → api
            8:1 Error[shape/unknown-service] service `x` depends on `y`, which is not there
            11:1 Error[shape/unknown-service] scenario `s` uses service `apii`, which is not in [services]
                did you mean `api`?
        "#]],
    );
}

#[test]
fn unknown_keys_are_warnings_with_a_guess() {
    check(
        "[meta]\nname = \"a\"\ndescripton = \"x\"\n[[scenario]]\nname = \"s\"\nrun = \"true\"\n\
         expected_exit_cod = 1\n",
        expect![[r#"
            3:1 Warning[parse/unknown-key] unknown key `descripton`
                did you mean `description`?
            7:1 Error[parse/unknown-expectation] unknown key `expected_exit_cod`
                did you mean `expected_exit_code`?
        "#]],
    );
}

#[test]
fn what_is_not_supported_is_told() {
    check(
        "[meta]\nname = \"a\"\n[report]\njson = \"g\"\n[[scenario]]\nname = \"s\"\n\
         run = \"true\"\n[expect.window]\nmax_duration_ms = 1\n",
        expect![[r#"
            3:1 Warning[left-out] not supported yet: `report` is left out
        "#]],
    );
}

#[test]
fn values_have_types_and_bounds() {
    check(
        "[meta]\nname = 1\n[services.a]\nports = [0, \"x\"]\nvolumes = [\"a\", \"./b:/proc\", \"c:d\"]\n\
         [[scenario]]\nname = \"s\"\nrun = \"true\"\ntimeout_ms = \"soon\"\n\
         [[expect.span]]\nname = \"\"\nkind = \"srever\"\nduration_ms = { min = 5, max = 1 }\n\
         [expect.counts]\nspans_total = { min = 3, max = 2 }\nby_kind.foo = {}\n\
         [expect.status]\nall = \"good\"\n[expect.graph]\nmust_include = [[\"a\"]]\n",
        expect![[r#"
            1:1 Error[shape/no-name] the test has no name
                add `[meta]` with `name = "…"`
            2:1 Error[parse/type] `meta.name` must be a string, it is an integer
            4:10 Error[parse/port] this is no port
                write 8080 or "8080:80"
            4:13 Error[parse/port] this is no port
                write 8080 or "8080:80"
            5:12 Error[parse/volume] this is no volume
                write "./folder:/inside:ro"
            5:17 Error[shape/volume-target] `/proc` belongs to the container
            5:17 Error[plan/missing-volume] `b` is mounted, but is not there
                paths are relative to the workspace
            5:30 Error[shape/volume-target] `d` is no absolute path
            5:30 Error[plan/missing-volume] `c` is mounted, but is not there
                paths are relative to the workspace
            9:1 Error[parse/duration] this is no duration of at most a week
                write it like "30s", "500ms", "2m" or "1h"
            10:1 Error[shape/span-name] an expected span needs a name
                add `name = "…"`; `*` stands for any
            12:1 Error[shape/span-kind] `srever` is no span kind
                did you mean `server`? the kinds are internal, server, client, producer, consumer
            13:1 Error[shape/min-max] nothing is at least 5 and at most 1
                swap the two?
            15:1 Error[shape/min-max] nothing is at least 3 and at most 2
                swap the two?
            16:9 Error[shape/span-kind] `foo` is no span kind
                the kinds are internal, server, client, producer, consumer
            16:9 Error[shape/no-bound] `expect.counts.by_kind.foo` has no bound
                give min, max or eq
            18:1 Error[parse/status] `good` is no status
                one of ok, error, unset, explicit_ok
            20:17 Error[parse/type] `expect.graph.must_include[0]` must be a pair of names, it is an array
        "#]],
    );
}

#[test]
fn orders_that_cannot_be_are_refused() {
    check(
        "[meta]\nname = \"a\"\n[[scenario]]\nname = \"s\"\nrun = \"true\"\n[expect.order]\n\
         must_precede = [[\"a\", \"b\"], [\"b\", \"c\"]]\nmust_follow = [[\"a\", \"c\"]]\n",
        expect![[r#"
            6:1 Error[shape/order-cycle] no order satisfies a → b → c → a
                take one of these pairs out
        "#]],
    );
}

#[test]
fn regular_expressions_compile() {
    check(
        "[meta]\nname = \"a\"\n[[steps]]\nname = \"s\"\ncommand = \"true\"\n\
         expected_output_regex = \"(\"\n[[expect.span]]\nname = \"x\"\n\
         attrs.all = { k = { matches = \"[\" } }\n",
        expect![[r#"
            6:26 Error[shape/regex] `(` is no regular expression: unclosed group
            9:32 Error[shape/regex] `[` is no regular expression: unclosed character class
        "#]],
    );
}

#[test]
fn a_file_that_is_no_text() {
    let mut engine = engine(&[]);
    let check = engine.demand(&CHECK, &[Unit::file("gone.clnrm.toml")]).pop().unwrap().unwrap();
    assert_eq!(check.diagnostics[0].message, "the file cannot be read: there is no such file");
}

#[test]
fn templates_see_functions_and_their_own_variables() {
    let text = "[vars]\nname = \"n\"\n\n{{ vars.name }} {{ name }} {{ env(name=\"SET\") }} \
                {{ env(name=\"UNSET\", default=\"d\") }} {{ now_rfc3339() }}\n\
                {{ sha256(s=\"abc\") }}\n{{ toml_encode(value=[1, 'a\"b', true]) }}\n";
    render(
        &[("t.toml.tera", text)],
        expect![[r#"
            [vars]
            name = "n"

            n n from the environment d 2025-01-01T00:00:00Z
            ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
            [1, 'a"b', true]
        "#]],
    );
}

#[test]
fn the_clock_of_a_template_is_the_one_of_its_test() {
    let text = "[determinism]  # frozen\nfreeze_clock = \"2030-01-02T03:04:05Z\"\n\n{{ now_rfc3339() }}\n\
         {{ now_unix() }} {{ fake_int_range(7, 7) }}\n";
    render(
        &[("t.toml.tera", text)],
        expect![[r#"
        [determinism]  # frozen
        freeze_clock = "2030-01-02T03:04:05Z"

        2030-01-02T03:04:05Z
        1893553445 7
    "#]],
    );
}

#[test]
fn libraries_are_found_beside_the_file_and_in_templates() {
    let text = "{% import \"a.tera\" as a %}{{ a::say() }}{% include \"b.tera\" %}\n";
    let a = "{% macro say() %}beside{% endmacro say %}";
    render(
        &[("tests/t.toml.tera", text), ("tests/a.tera", a), ("templates/b.tera", " below")],
        expect![[r#"
            beside below
        "#]],
    );
    render(
        &[("tests/t.toml.tera", text), ("tests/a.tera", a)],
        expect![[r#"
        Source(1, 53) [render/missing-template] there is no template `b.tera`
    "#]],
    );
    render(
        &[("t.toml.tera", "{% include \"../etc/passwd\" %}")],
        expect![[r#"
        Source(1, 13) [render/outside] `../etc/passwd` lies outside the folders templates are taken from
    "#]],
    );
}

#[test]
fn template_errors_have_a_place() {
    render(
        &[("t.toml.tera", "a\n{% if %}\n")],
        expect![[r#"
        Source(2, 7) [render/syntax] expected a value that can be negated
    "#]],
    );
    render(
        &[("t.toml.tera", "a\n  {{ nobody }}\n")],
        expect![[r#"
            Source(2, 6) [render/failed] variable `nobody` not found in context
        "#]],
    );
    render(
        &[("t.toml.tera", "a\n{{ env(name=\"UNSET\") }}\n")],
        expect![[r#"
            Source(2, 4) [render/failed] function call `env` failed: the environment variable `UNSET` is not set, and there is no default
        "#]],
    );
}

#[test]
fn templates_that_call_themselves_are_refused() {
    render(
        &[("t.toml.tera", "{% include \"t.toml.tera\" %}")],
        expect![[r#"
        Source(1, 13) [render/recursion] templates include each other in a circle: t.toml.tera → t.toml.tera
    "#]],
    );
    let (a, b) = ("{% include \"b.tera\" %}", "{% include \"a.tera\" %}");
    render(
        &[("t.toml.tera", a), ("a.tera", a), ("b.tera", b)],
        expect![[r#"
            Source(1, 13) [render/recursion] templates include each other in a circle: b.tera → a.tera → b.tera
        "#]],
    );
    let text = "{% macro a() %}{{ self::b() }}{% endmacro a %}\n\
                {% macro b() %}{{ self::a() }}{% endmacro b %}{{ self::a() }}";
    render(
        &[("t.toml.tera", text)],
        expect![[r#"
            Source(2, 56) [render/recursion] macros call each other in a circle: a (t.toml.tera) → b (t.toml.tera) → a (t.toml.tera)
        "#]],
    );
}

#[test]
fn expectations_that_nobody_understands_keep_a_test_from_being_run() {
    let text = "[meta]\nname = \"a\"\n[[scenario]]\nname = \"s\"\nrun = \"true\"\n\
                [[expect.span]]\nname = \"x\"\natrs.all = { a = 1 }\n";
    check(
        text,
        expect![[r#"
            8:1 Error[parse/unknown-expectation] unknown key `atrs`
                did you mean `attrs`?
        "#]],
    );
    let mut engine = engine(&[(FILE, text)]);
    let report = engine.demand(&crate::REPORT, &[Unit::file(FILE)]).pop().unwrap().unwrap();
    assert_eq!(report.state(), crate::State::Broken);
}

#[test]
fn expectations_that_say_nothing_are_refused() {
    check(
        "[meta]\nname = \"a\"\n[[scenario]]\nname = \"s\"\nrun = \"true\"\nexpected_exit_code = 256\n\
         [[expect.span]]\nname = \"db.{drop\"\nexists = false\n\
         attrs.all = { http.method = \"GET\" }\nattrs.any = { x = {} }\n",
        expect![[r#"
            6:1 Error[parse/range] 256 is no exit code
            8:12 Error[shape/glob] `db.{drop` is no glob: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)
                put signs that are meant as they are in brackets: `[{]`
            10:15 Error[parse/predicate] nothing is said of this attribute
                a name with dots needs quotes: "http.method" = "GET"
            10:20 Error[parse/unknown-expectation] unknown key `method`
                it looks like an expectation, and clnrm does not know it; `clnrm gen` prints those it knows
            11:15 Error[parse/predicate] nothing is said of this attribute
                a name with dots needs quotes: "http.method" = "GET"
        "#]],
    );
}

#[test]
fn exit_codes_belong_to_one_step() {
    check(
        "[meta]\nname = \"a\"\n[[scenario]]\nname = \"s\"\nexpected_exit_code = 1\n\
         steps = [{ command = \"a\", should_fail = true, expected_exit_code = 0 }, { command = \"b\" }]\n",
        expect![[r#"
            5:1 Error[parse/misplaced] `expected_exit_code` belongs to one of the scenario's steps
            6:27 Error[parse/exit-code] a step that should fail cannot be expected to end with 0
        "#]],
    );
}

#[test]
fn a_name_that_is_taken_is_told() {
    check(
        "[meta]\nname = \"a\"\n[services.a]\nports = [80]\n[services.default]\nports = [\"8080:80\"]\n\
         [[scenario]]\nname = \"s\"\nrun = \"true\"\n",
        expect![[r#"
            5:1 Error[shape/reserved-name] step `s` names no service, and `default` is the name of the container for such
                name the service differently, or name it at the step
        "#]],
    );
}

#[test]
fn a_plan_says_everything() {
    let text = "[meta]\nname = \"a\"\n[determinism]\nseed = 7\n[services.db]\nargs = [\"db\"]\nports = [5432]\n\
                [services.app]\nargs = \"app --fast\"\ndepends_on = [\"db\"]\nenv = { A = 1 }\n\
                volumes = [\"${PWD}/bin:/bin/app:ro\"]\nwait_for = { http = \"/health\", port = 80 }\n\
                [[scenario]]\nname = \"s\"\nservice = \"app\"\n\
                steps = [{ command = \"false\", should_fail = true }, { command = [\"true\"], expected_exit_code = 3 }]\n";
    plan(
        &[(FILE, text), ("bin", "binary")],
        expect![[r#"
            Action {
                backend: Sandbox,
                network: Isolated,
                allowed: [],
                lasting: true,
                seed: 7,
                clock: Some(
                    1735689600,
                ),
                spans_on_stdout: false,
                forward: None,
                group: None,
                retries: 0,
                time_limit: 300s,
                settle: 0ns,
                limits: Limits {
                    cpu_millicores: None,
                    memory_mb: None,
                    pids: None,
                },
                services: [
                    ServicePlan {
                        name: "db",
                        image: Host(
                            "h",
                        ),
                        process: Argv(
                            [
                                "db",
                            ],
                        ),
                        env: {},
                        mounts: [],
                        workdir: None,
                        ports: [
                            5432,
                        ],
                        publish: false,
                        ready: [
                            Port(
                                5432,
                            ),
                        ],
                        ready_limit: 30s,
                    },
                    ServicePlan {
                        name: "app",
                        image: Host(
                            "h",
                        ),
                        process: Argv(
                            [
                                "app",
                                "--fast",
                            ],
                        ),
                        env: {
                            "A": "1",
                        },
                        mounts: [
                            Mount {
                                source: "bin",
                                digest: "f5ee32a82e0d2708e30b9ccdb03d56f9890f07f608c1095c0b1a071485b8111d",
                                target: "/bin/app",
                                read_only: true,
                            },
                        ],
                        workdir: None,
                        ports: [],
                        publish: false,
                        ready: [
                            Http {
                                port: 80,
                                path: "/health",
                                status: 200,
                            },
                        ],
                        ready_limit: 30s,
                    },
                ],
                concurrent: false,
                steps: [
                    StepPlan {
                        name: "step-1",
                        service: 1,
                        argv: [
                            "sh",
                            "-c",
                            "false",
                        ],
                        awaits: None,
                        env: {},
                        workdir: None,
                        time_limit: 60s,
                        goes_on_after: Failure,
                        retry: None,
                    },
                    StepPlan {
                        name: "step-2",
                        service: 1,
                        argv: [
                            "true",
                        ],
                        awaits: None,
                        env: {},
                        workdir: None,
                        time_limit: 60s,
                        goes_on_after: Anything,
                        retry: None,
                    },
                ],
            }
        "#]],
    );
}

#[test]
fn what_cannot_be_planned_is_told() {
    let text = "[meta]\nname = \"a\"\n[services.app]\nimage = \"nginx:1\"\nvolumes = [\"./gone:/x\"]\n\
                [[scenario]]\nname = \"s\"\nservice = \"app\"\nrun = \"true\"\n";
    plan(
        &[(FILE, text)],
        expect![[r#"
        [image/unavailable] the sandbox backend does not have the image `nginx:1`
        [plan/missing-volume] `gone` is mounted, but is not there
    "#]],
    );
}

/// Pieces of test files of which many are right, and many nearly.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "[meta]\n",
        "name = \"a\"\n",
        "name = 1\n",
        "tags = [\"x\", 2]\n",
        "timeout = \"30s\"\n",
        "timeout = -1\n",
        "timeout = 1e300\n",
        "[services.a]\n",
        "image = \"x\"\n",
        "ports = [1, \"2:3\", 70000, -1]\n",
        "args = \"a 'b\"\n",
        "volumes = [\"a:b:c:d\", {host_path=\"x\"}, 1]\n",
        "depends_on = \"a\"\n",
        "wait_for = {log=\"(\", http=\"/\", seconds=-1}\n",
        "health_check = {cmd=\"x\", retries=99999999999}\n",
        "env = {A = 1, B = []}\n",
        "env = [\"A\", \"B=1\"]\n",
        "[[scenario]]\n",
        "run = \"true\"\n",
        "run = [{command=\"x\"}, 1]\n",
        "expected_exit_code = 300\n",
        "service = \"a\"\n",
        "[[scenario.steps]]\n",
        "[[steps]]\n",
        "command = []\n",
        "command = [\"a\", 1]\n",
        "retry = {max_attempts = 0, delay = \"x\"}\n",
        "max_retries = 4294967296\n",
        "should_fail = true\n",
        "expected_output_regex = \"(é[\"\n",
        "[[expect.span]]\n",
        "kind = \"x\"\n",
        "attrs.all = {a = {gte = 1, x = 2}, b = [[1]]}\n",
        "attrs.any = [\"a\", \"b=c\"]\n",
        "attrs = 1\n",
        "duration_ms = {min = 2, max = 1}\n",
        "count = {min = -1}\n",
        "[expect.order]\n",
        "must_precede = [[\"a\", \"b\"], [\"b\", \"a\"], [1]]\n",
        "[expect.graph]\n",
        "edges = [[\"a[\", \"b{\"]]\n",
        "must_include = 1\n",
        "[expect.counts]\n",
        "[expect.count]\n",
        "by_name.\"é{\" = {eq = 1}\n",
        "spans_total = {}\n",
        "[expect.window]\n",
        "[[expect.window]]\n",
        "outer = \"a\"\n",
        "\"x\" = {contains = [\"y\"]}\n",
        "[expect.status]\n",
        "all = \"odd\"\n",
        "[expect.status.by_name]\n",
        "x = \"ok\"\n",
        "[expect.hermeticity]\n",
        "no_external_services = true\n",
        "[assertions]\n",
        "all_steps_should_succeed = 1\n",
        "[otel_validation]\n",
        "expected_spans = [1]\n",
        "[otel]\n",
        "exporter = \"x\"\n",
        "sample_ratio = 2\n",
        "isolation = \"test\"\n",
        "[expect]\n",
        "[limits]\n",
        "max_duration_seconds = -5\n",
        "[determinism]\n",
        "freeze_clock = 1\n",
        "seed = -1\n",
        "\"\"\"\n",
        "# c\n",
        "[[[\n",
        "= 1\n",
        "a.b.c = 1\n",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn whatever_is_written_is_read_or_refused(pieces in prop::collection::vec(piece(), 0..24)) {
        let text = pieces.concat();
        let mut engine = engine(&[(FILE, &text)]);
        let unit = Unit::file(FILE);
        let lint = engine.demand(&crate::LINT, std::slice::from_ref(&unit)).pop().unwrap();
        let lint = lint.expect("no query panics");
        for one in &lint.diagnostics {
            prop_assert!(one.line > 0, "a diagnostic has a place: {one:?}\n{text}");
        }
        // What is sound can be planned, too.
        if lint.is_sound() {
            for number in 0..lint.glance.scenarios {
                let plan = engine.demand(&PLAN, &[crate::numbered(&unit, number)]).pop().unwrap();
                prop_assert!(plan.is_ok(), "no query panics\n{text}");
            }
        }
    }
}

/// What is told of a test with these lines in its scenario's table, codes alone.
fn codes_with(lines: &str) -> Vec<String> {
    let text = format!("[meta]\nname = \"t\"\n[[scenario]]\nname = \"s\"\n{lines}\n");
    let test = crate::model::read_text(&text);
    crate::shape::check(&test).problems.into_iter().map(|problem| problem.code).collect()
}

#[test]
fn a_scenario_with_run_takes_the_keys_of_a_step() {
    let keys = "expected_exit_code = 3\nexpected_output_regex = \"a\"\nexpected_output_regex_not = \"b\"\n\
                expected_output_contains = \"c\"\nretry = { max_attempts = 2 }\nworkdir = \"/\"";
    assert_eq!(codes_with(&format!("run = \"true\"\n{keys}")), Vec::<String>::new());
    let text = format!("[meta]\nname = \"t\"\n[[scenario]]\nname = \"s\"\nrun = \"x\"\n{keys}\n");
    let step = crate::model::read_text(&text).scenarios.remove(0).steps.remove(0);
    assert_eq!(step.exit, crate::model::Exit::Code(3));
    assert_eq!((step.attempts, step.stdout_contains.as_deref()), (2, Some("c")));
    let own = "steps = [{ command = \"a\" }]";
    assert_eq!(codes_with(&format!("{own}\n{keys}")), vec!["parse/misplaced"; 6]);
}

/// The expectations of a test with these lines at its end, and what is told of it.
fn expected_by(lines: &str) -> (Vec<crate::expectation::Expectation>, Vec<String>) {
    let text = format!("[meta]\nname = \"t\"\n[[scenario]]\nname = \"s\"\nrun = \"x\"\n{lines}\n");
    let test = crate::model::read_text(&text);
    let problems = crate::shape::check(&test).problems.into_iter();
    let told = |problem: Problem| {
        format!(
            "{:?} [{}] {}; {}",
            problem.severity,
            problem.code,
            problem.message,
            problem.hint.unwrap_or_default()
        )
    };
    (test.expectations.into_iter().map(|it| it.expectation).collect(), problems.map(told).collect())
}

#[test]
fn words_of_later_files_mean_what_the_words_of_expect_mean() {
    for (later, own) in [
        ("count = 2", "count = 2"),
        ("count = { min = 1, max = 3 }", "count = { gte = 1, lte = 3 }"),
        ("parent = \"p\"", "parent = \"p\""),
        ("max_duration_ms = 5", "duration_ms = { max = 5 }"),
        ("min_duration_ms = 1\nmax_duration_ms = 5.5", "duration_ms = { min = 1, max = 5.5 }"),
        ("required_attributes = [\"a.b\"]", "attrs.all = { \"a.b\" = { exists = true } }"),
        ("required_attributes = \"a\"", "attrs.all = { a = { exists = true } }"),
        ("required_attributes = { a = 1 }", "attrs.all = { a = 1 }"),
        (
            "attributes = { a = 1 }\nrequired_attributes = [\"a\", \"b\"]",
            "attrs.all = { a = 1, b = { exists = true } }",
        ),
    ] {
        let later =
            expected_by(&format!("[[otel_validation.expected_spans]]\nname = \"n\"\n{later}"));
        let own = expected_by(&format!("[[expect.span]]\nname = \"n\"\n{own}"));
        assert_eq!(later, own);
        assert_eq!((later.0.len(), later.1), (1, Vec::new()));
    }
}

#[test]
fn other_words_of_later_files_are_refused_by_name() {
    let spans = "[[otel_validation.expected_spans]]\nname = \"n\"\n";
    let mut told = String::new();
    for lines in [
        "[[expect.output]]\npattern = \"a\"",
        "[expect.output]\npattern = \"a\"",
        "[[scenario.expect.output]]\npattern = \"a\"",
        "[[expect.status]]\nexit_code = 0",
        "[expect.status]\nexit_code = 0",
        "[expect.temporal]\nmax_gap_ms = 1",
        "[[expect.temporal]]\nbefore = \"a\"",
        "[otel_validation.temporal_constraints]\na = 1",
        &format!("{spans}duration_constraints = {{ max = 1 }}"),
        &format!("{spans}required_attributes = []"),
        &format!("{spans}required = false\ncount = 1"),
        &format!("{spans}attributes = {{ a = 1 }}\nrequired_attributes = {{ a = 2 }}"),
        "[services.a]\nlimits = { memory_mb = 1 }",
        "[services.a]\nresources = { memory_limit = \"1G\" }",
    ] {
        let problems = expected_by(lines).1;
        assert!(!problems.is_empty(), "{lines}");
        told += &(problems.join("\n") + "\n");
    }
    expect![[r#"
        Error [parse/misplaced] `expect.output` is no expectation of clnrm; write `expected_output_regex` on the step whose output it is
        Error [parse/misplaced] `expect.output` is no expectation of clnrm; write `expected_output_regex` on the step whose output it is
        Error [parse/misplaced] `expect.output` is no expectation of clnrm; write `expected_output_regex` on the step whose output it is
        Error [parse/misplaced] `expect.status` is one table, not a list; `[expect.status]` is about spans; write `expected_exit_code` on the step for an exit code
        Error [parse/misplaced] spans have no `exit_code`; `[expect.status]` is about spans; write `expected_exit_code` on the step for an exit code
        Error [parse/misplaced] `expect.temporal` is no expectation of clnrm; write `must_precede` in `[expect.order]`, or a `[[expect.window]]`
        Error [parse/misplaced] `expect.temporal` is no expectation of clnrm; write `must_precede` in `[expect.order]`, or a `[[expect.window]]`
        Error [parse/unknown-expectation] unknown key `temporal_constraints`; it belongs in [[expect.span]] or [[expect.window]], each limit as a key
        Error [shape/empty-expectation] `otel_validation` expects nothing; say what is expected, or take it out
        Error [parse/unknown-expectation] unknown key `duration_constraints`; it belongs in [[expect.span]] or [[expect.window]], each limit as a key
        Error [shape/empty-expectation] `otel_validation.expected_spans[0].required_attributes` names nothing; say what is expected, or take it out
        Error [shape/empty-expectation] `otel_validation.expected_spans[0]` expects nothing when it is not required; say what is expected, or take it out
        Error [shape/empty-expectation] `otel_validation` expects nothing; say what is expected, or take it out
        Error [parse/twice] `attributes` has `a` too; keep one of them
        Error [parse/misplaced] a service has no `limits` of its own; `[limits]` at the top sets the limits of every container
        Warning [left-out] not supported yet: `resources` is left out; `[limits]` at the top sets the limits of every container
    "#]].assert_eq(&told);
}

#[test]
fn commands_that_do_nothing_are_refused() {
    for command in [
        "\"\"",
        "\" \\n\"",
        "\"# todo\"",
        "[]",
        "[\"\"]",
        "[\"sh\", \"-c\", \"\"]",
        "[\"sh\"]",
        "[\"sh\", \"-e\", \"-c\", \"# x\"]",
    ] {
        let steps = format!("steps = [{{ command = {command} }}]");
        assert_eq!(codes_with(&steps), ["shape/no-command"], "{command}");
    }
    assert_eq!(codes_with("run = \"# why\\ntrue\""), Vec::<String>::new());
}

#[test]
fn patterns_that_match_every_text_are_refused() {
    let of =
        |pattern: &str| codes_with(&format!("run = \"true\"\nexpected_output_regex = '{pattern}'"));
    for pattern in ["", ".*", "a*", "(foo)?", "^", "$", "(?s).*"] {
        assert_eq!(of(pattern), ["shape/empty-expectation"], "{pattern}");
    }
    for pattern in ["^$", "a", ".+", r"\A\z", "^a*$"] {
        assert_eq!(of(pattern), Vec::<String>::new(), "{pattern}");
    }
}

#[test]
fn variables_may_be_set_at_the_top_and_name_themselves() {
    for text in [
        "vars = { env = \"e\" }\nx = \"{{ env }}\"\n",
        "vars.env = \"e\"\nx = \"{{ env }}\"\n",
        "[\"vars\"]\nenv = \"e\"\n[a]\nx = \"{{ env }}\"\n",
        "[vars]\nenv = \"{{ env | default(value='e') }}\"\n[a]\nx = \"{{ env }}\"\n",
    ] {
        let mut engine = engine(&[(FILE, text)]);
        let rendered = engine.demand(&RENDERED, &[Unit::file(FILE)]).pop().unwrap().unwrap();
        let text = rendered.as_ref().as_ref().map_or("", |text| &text.0).to_owned();
        // The built-in `env` is the outer value of a variable that names itself.
        assert!(text.contains("x = \"e\"") || text.contains("x = \"ci\""), "{text}: {rendered:?}");
    }
}

#[test]
fn empty_lists_and_axes_are_refused() {
    let codes = |lines: &str| {
        let text =
            format!("{lines}\n[meta]\nname = \"t\"\n[[scenario]]\nname = \"s\"\nrun = \"true\"\n");
        let test = crate::model::read_text(&text);
        crate::shape::check(&test).problems.into_iter().map(|it| it.code).collect::<Vec<_>>()
    };
    for lines in [
        "[expect]\nspan = []",
        "[expect]\nallow_incomplete = true",
        "[expect]",
        "[assertions]",
        "[[expect.window]]\nmin_span_count = 0",
    ] {
        assert_eq!(codes(lines), ["shape/empty-expectation"], "{lines}");
    }
    for lines in
        ["[matrix]\nn = []", "[matrix]\nn = 5", "[matrix]\nn = {}", "[template.matrix]\nn = \"x\""]
    {
        assert_eq!(codes(lines), ["parse/matrix"], "{lines}");
    }
    assert_eq!(codes("[matrix]\nn = [1]"), Vec::<String>::new());
}

#[test]
fn waits_that_wait_for_nothing_are_refused() {
    for (lines, expected) in [
        ("run = \"true\"\nwait_for = []", vec!["parse/wait"]),
        ("run = \"true\"\nwait_for = { span = \"\" }", vec!["parse/wait"]),
        ("run = \"true\"\nwait_for = { span = \"x\", count = 0 }", vec!["parse/wait"]),
        ("steps = [{ wait_for = [{ span = \"a\" }, { span = \"b\" }] }]", vec!["parse/wait"]),
        ("steps = [{ command = \"a\", wait_for = { span = \"b\" } }]", vec!["parse/wait"]),
        ("run = \"true\"\nwait_for = [{ span = \"a\" }, { span = \"b\" }]", vec![]),
        ("steps = [{ wait_for = { span = \"b\" } }]", vec![]),
    ] {
        assert_eq!(codes_with(lines), expected, "{lines}");
    }
}
