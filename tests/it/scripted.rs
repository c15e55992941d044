//! Engines that do what they should not: a socket in between answers some requests by itself.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use expect_test::{Expect, expect};

use crate::case::{Case, ONE, wait_until};
use crate::engines::{BUSYBOX, On, with_argument};

/// What is answered instead of the engine.
#[derive(Clone, Copy)]
enum Answer {
    /// A status and a message.
    Status(u16, &'static str),
    /// Bytes that are no HTTP.
    Garbage,
    /// The end of the connection.
    HangUp,
    /// Nothing, for as long as somebody waits.
    Silence,
}
use Answer::{Garbage, HangUp, Silence, Status};

/// A request that is answered otherwise: by its method and a part of its path.
type Script = (&'static str, &'static str, Answer);

/// Leads to the engine at `real`, but for what the script says.
fn between(real: &Path, socket: &Path, script: Script) {
    let listener = UnixListener::bind(socket).unwrap();
    let real = real.to_owned();
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let real = real.clone();
            thread::spawn(move || carry(near, &real, script));
        }
    });
}

/// Carries one request, after which the connection ends.
fn carry(mut near: UnixStream, real: &Path, (method, path, answer): Script) {
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        match near.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => head.extend(&buffer[..read]),
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let line = text.lines().next().unwrap_or_default();
    if line.starts_with(method) && line.contains(path) {
        match answer {
            HangUp => {}
            Garbage => drop(near.write_all(b"220 ready\n")),
            Silence => drop(near.read_to_end(&mut Vec::new())),
            Status(status, message) => {
                let body = format!("{{\"message\": \"{message}\", \"cause\": \"{message}\"}}");
                let length = body.len();
                let _ = write!(
                    near,
                    "HTTP/1.1 {status} Word\r\nContent-Type: application/json\r\n\
                     Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
                );
            }
        }
        return;
    }
    let Ok(mut far) = UnixStream::connect(real) else { return };
    // What is hijacked goes on as it is; of all else there is one request a connection.
    let close = !text.to_ascii_lowercase().contains("upgrade:");
    let at = text.find("\r\n").unwrap() + 2;
    let parts = [&head[..at], if close { b"Connection: close\r\n" } else { b"" }, &head[at..]];
    if far.write_all(&parts.concat()).is_err() {
        return;
    }
    let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let _ = std::io::copy(&mut far, &mut near);
    let _ = near.shutdown(std::net::Shutdown::Both);
}

/// Runs a test once for each script, and tells how it ended. Nothing is left of it, and nothing is
/// remembered.
fn all(on: On, test: &str, scripts: &[(&str, Script)], expected: Expect) {
    let Some(engine) = on.engine(test) else { return };
    let variable = if matches!(on, On::Podman(_)) { "CONTAINER_HOST" } else { "DOCKER_HOST" };
    let mut seen = String::new();
    for (what, script) in scripts {
        let mut case: Case = on.case(test, ONE).expect("the engine is there");
        let socket: PathBuf = case.beside("between.sock");
        between(&engine.socket, &socket, *script);
        case.set_env(variable, &format!("unix://{}", socket.display()));
        let running = case.start(&["run"]);
        let pid = running.pid();
        let ran = running.finish();
        let text = format!("{}{}", ran.stdout, ran.stderr);
        let error = text.lines().find(|line| line.contains("error")).unwrap_or("passed").trim();
        let error = error.replace(&socket.display().to_string(), "SOCKET");
        let error = error.replace(&case.root().display().to_string(), "ROOT");
        let exit = ran.exit.map_or("none".to_owned(), |exit| exit.to_string());
        let _ = writeln!(seen, "{what}: exit {exit}, {error}");
        // The engine itself removes what it was not asked to.
        engine.show_to(&mut case);
        let again = case.run(&[]);
        let reused = usize::from(ran.stdout.contains("PASS"));
        let counts = (again.exit, again.containers_started() as usize + reused);
        assert_eq!(counts, (Some(0), 1), "{what}: {}", again.seen());
        wait_until(what, Duration::from_secs(20), || {
            case.clnrm(&["clean"]);
            engine.made_by(pid).is_empty() && case.leftovers().is_empty()
        });
    }
    expected.assert_eq(&seen);
}

/// What may go wrong, each with its name; an engine is greeted by a GET of `greeting`.
fn scripts(greeting: &'static str) -> [(&'static str, Script); 10] {
    [
        ("something else answers", ("", "", Garbage)),
        ("nobody answers", ("", "", Silence)),
        ("it is starting up", ("GET", greeting, Status(503, "not ready"))),
        ("the image cannot be looked up", ("GET", "/images/", HangUp)),
        (
            "there is no room",
            ("POST", "/containers/create", Status(500, "no space left on device")),
        ),
        ("the name is taken", ("POST", "/containers/create", Status(409, "the name is in use"))),
        ("it dies while it makes one", ("POST", "/containers/create", HangUp)),
        ("another architecture", ("POST", "/start", Status(500, "exec format error"))),
        ("it dies while it starts one", ("POST", "/start", HangUp)),
        ("it removes nothing", ("DELETE", "/containers/", Status(403, "not today"))),
    ]
}

#[test]
fn podman_that_does_what_it_should_not() {
    all(
        On::Podman(BUSYBOX),
        "scripted::podman_that_does_what_it_should_not",
        &scripts("_ping"),
        expect![[r#"
            something else answers: exit 5, error: cannot reach Podman at SOCKET: what answers is not Podman (invalid HTTP version parsed)
            nobody answers: exit 5, error: cannot reach Podman at SOCKET: no answer within 2s
            it is starting up: exit 5, error: cannot reach Podman at SOCKET: not ready
            the image cannot be looked up: exit 5, a.clnrm.toml:4:1: error[backend/failed]: the image `localhost/clnrm/busybox:1` cannot be looked up: cannot reach Podman at SOCKET: connection closed before message completed
            there is no room: exit 5, error: scenario `s`: Podman could not make a container: no space left on device
            the name is taken: exit 5, error: scenario `s`: Podman could not make a container: the name is in use
            it dies while it makes one: exit 5, error: scenario `s`: cannot reach Podman at SOCKET: it hung up
            another architecture: exit 5, error: scenario `s`: Podman could not make a container: exec format error
            it dies while it starts one: exit 5, error: scenario `s`: cannot reach Podman at SOCKET: connection closed before message completed
            it removes nothing: exit 5, error: Podman could not remove a container: not today
        "#]],
    );
}

#[test]
fn docker_that_does_what_it_should_not() {
    all(
        On::Docker(BUSYBOX),
        "scripted::docker_that_does_what_it_should_not",
        &scripts("/version"),
        expect![[r#"
            something else answers: exit 5, error: cannot reach Docker at SOCKET: invalid HTTP version parsed
            nobody answers: exit 5, error: cannot reach Docker at SOCKET: no answer within 2s
            it is starting up: exit 5, error: cannot reach Docker at SOCKET: not ready
            the image cannot be looked up: exit 5, a.clnrm.toml:4:1: error[backend/failed]: the image `localhost/clnrm/busybox:1` cannot be looked up: cannot reach Docker at SOCKET: connection closed before message completed
            there is no room: exit 5, error: scenario `s`: Docker could not make a container: no space left on device
            the name is taken: exit 5, error: scenario `s`: Docker could not make a container: the name is in use
            it dies while it makes one: exit 5, error: scenario `s`: cannot reach Docker at SOCKET: connection closed before message completed
            another architecture: exit 5, error: scenario `s`: Docker could not make a container: exec format error
            it dies while it starts one: exit 5, error: scenario `s`: cannot reach Docker at SOCKET: connection closed before message completed
            it removes nothing: exit 5, error: Docker could not remove a container: not today
        "#]],
    );
}

/// Somebody removes the container in the middle of a run.
fn a_container_that_is_taken_away(on: On, program: &str, number: u32) {
    let test = "scripted::a_container_that_is_taken_away";
    let marker = format!("20000.{:07}{number:02}", std::process::id());
    let fixture = ONE.replace("echo a", &format!("sleep {marker}"));
    let Some(case) = on.case(test, &fixture) else { return };
    let engine = on.engine(test).expect("it is one");
    let running = case.start(&["run", "--format", "json"]);
    let pid = running.pid();
    wait_until("it runs", Duration::from_secs(30), || with_argument(&marker) >= 1);
    for name in engine.containers_of(pid) {
        let name = name.trim_matches('"').trim_start_matches('/').to_owned();
        let removed = Command::new(program).args(["rm", "-f", &name]).output().unwrap();
        assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    }
    running.finish().report().check(expect![[r#"
        exit 5
        crashed  a.clnrm.toml
          s: the container engine could not keep the container up: it ended in the middle of the run
        1 started, 0 reused, some queries executed
    "#]]);
    assert!(engine.made_by(pid).is_empty() && case.leftovers().is_empty());
}

#[test]
fn a_container_that_is_taken_away_from_podman() {
    a_container_that_is_taken_away(On::Podman(BUSYBOX), "podman", 1);
}

#[test]
fn a_container_that_is_taken_away_from_docker() {
    a_container_that_is_taken_away(On::Docker(BUSYBOX), "docker", 2);
}
