//! Containers that are made before they are needed, used once, and removed when they are not.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::case::wait_until;
use crate::engines::{BUSYBOX, On};

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
