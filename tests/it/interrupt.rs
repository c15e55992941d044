//! Runs that are broken off leave nothing behind, and lose nothing that was done.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use expect_test::expect;
use rustix::process::{Pid, Signal, kill_process};

use crate::case::{Case, Running, wait_until};
use crate::engines::{BUSYBOX, On, processes, with_argument};

/// A quick test and one that does not end, which has `marker` among its arguments.
fn fixture(marker: &str) -> String {
    format!(
        r#"
//- /endless.clnrm.toml
[meta]
name = "endless"

[[scenario]]
name = "endless"
run = "sleep {marker} & sleep {marker}"

//- /quick.clnrm.toml
[meta]
name = "quick"

[[scenario]]
name = "quick"
run = "sleep 1"
"#
    )
}

/// A number of seconds that no other process sleeps for.
fn marker(case: u32) -> String {
    format!("10000.{:07}{case:02}", std::process::id())
}

fn interrupt(running: &Running) {
    kill_process(Pid::from_raw(running.pid()).unwrap(), Signal::INT).unwrap();
}

#[test]
fn ctrl_c_ends_the_sandbox() {
    let marker = marker(1);
    let case = Case::new(&fixture(&marker));
    let running = case.start(&["run", "--jobs", "2"]);
    let cells = || processes().iter().filter(|each| each.parent == running.pid()).count();
    wait_until("both are running", Duration::from_secs(20), || cells() == 2);
    wait_until("only the endless one is left", Duration::from_secs(20), || {
        cells() == 1 && with_argument(&marker) >= 2
    });
    interrupt(&running);
    let interrupted = Instant::now();
    let ran = running.finish();
    assert!(interrupted.elapsed() < Duration::from_secs(5), "{:?}", interrupted.elapsed());
    ran.check(expect![[r#"
        exit 130
        -- stdout
        ENG   endless.clnrm.toml  endless
          error: scenario `endless`: cancelled
        PASS  quick.clnrm.toml    quick  [TIME]

        1 passed, 1 not run in [TIME]
        2 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]]);
    assert_eq!(with_argument(&marker), 0);
    assert_eq!(case.leftovers(), Vec::<PathBuf>::new());
    case.run(&["quick.clnrm.toml"]).check(expect![[r#"
        exit 0
        passed  quick.clnrm.toml
        0 started, 1 reused, no queries executed
    "#]]);
}

#[test]
fn ctrl_c_leaves_no_container_in_podman() {
    ctrl_c_leaves_no_container(On::Podman(BUSYBOX), 2);
}

#[test]
fn ctrl_c_leaves_no_container_in_docker() {
    ctrl_c_leaves_no_container(On::Docker(BUSYBOX), 7);
}

fn ctrl_c_leaves_no_container(on: On, number: u32) {
    let test = "interrupt::ctrl_c_leaves_no_container";
    let Some(engine) = on.engine(test) else { return };
    let marker = marker(number);
    let Some(case) = on.case(test, &fixture(&marker)) else { return };
    let running = case.start(&["run", "--jobs", "2"]);
    let containers = || engine.containers_of(running.pid()).len();
    wait_until("both are running", Duration::from_secs(20), || containers() == 2);
    wait_until("only the endless one is left", Duration::from_secs(20), || {
        containers() == 1 && with_argument(&marker) >= 2
    });
    interrupt(&running);
    let (pid, interrupted) = (running.pid(), Instant::now());
    let ran = running.finish();
    assert!(interrupted.elapsed() < Duration::from_secs(5), "{:?}", interrupted.elapsed());
    assert_eq!(ran.exit, Some(130), "{}", ran.seen());
    assert!(engine.containers_of(pid).is_empty());
    assert_eq!(with_argument(&marker), 0);
    assert_eq!(case.leftovers(), Vec::<PathBuf>::new());
    case.run(&["quick.clnrm.toml"]).check(expect![[r#"
        exit 0
        passed  quick.clnrm.toml
        0 started, 1 reused, no queries executed
    "#]]);
}

#[test]
fn what_was_not_started_is_not_counted() {
    let marker = marker(6);
    let case = Case::new(&fixture(&marker));
    // Each with a run of its own, none of which ends.
    case.remove("quick.clnrm.toml");
    for name in ["f", "g", "h"] {
        let text =
            case.read("endless.clnrm.toml").replace("run = \"", &format!("run = \"true {name}; "));
        case.write(&format!("{name}.clnrm.toml"), text);
    }
    let running = case.start(&["run", "--format", "json", "--jobs", "1"]);
    wait_until("it is running", Duration::from_secs(20), || with_argument(&marker) >= 2);
    interrupt(&running);
    let report = running.finish().report();
    assert_eq!(report.exit, Some(130));
    assert_eq!(report.containers_started(), 1, "{}", report.seen());
}

#[test]
fn a_check_that_is_broken_off_goes_on_from_there() {
    let case = Case::empty();
    case.write("clnrm.toml", "");
    let slow = "{% for n in range(end=50000) %}{% if n > 1 %}{% endif %}{% endfor %}";
    for number in 0..60 {
        let text = format!("{slow}{{# {number} #}}\n[meta]\nname = \"t\"\nversion = \"1\"\n");
        case.write(&format!("t{number}.clnrm.toml.tera"), text);
    }
    let running = case.start(&["dry-run"]);
    let pid = running.pid();
    wait_until("it has begun", Duration::from_secs(20), || ticks(pid) > 30);
    interrupt(&running);
    let ran = running.finish();
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(130), ""), "{}", ran.seen());
    let done = ran.stderr.strip_prefix("interrupted: ").and_then(|told| told.split_once(" of 60"));
    let done: u64 = done.expect(&ran.stderr).0.parse().unwrap();
    assert!((1..60).contains(&done), "{}", ran.stderr);
    let report = case.clnrm(&["dry-run", "--format", "json"]).report();
    assert_eq!(report.exit, Some(3), "{}", report.stderr);
    // One of them may have been in the midst of its nodes.
    let (executed, recalled) = (report.stat("nodes_executed"), report.stat("nodes_recalled"));
    assert!(recalled >= done, "{done} were done: {executed} executed, {recalled} recalled");
}

/// Hundredths of a second that a process has been at work.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let field = |number: usize| rest.split(' ').nth(number)?.parse::<u64>().ok();
    field(11).unwrap_or(0) + field(12).unwrap_or(0)
}

#[test]
fn a_second_ctrl_c_does_not_wait() {
    let marker = marker(3);
    let case = Case::new(&fixture(&marker));
    let running = case.start(&["run", "endless.clnrm.toml"]);
    wait_until("it is running", Duration::from_secs(20), || with_argument(&marker) >= 2);
    interrupt(&running);
    let _ = kill_process(Pid::from_raw(running.pid()).unwrap(), Signal::INT);
    assert_eq!(running.finish().exit, Some(130));
    wait_until("it is gone", Duration::from_secs(2), || with_argument(&marker) == 0);
}

#[test]
fn nothing_survives_a_kill() {
    let marker = marker(4);
    let case = Case::new(&fixture(&marker));
    let mut running = case.start(&["run", "endless.clnrm.toml"]);
    wait_until("it is running", Duration::from_secs(20), || with_argument(&marker) >= 2);
    running.kill();
    wait_until("its step is gone", Duration::from_secs(2), || with_argument(&marker) == 0);
    drop(running);
    // The store that was not closed is no trouble.
    case.run(&["quick.clnrm.toml"]).check(expect![[r#"
        exit 0
        passed  quick.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]);
    // Nor is what it had in the folder for temporary files; the next run takes that away.
    assert_eq!(case.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn nothing_survives_a_kill_in_podman() {
    nothing_survives_a_kill_in(On::Podman(BUSYBOX), 5);
}

#[test]
fn nothing_survives_a_kill_in_docker() {
    nothing_survives_a_kill_in(On::Docker(BUSYBOX), 8);
}

fn nothing_survives_a_kill_in(on: On, number: u32) {
    let test = "interrupt::nothing_survives_a_kill_in";
    let Some(engine) = on.engine(test) else { return };
    let marker = marker(number);
    let Some(case) = on.case(test, &fixture(&marker)) else { return };
    let mut running = case.start(&["run", "endless.clnrm.toml"]);
    wait_until("it is running", Duration::from_secs(20), || with_argument(&marker) >= 2);
    let pid = running.pid();
    running.kill();
    wait_until("its step is gone", Duration::from_secs(2), || with_argument(&marker) == 0);
    wait_until("its container is gone", Duration::from_secs(20), || {
        engine.containers_of(pid).is_empty()
    });
}
