//! Scenarios that are run again when they fail.

use std::io::Write;
use std::net::TcpListener;
use std::thread;

use expect_test::expect;

use crate::case::Case;

/// A scenario that passes once it was answered so often.
fn passes_after(answers: usize, retries: usize) -> Case {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    thread::spawn(move || {
        for (count, mut stream) in server.incoming().flatten().enumerate() {
            // Before each try there is a call that asks only whether somebody is there.
            let good = count / 2 >= answers;
            let _ = writeln!(stream, "{}", if good { "good" } else { "bad" });
        }
    });
    Case::new(&format!(
        r#"
//- /a.clnrm.toml
[meta]
name = "a"

[services.judge]
plugin = "network_service"
endpoint = "http://localhost:{port}"

[[scenario]]
name = "s"
retries = {retries}
run = "exec bash -c 'read line </dev/tcp/judge/{port}; [ $line = good ]'"
"#
    ))
}

#[test]
fn a_scenario_that_passes_at_last() {
    passes_after(2, 2).clnrm(&["run"]).check(expect![[r#"
        exit 0
        -- stdout
        PASS  a.clnrm.toml  a  [TIME]
          a.clnrm.toml:8:1: warning[run/doubtful]: the scenario failed 2 times before, and was run again
            |
          8 | [[scenario]]
            | ^^^^^^^^^^^^

        1 passed in [TIME]
        3 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]]);
}

#[test]
fn a_scenario_that_never_passes() {
    let ran = passes_after(9, 2).run(&[]);
    ran.check(expect![[r#"
        exit 1
        failed  a.clnrm.toml
          11: step `s`: ended with exit code 1, expected exit code 0
        a.clnrm.toml:8:1: warning[run/doubtful]: the scenario failed 2 times before, and was run again
        3 started, 0 reused, some queries executed
    "#]]);
}
