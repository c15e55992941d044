//! Images: in files, in engines, and changed under the same name.

use expect_test::expect;

use crate::case::Case;
use crate::engines::{BUSYBOX, On, docker, podman};

const FIXTURE: &str = r#"
//- /a.clnrm.toml
[meta]
name = "a"

[services.box]
image = "oci:box.tar"

[[scenario]]
name = "s"
service = "box"
run = "[ \"$(readlink /proc/1/exe)\" ] && [ -e /bin/busybox ] && [ ! -e /usr/bin/python3 ] && touch /new"
"#;

/// The image in a file runs on a backend, and the outcome is known afterwards.
fn runs_from_a_file(on: On, test: &str) {
    let Some(case) = on.case(test, FIXTURE) else { return };
    let Some(engine) = podman(test) else { return };
    engine.save(BUSYBOX, &case.root().join("box.tar"));
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]);
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        0 started, 1 reused, no queries executed
    "#]]);
}

#[test]
fn a_file_in_the_sandbox() {
    runs_from_a_file(On::Sandbox, "images::a_file_in_the_sandbox");
}

#[test]
fn a_file_without_privileges() {
    runs_from_a_file(On::Unprivileged, "images::a_file_without_privileges");
}

#[test]
fn a_file_in_podman() {
    runs_from_a_file(On::Podman("host"), "images::a_file_in_podman");
}

#[test]
fn a_file_in_docker() {
    runs_from_a_file(On::Docker("host"), "images::a_file_in_docker");
}

#[test]
fn another_image_in_the_file_is_another_run() {
    let test = "images::another_image_in_the_file_is_another_run";
    let case = Case::new(&FIXTURE.replace("box.tar", "root"));
    case.run(&[]).check(expect![[r#"
        exit 5
        broken  a.clnrm.toml
        a.clnrm.toml:5:1: error[image/unavailable]: there is no image at `root`
        0 started, 0 reused, some queries executed
    "#]]);
    let Some(engine) = podman(test) else { return };
    engine.save(BUSYBOX, &case.root().join("box.tar"));
    // A root by itself is an image, too.
    let unpack = "mkdir root parts && tar -xf box.tar -C parts && \
                  tar -xf \"$(find parts -name layer.tar -o -name '*.tar' | head -1)\" -C root";
    assert!(case.program("sh", &["-c", unpack]).status().unwrap().success());
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]);
    assert!(!case.root().join("root/new").exists(), "a run changes no image");
    case.write("root/etc/more", "x");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]);
}

#[test]
fn the_sandbox_takes_images_from_engines() {
    let test = "images::the_sandbox_takes_images_from_engines";
    for engine in [podman(test), docker(test)].into_iter().flatten() {
        let mut case = Case::new(&FIXTURE.replace("oci:box.tar", BUSYBOX));
        engine.show_to(&mut case);
        case.run(&[]).check(expect![[r#"
            exit 0
            passed  a.clnrm.toml
            1 started, 0 reused, some queries executed
        "#]]);
        // Known to be there, it needs no engine but for the meaning of its name.
        case.run(&["--force"]).check(expect![[r#"
            exit 0
            passed  a.clnrm.toml
            1 started, 0 reused, some queries executed
        "#]]);
    }
}

#[test]
fn a_file_that_holds_no_image() {
    let case = Case::new(FIXTURE);
    case.write("box.tar", "this is no archive");
    case.run(&[]).check(expect![[r#"
        exit 5
        broken  a.clnrm.toml
        a.clnrm.toml:5:1: error[backend/failed]: the image `oci:box.tar` cannot be looked up: the sandbox could not read the image `oci:box.tar`: it is no archive: failed to read entire block
        0 started, 0 reused, some queries executed
    "#]]);
}
