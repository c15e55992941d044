//! What is printed: for people, for programs, and about itself.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect;
use serde_json::Value;

use crate::case::{Case, ONE, Ran};

/// One test that passes, one that fails, one with errors.
const MIXED: &str = r#"
//- /broken.clnrm.toml
[meta]
name = "broken"
naem = "broken"

[[scenario]]
name = "s"
service = "app"
run = "true"

//- /fail.clnrm.toml
[meta]
name = "fails in two ways"
tags = ["slow"]

[[scenario]]
name = "s"

[[scenario.steps]]
name = "speak"
command = "echo one; echo two >&2; exit 3"

[[expect.span]]
name = "clnrm.step:speak"
status = "ok"

//- /tests/pass.clnrm.toml
[meta]
name = "pass"

[[scenario]]
name = "s"
run = "true"
"#;

#[test]
fn for_people() {
    let case = Case::new(MIXED);
    case.clnrm(&["run"]).check(expect![[r#"
        exit 3
        -- stdout
        ERR   broken.clnrm.toml      broken
          broken.clnrm.toml:3:1: warning[parse/unknown-key]: unknown key `naem`
            |
          3 | naem = "broken"
            | ^^^^
            hint: did you mean `name`?
          broken.clnrm.toml:7:1: error[shape/unknown-service]: scenario `s` uses service `app`, which is not in [services]
            |
          7 | service = "app"
            | ^^^^^^^
        FAIL  fail.clnrm.toml        fails in two ways  [TIME]
          fail.clnrm.toml:8:1: scenario `s`, step `speak`
            ended with exit code 3, expected exit code 0
            | one
            | two
          fail.clnrm.toml:12:1: expect.span[0]
            the span `clnrm.step:speak` does not satisfy all of it (7 spans looked at)
            nearest: `clnrm.step:speak`: status is error, expected ok
        PASS  tests/pass.clnrm.toml  pass  [TIME]

        1 passed, 1 failed, 1 not run in [TIME]
        2 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]]);
    case.clnrm(&["run", "tests"]).check(expect![[r#"
        exit 0
        -- stdout
        PASS  tests/pass.clnrm.toml  pass  [TIME]

        1 passed in [TIME]
        0 runs, 1 outcome reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]]);
    case.clnrm(&["dry-run"]).check(expect![[r#"
        exit 3
        -- stdout
        ERR  broken.clnrm.toml  1 scenario
          broken.clnrm.toml:3:1: warning[parse/unknown-key]: unknown key `naem`
            |
          3 | naem = "broken"
            | ^^^^
            hint: did you mean `name`?
          broken.clnrm.toml:7:1: error[shape/unknown-service]: scenario `s` uses service `app`, which is not in [services]
            |
          7 | service = "app"
            | ^^^^^^^
        ok   fail.clnrm.toml  1 scenario
        ok   tests/pass.clnrm.toml  1 scenario

        2 ok, 1 with errors in [TIME]  0 queries executed, [N] recalled
    "#]]);
}

#[test]
fn what_a_step_should_have_printed_is_told_in_one_line() {
    let case = Case::new(
        r#"
//- /lines.clnrm.toml
[meta]
name = "lines"

[[scenario]]
name = "s"

[[scenario.steps]]
name = "speak"
command = "echo one"
expected_output_regex = "one\n\ttwo"
"#,
    );
    let told = case.clnrm(&["run"]);
    let line = r"standard output does not match `one\n\ttwo`";
    assert!(told.stdout.contains(line), "{}", told.seen());
}

#[test]
fn for_programs() {
    let case = Case::new(MIXED);
    let report = case.run(&[]);
    assert_eq!(report.exit, Some(3));
    expect![[r#"
        .backend  string
        .diagnostics  list
        .diagnostics[]  object
        .diagnostics[].code  string
        .diagnostics[].column  number
        .diagnostics[].file  string
        .diagnostics[].fix  null
        .diagnostics[].hint  null or string
        .diagnostics[].length  number
        .diagnostics[].line  number
        .diagnostics[].message  string
        .diagnostics[].notes  list
        .diagnostics[].severity  string
        .stats  object
        .stats.containers_started  number
        .stats.nodes_cut_off  number
        .stats.nodes_executed  number
        .stats.nodes_recalled  number
        .stats.outcomes_reused  number
        .summary  object
        .summary.duration_ms  number
        .summary.failed  number
        .summary.passed  number
        .summary.skipped  number
        .tests  list
        .tests[]  object
        .tests[].duration_ms  number
        .tests[].failures  list
        .tests[].failures[]  object
        .tests[].failures[].column  number
        .tests[].failures[].file  string
        .tests[].failures[].line  number
        .tests[].failures[].message  string
        .tests[].failures[].nearest  string
        .tests[].failures[].output  null
        .tests[].failures[].subject  string
        .tests[].file  string
        .tests[].name  string
        .tests[].scenarios  list
        .tests[].scenarios[]  object
        .tests[].scenarios[].duration_ms  number
        .tests[].scenarios[].error  null
        .tests[].scenarios[].failures  list
        .tests[].scenarios[].failures[]  object
        .tests[].scenarios[].failures[].column  number
        .tests[].scenarios[].failures[].file  string
        .tests[].scenarios[].failures[].line  number
        .tests[].scenarios[].failures[].message  string
        .tests[].scenarios[].failures[].nearest  null
        .tests[].scenarios[].failures[].output  string
        .tests[].scenarios[].failures[].subject  string
        .tests[].scenarios[].isolation  list
        .tests[].scenarios[].isolation[]  string
        .tests[].scenarios[].name  string
        .tests[].scenarios[].run_key  string
        .tests[].scenarios[].spans  number
        .tests[].scenarios[].state  string
        .tests[].state  string
        .tests[].tags  list
        .tests[].tags[]  string
    "#]]
    .assert_eq(&shape(&report.json));
    expect![[r#"{"column":1,"file":"fail.clnrm.toml","line":12,"message":"the span `clnrm.step:speak` does not satisfy all of it (7 spans looked at)","nearest":"`clnrm.step:speak`: status is error, expected ok","output":null,"subject":"expect.span[0]"}"#]].assert_eq(&report.json["tests"][1]["failures"][0].to_string());
    let dry = case.clnrm(&["dry-run", "--format", "json"]).report();
    assert_eq!(dry.exit, Some(3));
    expect![[r#"
        .diagnostics  list
        .diagnostics[]  object
        .diagnostics[].code  string
        .diagnostics[].column  number
        .diagnostics[].file  string
        .diagnostics[].fix  null
        .diagnostics[].hint  null or string
        .diagnostics[].length  number
        .diagnostics[].line  number
        .diagnostics[].message  string
        .diagnostics[].notes  list
        .diagnostics[].severity  string
        .stats  object
        .stats.containers_started  number
        .stats.nodes_cut_off  number
        .stats.nodes_executed  number
        .stats.nodes_recalled  number
        .stats.outcomes_reused  number
        .summary  object
        .summary.duration_ms  number
        .summary.failed  number
        .summary.passed  number
        .summary.skipped  number
        .tests  list
        .tests[]  object
        .tests[].file  string
        .tests[].name  string
        .tests[].scenarios  number
        .tests[].state  string
        .tests[].tags  list
        .tests[].tags[]  string
    "#]]
    .assert_eq(&shape(&dry.json));
}

/// The keys of every object, by where it is, with the types of their values.
fn shape(json: &Value) -> String {
    fn visit(value: &Value, path: &str, seen: &mut BTreeMap<String, BTreeSet<&str>>) {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(items) => {
                items.iter().for_each(|item| visit(item, &format!("{path}[]"), seen));
                "list"
            }
            Value::Object(entries) => {
                entries
                    .iter()
                    .for_each(|(key, value)| visit(value, &format!("{path}.{key}"), seen));
                "object"
            }
        };
        seen.entry(path.to_owned()).or_default().insert(kind);
    }
    let mut seen = BTreeMap::new();
    visit(json, "", &mut seen);
    let line = |(path, kinds): (String, BTreeSet<&str>)| {
        format!("{path}  {}\n", kinds.into_iter().collect::<Vec<_>>().join(" or "))
    };
    seen.into_iter().skip(1).map(line).collect()
}

#[test]
fn equal_inputs_have_equal_reports() {
    let one = Case::new(MIXED).run(&["--jobs", "1"]);
    for jobs in ["1", "4"] {
        let other = Case::new(MIXED).run(&["--jobs", jobs]);
        assert_eq!(one.without_measurements(), other.without_measurements());
    }
}

#[test]
fn no_colour_goes_into_a_pipe() {
    let ran = Case::new(MIXED).clnrm(&["run"]);
    assert!(!ran.stdout.contains('\x1b') && !ran.stderr.contains('\x1b'), "{}", ran.seen());
}

const TEMPLATE: &str = r#"
//- /a.clnrm.toml.tera
{% set word = "hello" -%}
[vars]
place = "world"

[meta]
name = "{{ word }}-{{ vars.place }}"

[[scenario]]
name = "s"
run = {{ toml_encode(value='echo "' ~ word ~ '" ' ~ place) }}
"#;

#[test]
fn render_prints_what_is_parsed() {
    let case = Case::new(TEMPLATE);
    case.clnrm(&["render", "a.clnrm.toml.tera"]).check(expect![[r#"
        exit 0
        -- stdout
        [vars]
        place = "world"

        [meta]
        name = "hello-world"

        [[scenario]]
        name = "s"
        run = 'echo "hello" world'
    "#]]);
    case.write("b.clnrm.toml", "[meta]\nname = \"{{ word }}\"\n");
    case.clnrm(&["render", "b.clnrm.toml"]).check(expect![[r#"
        exit 3
        -- stderr
        b.clnrm.toml:2:12: error[render/failed]: variable `word` not found in context
          |
        2 | name = "{{ word }}"
          |            ^
          hint: set it in [vars], with -D, or give it a default: `| default(value=…)`
    "#]]);
}

#[test]
fn the_graph_is_printed() {
    let case = Case::new(TEMPLATE);
    case.clnrm(&["build"]).check(expect![[r#"
        exit 0
    "#]]);
    case.clnrm(&["build", "--graph"]).check(expect![[r#"
        exit 0
        -- stdout
        selection
          clnrm itself
          repository
          listing .
        settings
          clnrm itself
          file clnrm.toml
          document clnrm.toml
        project-variable #word
          clnrm itself
          settings
        check a.clnrm.toml.tera
          clnrm itself
          shape a.clnrm.toml.tera
        document a.clnrm.toml.tera
          clnrm itself
          rendered a.clnrm.toml.tera
        model a.clnrm.toml.tera
          clnrm itself
          document a.clnrm.toml.tera
        rendered a.clnrm.toml.tera
          clnrm itself
          source a.clnrm.toml.tera
          defined place
          defined word
          project-variable #word
        shape a.clnrm.toml.tera
          clnrm itself
          model a.clnrm.toml.tera
          settings
        source a.clnrm.toml.tera
          clnrm itself
          file a.clnrm.toml.tera
        document clnrm.toml
          clnrm itself
          rendered clnrm.toml
        rendered clnrm.toml
          clnrm itself
          source clnrm.toml
        source clnrm.toml
          clnrm itself
          file clnrm.toml
    "#]]);
}

#[test]
fn the_graph_is_good_graphviz() {
    let case = Case::new(MIXED);
    case.run(&[]);
    let ran = case.clnrm(&["build", "--graph=dot"]);
    assert_eq!(ran.exit, Some(3), "{}", ran.seen());
    let body = ran.stdout.strip_prefix("digraph clnrm {\n").expect("it begins a graph");
    let body = body.strip_suffix("}\n").expect("it ends the graph");
    let (mut declared, mut edges) = (BTreeSet::new(), Vec::new());
    for line in body.lines().map(str::trim) {
        let statement = line.strip_suffix(';').expect("a statement ends");
        if let Some((from, to)) = statement.split_once(" -> ") {
            edges.push((from, to));
        } else if let Some((name, attributes)) = statement.split_once(" [") {
            let attributes = attributes.strip_suffix(']').expect("attributes end");
            assert_eq!(attributes.replace("\\\"", "").matches('"').count() % 2, 0, "{line}");
            declared.insert(name);
        }
    }
    assert!(edges.len() > 10, "{}", ran.stdout);
    for (from, to) in edges {
        assert!(declared.contains(from) && declared.contains(to), "{from} -> {to}");
    }
}

#[test]
fn the_cache_tells_and_is_cleared() {
    let case = Case::new(MIXED);
    let count = |name: &str| -> u64 {
        let ran = case.clnrm(&["cache", "stats"]);
        assert_eq!(ran.exit, Some(0), "{}", ran.seen());
        let line = ran.stdout.lines().find_map(|line| line.strip_prefix(name));
        line.expect(name).trim().parse().unwrap()
    };
    assert_eq!((count("bytes"), count("outcomes")), (0, 0));
    case.run(&[]);
    assert_eq!(count("outcomes"), 2);
    assert!(count("bytes") > 0 && count("nodes") > 0 && count("roots") > 0);
    case.clnrm(&["cache", "clear"]).check(expect![[r#"
        exit 0
        -- stderr
        removed [CASE]/w/.clnrm/store-v1.redb
    "#]]);
    assert_eq!((count("bytes"), count("outcomes")), (0, 0));
    // There is nothing to remove now, which is what was wanted.
    assert_eq!(case.clnrm(&["cache", "clear"]).exit, Some(0));
    assert_eq!(case.run(&[]).containers_started(), 2);
}

#[test]
fn the_store_may_be_elsewhere() {
    let mut case = Case::new(MIXED);
    let store = case.beside("elsewhere/store.redb").display().to_string();
    assert_eq!(case.run(&["--store", &store]).containers_started(), 2);
    assert!(!case.root().join(".clnrm").exists());
    case.set_env("CLNRM_STORE", &store);
    // The one that failed runs again.
    assert_eq!(case.run(&[]).containers_started(), 1);
    case.clnrm(&["cache", "clear"]).check(expect![[r#"
        exit 0
        -- stderr
        removed [CASE]/elsewhere/store.redb
    "#]]);
}

#[test]
fn every_command_explains_itself() {
    let case = Case::empty();
    for (command, mentioned) in [
        (&[][..], &["init", "run", "dry-run", "render", "build", "cache", "Exit codes"][..]),
        (&["init"], &["[FOLDER]"]),
        (&["run"], &["[PATHS]", "--backend", "--jobs", "--force", "--format", "--store"]),
        (&["dry-run"], &["[PATHS]", "--format", "--store"]),
        (&["render"], &["<FILE>", "--store"]),
        (&["build"], &["[PATHS]", "--graph", "--store"]),
        (&["cache"], &["stats", "clear", "--store"]),
        (&["cache", "stats"], &["--store"]),
        (&["cache", "clear"], &["--store"]),
    ] {
        let ran = case.clnrm(&[command, &["--help"]].concat());
        assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""), "{command:?}");
        for word in mentioned {
            assert!(ran.stdout.contains(word), "{command:?} does not mention {word}");
        }
    }
    assert!(case.clnrm(&["man"]).stdout.contains(".TH clnrm 1"));
    assert_eq!(case.clnrm(&["man", "pages"]).exit, Some(0));
    let pages = std::fs::read_dir(case.root().join("pages")).unwrap().count();
    assert!(pages > 15, "{pages}");
    let version = case.clnrm(&["--version"]);
    assert!(version.stdout.starts_with("clnrm "), "{}", version.stdout);
}

#[test]
fn colour_is_a_choice() {
    let mut case = Case::new(ONE);
    let coloured = |ran: &Ran| ran.stdout.contains('\u{1b}');
    case.run(&[]);
    assert!(!coloured(&case.clnrm(&["run"])));
    assert!(coloured(&case.clnrm(&["run", "--color", "always"])));
    case.set_env("CLICOLOR_FORCE", "1");
    assert!(coloured(&case.clnrm(&["run"])));
    assert!(!coloured(&case.clnrm(&["run", "--color", "never"])));
    case.set_env("NO_COLOR", "1");
    case.set_env("CLICOLOR_FORCE", "0");
    assert!(!coloured(&case.clnrm(&["run"])));
}

#[test]
fn less_and_more_is_told() {
    let case = Case::new(TWO);
    let told = |args: &[&str]| case.clnrm(args);
    told(&["run", "-q"]).check(expect![[r#"
        exit 1
        -- stdout
        FAIL  bad.clnrm.toml   bad  [TIME]
          bad.clnrm.toml:7:1: scenario `s`, step `s`
            ended with exit code 1, expected exit code 0

        1 passed, 1 failed in [TIME]
        2 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]]);
    told(&["run", "-v"]).check(expect![[r#"
        exit 1
        -- stdout
        FAIL  bad.clnrm.toml   bad  [TIME]
              why: s failed when it last ran
              FAIL  s  [TIME], 0 spans
          bad.clnrm.toml:7:1: scenario `s`, step `s`
            ended with exit code 1, expected exit code 0
        PASS  good.clnrm.toml  good  [TIME]
              ok    s  [TIME], 0 spans

        1 passed, 1 failed in [TIME]
        1 run, 1 outcome reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]]);
    told(&["dry-run", "-q"]).check(expect![[r#"
        exit 0
    "#]]);
    case.replace("good.clnrm.toml", "run = \"true\"", "run = \"true again\"");
    told(&["run", "-v", "good.clnrm.toml"]).check(expect![[r#"
        exit 0
        -- stdout
        PASS  good.clnrm.toml  good  [TIME]
              why: s: steps[0].argv[2] was "true", is "true again"
              ok    s  [TIME], 0 spans

        1 passed in [TIME]
        1 run, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]]);
    told(&["run", "-q", "good.clnrm.toml"]).check(expect![[r#"
        exit 0
    "#]]);
    told(&["run", "-q", "-v"]).check(expect![[r#"
        exit 2
        -- stderr
        error: the argument '--quiet' cannot be used with '--verbose'

        Usage: clnrm run --quiet [PATHS]...

        For more information, try '--help'.
    "#]]);
}

#[test]
fn reasons_keep_secrets() {
    let mut case = Case::new(
        r#"
//- /a.clnrm.toml.tera
[meta]
name = "a"

[[scenario]]
name = "s"
run = "true {{ env(name="API_TOKEN") }} {{ env(name="PLACE") }}"
"#,
    );
    case.set_env("API_TOKEN", "first-secret");
    case.set_env("PLACE", "here");
    case.run(&[]);
    case.set_env("API_TOKEN", "second-secret");
    let told = case.clnrm(&["run", "-v"]).stdout;
    assert!(
        !told.contains("first-secret")
            && !told.contains("second-secret")
            && told.contains("has changed; it holds a secret"),
        "{told}"
    );
}

#[test]
fn where_github_reads_failures_are_folded_and_annotated() {
    let mut case = Case::new(TWO);
    case.set_env("GITHUB_ACTIONS", "true");
    // What a test prints is no command.
    case.replace("bad.clnrm.toml", "run = \"false\"", "run = \"echo ::error::it is; false\"");
    std::fs::create_dir(case.root().parent().unwrap().join(".git")).unwrap();
    case.clnrm(&["run"]).check(expect![[r#"
        exit 1
        -- stdout
        ::group::FAIL  bad.clnrm.toml   bad  [TIME]
          bad.clnrm.toml:7:1: scenario `s`, step `s`
            ended with exit code 1, expected exit code 0
            | ::error::it is
        ::endgroup::
        ::error file=w/bad.clnrm.toml,line=7,col=1,title=step `s`::ended with exit code 1, expected exit code 0
        PASS  good.clnrm.toml  good  [TIME]

        1 passed, 1 failed in [TIME]
        2 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]]);
}

/// One that passes and one that does not.
const TWO: &str = r#"
//- /good.clnrm.toml
[meta]
name = "good"
version = "1"

[[scenario]]
name = "s"
run = "true"

[[expect.span]]
name = "clnrm.step:s"

//- /bad.clnrm.toml
[meta]
name = "bad"
version = "1"

[[scenario]]
name = "s"
run = "false"
"#;
