//! Saves, and what comes of them while clnrm watches.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::case::{Case, clnrm, wait_until};
use crate::engines::{BUSYBOX, Line, On, with_argument};

const LIMIT: Duration = Duration::from_secs(30);
/// After this long nothing more is expected to happen.
const QUIET: Duration = Duration::from_millis(700);

/// A `clnrm watch` under way.
pub(crate) struct Watching {
    child: Child,
    lines: Receiver<Value>,
}

impl Watching {
    /// Watches until it has told how everything stands.
    pub(crate) fn start(case: &Case, args: &[&str]) -> (Watching, Value) {
        let args = [&["watch", "--format", "jsonl"], args].concat();
        let mut command: Command = case.program(clnrm(), &args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = send.send(serde_json::from_str(&line).expect(&line));
            }
        });
        let watching = Watching { child, lines };
        let first = watching.next();
        assert_eq!(first["event"], "watching");
        (watching, first)
    }

    fn next(&self) -> Value {
        self.lines.recv_timeout(LIMIT).expect("something is told")
    }

    /// All that is told until this is told of tests.
    pub(crate) fn until(&self, wanted: &[&str]) -> Vec<Value> {
        let mut all = vec![self.next()];
        while told(&all[all.len() - 1]) != wanted {
            all.push(self.next());
        }
        all
    }

    /// All that is told until nothing more is for so long.
    fn rest(&self, quiet: Duration) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            match self.lines.recv_timeout(quiet) {
                Ok(event) => all.push(event),
                Err(RecvTimeoutError::Timeout) => return all,
                Err(error) => panic!("it has ended: {error}"),
            }
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn end(mut self) -> Option<i32> {
        kill_process(self.pid(), Signal::INT).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `file state` of each test that is told of.
fn told(event: &Value) -> Vec<String> {
    let tests = event["tests"].as_array().unwrap().iter();
    let line = |test: &Value| format!("{} {}", test["file"], test["state"]).replace('"', "");
    tests.map(line).collect()
}

fn started(event: &Value) -> u64 {
    event["stats"]["containers_started"].as_u64().unwrap()
}

pub(crate) const FIXTURE: &str = r#"
//- /one.clnrm.toml
[meta]
name = "one"
version = "1"

[[scenario]]
name = "s"
run = "true one"

[[expect.span]]
name = "clnrm.step:s"

//- /two.clnrm.toml.tera
{% import "_m.toml.tera" as m %}
[meta]
name = "two"
version = "1"

[services.app]
volumes = ["./data:/data:ro"]

[[scenario]]
name = "s"
service = "app"
{{ m::run("cat /data/note") }}

//- /templates/_m.toml.tera
{% macro run(what) %}run = "{{ what }}"{% endmacro %}
{% macro other() %}x{% endmacro %}

//- /data/note
hello
"#;

/// Saves a text at a path.
type Save = fn(&Case, &str, &str);

/// Ways in which editors save.
fn saves() -> [(&'static str, Save); 5] {
    [
        ("in place", |case, path, text| case.write(path, text)),
        ("by another file", |case, path, text| {
            let other = case.root().join(".swap");
            fs::write(&other, text).unwrap();
            fs::rename(other, case.root().join(path)).unwrap();
        }),
        ("with a backup", |case, path, text| {
            let backup = case.root().join(format!("{path}~"));
            fs::rename(case.root().join(path), &backup).unwrap();
            case.write(path, text);
            fs::remove_file(backup).unwrap();
        }),
        ("with an older time", |case, path, text| {
            case.write(path, text);
            let old = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
            let file = fs::File::options().append(true).open(case.root().join(path)).unwrap();
            file.set_modified(old).unwrap();
        }),
        ("removed before", |case, path, text| {
            case.remove(path);
            case.write(path, text);
        }),
    ]
}

fn every_save_is_one_run(args: &[&str]) {
    let case = Case::new(FIXTURE);
    let (watching, first) = Watching::start(&case, args);
    assert_eq!((first["summary"]["passed"].as_u64(), started(&first)), (Some(2), 2), "{first}");
    let text = case.read("one.clnrm.toml");
    for (number, (how, save)) in saves().into_iter().enumerate() {
        save(&case, "one.clnrm.toml", &text.replace("true one", &format!("true {number}")));
        let mut events = watching.until(&["one.clnrm.toml passed"]);
        events.extend(watching.rest(QUIET));
        let runs: u64 = events.iter().map(started).sum();
        assert_eq!(runs, 1, "{how}: {events:?}");
        let last = events.last().unwrap();
        assert_eq!(told(last), ["one.clnrm.toml passed"], "{how}");
        assert_eq!(last["summary"]["passed"], 2, "{how}: {last}");
    }
    assert_eq!(watching.end(), Some(130));
    assert!(case.leftovers().is_empty());
}

#[test]
fn however_it_is_saved() {
    every_save_is_one_run(&[]);
}

#[test]
fn of_two_hundred_saves_none_is_lost_and_none_runs_twice() {
    let case = Case::new(FIXTURE);
    let (watching, first) = Watching::start(&case, &[]);
    let (text, saves) = (case.read("one.clnrm.toml"), saves());
    let mut runs = started(&first);
    for number in 0..200 {
        let (how, save) = saves[number % saves.len()];
        save(&case, "one.clnrm.toml", &text.replace("true one", &format!("true {number}")));
        while runs < 3 + number as u64 {
            let event = watching.next();
            runs += started(&event);
            assert_eq!(event["summary"]["failed"], 0, "{how}: {event}");
        }
    }
    let rest: u64 = watching.rest(QUIET).iter().map(started).sum();
    assert_eq!((runs, rest), (202, 0));
    assert_eq!(watching.end(), Some(130));
}

#[test]
fn where_nobody_tells_of_changes() {
    every_save_is_one_run(&["--poll"]);
}

#[test]
fn only_what_is_concerned_runs() {
    let case = Case::new(FIXTURE);
    let (watching, _) = Watching::start(&case, &[]);
    // A comment, and a macro that nobody uses.
    let text = case.read("one.clnrm.toml");
    case.write("one.clnrm.toml", format!("# a comment\n{text}"));
    case.replace("templates/_m.toml.tera", "%}x{%", "%}y{%");
    assert_eq!(watching.rest(QUIET), [] as [Value; 0]);
    // An expectation is judged by what is known.
    case.replace("one.clnrm.toml", "clnrm.step:s", "clnrm.step:other");
    let event = watching.next();
    assert_eq!((told(&event), started(&event)), (vec!["one.clnrm.toml failed".to_owned()], 0));
    case.replace("one.clnrm.toml", "clnrm.step:other", "clnrm.step:s");
    let event = watching.next();
    assert_eq!((told(&event), started(&event)), (vec!["one.clnrm.toml passed".to_owned()], 0));
    // The macro that is used, and the file that is mounted.
    case.replace("templates/_m.toml.tera", "run = \"{{", "run = \"true && {{");
    let event = watching.next();
    assert_eq!((told(&event), started(&event)), (vec!["two.clnrm.toml.tera passed".to_owned()], 1));
    case.write("data/note", "another\n");
    let event = watching.next();
    assert_eq!((told(&event), started(&event)), (vec!["two.clnrm.toml.tera passed".to_owned()], 1));
    assert_eq!(watching.rest(QUIET), [] as [Value; 0]);
    assert_eq!(watching.end(), Some(130));
    // What it learned is there for others.
    case.run(&[]).check(expect_test::expect![[r#"
        exit 0
        passed  one.clnrm.toml
        passed  two.clnrm.toml.tera
        0 started, 2 reused, no queries executed
    "#]]);
}

#[test]
fn files_come_and_go_and_break() {
    let case = Case::new(FIXTURE);
    let (watching, _) = Watching::start(&case, &[]);
    let text = case.read("one.clnrm.toml");
    // In a folder that is new itself.
    case.write("new/three.clnrm.toml", text.replace("one", "three"));
    let event = watching.next();
    assert_eq!(told(&event), ["new/three.clnrm.toml passed"]);
    case.write("new/four.clnrm.toml", text.replace("one", "four"));
    assert_eq!(told(&watching.next()), ["new/four.clnrm.toml passed"]);
    case.write("one.clnrm.toml", "[meta\n");
    assert_eq!(told(&watching.next()), ["one.clnrm.toml broken"]);
    case.write("one.clnrm.toml", "");
    assert_eq!(told(&watching.next()), ["one.clnrm.toml broken"]);
    case.write("one.clnrm.toml", &text);
    let event = watching.next();
    // It is what it was, so it is known.
    assert_eq!((told(&event), started(&event)), (vec!["one.clnrm.toml passed".to_owned()], 0));
    case.remove("new");
    let mut last = watching.next();
    while last["summary"]["passed"] != 2 {
        last = watching.next();
    }
    // What an import looked for comes.
    case.remove("templates/_m.toml.tera");
    assert_eq!(told(&watching.next()), ["two.clnrm.toml.tera broken"]);
    case.write("_m.toml.tera", "{% macro run(what) %}run = \"true; {{ what }}\"{% endmacro %}");
    assert_eq!(told(&watching.next()), ["two.clnrm.toml.tera passed"]);
    assert_eq!(watching.end(), Some(130));
}

/// Tests that read through links: a library that is one, a mounted file, a mounted folder, and a
/// folder in the middle of a path; the last leads out of the workspace.
const LINKED: &str = r#"
//- /library.clnrm.toml.tera
{% import "_l.toml.tera" as l %}
[meta]
name = "library"
version = "1"
[[scenario]]
name = "s"
{{ l::run() }}

//- /mounts.clnrm.toml
[meta]
name = "mounts"
version = "1"
[services.app]
volumes = ["./file:/file:ro", "./folder:/folder:ro", "./current/app:/app:ro", "./out/in:/in:ro"]
[[scenario]]
name = "s"
service = "app"
run = "cat /file /folder/note /app/note /in/note"

//- /lib/real.toml.tera
{% macro run() %}run = "true"{% endmacro %}
//- /files/v1
1
//- /folders/v1/note
1
//- /folders/v2/note
2
//- /releases/1/app/note
1
//- /releases/2/app/note
2
"#;

/// Saves what links lead to, and has links lead elsewhere; each is told of.
fn behind_links(args: &[&str], how: Save) {
    let case = Case::new(LINKED);
    let link = |target: &str, path: &str| {
        let path = case.root().join(path);
        let swap = path.with_extension("swap");
        std::os::unix::fs::symlink(target, &swap).unwrap();
        fs::rename(swap, path).unwrap();
    };
    link("lib/real.toml.tera", "_l.toml.tera");
    link("files/v1", "file");
    link("folders/v1", "folder");
    link("releases/1", "current");
    let outside = case.beside("target");
    fs::create_dir_all(outside.join("in")).unwrap();
    fs::write(outside.join("in/note"), "1").unwrap();
    link(outside.to_str().unwrap(), "out");
    let (watching, first) = Watching::start(&case, args);
    assert_eq!(first["summary"]["passed"], 2, "{first}");
    let is_told = |name: &str, what: &str| {
        let event = watching.next();
        let expected = (vec![format!("{name} passed")], 1);
        assert_eq!((told(&event), started(&event)), expected, "{what}: {event}");
    };
    let library = case.read("lib/real.toml.tera").replace("true", "true 2");
    how(&case, "lib/real.toml.tera", &library);
    is_told("library.clnrm.toml.tera", "a library");
    let mounts = "mounts.clnrm.toml";
    let mut number = 10;
    let mut save = |path: &str| {
        number += 1;
        how(&case, path, &number.to_string());
        is_told(mounts, path);
    };
    save("files/v1");
    save("folders/v1/note");
    save("releases/1/app/note");
    save("../target/in/note");
    link("folders/v2", "folder");
    is_told(mounts, "a link to another folder");
    save("folders/v2/note");
    link("releases/2", "current");
    is_told(mounts, "another link in the middle of a path");
    save("releases/2/app/note");
    // What nobody reads is told of by nobody.
    case.write("folders/v3/note", "3");
    case.write("files/v2", "2");
    fs::write(case.beside("other"), "2").unwrap();
    assert_eq!(watching.rest(QUIET), [] as [Value; 0]);
    assert_eq!(watching.end(), Some(130));
}

#[test]
fn what_links_lead_to_is_watched() {
    behind_links(&[], saves()[0].1);
}

#[test]
fn what_links_lead_to_is_looked_at_where_nobody_tells() {
    behind_links(&["--poll"], saves()[1].1);
}

#[test]
fn of_a_burst_the_last_counts() {
    let case = Case::new(FIXTURE);
    let (watching, _) = Watching::start(&case, &[]);
    let text = case.read("one.clnrm.toml");
    for number in 0..50 {
        let run = if number == 49 { "true 49" } else { "sleep 0.2; false" };
        case.write("one.clnrm.toml", text.replace("true one", run));
    }
    let events = watching.until(&["one.clnrm.toml passed"]);
    // Of the others hardly any was told of: one that was complete before the next save.
    assert!(events.len() < 10, "{events:?}");
    assert_eq!(watching.rest(QUIET), [] as [Value; 0]);
    assert_eq!(watching.end(), Some(130));
}

fn a_save_during_a_run(on: On, number: u32) {
    let test = "watch::a_save_during_a_run";
    let (stale, steady) =
        (format!("30000.{:07}{number:02}1", std::process::id()), format!("2.{number}77777"));
    let fixture = format!(
        "//- /changing.clnrm.toml\n[meta]\nname = \"changing\"\nversion = \"1\"\n[[scenario]]\n\
         name = \"s\"\nrun = \"sleep {stale}\"\n\
         //- /steady.clnrm.toml\n[meta]\nname = \"steady\"\nversion = \"1\"\n[[scenario]]\n\
         name = \"s\"\nrun = \"sleep {steady}\"\n"
    );
    let Some(case) = on.case(test, &fixture) else { return };
    let args = ["watch", "--format", "jsonl", "--jobs", "2"];
    let mut command = case.program(clnrm(), &args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    wait_until("both run", LIMIT, || with_argument(&stale) > 0 && with_argument(&steady) > 0);
    case.replace("changing.clnrm.toml", &format!("sleep {stale}"), "true");
    // It is ended at once, and the other goes on.
    wait_until("the stale one is gone", LIMIT, || with_argument(&stale) == 0);
    assert!(with_argument(&steady) > 0, "the other was ended, too");
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (event["summary"]["passed"].as_u64(), event["event"].as_str()),
        (Some(2), Some("watching"))
    );
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(case.leftovers().is_empty(), "{:?}", case.leftovers());
    // The one that went on was run once, and its outcome is known.
    let report = case.run(&[]);
    assert_eq!((report.exit, report.containers_started()), (Some(0), 0), "{}", report.seen());
}

#[test]
fn a_save_during_a_run_in_the_sandbox() {
    a_save_during_a_run(On::Sandbox, 1);
}

#[test]
fn a_save_during_a_run_in_podman() {
    a_save_during_a_run(On::Podman(BUSYBOX), 2);
}

/// Numbers that look random and are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Whatever was saved, and when: in the end it says what a run says that remembers nothing.
#[test]
fn after_many_edits_it_says_what_a_run_says() {
    let full = std::env::var("CLNRM_PROOF").is_ok_and(|size| size == "full");
    let case = Case::new(FIXTURE);
    let (watching, _) = Watching::start(&case, &[]);
    let one = case.read("one.clnrm.toml");
    let library = case.read("templates/_m.toml.tera");
    let mut random = Random(20);
    let mut states = BTreeMap::new();
    states.insert("one.clnrm.toml".to_owned(), "passed".to_owned());
    states.insert("two.clnrm.toml.tera".to_owned(), "passed".to_owned());
    for number in 0..if full { 300 } else { 60 } {
        let run = ["true", "false", "sleep 0.05", "exit 3"][random.below(4) as usize];
        let text = one.replace("true one", &format!("{run} # {number}"));
        match random.below(8) {
            0..=2 => case.write("one.clnrm.toml", text),
            3 => case.write("one.clnrm.toml", &text[..random.below(60) as usize]),
            4 => {
                case.write(".swap", text);
                let target = case.root().join(format!("new{}.clnrm.toml", random.below(3)));
                fs::rename(case.root().join(".swap"), target).unwrap();
            }
            5 => {
                let gone = format!("new{}.clnrm.toml", random.below(3));
                let _ = fs::remove_file(case.root().join(gone));
            }
            6 => case.write("data/note", format!("{number}")),
            _ => {
                let word = ["true && {{", "{{ what }} && {{", "{{"][random.below(3) as usize];
                case.write("templates/_m.toml.tera", library.replace("{{", word));
            }
        }
        thread::sleep(Duration::from_millis(random.below(50)));
    }
    for event in watching.rest(4 * QUIET) {
        for test in event["tests"].as_array().unwrap() {
            let [file, state] = ["file", "state"].map(|key| test[key].as_str().unwrap().to_owned());
            states.insert(file, state);
        }
    }
    let run = case.run(&["--no-cache"]);
    let tests = run.json["tests"].as_array().unwrap().iter();
    let wanted: BTreeMap<String, String> = tests
        .map(|test| {
            let [file, state] = ["file", "state"].map(|key| test[key].as_str().unwrap().to_owned());
            (file, state)
        })
        .collect();
    states.retain(|file, _| case.root().join(file).exists());
    assert_eq!(states, wanted);
    assert_eq!(watching.end(), Some(130));
    assert!(case.leftovers().is_empty());
}

#[test]
fn an_engine_that_goes_away_and_comes_back() {
    let test = "watch::an_engine_that_goes_away_and_comes_back";
    let Some(engine) = On::Podman(BUSYBOX).engine(test) else { return };
    let Some(mut case) = On::Podman(BUSYBOX).case(test, FIXTURE) else { return };
    let line = Line::to(&engine.socket, case.beside("podman.sock"));
    case.set_env("CONTAINER_HOST", &format!("unix://{}", line.socket.display()));
    let (watching, first) = Watching::start(&case, &[]);
    assert_eq!(first["summary"]["passed"], 2, "{first}");
    line.cut();
    case.replace("one.clnrm.toml", "true one", "true again");
    let event = watching.next();
    assert_eq!(told(&event), ["one.clnrm.toml crashed"]);
    let error = event["tests"][0]["scenarios"][0]["error"].as_str().unwrap();
    assert!(error.contains("cannot reach Podman"), "{error}");
    let _again = Line::to(&engine.socket, line.socket.clone());
    let event = watching.next();
    assert_eq!(told(&event), ["one.clnrm.toml passed"]);
    assert_eq!(watching.end(), Some(130));
}
