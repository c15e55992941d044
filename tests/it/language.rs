//! Templates, matrices, lint and what is printed of them, as a user sees it.

use std::fs;
use std::time::{Duration, Instant};

use expect_test::expect;
use serde_json::Value;

use crate::case::{Case, ONE};

const MATRIX: &str = r#"
//- /m.clnrm.toml.tera
[meta]
name = "m"
version = "1.0.0"

[matrix]
word = ["a", "b"]
size = [1, 2]
listed = [7, 8]

[[scenario]]
name = "s"
run = "echo {{ matrix.word }}{{ matrix.size }}{% for x in matrix.listed %}{{ x }}{% endfor %}"
"#;

#[test]
fn a_matrix_is_one_test_for_each_cell() {
    let case = Case::new(MATRIX);
    case.clnrm(&["run"]).check(expect![[r#"
        exit 0
        -- stdout
        PASS  m.clnrm.toml.tera[size=1,word=a]  m[size=1,word=a]  [TIME]
        PASS  m.clnrm.toml.tera[size=1,word=b]  m[size=1,word=b]  [TIME]
        PASS  m.clnrm.toml.tera[size=2,word=a]  m[size=2,word=a]  [TIME]
        PASS  m.clnrm.toml.tera[size=2,word=b]  m[size=2,word=b]  [TIME]

        4 passed in [TIME]
        4 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]]);
    case.clnrm(&["run"]).check(expect![[r#"
        exit 0
        -- stdout
        PASS  m.clnrm.toml.tera[size=1,word=a]  m[size=1,word=a]  [TIME]
        PASS  m.clnrm.toml.tera[size=1,word=b]  m[size=1,word=b]  [TIME]
        PASS  m.clnrm.toml.tera[size=2,word=a]  m[size=2,word=a]  [TIME]
        PASS  m.clnrm.toml.tera[size=2,word=b]  m[size=2,word=b]  [TIME]

        4 passed in [TIME]
        0 runs, 4 outcomes reused, 0 queries executed, [N] recalled; the built-in sandbox
    "#]]);
    // One cell fails, the others do not.
    case.replace(
        "m.clnrm.toml.tera",
        "run = \"echo",
        "run = \"test {{ matrix.word }} = a || test {{ matrix.size }} = 1 || exit 3; echo",
    );
    let report = case.run(&[]);
    assert_eq!(report.exit, Some(1));
    let failed =
        report.json["tests"].as_array().unwrap().iter().filter(|it| it["state"] == "failed");
    let failed: Vec<&Value> = failed.map(|it| &it["name"]).collect();
    assert_eq!(failed, ["m[size=2,word=b]"]);
    // What is all right is not run again.
    assert_eq!(case.run(&[]).containers_started(), 1);
}

#[test]
fn an_edit_of_one_cells_value_runs_the_new_cells_alone() {
    let case = Case::new(MATRIX);
    assert_eq!(case.run(&[]).containers_started(), 4);
    case.replace("m.clnrm.toml.tera", "size = [1, 2]", "size = [1, 3]");
    assert_eq!(case.run(&[]).containers_started(), 2);
}

#[test]
fn variables_come_from_the_command_line_the_file_the_project_and_what_is_built_in() {
    let case = Case::new(
        r#"
//- /clnrm.toml
[vars]
project = "from the project"
own = "overruled"
//- /a.clnrm.toml.tera
[vars]
own = "from the file"
[x]
a = "{{ own }}, {{ vars.project }}, {{ svc }}, {{ endpoint }}, {{ n + 1 }}"
"#,
    );
    let render = |more: &[&str]| {
        let ran = case.clnrm(&[&["render", "a.clnrm.toml.tera", "-D", "n=1"], more].concat());
        assert_eq!(ran.exit, Some(0), "{}", ran.seen());
        ran.stdout.lines().last().unwrap().to_owned()
    };
    expect![[r#"a = "from the file, from the project, clnrm, http://localhost:4318, 2""#]]
        .assert_eq(&render(&[]));
    expect![[r#"a = "typed, 7, x y, http://localhost:4318, 2""#]].assert_eq(&render(&[
        "-D",
        "own=typed",
        "-D",
        "project=7",
        "-D",
        "svc=x y",
    ]));
    case.clnrm(&["render", "a.clnrm.toml.tera", "--map", "-D", "n=1"]).check(expect![[r#"
        exit 0
        -- stdout
        vars.endpoint  "http://localhost:4318"  built in      line 4
        vars.n         1                        command line  line 4
        vars.own       "from the file"          file          line 4
        vars.project   "from the project"       clnrm.toml    line 4
        vars.svc       "clnrm"                  built in      line 4
    "#]]);
    let wrong = case.clnrm(&["render", "a.clnrm.toml.tera", "-D", "n"]);
    assert_eq!(wrong.exit, Some(2), "{}", wrong.seen());
}

#[test]
fn a_variable_nobody_reads_renders_nothing_again() {
    let case = Case::new(ONE);
    case.write(
        "t.clnrm.toml.tera",
        "[vars]\nx = 1\n[meta]\nname = \"t{{ x }}\"\n[[scenario]]\nname = \"s\"\nrun = \"true\"\n",
    );
    case.run(&[]);
    assert_eq!(case.run(&["-D", "unread=1"]).stat("nodes_executed"), 0);
    assert!(case.run(&["-D", "x=2"]).stat("nodes_executed") > 0);
}

#[test]
fn an_edited_macro_renders_its_users_alone() {
    let case = Case::new(
        r#"
//- /_lib.toml.tera
{% macro one(name) %}[meta]
name = "{{ name }}"
{% endmacro %}
{% macro two(name, more="x") %}[meta]
name = "{{ name }}{{ more }}"
{% endmacro %}
//- /a.clnrm.toml.tera
{% import "_lib.toml.tera" as lib %}
{{ lib::one("a") }}
[[scenario]]
name = "s"
run = "true"
//- /b.clnrm.toml.tera
{% import "_lib.toml.tera" as lib %}
{{ lib::two("b") }}
[[scenario]]
name = "s"
run = "true"
"#,
    );
    case.run(&[]);
    let ran = |edit: &dyn Fn()| {
        edit();
        case.run(&[]);
        let graph = case.clnrm(&["build", "--graph=json"]);
        assert_eq!(graph.exit, Some(0));
        let report = case.run(&[]);
        assert_eq!(report.stat("nodes_executed"), 0, "the run after it");
        report.json["tests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["name"].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ran(&|| case.replace("_lib.toml.tera", "more=\"x\"", "more=\"y\"")),
        ["\"a\"", "\"by\""]
    );
    // A parameter that goes is missed by its user, and by nobody else.
    case.replace("_lib.toml.tera", "one(name)", "one(nom)");
    case.replace("_lib.toml.tera", "\"{{ name }}\"\n", "\"{{ nom }}!\"\n");
    assert_eq!(case.run(&[]).json["tests"][0]["name"], "a!");
}

#[test]
fn macros_of_the_home_folder_go_before_those_that_come_along() {
    let case = Case::new(
        "\n//- /a.clnrm.toml.tera\n{% import \"_macros.toml.tera\" as m %}\n[meta]\nname = \"a\"\n{{ m::scenario(\"s\", \"true\") }}\n",
    );
    assert_eq!(case.run(&[]).exit, Some(0));
    let wrote = case.clnrm(&["init", "--templates"]);
    assert_eq!(wrote.exit, Some(0), "{}", wrote.seen());
    let mine = case.beside("home").join(".clnrm/templates/_macros.toml.tera");
    let text = fs::read_to_string(&mine).unwrap();
    assert_eq!(case.run(&[]).containers_started(), 0, "it says the same");
    fs::write(&mine, text.replace("[[scenario]]\n", "[[scenario]]\nenv = { MINE = \"1\" }\n"))
        .unwrap();
    assert_eq!(case.run(&[]).containers_started(), 1, "mine says more");
}

#[test]
fn what_would_never_end_ends_in_two_seconds_beside_the_others() {
    let case = Case::new(ONE);
    let doubling =
        "{% set x = \"0123456789\" %}".to_owned() + &"{% set x = x ~ x %}".repeat(40) + "{{ x }}";
    let nested =
        "{% for a in range(end=100000) %}{% for b in range(end=100000) %}{% endfor %}{% endfor %}";
    for (name, text) in [
        ("range", "a = 1\n{% for x in range(end=1000000000) %}x{% endfor %}"),
        ("doubling", &doubling),
        ("nested", nested),
        (
            "recursion",
            "{% macro a() %}{{ self::b() }}{% endmacro %}{% macro b() %}{{ self::a() }}{% endmacro %}{{ self::a() }}",
        ),
        ("mutual", "{% include \"_one.tera\" %}"),
        ("brackets", &format!("a = {{{{ {} }}}}", "[".repeat(100_000))),
        ("tomlbrackets", &format!("[meta]\nname = \"t\"\na = {}", "[".repeat(100_000))),
    ] {
        case.write(&format!("{name}.clnrm.toml"), text);
    }
    case.write("_one.tera", "{% include \"_two.tera\" %}");
    case.write("_two.tera", "{% include \"_one.tera\" %}");
    case.write("empty.clnrm.toml", "");
    case.write("comments.clnrm.toml", "# nothing\n# at all\n");
    case.write("huge.clnrm.toml", vec![b'#'; 50 << 20]);
    case.write("bytes.clnrm.toml", b"[meta]\nname = \"\xff\"\n".as_slice());
    let began = Instant::now();
    let report = case.run(&[]);
    // The files are many, and this is no release build.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(report.exit, Some(3));
    let tests = report.json["tests"].as_array().unwrap();
    let good = tests.iter().filter(|test| test["state"] == "passed").count();
    assert_eq!((good, tests.len()), (1, 12));
    let mut told = String::new();
    for one in report.json["diagnostics"].as_array().unwrap() {
        let message = one["message"].as_str().unwrap();
        let message: String = message.chars().take(90).collect();
        told += &format!(
            "{}:{}:{} {} {message}\n",
            one["file"].as_str().unwrap(),
            one["line"],
            one["column"],
            one["code"].as_str().unwrap()
        );
    }
    expect![[r#"
        brackets.clnrm.toml:1:16 render/too-deep brackets are nested more than 8 deep
        bytes.clnrm.toml:2:9 source/not-utf8 byte 15 is not UTF-8
        comments.clnrm.toml:1:1 shape/no-name the test has no name
        comments.clnrm.toml:1:1 shape/nothing-to-run there is nothing to run: no `[[scenario]]` and no `[[steps]]`
        doubling.clnrm.toml:1:1 render/limit a value of the template is larger than 1048576 bytes
        empty.clnrm.toml:1:1 shape/no-name the test has no name
        empty.clnrm.toml:1:1 shape/nothing-to-run there is nothing to run: no `[[scenario]]` and no `[[steps]]`
        huge.clnrm.toml:1:1 source/too-large the file has 50 MiB, the most is 16
        mutual.clnrm.toml:1:13 render/recursion templates include each other in a circle: _one.tera → _two.tera → _one.tera
        nested.clnrm.toml:1:1 render/limit the template does more than 2000000 steps
        range.clnrm.toml:2:1 render/limit a range has 1000000000 elements, the most is 100000
        recursion.clnrm.toml:1:98 render/recursion macros call each other in a circle: a (recursion.clnrm.toml) → b (recursion.clnrm.toml) → 
        tomlbrackets.clnrm.toml:3:85 parse/syntax cannot recurse further; max recursion depth met
    "#]].assert_eq(&told);
}

const SLOPPY: &str = r#"
//- /a.clnrm.toml
[meta]
name = "sloppy"
descripton = "misspelt"

[vars]
unread = 1

[services.app]
image = "alpine"
env = { API_TOKEN = "ghp_0123456789abcdefghijABCDEFGHIJ012345", OK = "short" }

[[scenario]]
name = "s"
service = "app"
run = "true"

[[expect.span]]
name = "app.start"
kind = "server"
attrs.all = { a = { gte = 3, lte = 2 } }
"#;

#[test]
fn lint_tells_of_style_and_risks_and_mends_what_it_can() {
    let case = Case::new(SLOPPY);
    case.clnrm(&["lint"]).check(expect![[r#"
        exit 0
        -- stdout
        ok   a.clnrm.toml  1 scenario
          a.clnrm.toml:2:1: warning[lint/no-version]: the test has no version
            |
          2 | name = "sloppy"
            | ^^^^
            hint: add `version = "1.0.0"`
          a.clnrm.toml:3:1: warning[parse/unknown-key]: unknown key `descripton`
            |
          3 | descripton = "misspelt"
            | ^^^^^^^^^^
            hint: did you mean `description`?
          a.clnrm.toml:6:1: warning[lint/unused-variable]: the variable `unread` is not read
            |
          6 | unread = 1
            | ^^^^^^
          a.clnrm.toml:9:1: warning[lint/loose-image]: the image `alpine` may be another one tomorrow
            |
          9 | image = "alpine"
            | ^^^^^
            hint: name a version or a digest
          a.clnrm.toml:10:9: warning[lint/secret]: `API_TOKEN` has what looks like a secret
             |
          10 | env = { API_TOKEN = "ghp_0123456789abcdefghijABCDEFGHIJ012345", OK = "short" }
             |         ^^^^^^^^^
            hint: take it from the environment: `{{ env(name="NAME") }}`
          a.clnrm.toml:19:1: warning[lint/never-matches]: `app.start` is a span of clnrm, which is internal, not server
             |
          19 | kind = "server"
             | ^^^^
          a.clnrm.toml:20:15: warning[lint/never-matches]: nothing lies between these bounds
             |
          20 | attrs.all = { a = { gte = 3, lte = 2 } }
             |               ^

        1 ok in [TIME]  [N] queries executed, [N] recalled
    "#]]);
    assert_eq!(case.clnrm(&["lint", "--deny", "warnings"]).exit, Some(3));
    assert_eq!(case.clnrm(&["dry-run", "--strict"]).exit, Some(3));
    assert_eq!(case.clnrm(&["dry-run"]).exit, Some(0));
    let fixed = case.clnrm(&["lint", "--fix"]);
    assert_eq!(fixed.exit, Some(0), "{}", fixed.seen());
    expect![[r#"
        mended a.clnrm.toml in 3 places
    "#]]
    .assert_eq(&fixed.stderr);
    let text = case.read("a.clnrm.toml");
    expect![[r#"
        [meta]
        name = "sloppy"
        version = "1.0.0"
        description = "misspelt"

        [vars]

    "#]]
    .assert_eq(text.split("[services").next().unwrap());
    // Nothing is left to be mended.
    assert_eq!(case.clnrm(&["lint", "--fix"]).stderr, "");
}

#[test]
fn diagnostics_for_machines() {
    let case = Case::new(SLOPPY);
    let sarif = case.clnrm(&["lint", "--format", "sarif"]);
    let json: Value = serde_json::from_str(&sarif.stdout).unwrap();
    assert_eq!(json["version"], "2.1.0");
    let run = &json["runs"][0];
    let rules: Vec<&str> = run["tool"]["driver"]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["id"].as_str().unwrap())
        .collect();
    for result in run["results"].as_array().unwrap() {
        assert!(rules.contains(&result["ruleId"].as_str().unwrap()));
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "a.clnrm.toml");
        assert!(place["region"]["startLine"].as_u64() > Some(0), "{result}");
    }
    case.clnrm(&["dry-run", "--format", "github"]).check(expect![[r#"
        exit 0
        -- stdout
        ::warning file=a.clnrm.toml,line=3,col=1,endColumn=11,title=parse/unknown-key::unknown key `descripton`%0Ahint: did you mean `description`?
    "#]]);
    // All but the last line, which has the time it took.
    let told = |command| {
        let stdout = case.clnrm(&[command]).stdout;
        stdout.trim_end().rsplit_once('\n').expect("there are lines").0.to_owned()
    };
    assert_eq!(told("validate"), told("dry-run"));
    assert_eq!(case.clnrm(&["run", "--dry-run"]).exit, Some(0));
}

#[test]
fn what_a_macro_wrote_is_told_where_it_was_asked_for() {
    let case = Case::new(
        r#"
//- /_lib.toml.tera
{% macro span(name, kind) %}
[[expect.span]]
name = "{{ name }}"
kind = "{{ kind }}"
{% endmacro %}
//- /a.clnrm.toml.tera
{% import "_lib.toml.tera" as lib %}
[meta]
name = "a"
[[scenario]]
name = "s"
run = "true"
{% for kind in ["server", "sever"] %}
{{ lib::span("x", kind) }}
{% endfor %}
"#,
    );
    case.clnrm(&["dry-run"]).check(expect![[r#"
        exit 3
        -- stdout
        ERR  a.clnrm.toml.tera  1 scenario
          a.clnrm.toml.tera:8:1: error[shape/span-kind]: `sever` is no span kind
            |
          8 | {{ lib::span("x", kind) }}
            | ^
            note: _lib.toml.tera:4:1 writes it
            hint: did you mean `server`? the kinds are internal, server, client, producer, consumer

        0 ok, 1 with errors in [TIME]  [N] queries executed, [N] recalled
    "#]]);
}

#[test]
fn tables_in_parts_are_one() {
    let case = Case::new(
        r#"
//- /a.clnrm.toml
[meta]
name = "a"
[[scenario]]
name = "s"
run = "true"
[expect.order]
must_precede = [["a", "b"]]
[expect.status]
all = "ok"
[expect.status.by_name]
x = "ok"
[expect.order]
must_precede = [["b", "c"], ["c", "a"]]
[expect.status]
by_name.y = "error"
[expect.window]
max_duration_ms = 5
[[expect.window]]
outer = "a"
contains = ["b["]
"#,
    );
    case.clnrm(&["dry-run"]).check(expect![[r#"
        exit 3
        -- stdout
        ERR  a.clnrm.toml  1 scenario
          a.clnrm.toml:6:1: error[shape/order-cycle]: no order satisfies a → b → c → a
            |
          6 | [expect.order]
            | ^^^^^^^^^^^^^^
            hint: take one of these pairs out
          a.clnrm.toml:20:13: error[shape/glob]: `b[` is no glob: unclosed character class; missing ']'
             |
          20 | contains = ["b["]
             |             ^^^^
            hint: put signs that are meant as they are in brackets: `[{]`

        0 ok, 1 with errors in [TIME]  [N] queries executed, [N] recalled
    "#]]);
    case.replace("a.clnrm.toml", "by_name.y = \"error\"", "all = \"error\"");
    let report = case.clnrm(&["dry-run", "--format", "json"]).report();
    let conflict = &report.json["diagnostics"][0];
    assert_eq!(conflict["code"], "parse/conflict", "{conflict}");
    assert_eq!(
        (&conflict["line"], &conflict["notes"][0]),
        (&15.into(), &"a.clnrm.toml:9:1: it was set first".into())
    );
}

#[test]
fn two_calls_of_any_macro_make_a_valid_file() {
    let calls = [
        ("span", r#""a", "server", {"k": 1}"#, r#""b", "client""#),
        ("span", r#""a""#, r#""b", attrs={"k": 1}"#),
        ("span_exists", r#""a""#, r#""b""#),
        ("lifecycle", r#""one""#, r#""two""#),
        ("multi_lifecycle", r#"["one", "two"]"#, r#"["three"]"#),
        ("edges", r#"[["a", "b"]]"#, r#"[["a", "c"], ["a", "d"]]"#),
        ("window", r#""a", "b""#, r#""a", "c""#),
        ("count", r#""server", 1, 2"#, r#""client", 0, 0"#),
        ("service", r#""one""#, r#""two", env={"A": "b"}"#),
        ("scenario", r#""one", "true""#, r#""two", "true", "one""#),
    ];
    for (name, first, second) in calls {
        let case = Case::empty();
        let mut text = "{% import \"_macros.toml.tera\" as m %}\n[meta]\nname = \"t\"\n\
                        [services.x]\n[[scenario]]\nname = \"s\"\nrun = \"true\"\n"
            .to_owned();
        if name == "scenario" {
            text += "{{ m::service(\"one\") }}\n";
        }
        text += &format!("{{{{ m::{name}({first}) }}}}\n{{{{ m::{name}({second}) }}}}\n");
        case.write("t.clnrm.toml.tera", text);
        let report = case.clnrm(&["dry-run", "--strict", "--format", "json"]).report();
        assert_eq!(
            report.json["diagnostics"].as_array().map(Vec::len),
            Some(0),
            "{name}: {}",
            report.seen()
        );
    }
}
