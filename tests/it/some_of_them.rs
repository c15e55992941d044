//! Runs of some of the tests: until one fails, or one machine's part.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};

use expect_test::expect;

use crate::case::{Case, Report};

/// Six tests, of which the third fails; they last a while, more and more.
fn six() -> Case {
    let case = Case::new("");
    for number in 1..=6 {
        let text = format!(
            "[meta]\nname = \"{number}\"\n[[scenario]]\nname = \"s\"\n\
             run = \"sleep 0.0{number}; [ {number} != 3 ]\"\n"
        );
        case.write(&format!("{number}.clnrm.toml"), text);
    }
    case
}

/// The files of a report whose test was run.
fn ran(report: &Report) -> BTreeSet<String> {
    let tests = report.json["tests"].as_array().unwrap().iter();
    let ran = tests.filter(|test| test["state"] != "skipped");
    ran.map(|test| test["file"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn nothing_more_starts_after_a_failure() {
    let case = six();
    let report = case.run(&["--fail-fast", "--jobs", "1"]);
    assert_eq!(report.exit, Some(1), "{}", report.seen());
    let ran = ran(&report);
    assert!(ran.contains("3.clnrm.toml"), "{}", report.seen());
    assert_eq!(report.containers_started() as usize, ran.len());
    // All others are run by the next run, which does not stop, and the failed one again.
    let rest = case.run(&[]);
    let expected = 6 - ran.len() + 1;
    assert_eq!(rest.containers_started() as usize, expected, "{} {ran:?}", rest.seen());
}

#[test]
fn without_a_failure_nothing_is_left_out() {
    let case = six();
    case.replace("3.clnrm.toml", "[ 3 != 3 ]", "true");
    let report = case.run(&["--fail-fast", "--jobs", "2"]);
    assert_eq!(report.exit, Some(0), "{}", report.seen());
    assert_eq!(report.containers_started(), 6);
}

#[test]
fn shards_are_all_of_it_and_each_once() {
    let case = six();
    // All pass: a test that runs again may last otherwise, and the split is another then.
    case.replace("3.clnrm.toml", "[ 3 != 3 ]", "true");
    case.run(&[]);
    for by in ["count", "duration"] {
        let mut all = BTreeSet::new();
        for shard in ["1/3", "2/3", "3/3"] {
            let report = case.run(&["--shard", shard, "--shard-by", by]);
            assert_eq!(report.containers_started(), 0, "{}", report.seen());
            let part = ran(&report);
            assert!(!part.is_empty());
            assert!(part.is_disjoint(&all), "{by} {shard}");
            all.extend(part);
        }
        assert_eq!(all.len(), 6, "{by}");
    }
}

#[test]
fn a_shard_that_is_none() {
    six().clnrm(&["run", "--shard", "4/3"]).check(expect![[r#"
        exit 2
        -- stderr
        error: invalid value '4/3' for '--shard <I/N>': write I/N with I from 1 to N, like 2/3

        For more information, try '--help'.
    "#]]);
}

#[test]
fn those_of_a_group_run_one_at_a_time() {
    let case = Case::new("");
    // Each holds a line while it runs, and lines are counted.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let most = std::sync::Arc::new(std::sync::Mutex::new((0, 0)));
    let seen = most.clone();
    std::thread::spawn(move || {
        for stream in server.incoming().flatten() {
            let seen = seen.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                    let mut now = seen.lock().unwrap();
                    if line == "begin" {
                        now.0 += 1;
                        now.1 = now.1.max(now.0);
                    } else {
                        now.0 -= 1;
                        let _ = (&stream).write_all(b"seen\n");
                    }
                }
            });
        }
    });
    for number in 0..4 {
        let text = format!(
            "[meta]\nname = \"{number}\"\n[limits]\ngroup = \"gpu\"\n\
             [services.gpu]\nplugin = \"network_service\"\n\
             endpoint = \"http://localhost:{port}\"\n[[scenario]]\nname = \"s\"\n\
             env = {{ N = \"{number}\" }}\n\
             run = \"exec bash -c 'exec 3<>/dev/tcp/gpu/{port}; echo begin >&3; \
             sleep 0.1; echo end >&3; read seen <&3'\"\n"
        );
        case.write(&format!("{number}.clnrm.toml"), text);
    }
    let report = case.run(&["--jobs", "4"]);
    assert_eq!(report.exit, Some(0), "{}", report.seen());
    assert_eq!(*most.lock().unwrap(), (0, 1), "at most one at a time");
}

/// Two steps that each wait for what the other one does.
const MEETING: &str = r#"
//- /a.clnrm.toml
[meta]
name = "a"

[[scenario]]
name = "s"
concurrent = true

[[scenario.steps]]
name = "one"
command = "touch /tmp/one; until [ -e /tmp/two ]; do sleep 0.02; done"

[[scenario.steps]]
name = "two"
command = "touch /tmp/two; until [ -e /tmp/one ]; do sleep 0.02; done; exit 3"
expected_exit_code = 3

[[expect.span]]
name = "clnrm.step:one"
"#;

#[test]
fn concurrent_steps_start_at_once() {
    let case = Case::new(MEETING);
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]);
    // None waits for another one's end, so no end is part of the run.
    case.replace("a.clnrm.toml", "expected_exit_code = 3", "expected_exit_code = 4");
    case.run(&["--reuse-failures"]).check(expect![[r#"
        exit 1
        failed  a.clnrm.toml
          15: step `two`: ended with exit code 3, expected exit code 4
        0 started, 1 reused, some queries executed
    "#]]);
    case.replace("a.clnrm.toml", "expected_exit_code = 4", "depends_on = [\"one\"]");
    assert_eq!(case.run(&[]).codes(), ["parse/concurrent"]);
}

const TAGGED: &str = r#"
//- /api.clnrm.toml
[meta]
name = "api"
tags = ["smoke", "api"]

[[scenario]]
name = "s"
run = "true"

//- /slow.clnrm.toml
[meta]
name = "slow"
tags = ["slow"]

[[scenario]]
name = "s"
run = "true"

//- /both.clnrm.toml.tera
[matrix]
speed = ["smoke", "slow"]

[meta]
name = "both"
tags = ["{{ matrix.speed }}"]

[[scenario]]
name = "s"
run = "true"

//- /none.clnrm.toml
[meta]
name = "none"

[[scenario]]
name = "s"
run = "true"

//- /broken.clnrm.toml
[meta]
tags = ["slow"
"#;

#[test]
fn tags_select() {
    let case = Case::new(TAGGED);
    // Nobody knows which tags one has that cannot be read.
    case.run(&["--tag", "smoke"]).check(expect![[r#"
        exit 3
        passed  api.clnrm.toml
        passed  both.clnrm.toml.tera
        broken  broken.clnrm.toml
        broken.clnrm.toml:2:15: error[parse/syntax]: unclosed array, expected `]`
        1 started, 0 reused, some queries executed
    "#]]);
    case.remove("broken.clnrm.toml");
    case.run(&["--tag", "smoke", "--tag", "slow"]).check(expect![[r#"
        exit 0
        passed  api.clnrm.toml
        passed  both.clnrm.toml.tera
        passed  both.clnrm.toml.tera
        passed  slow.clnrm.toml
        0 started, 4 reused, some queries executed
    "#]]);
    // Nor of one whose tags are wrong.
    case.write(
        "wrong.clnrm.toml",
        "[meta]\nname = \"wrong\"\ntags = [\"smok\", 2]\n[[scenario]]\nname = \"s\"\nrun = \"true\"\n",
    );
    case.run(&["--tag", "smok"]).check(expect![[r#"
        exit 3
        broken  wrong.clnrm.toml
        wrong.clnrm.toml:3:17: error[parse/type]: `meta.tags[1]` must be a string, it is an integer
        0 started, 0 reused, some queries executed
    "#]]);
    case.remove("wrong.clnrm.toml");
    case.clnrm(&["run", "--tag", "smok"]).check(expect![[r#"
        exit 4
        -- stderr
        no test has the tag smok
    "#]]);
}
