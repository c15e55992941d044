//! Environments that are kept up, what runs wrote, and what is left of those that were killed.

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use expect_test::expect;
use rustix::process::{Pid, Signal, kill_process};

use crate::case::{Case, wait_until};
use crate::engines::{BUSYBOX, Engine, On, on_every_engine, processes, with_argument};
use crate::nobody::Nobody;

on_every_engine!(a_failed_scenario_is_kept_up_and_entered);

const FAILING: &str = r#"
//- /a.clnrm.toml
[meta]
name = "a"

[services.app]
args = ["sh", "-c", "echo up; echo hello > /tmp/note; exec busybox nc -ll -p 7007 -e echo hi"]
ports = [7007]
publish = true

[[scenario]]
name = "good"
run = "true"

[[scenario]]
name = "bad one"
service = "app"

[[scenario.steps]]
name = "first"
command = "echo first; echo oops >&2"

[[scenario.steps]]
name = "second"
command = "exit 7"
"#;

fn a_failed_scenario_is_kept_up_and_entered(on: On) {
    let test = "kept::a_failed_scenario_is_kept_up_and_entered";
    let Some(case) = on.case(test, FAILING) else { return };
    let mut running = case.start(&["run", "--keep"]);
    let folders = || case.leftovers().into_iter();
    wait_until("it is kept up", Duration::from_secs(30), || {
        assert!(running.is_running(), "it ended");
        folders().any(|folder| folder.join("kept.json").exists())
    });
    let kept = folders().find_map(|folder| std::fs::read(folder.join("kept.json")).ok()).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    let at = kept["published"][0]["at"].as_u64().unwrap() as u16;
    for _ in 0..3 {
        let mut answer = String::new();
        let mut stream = TcpStream::connect(("127.0.0.1", at)).unwrap();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "hi\n");
    }
    let status = case.clnrm(&["services", "status"]);
    assert!(status.stdout.lines().any(|line| line.starts_with("app  ")), "{}", status.seen());
    // Engines' own commands want a terminal for `-it`; `script` has one.
    let enter = "clnrm shell bad -- cat /tmp/note";
    let ran = if matches!(on, On::Sandbox | On::Unprivileged) {
        case.clnrm(&["shell", "bad", "--", "cat", "/tmp/note"])
    } else {
        let script = enter.replace("clnrm", crate::case::clnrm());
        let command = case.program("script", &["-qec", &script, "/dev/null"]);
        case.start_program(command).finish()
    };
    assert!(ran.stdout.contains("hello"), "{}", ran.seen());
    if matches!(on, On::Sandbox | On::Unprivileged) {
        // Whoever enters has no more rights than what runs there.
        let status = case.clnrm(&[
            "shell",
            "--",
            "grep",
            "-E",
            "Cap(Eff|Bnd)|NoNewPrivs|Seccomp:",
            "/proc/self/status",
        ]);
        let words: Vec<&str> = status.stdout.split_whitespace().collect();
        let none = "0000000000000000";
        assert_eq!(words, ["CapEff:", none, "CapBnd:", none, "NoNewPrivs:", "1", "Seccomp:", "2"]);
    }
    kill_process(Pid::from_raw(running.pid()).unwrap(), Signal::INT).unwrap();
    let ran = running.finish();
    assert_eq!(ran.exit, Some(1), "{}", ran.seen());
    assert!(ran.stderr.contains("`bad one` is kept up, with app"), "{}", ran.seen());
    assert!(
        ran.stderr.contains(&format!("port 7007 of `app` is at 127.0.0.1:{at}")),
        "{}",
        ran.seen()
    );
    assert!(TcpStream::connect(("127.0.0.1", at)).is_err());
    assert!(case.leftovers().is_empty(), "{:?}", case.leftovers());
    assert_eq!(case.clnrm(&["shell"]).exit, Some(2));
}

/// Somebody else's word is not taken for what to run.
#[test]
fn what_others_keep_up_is_not_entered() {
    if !Nobody::can_be("kept::what_others_keep_up_is_not_entered") {
        return;
    }
    let case = Case::new(FAILING);
    let folder = case.beside("tmp/clnrm-run-other");
    std::fs::create_dir(&folder).unwrap();
    let told =
        r#"{"scenario":"s","doors":[{"service":"app","way":{"Command":["touch","pwned"]}}]}"#;
    std::fs::write(folder.join("kept.json"), told).unwrap();
    let lock = std::fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    Nobody::owns(&folder);
    assert_eq!(case.clnrm(&["shell"]).exit, Some(2));
    assert!(!case.root().join("pwned").exists());
    // Of one's own it is.
    std::os::unix::fs::chown(&folder, Some(0), Some(0)).unwrap();
    assert_eq!(case.clnrm(&["shell", "--", "again"]).exit, Some(0));
    assert!(case.root().join("pwned").exists());
}

#[test]
fn what_was_written_can_be_read_again() {
    let case = Case::new(FAILING);
    case.run(&[]);
    case.clnrm(&["logs", "bad"]).check(expect![[r#"
        exit 0
        -- stdout
        === a.clnrm.toml: bad one
        --- service app
        up
        --- step first, exit code 0
        first
        --- step first, standard error
        oops
        --- step second, exit code 7

    "#]]);
    assert_eq!(case.clnrm(&["logs", "no such scenario"]).exit, Some(4));
    case.clnrm(&["services", "logs", "app"]).check(expect![[r#"
        exit 0
        -- stdout
        === a.clnrm.toml: good
        --- service app
        up

        === a.clnrm.toml: bad one
        --- service app
        up

    "#]]);
    assert_eq!(case.clnrm(&["services", "logs", "other"]).exit, Some(4));
    case.clnrm(&["services", "restart", "app"]).check(expect![[r#"
        exit 2
        -- stderr
        error: `app` lives as long as its scenario; `clnrm run --force` starts it afresh
    "#]]);
    let plugins = case.clnrm(&["plugins"]);
    assert!(plugins.stdout.contains("otel_collector"), "{}", plugins.seen());
}

/// Containers that are somebody else's, one of them with a name like ours.
struct Decoys<'a>(&'a str, Vec<String>);

impl Decoys<'_> {
    fn start(program: &str) -> Decoys<'_> {
        let names = (0..5).map(|number| format!("clnrm-decoy-{}-{number}", std::process::id()));
        let names: Vec<String> = names.collect();
        for name in &names {
            let run = ["run", "-d", "--name", name, "--network", "none", BUSYBOX, "sleep", "300"];
            let started = Command::new(program).args(run).output().unwrap();
            assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        }
        Decoys(program, names)
    }

    fn running(&self) -> usize {
        let listed = Command::new(self.0).args(["ps", "--format", "{{.Names}}"]).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        self.1.iter().filter(|name| listed.lines().any(|line| line == **name)).count()
    }
}

impl Drop for Decoys<'_> {
    fn drop(&mut self) {
        let mut remove = Command::new(self.0);
        remove.args(["rm", "-f"]).args(&self.1);
        let _ = remove.output();
    }
}

/// Two services that claim one port, so that a network is made for them.
const LINKED: &str = r#"
//- /a.clnrm.toml
[meta]
name = "a"

[services.one]
args = ["sh", "-c", "echo up; sleep 60"]
ports = [80]
wait_for = { log = "up" }

[services.two]
args = ["sh", "-c", "echo up; sleep 60"]
ports = [80]
wait_for = { log = "up" }

[[scenario]]
name = "s"
service = "two"
run = "false"
"#;

/// The processes of runs that were killed, at moments spread over so many milliseconds.
fn killed_runs(case: &Case, life: u64) -> Vec<i32> {
    let full = std::env::var("CLNRM_PROOF").is_ok_and(|size| size == "full");
    let rounds = if full { 100 } else { 10 };
    let kill = |round| {
        let mut running = case.start(&["run"]);
        let pid = running.pid();
        // From the first moments to the end.
        std::thread::sleep(Duration::from_millis(5 + round * life / rounds));
        running.kill();
        pid
    };
    (0..rounds).map(kill).collect()
}

/// Kills runs at moments spread over their whole life; afterwards one run, and nothing is left.
fn nothing_is_left_of_killed_runs(on: On, program: &str) {
    let test = "kept::nothing_is_left_of_killed_runs";
    let Some(mut case) = on.case(test, LINKED) else { return };
    let engine = on.engine(test).expect("it is one");
    engine.show_to(&mut case);
    let decoys = Decoys::start(program);
    let killed = killed_runs(&case, 1000);
    case.clnrm(&["run"]);
    let left = |engine: &Engine| killed.iter().map(|pid| engine.made_by(*pid).len()).sum::<usize>();
    // The last of them may be ending at this moment, or may have been about to begin.
    wait_until("nothing is left", Duration::from_secs(20), || {
        case.clnrm(&["clean"]);
        left(&engine) == 0 && case.leftovers().is_empty()
    });
    let parents: Vec<i32> = processes().iter().map(|process| process.parent).collect();
    assert!(killed.iter().all(|pid| !parents.contains(pid)));
    assert_eq!(decoys.running(), 5, "what others made is left alone");
}

/// Of these processes' runs in the sandbox: control groups.
fn groups_of(killed: &[i32]) -> usize {
    let folders =
        ["/sys/fs/cgroup/clnrm", "/sys/fs/cgroup/pids/clnrm", "/sys/fs/cgroup/memory/clnrm"];
    let names = folders.into_iter().flat_map(std::fs::read_dir).flatten().flatten();
    let is_theirs = |name: &str| killed.iter().any(|pid| name.starts_with(&format!("{pid}-")));
    names.filter(|entry| entry.file_name().to_str().is_some_and(is_theirs)).count()
}

#[test]
fn nothing_is_left_in_the_sandbox() {
    let marker = format!("60.{:08}9", std::process::id());
    let case = Case::new(&LINKED.replace("sleep 60", &format!("sleep {marker}")));
    let killed = killed_runs(&case, 200);
    case.clnrm(&["run"]);
    // Who was about to end meanwhile ends, and is swept by the next.
    wait_until("nothing is left", Duration::from_secs(20), || {
        case.clnrm(&["clean"]);
        with_argument(&marker) == 0 && groups_of(&killed) == 0 && case.leftovers().is_empty()
    });
}

#[test]
fn nothing_is_left_in_podman() {
    nothing_is_left_of_killed_runs(On::Podman(BUSYBOX), "podman");
}

#[test]
fn nothing_is_left_in_docker() {
    nothing_is_left_of_killed_runs(On::Docker(BUSYBOX), "docker");
}
