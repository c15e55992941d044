//! What a test can reach, by what it says of its network.

use std::io::Write;
use std::net::{TcpListener, ToSocketAddrs};
use std::process::Command;
use std::thread;
use std::time::Duration;

use expect_test::expect;
use rustix::process::{Pid, Signal, kill_process};

use crate::case::{Case, wait_until};
use crate::engines::{BUSYBOX, On, in_every_sandbox, on_every_engine, processes, with_argument};
use crate::lacking::{note, open_networks};

in_every_sandbox!(an_allowed_host_is_reached_every_time, a_service_outside_is_asked_first);

fn an_allowed_host_is_reached_every_time(on: On) {
    let test = "networks::an_allowed_host_is_reached_every_time";
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let Some(address) = (name.as_str(), 0).to_socket_addrs().ok().and_then(|mut all| all.next())
    else {
        return note(test, "a machine that knows its own name");
    };
    let server = TcpListener::bind(address).unwrap();
    let port = server.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            let _ = stream.write_all(b"hello\n");
        }
    });
    let fixture = r#"
//- /a.clnrm.toml
[meta]
name = "a"

[policy]
allowed_network_hosts = ["NAME:PORT"]

[[scenario]]
name = "s"

[[scenario.steps]]
name = "ask"
command = "bash -c 'read line </dev/tcp/NAME/PORT; echo $line'"
expected_output_contains = "hello"

[expect.hermeticity]
no_external_services = true
"#;
    let fixture = fixture.replace("NAME", &name).replace("PORT", &port.to_string());
    let Some(case) = on.case(test, &fixture) else { return };
    // What it answers may be another thing every time.
    for _ in 0..2 {
        case.run(&[]).check(expect![[r#"
            exit 0
            passed  a.clnrm.toml
            1 started, 0 reused, some queries executed
        "#]]);
    }
}

const OPEN: &str = r#"
//- /a.clnrm.toml
network = "open"

[meta]
name = "a"

[[scenario]]
name = "s"
run = "grep -q eth0 /proc/net/dev"

[expect.hermeticity]
no_external_services = true
"#;

#[test]
fn an_open_network_proves_nothing() {
    let test = "networks::an_open_network_proves_nothing";
    let sandboxes = [On::Sandbox, On::Unprivileged].into_iter().filter(|_| open_networks(test));
    for on in sandboxes.chain([On::Podman(BUSYBOX), On::Docker(BUSYBOX)]) {
        let Some(case) = on.case(test, OPEN) else { continue };
        for _ in 0..2 {
            case.run(&[]).check(expect![[r#"
                exit 1
                failed  a.clnrm.toml
                  11: expect.hermeticity.no_external_services: nobody counts what gets outside: the network is open, or the kernel does not say (0 spans looked at)
                1 started, 0 reused, some queries executed
            "#]]);
        }
    }
}

#[test]
fn an_open_network_takes_a_program_that_leads_outside() {
    let mut case = Case::new(OPEN);
    case.set_env("PATH", "/nowhere");
    case.run(&[]).check(expect![[r#"
        exit 5
        crashed  a.clnrm.toml
          s: the sandbox could not open a network: it takes `slirp4netns`, which is not there: `apt install slirp4netns`
        1 started, 0 reused, some queries executed
    "#]]);
}

#[test]
fn an_open_network_whose_way_outside_ends_proves_nothing() {
    if !open_networks("networks::an_open_network_whose_way_outside_ends_proves_nothing") {
        return;
    }
    let step = format!("sleep 60.{:09}", std::process::id());
    let case = Case::new(&OPEN.replace("grep -q eth0 /proc/net/dev", &step));
    let running = case.start(&["run", "--format", "json"]);
    let pid = running.pid();
    let way = || {
        let mut all = processes().into_iter();
        all.find(|it| it.parent == pid && it.command.starts_with("slirp4netns"))
    };
    wait_until("the step runs", Duration::from_secs(20), || with_argument(&step) > 0);
    kill_process(Pid::from_raw(way().unwrap().id).unwrap(), Signal::KILL).unwrap();
    running.finish().report().check(expect![[r#"
        exit 5
        crashed  a.clnrm.toml
          s: the container engine could not keep the container up: it ended in the middle of the run
        1 started, 0 reused, some queries executed
    "#]]);
    assert!(case.leftovers().is_empty());
}

/// Somebody else's mount below one that tells others of what is mounted below it.
struct Shared(tempfile::TempDir);

impl Shared {
    fn new() -> Shared {
        let shared = Shared(tempfile::tempdir().unwrap());
        let path = shared.0.path();
        std::fs::create_dir(path.join("below")).unwrap();
        let (path, below) = (path.display().to_string(), path.join("below").display().to_string());
        for args in [
            &["--bind", &path, &path][..],
            &["--make-shared", &path],
            &["-t", "tmpfs", "tmpfs", &below],
        ] {
            assert!(Command::new("mount").args(args).status().unwrap().success(), "{args:?}");
        }
        shared
    }

    fn is_mounted(&self) -> bool {
        let below = self.0.path().join("below").display().to_string();
        std::fs::read_to_string("/proc/self/mounts").unwrap().contains(&below)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--recursive").arg(self.0.path()).status();
    }
}

#[test]
fn an_open_network_leaves_the_mounts_of_the_machine_alone() {
    let test = "networks::an_open_network_leaves_the_mounts_of_the_machine_alone";
    if !rustix::process::geteuid().is_root() {
        return note(test, "root");
    }
    if !open_networks(test) {
        return;
    }
    let shared = Shared::new();
    assert!(shared.is_mounted());
    assert_eq!(Case::new(OPEN).run(&[]).containers_started(), 1);
    assert!(shared.is_mounted());
}

#[test]
fn networks_that_do_not_agree() {
    let fixture = r#"
//- /a.clnrm.toml
[meta]
name = "a"

[policy]
allowed_network_hosts = ["*.example.com", "10.0.0.1", "example.com:no", "localhost:80"]

[services.app]
network = "none"

[[scenario]]
name = "s"
service = "app"
run = "true"
"#;
    Case::new(fixture).run(&[]).check(expect![[r#"
        exit 3
        broken  a.clnrm.toml
        a.clnrm.toml:5:26: error[parse/host]: `*.example.com` is no host that can be allowed
        a.clnrm.toml:5:43: error[parse/host]: `10.0.0.1` is no host that can be allowed
        a.clnrm.toml:5:55: error[parse/host]: `example.com:no` is no host that can be allowed
        a.clnrm.toml:8:1: error[shape/network]: the network of service `app` is not that of scenario `s`
        0 started, 0 reused, some queries executed
    "#]]);
}

/// A test that asks a service outside by both of its names.
fn outside(port: u16) -> String {
    format!(
        r#"
//- /a.clnrm.toml
[meta]
name = "a"

[services.model]
plugin = "network_service"
endpoint = "http://localhost:{port}/v1"

[[scenario]]
name = "s"

[[scenario.steps]]
name = "ask"
command = ["bash", "-c", """
for name in model localhost; do
    exec 3<>/dev/tcp/$name/{port}
    read line <&3
    [ "$line" = hello ] || exit 1
done
"""]
"#
    )
}

fn a_service_outside_is_asked_first(on: On) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let test = "networks::a_service_outside_is_asked_first";
    let Some(case) = on.case(test, &outside(port)) else { return };
    thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            let _ = stream.write_all(b"hello\n");
        }
    });
    for _ in 0..2 {
        case.run(&[]).check(expect![[r#"
            exit 0
            passed  a.clnrm.toml
            1 started, 0 reused, some queries executed
        "#]]);
    }
    // Whoever says that it always answers the same is believed.
    case.replace("a.clnrm.toml", "endpoint", "cache = true\nendpoint");
    case.run(&[]);
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        0 started, 1 reused, no queries executed
    "#]]);
}

#[test]
fn a_service_outside_that_is_not_there() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let report = Case::new(&outside(port)).run(&[]);
    assert_eq!(report.exit, Some(5), "{}", report.seen());
    let told = "the service `model` could not be reached at localhost:";
    assert!(report.seen().contains(told), "{}", report.seen());
}
