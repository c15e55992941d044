//! Broken stores, workspaces that cannot be written and engines that are gone: what is said, and
//! what stands nevertheless.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use expect_test::{Expect, expect};

use crate::case::{Case, ONE, Ran, clnrm, masked, wait_until};
use crate::engines::{BUSYBOX, Line, On, podman, processes, with_argument};

/// Damages a store of one run; the next run is cold and green, and the one after that is warm.
#[track_caller]
fn damaged(damage: impl FnOnce(Vec<u8>) -> Vec<u8>, expected: Expect) {
    let case = Case::new(ONE);
    assert_eq!(case.run(&[]).exit, Some(0));
    let store = case.root().join(".clnrm/store-v1.redb");
    fs::write(&store, damage(fs::read(&store).unwrap())).unwrap();
    let report = case.run(&[]);
    expected.assert_eq(&masked(&report.stderr, &case.root()));
    assert_eq!((report.exit, report.containers_started()), (Some(0), 1), "{}", report.seen());
    assert!(case.root().join(".clnrm/store-v1.redb.bad").exists());
    let warm = case.run(&[]);
    assert_eq!((warm.exit, warm.containers_started()), (Some(0), 0), "{}", warm.seen());
    assert_eq!(warm.stderr, "");
}

#[test]
fn a_store_of_garbage() {
    // The same garbage every time.
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    damaged(
        |bytes| bytes.iter().map(|_| noise()).collect(),
        expect![[r#"
        warning: [CASE]/.clnrm/store-v1.redb could not be used (I/O error: Not a redb database: magic number mismatch); it is now [CASE]/.clnrm/store-v1.redb.bad, and everything starts cold
    "#]],
    );
}

#[test]
fn a_store_of_text() {
    damaged(
        |_| b"hello\n".to_vec(),
        expect![[r#"
        warning: [CASE]/.clnrm/store-v1.redb could not be used (I/O error: Not a redb database: magic number mismatch); it is now [CASE]/.clnrm/store-v1.redb.bad, and everything starts cold
    "#]],
    );
}

#[test]
fn an_empty_store() {
    damaged(
        |_| Vec::new(),
        expect![[r#"
        warning: [CASE]/.clnrm/store-v1.redb could not be used (I/O error: Database file is empty and creating a new database was not requested); it is now [CASE]/.clnrm/store-v1.redb.bad, and everything starts cold
    "#]],
    );
}

#[test]
fn a_truncated_store() {
    damaged(
        |bytes| bytes[..bytes.len() / 2].to_vec(),
        expect![[r#"
        warning: [CASE]/.clnrm/store-v1.redb could not be used (DB corrupted: File truncated below stored layout: file_len=[BYTES], layout_len=[BYTES]); it is now [CASE]/.clnrm/store-v1.redb.bad, and everything starts cold
    "#]],
    );
}

#[test]
fn a_store_with_damage_inside() {
    let zero = |mut bytes: Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[4096..middle].fill(0);
        bytes
    };
    damaged(
        zero,
        expect![[r#"
        warning: [CASE]/.clnrm/store-v1.redb could not be used (DB corrupted: Primary is corrupted despite 2-phase commit); it is now [CASE]/.clnrm/store-v1.redb.bad, and everything starts cold
    "#]],
    );
}

#[test]
fn a_workspace_that_cannot_be_written() {
    let case = Case::new(ONE);
    let ran = run_read_only(&case);
    ran.check(expect![[r#"
        exit 0
        -- stdout
        PASS  a.clnrm.toml  a  [TIME]

        1 passed in [TIME]
        1 run, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        -- stderr
        warning: this run will not be remembered: [CASE]/w/.clnrm cannot be made: Read-only file system (os error 30)
    "#]]);
    assert!(!case.root().join(".clnrm").exists());
    // What was remembered before can still be read.
    assert_eq!(case.run(&[]).containers_started(), 1);
    let ran = run_read_only(&case);
    ran.check(expect![[r#"
        exit 0
        -- stdout
        PASS  a.clnrm.toml  a  [TIME]

        1 passed in [TIME]
        0 runs, 1 outcome reused, 0 queries executed, [N] recalled; the built-in sandbox
    "#]]);
}

fn run_read_only(case: &Case) -> Ran {
    if rustix::process::geteuid().is_root() {
        // Root may write anywhere but on a read-only mount.
        let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && cd \"$0\" \
                      && exec \"$1\" run";
        let root = case.root().display().to_string();
        let args = ["-m", "sh", "-c", script, &root, clnrm()];
        return case.start_program(case.program("unshare", &args)).finish();
    }
    let set_mode = |mode| {
        fs::set_permissions(case.root(), fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(0o555);
    let ran = case.clnrm(&["run"]);
    set_mode(0o755);
    ran
}

#[test]
fn a_store_that_goes_away_under_way() {
    let case = Case::new(ONE);
    case.run(&[]);
    case.replace("a.clnrm.toml", "echo a", "echo started; sleep 1");
    let running = case.start(&["run", "--format", "json"]);
    let cells = || processes().iter().filter(|each| each.parent == running.pid()).count();
    wait_until("it runs", Duration::from_secs(20), || cells() == 1);
    case.remove(".clnrm");
    let report = running.finish().report();
    assert_eq!(report.stderr, "");
    report.check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]);
    case.run(&[]);
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        0 started, 1 reused, no queries executed
    "#]]);
}

#[test]
fn engines_that_are_not_there() {
    let mut case = Case::new(ONE);
    case.set_env("CONTAINER_HOST", "unix:///nowhere/podman.sock");
    case.set_env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    case.clnrm(&["run", "--backend", "podman"]).check(expect![[r#"
        exit 5
        -- stderr
        error: cannot reach Podman at /nowhere/podman.sock: there is no such socket
          hint: start the engine, or use `--backend sandbox`, which needs none
    "#]]);
    case.clnrm(&["run", "--backend", "docker"]).check(expect![[r#"
        exit 5
        -- stderr
        error: cannot reach Docker at /nowhere/docker.sock: there is no such socket
          hint: start the engine, or use `--backend sandbox`, which needs none
    "#]]);
    // Nobody asked for an engine here.
    assert_eq!(case.clnrm(&["run"]).exit, Some(0));
    let auto = case.run(&["--backend", "auto"]);
    auto.check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        0 started, 1 reused, no queries executed
    "#]]);
    assert_eq!(auto.json["backend"], "neither Podman nor Docker answers: the built-in sandbox");
}

#[test]
fn podman_that_goes_away() {
    without_podman(
        "broken_machine::podman_that_goes_away",
        "4",
        Line::cut,
        expect![[r#"
        exit 5
        passed  known.clnrm.toml
        passed  quick.clnrm.toml
        passed  slow.clnrm.toml
        2 started, 1 reused, some queries executed
    "#]],
    );
}

#[test]
fn podman_that_is_restarted() {
    let restart = |line: &Line| {
        line.cut();
        Line::to(&line.real, line.socket.clone());
    };
    without_podman(
        "broken_machine::podman_that_is_restarted",
        "5",
        restart,
        expect![[r#"
        exit 0
        passed  known.clnrm.toml
        passed  quick.clnrm.toml
        passed  slow.clnrm.toml
        2 started, 1 reused, some queries executed
    "#]],
    );
}

/// Runs three tests, of which one is long and still runs when something is done to the line.
fn without_podman(test: &str, seconds: &str, harm: fn(&Line), expected: Expect) {
    let Some(podman) = podman(test) else { return };
    let marker = format!("{seconds}.{:09}", std::process::id());
    let fixture = format!(
        r#"
//- /slow.clnrm.toml
[meta]
name = "slow"

[[scenario]]
name = "slow"
run = "sleep {marker}"

//- /known.clnrm.toml
[meta]
name = "known"

[[scenario]]
name = "known"
run = "true"

//- /quick.clnrm.toml
[meta]
name = "quick"

[[scenario]]
name = "quick"
run = "sleep 1"
"#
    );
    let Some(mut case) = On::Podman(BUSYBOX).case(test, &fixture) else { return };
    let known = case.run(&["known.clnrm.toml"]);
    assert_eq!(known.exit, Some(0), "{}", known.seen());

    let line = Line::to(&podman.socket, case.beside("podman.sock"));
    case.set_env("CONTAINER_HOST", &format!("unix://{}", line.socket.display()));
    let running = case.start(&["run", "--jobs", "2", "--format", "json"]);
    let (pid, mut seen) = (running.pid(), BTreeSet::new());
    wait_until("only the slow one is left", Duration::from_secs(30), || {
        let now = podman.containers_of(pid);
        let left = now.len();
        seen.extend(now);
        seen.len() == 2 && left == 1 && with_argument(&marker) > 0
    });
    harm(&line);
    running.finish().report().check(expected);
    assert!(case.leftovers().is_empty());
    wait_until("nothing is left", Duration::from_secs(20), || podman.containers_of(pid).is_empty());
}
