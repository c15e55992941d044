//! A tree of test files as users have them: plain ones, and templates that import one library.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::timing::succeed;

/// Files in a folder.
const IN_A_FOLDER: usize = 100;

/// The library that every template imports.
pub(crate) const LIBRARY: &str = "_macros.toml.tera";

const MACROS: &str = r#"{% macro service(name, image, port=0) %}[services.{{ name }}]
type = "generic_container"
image = "{{ image }}"
{% if port > 0 %}ports = [{{ port }}]
{% endif %}wait_for = { log = "ready", timeout_ms = 5000 }
{% endmacro service %}
{% macro scenario(name, service, run) %}[[scenario]]
name = "{{ name }}"
service = "{{ service }}"
run = "{{ run }}"
expected_exit_code = 0
{% endmacro scenario %}
{% macro span(name, kind, parent="", max_ms=1000) %}[[expect.span]]
name = "{{ name }}"
kind = "{{ kind }}"
{% if parent %}parent = "{{ parent }}"
{% endif %}duration_ms = { max = {{ max_ms }}, min = 0 }
attrs.all = { "component" = "clnrm", "result" = "pass" }
{% endmacro span %}
{% macro edges(pairs) %}[expect.graph]
acyclic = true
must_include = [
{% for p in pairs %}  ["clnrm.run", "{{ p }}"],
{% endfor %}]
{% endmacro edges %}
"#;

const SERVICES: [&str; 5] = ["api", "db", "cache", "queue", "auth"];
const VERBS: [&str; 4] = ["create", "read", "update", "delete"];

/// Writes so many tests below `root`, every other one a template; gives their paths below it.
pub(crate) fn generate(root: &Path, files: usize) -> Vec<String> {
    generate_of(root, files, is_template)
}

/// The same, with those templates that are said to be.
pub(crate) fn generate_of(
    root: &Path,
    files: usize,
    is_template: impl Fn(usize) -> bool,
) -> Vec<String> {
    fs::create_dir_all(root).expect("it can be made");
    fs::write(root.join("clnrm.toml"), "").expect("it can be written");
    fs::write(root.join(LIBRARY), MACROS).expect("it can be written");
    let path = |number: usize| {
        let end = if is_template(number) { ".tera" } else { "" };
        format!("tests/d{:04}/t{number:06}.clnrm.toml{end}", number / IN_A_FOLDER)
    };
    let paths: Vec<String> = (0..files).map(path).collect();
    for (number, path) in paths.iter().enumerate() {
        let path = root.join(path);
        if number % IN_A_FOLDER == 0 {
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("it can be made");
        }
        let text = if is_template(number) { template(number) } else { plain(number) };
        fs::write(path, text).expect("it can be written");
    }
    paths
}

/// Makes a repository of the tree, with everything committed, and a build of it for ninja, with
/// everything built.
pub(crate) fn for_peers(root: &Path, paths: &[String]) {
    fs::write(root.join(".gitignore"), ".clnrm/\nout/\n.ninja*\n").expect("it can be written");
    let mut build = "rule r\n  command = cp $in $out\n".to_owned();
    for (number, path) in paths.iter().enumerate() {
        let library = if is_template(number) { format!(" | {LIBRARY}") } else { String::new() };
        writeln!(build, "build out/{path}.out: r {path}{library}").expect("text takes everything");
    }
    fs::write(root.join("build.ninja"), build).expect("it can be written");
    commit(root);
}

/// Writes so many tests that run in the sandbox, each with a command of its own, in a repository.
pub(crate) fn generate_runs(root: &Path, files: usize) {
    for number in 0..files {
        let path = root.join(format!("tests/d{:04}/t{number:06}.clnrm.toml", number / IN_A_FOLDER));
        if number % IN_A_FOLDER == 0 {
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("it can be made");
        }
        let text = format!(
            "[meta]\nname = \"t{number:06}\"\nversion = \"1.0.0\"\n\n\
             [[scenario]]\nname = \"s\"\nrun = \"echo {number}\"\n"
        );
        fs::write(path, text).expect("it can be written");
    }
    fs::write(root.join("clnrm.toml"), "backend = \"sandbox\"\n").expect("it can be written");
    fs::write(root.join(".gitignore"), ".clnrm/\n").expect("it can be written");
    commit(root);
}

fn commit(root: &Path) {
    let who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"];
    for args in [&["init", "-q"][..], &["add", "-A"], &["commit", "-qm", "bench"], &["status"]] {
        succeed(Command::new("git").args(who).args(args).current_dir(root));
    }
}

/// A copy of a tree in another place, with other times and without what clnrm remembers.
pub(crate) fn clone(root: &Path, to: PathBuf, paths: &[String]) -> PathBuf {
    let others = ["clnrm.toml".to_owned(), LIBRARY.to_owned()];
    for path in paths.iter().chain(&others) {
        let new = to.join(path);
        fs::create_dir_all(new.parent().expect("it is in a folder")).expect("it can be made");
        fs::write(new, fs::read(root.join(path)).expect("it is there")).expect("it can be written");
    }
    to
}

pub(crate) fn is_template(number: usize) -> bool {
    number % 2 == 1
}

fn plain(number: usize) -> String {
    let (service, verb) = (SERVICES[number % 5], VERBS[number / 5 % 4]);
    let port = 1024 + number % 8000;
    format!(
        r#"# t{number:06}: {verb} on {service}
[meta]
description = "{verb} path of {service} through all"
name = "t{number:06}_{service}_{verb}"
tags = ["{service}", "{verb}", "otel"]
version = "1.{minor}.0"

[services.{service}]
image = "postgres:16-alpine"  # pinned
ports = [{port}]
type = "generic_container"
wait_for = {{ log = "ready", timeout_ms = 5000 }}

[services.other]
image = "redis:7.2-alpine"
type = "generic_container"
wait_for = {{ log = "ready", timeout_ms = 5000 }}

[[scenario]]
expected_exit_code = 0
name = "{verb}_0"
run = "./{service} --{verb} --n {number}"
service = "{service}"

[[expect.span]]
attrs.all = {{ "component" = "clnrm", "result" = "pass" }}
duration_ms = {{ max = {max}, min = 0 }}
kind = "server"
name = "{service}.{verb}.0"
parent = "clnrm.run"

[expect.graph]
# every span hangs off the run
acyclic = true
must_include = [
  ["clnrm.run", "{service}.{verb}.0"],
]

[determinism]
freeze_clock = "2025-01-01T00:00:00Z"
seed = {number}
"#,
        minor = number % 10,
        max = 10 + number % 5000,
    )
}

fn template(number: usize) -> String {
    let (service, verb) = (SERVICES[number % 5], VERBS[number / 5 % 4]);
    let call = |name: &str, arguments: &str| format!("{{{{ m::{name}({arguments}) }}}}\n");
    let head = format!(
        r#"{{% import "{LIBRARY}" as m %}}
# t{number:06}: {verb} on {service} (template)
[vars]
svc = "{service}"
prefix = "t"

[meta]
name = "{{{{ vars.prefix }}}}{number:06}_{{{{ svc }}}}_{verb}"
version = "1.{minor}.0"
description = "{verb} path of {service} through all"

"#,
        minor = number % 10,
    );
    let span = |at: usize| {
        let kind = ["server", "client", "internal"][at];
        let max = 10 + number % 5000;
        call(
            "span",
            &format!(
                r#"name="{service}.{verb}.{at}", kind="{kind}", parent="clnrm.run", max_ms={max}"#
            ),
        )
    };
    let scenario = |at: usize| {
        let run = format!("./{service} --{verb} --n {number}");
        call("scenario", &format!(r#"name="{verb}_{at}", service="{service}", run="{run}""#))
    };
    [
        head,
        call(
            "service",
            &format!(r#"name="{service}", image="nginx:1.27", port={}"#, 1024 + number % 8000),
        ),
        call("service", r#"name="other", image="redis:7.2-alpine""#),
        scenario(0),
        scenario(1),
        span(0),
        span(1),
        span(2),
        call("edges", &format!(r#"pairs=["{service}.{verb}.0", "{service}.{verb}.1"]"#)),
        format!("\n[determinism]\nseed = {number}\nfreeze_clock = \"2025-01-01T00:00:00Z\"\n"),
    ]
    .concat()
}
