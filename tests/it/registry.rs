//! Images from a registry: Debian's own, on the loopback, for the time of a test.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use expect_test::expect;
use tempfile::TempDir;

use crate::case::{Case, wait_until};
use crate::engines::{BUSYBOX, On, podman};
use crate::lacking::not_run;

/// A user of registries that want to know, and the file that says so.
const USER: &str = "user:secret";
const USERS: &str = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
const WANTS_A_USER: &str = "auth:\n  htpasswd:\n    realm: clnrm\n    path: FOLDER/users\n";

/// A registry that is up, with the image [`BUSYBOX`] in it.
struct Registry {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Registry {
    /// `None`, loudly, without the program or Podman to push with.
    fn start(test: &str) -> Option<Registry> {
        Registry::start_with(test, "")
    }

    /// One with more in its configuration.
    fn start_with(test: &str, more: &str) -> Option<Registry> {
        let podman = podman(test)?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = TempDir::new().unwrap();
        let config = folder.path().join("config.yml");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{}",
            folder.path().join("data").display(),
            more.replace("FOLDER", &folder.path().display().to_string()),
        );
        fs::write(&config, text).unwrap();
        fs::write(folder.path().join("users"), USERS).unwrap();
        let mut command = Command::new("docker-registry");
        let log = fs::File::create(folder.path().join("log")).unwrap();
        command.arg("serve").arg(&config).stdout(log).stderr(Stdio::null());
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                not_run(test, &format!("docker-registry (`apt install docker-registry`): {error}"));
                return None;
            }
        };
        let registry = Registry { child, port, folder };
        wait_until("the registry listens", Duration::from_secs(20), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let target = format!("docker://{}", registry.image("1"));
        let url = format!("unix://{}", podman.socket.display());
        let push = ["--url", &url, "push", "--tls-verify=false", "--creds", USER, BUSYBOX, &target];
        let pushed = Command::new("podman").args(push).output().unwrap();
        assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
        Some(registry)
    }

    /// How often it was asked for an image.
    fn asked(&self) -> usize {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        log.lines().filter(|line| line.contains("/manifests/")).count()
    }

    fn image(&self, tag: &str) -> String {
        format!("localhost:{}/clnrm/box:{tag}", self.port)
    }

    fn fixture(&self, tag: &str) -> String {
        format!(
            r#"
//- /a.clnrm.toml
[meta]
name = "a"

[services.box]
image = "{}"

[[scenario]]
name = "s"
service = "box"
run = "test -e /bin/busybox"
"#,
            self.image(tag)
        )
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A case whose only engines are those that are named.
fn without_engines(fixture: &str) -> Case {
    let mut case = Case::new(fixture);
    case.set_env("CONTAINER_HOST", "unix:///nowhere/podman.sock");
    case.set_env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    case
}

#[test]
fn the_sandbox_pulls_once_and_then_needs_no_registry() {
    let test = "registry::the_sandbox_pulls_once_and_then_needs_no_registry";
    let Some(registry) = Registry::start(test) else { return };
    let case = without_engines(&registry.fixture("1"));
    let never = case.run(&["--pull", "never"]);
    assert_eq!(never.codes(), ["image/unavailable"]);
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]);
    case.run(&["--pull", "always"]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        0 started, 1 reused, no queries executed
    "#]]);
    let fixture = registry.fixture("2");
    let asked = registry.asked();
    case.run(&["--pull", "24h"]);
    assert_eq!(registry.asked(), asked, "it was pulled a moment ago");
    case.run(&["--pull", "0s"]);
    assert!(registry.asked() > asked, "it is old enough");
    drop(registry);
    case.run(&["--force"]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]);
    let gone = without_engines(&fixture).run(&[]);
    assert_eq!(gone.exit, Some(5), "{}", gone.seen());
    assert_eq!(gone.codes(), ["backend/failed"]);
}

#[test]
fn an_image_the_registry_does_not_have() {
    let test = "registry::an_image_the_registry_does_not_have";
    let Some(registry) = Registry::start(test) else { return };
    let report = without_engines(&registry.fixture("2")).run(&[]);
    assert_eq!(report.exit, Some(5), "{}", report.seen());
    assert!(report.seen().contains("pull the image"), "{}", report.seen());
}

#[test]
fn engines_pull_what_is_missing() {
    let test = "registry::engines_pull_what_is_missing";
    let Some(registry) = Registry::start(test) else { return };
    for (on, program) in [(On::Podman("host"), "podman"), (On::Docker("host"), "docker")] {
        let Some(case) = on.case(test, &registry.fixture("1")) else { continue };
        let never = case.run(&["--pull", "never"]);
        assert_eq!(never.codes(), ["image/unavailable"], "{program}");
        let report = case.run(&[]);
        assert_eq!(report.exit, Some(0), "{program}: {}", report.seen());
        let removed = Command::new(program).args(["rmi", &registry.image("1")]).output().unwrap();
        assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    }
}

#[test]
fn registries_are_asked_with_what_a_login_has_left() {
    let test = "registry::registries_are_asked_with_what_a_login_has_left";
    let Some(registry) = Registry::start_with(test, WANTS_A_USER) else { return };
    let login = r#"{"auths": {"localhost:PORT": {"auth": "dXNlcjpzZWNyZXQ="}}}"#;
    let login = login.replace("PORT", &registry.port.to_string());
    for (on, program) in
        [(On::Sandbox, ""), (On::Podman("host"), "podman"), (On::Docker("host"), "docker")]
    {
        let Some(mut case) = on.case(test, &registry.fixture("1")) else { continue };
        if program.is_empty() {
            case.set_env("CONTAINER_HOST", "unix:///nowhere/podman.sock");
            case.set_env("DOCKER_HOST", "unix:///nowhere/docker.sock");
        }
        let refused = case.run(&[]);
        assert_eq!((refused.exit, refused.codes()), (Some(5), vec!["backend/failed"]));
        case.write("login/config.json", &login);
        let folder = case.root().join("login").display().to_string();
        case.set_env("DOCKER_CONFIG", &folder);
        let report = case.run(&[]);
        assert_eq!(report.exit, Some(0), "{program}: {}", report.seen());
        if !program.is_empty() {
            let remove = ["rmi", &registry.image("1")];
            let removed = Command::new(program).args(remove).output().unwrap();
            assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
        }
    }
}
