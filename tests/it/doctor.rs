//! What `clnrm doctor` says of a machine.

use serde_json::Value;

use crate::case::Case;
use crate::engines::{docker, podman};

fn findings(case: &Case, args: &[&str]) -> (Option<i32>, Value) {
    let ran = case.clnrm(&[&["doctor", "--format", "json"], args].concat());
    (ran.exit, serde_json::from_str(&ran.stdout).expect("it is JSON"))
}

fn of<'a>(report: &'a Value, name: &str) -> &'a Value {
    let findings = report["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["name"] == name).expect(name)
}

#[test]
fn engines_that_answer_run_a_container() {
    let test = "doctor::engines_that_answer_run_a_container";
    let (Some(podman), Some(docker)) = (podman(test), docker(test)) else { return };
    let mut case = Case::empty();
    podman.show_to(&mut case);
    docker.show_to(&mut case);
    let (exit, report) = findings(&case, &[]);
    assert_eq!(exit, Some(0), "{report:#}");
    for name in ["kernel", "sandbox", "Podman", "Docker", "store"] {
        assert_eq!(of(&report, name)["state"], "good", "{report:#}");
    }
    assert!(report["used"].as_str().unwrap().starts_with("podman: "), "{report:#}");
}

#[test]
fn engines_that_do_not_answer_are_told_with_what_mends_them() {
    let mut case = Case::empty();
    case.set_env("CONTAINER_HOST", "unix:///nowhere/podman.sock");
    case.set_env("DOCKER_HOST", "tcp://10.0.0.1:2375");
    let (exit, report) = findings(&case, &[]);
    assert_eq!(exit, Some(0), "{report:#}");
    assert_eq!(of(&report, "sandbox")["state"], "good", "{report:#}");
    assert_eq!(of(&report, "Podman")["state"], "broken");
    assert_eq!(of(&report, "Podman")["mend"], "systemctl --user enable --now podman.socket");
    assert!(of(&report, "Docker")["detail"].as_str().unwrap().contains("only sockets of this"));
    assert!(report["used"].as_str().unwrap().starts_with("sandbox: "), "{report:#}");
    let (exit, report) = findings(&case, &["--backend", "podman"]);
    assert_eq!(exit, Some(5), "{report:#}");
    case.set_env("PATH", "/nowhere");
    let (_, report) = findings(&case, &[]);
    assert_eq!(of(&report, "open networks of the sandbox")["mend"], "apt install slirp4netns");
    assert!(case.clnrm(&["health"]).stdout.contains("mend: systemctl"));
}
