//! Containers that are made before they are needed, used once, and removed when they are not.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Pid, Signal, kill_process};

use crate::case::wait_until;
use crate::engines::{BUSYBOX, On, Process, processes};
use crate::watch::Watching;

/// Tests whose first containers are alike, though they do different things in them.
fn alike(on: On) {
    let test = "spares::alike";
    let Some(case) = on.case(test, "") else { return };
    let engine = on.engine(test).expect("it is one");
    case.write("note", "from the workspace\n");
    for number in 0..6 {
        let text = format!(
            "[meta]\nname = \"{number}\"\nversion = \"1\"\n\n\
             [services.app]\nvolumes = [\"./note:/note:ro\", \"./note:/own\"]\n\
             env = {{ NUMBER = \"{number}\" }}\n\n\
             [[scenario]]\nname = \"s\"\nservice = \"app\"\n\
             run = '''\ntest ! -e /tmp/mark && touch /tmp/mark && grep -q from /note && \
             grep -q from /own && echo {number} > /own && sleep 0.4 && echo $NUMBER is done\n'''\n\n\
             [[expect.span]]\nname = \"app.exec\"\n"
        );
        case.write(&format!("{number}.clnrm.toml"), text);
    }
    let running = case.start(&["run", "--jobs", "1", "--format", "json"]);
    let (pid, mut seen, mut most) = (running.pid(), BTreeSet::new(), 0);
    wait_until("all have been seen", Duration::from_secs(60), || {
        let now = engine.containers_of(pid);
        most = most.max(now.len());
        seen.extend(now);
        seen.len() >= 6
    });
    let report = running.finish().report();
    assert_eq!((report.exit, report.containers_started()), (Some(0), 6), "{}", report.seen());
    // One at a time is run, and another one made meanwhile; none that nobody used.
    assert!(most >= 2, "none was made before it was needed");
    assert_eq!(seen.len(), 6, "{seen:?}");
    assert!(engine.made_by(pid).is_empty() && case.leftovers().is_empty());
    for number in 0..6 {
        let logs = case.clnrm(&["logs", "s", &format!("{number}.clnrm.toml")]).stdout;
        assert!(logs.contains(&format!("{number} is done")), "{logs}");
    }
}

#[test]
fn alike_in_podman() {
    alike(On::Podman(BUSYBOX));
}

#[test]
fn alike_in_docker() {
    alike(On::Docker(BUSYBOX));
}

#[test]
fn what_was_not_used_is_removed() {
    let test = "spares::what_was_not_used_is_removed";
    for on in [On::Podman(BUSYBOX), On::Docker(BUSYBOX)] {
        let Some(case) = on.case(test, "") else { continue };
        let engine = on.engine(test).expect("it is one");
        for number in 0..5 {
            let text = format!(
                "[meta]\nname = \"{number}\"\nversion = \"1\"\n\n\
                 [[scenario]]\nname = \"s\"\nrun = \"sleep 5; exit {number}\"\n"
            );
            case.write(&format!("{number}.clnrm.toml"), text);
        }
        let running = case.start(&["run", "--jobs", "1"]);
        let pid = running.pid();
        wait_until("there is a spare", Duration::from_secs(20), || {
            engine.containers_of(pid).len() == 2
        });
        kill_process(Pid::from_raw(pid).unwrap(), Signal::INT).unwrap();
        assert_eq!(running.finish().exit, Some(130));
        assert!(engine.made_by(pid).is_empty(), "{:?}", engine.made_by(pid));
        assert!(case.leftovers().is_empty(), "{:?}", case.leftovers());
    }
}

#[test]
fn one_that_somebody_has_taken_away_is_made_again() {
    let test = "spares::one_that_somebody_has_taken_away_is_made_again";
    for (on, program) in [(On::Podman(BUSYBOX), "podman"), (On::Docker(BUSYBOX), "docker")] {
        let Some(case) = on.case(test, "") else { continue };
        let engine = on.engine(test).expect("it is one");
        for number in 0..3 {
            let text = format!(
                "[meta]\nname = \"{number}\"\nversion = \"1\"\n\n\
                 [[scenario]]\nname = \"s\"\nrun = \"sleep 1.{number}\"\n"
            );
            case.write(&format!("{number}.clnrm.toml"), text);
        }
        let running = case.start(&["run", "--jobs", "1", "--format", "json"]);
        let pid = running.pid();
        let mut first = BTreeSet::new();
        wait_until("the first runs", Duration::from_secs(20), || {
            first = engine.containers_of(pid);
            first.len() == 1
        });
        let mut both = BTreeSet::new();
        wait_until("there is a spare", Duration::from_secs(20), || {
            both = engine.containers_of(pid);
            both.len() == 2
        });
        let spare = both.difference(&first).next().expect("one is new");
        let name = spare.trim_matches('"').trim_start_matches('/');
        let removed = Command::new(program).args(["rm", "-f", name]).output().unwrap();
        assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
        let report = running.finish().report();
        assert_eq!((report.exit, report.containers_started()), (Some(0), 3), "{}", report.seen());
        assert!(engine.made_by(pid).is_empty() && case.leftovers().is_empty());
    }
}

/// A test that looks at what it mounts.
const MOUNTING: &str = r#"
//- /a.clnrm.toml
[meta]
name = "a"
version = "1"

[services.app]
volumes = ["./data:/data:ro", "./note:/note"]

[[scenario]]
name = "s"
service = "app"
run = "true 0 && grep -q hello /data/note && grep -q hello /note"

[[expect.span]]
name = "app.exec"

//- /data/note
hello
//- /note
hello
"#;

/// The processes one has started that go on.
fn children_of(pid: i32) -> BTreeSet<i32> {
    processes().into_iter().filter(|it| it.parent == pid).map(|it| it.id).collect()
}

/// While one waits for an edit, the next container is there; it sees what is mounted now.
fn between_edits(on: On) {
    let test = "spares::between_edits";
    let Some(case) = on.case(test, MOUNTING) else { return };
    let engine = on.engine(test);
    let (watching, first) = Watching::start(&case, &[]);
    assert_eq!(first["summary"]["passed"], 1, "{first}");
    let pid = watching.pid().as_raw_nonzero().get();
    let waiting = || match &engine {
        Some(engine) => engine.containers_of(pid).len(),
        None => children_of(pid).len(),
    };
    for number in 0..6 {
        wait_until("the next container is there", Duration::from_secs(20), || waiting() > 0);
        match number {
            // Another folder, and another file, of which nothing is another.
            2 => {
                let [data, other] = ["data", "other"].map(|name| case.root().join(name));
                std::fs::create_dir(&other).unwrap();
                std::fs::write(other.join("note"), "hello\n").unwrap();
                // At no moment there is none.
                renameat_with(CWD, &data, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                std::fs::remove_dir_all(other).unwrap();
            }
            // There and back again.
            4 => {
                case.write("note", "bye\n");
                let event = watching.until(&["a.clnrm.toml failed"]).pop().unwrap();
                assert_eq!(event["summary"]["passed"], 0, "{event}");
                wait_until("the next container is there", Duration::from_secs(20), || {
                    waiting() > 0
                });
                case.write("note", "hello\n");
                watching.until(&["a.clnrm.toml passed"]);
            }
            _ => {}
        }
        case.replace("a.clnrm.toml", &format!("true {number} "), &format!("true {} ", number + 1));
        let events = watching.until(&["a.clnrm.toml passed"]);
        let last = events.last().unwrap();
        assert_eq!(last["stats"]["containers_started"], 1, "{events:?}");
    }
    assert_eq!(watching.end(), Some(130));
    if let Some(engine) = &engine {
        assert!(engine.made_by(pid).is_empty(), "{:?}", engine.made_by(pid));
    }
    assert!(case.leftovers().is_empty());
}

#[test]
fn between_edits_in_the_sandbox() {
    between_edits(On::Sandbox);
}

#[test]
fn between_edits_in_podman() {
    between_edits(On::Podman(BUSYBOX));
}

#[test]
fn between_edits_in_docker() {
    between_edits(On::Docker(BUSYBOX));
}

#[test]
fn one_that_waits_ends_with_a_killed_clnrm() {
    let test = "spares::one_that_waits_ends_with_a_killed_clnrm";
    for on in [On::Sandbox, On::Podman(BUSYBOX), On::Docker(BUSYBOX)] {
        let Some(case) = on.case(test, MOUNTING) else { continue };
        let engine = on.engine(test);
        let (watching, _) = Watching::start(&case, &[]);
        let pid = watching.pid().as_raw_nonzero().get();
        let containers = || engine.as_ref().map_or(0, |engine| engine.containers_of(pid).len());
        let waits = || containers() > 0 || !children_of(pid).is_empty();
        wait_until("the next container is there", Duration::from_secs(20), waits);
        let children = children_of(pid);
        kill_process(watching.pid(), Signal::KILL).unwrap();
        drop(watching);
        // One that nobody has waited for yet has no command any more.
        let goes_on = |it: &Process| children.contains(&it.id) && !it.command.is_empty();
        let is_gone = || !processes().iter().any(goes_on);
        wait_until("it is gone", Duration::from_secs(20), || containers() == 0 && is_gone());
    }
}
