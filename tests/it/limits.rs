//! Limits of a test that its containers meet.

use expect_test::expect;

use crate::engines::{On, in_every_sandbox, on_every_engine};

in_every_sandbox!(a_limit_that_is_met_is_told);

fn a_limit_that_is_met_is_told(on: On) {
    let fixture = r#"
//- /a.clnrm.toml
[meta]
name = "a"

[limits]
pids = 10

[[scenario]]
name = "s"
run = "exec 2>/dev/null; i=0; while [ $i -lt 20 ]; do sleep 1 & i=$((i + 1)); done; exit 0"
"#;
    let Some(case) = on.case("limits::a_limit_that_is_met_is_told", fixture) else { return };
    let ran = case.clnrm(&["run"]);
    if matches!(on, On::Unprivileged) {
        // Nobody counts for such a user, but the limit holds.
        assert_eq!(ran.exit, Some(1), "{}", ran.seen());
        return;
    }
    ran.check(expect![[r#"
        exit 1
        -- stdout
        FAIL  a.clnrm.toml  a  [TIME]
          a.clnrm.toml:7:1: warning[run/doubtful]: service `default` used up its 10 processes, and one was not started
            |
          7 | [[scenario]]
            | ^^^^^^^^^^^^
          a.clnrm.toml:9:1: scenario `s`, step `s`
            ended with exit code 2, expected exit code 0

        0 passed, 1 failed in [TIME]
        1 run, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]]);
}

/// What a container of the sandbox writes is memory, of which it may fill a half.
#[test]
fn a_disk_that_is_filled_up() {
    let fixture = r#"
//- /a.clnrm.toml
[meta]
name = "a"

[limits]
memory_mb = 64

[[scenario]]
name = "s"

[[scenario.steps]]
name = "fill"
command = "dd if=/dev/zero of=/var/tmp/file bs=1M count=100000 2>&1; stat -c %s /var/tmp/file"
expected_output_contains = "No space left on device"
"#;
    let test = "limits::a_disk_that_is_filled_up";
    let Some(case) = On::Sandbox.case(test, fixture) else { return };
    let report = case.run(&[]);
    assert_eq!(report.exit, Some(0), "{}", report.seen());
    let logs = case.clnrm(&["logs"]).stdout;
    let written: u64 = logs.trim().lines().last().unwrap().parse().expect(&logs);
    assert!((28 << 20..=32 << 20).contains(&written), "{logs}");
}

#[test]
fn a_limit_that_nothing_could_run_with() {
    let case = crate::case::Case::new(
        r#"
//- /a.clnrm.toml
[meta]
name = "a"

[limits]
memory_mb = 0
pids = 99999999999

[[scenario]]
name = "s"
run = "true"
"#,
    );
    case.run(&[]).check(expect![[r#"
        exit 3
        broken  a.clnrm.toml
        a.clnrm.toml:5:1: error[parse/range]: 0 is no limit that anything could run with
        a.clnrm.toml:6:1: error[parse/range]: 99999999999 is no limit that anything could run with
        0 started, 0 reused, some queries executed
    "#]]);
}
