//! Scenarios that are run again when they fail.

use std::io::Write;
use std::net::TcpListener;
use std::thread;

use expect_test::expect;

use crate::case::Case;

/// A scenario that passes once it was answered so often.
fn passes_after(answers: usize, retries: usize) -> Case {
    let server = TcpListener::bind("[::]:0").unwrap();
    let port = server.local_addr().unwrap().port();
    thread::spawn(move || {
        for (count, mut stream) in server.incoming().flatten().enumerate() {
            let _ = writeln!(stream, "{}", if count >= answers { "good" } else { "bad" });
        }
    });
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Case::new(&format!(
        r#"
//- /a.clnrm.toml
[meta]
name = "a"

[policy]
allowed_network_hosts = ["{name}:{port}"]

[[scenario]]
name = "s"
retries = {retries}
run = "exec bash -c 'read line </dev/tcp/{name}/{port}; [ $line = good ]'"
"#
    ))
}

#[test]
fn a_scenario_that_passes_at_last() {
    passes_after(2, 2).clnrm(&["run"]).check(expect![[r#"
        exit 0
        -- stdout
        PASS  a.clnrm.toml  a  [TIME]
          a.clnrm.toml:7:1: warning[run/doubtful]: the scenario failed 2 times before, and was run again
            |
          7 | [[scenario]]
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
          10: step `s`: ended with exit code 1, expected exit code 0
        a.clnrm.toml:7:1: warning[run/doubtful]: the scenario failed 2 times before, and was run again
        3 started, 0 reused, some queries executed
    "#]]);
}
