//! Files that are no files, folders without end, disks without room: a diagnostic or a cold run,
//! and the rest goes on.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::time::{Duration, SystemTime};

use expect_test::{Expect, expect};
use rustix::fs::{FileType, Mode, mknodat};

use crate::case::{Case, ONE};
use crate::lacking::note;

/// What a dry run says of a workspace with one good test and something odd in it, twice.
#[track_caller]
fn check(make: impl FnOnce(&Case), expected: Expect) {
    let case = Case::new(ONE);
    make(&case);
    let first = case.clnrm(&["dry-run"]).seen();
    let second = case.clnrm(&["dry-run"]).seen();
    expected.assert_eq(&first.replace("[N] queries", "0 queries"));
    assert_eq!(
        first.replace("[N] queries", "0 queries"),
        second.replace("[N] queries", "0 queries")
    );
}

#[test]
fn a_pipe_and_a_socket() {
    check(
        |case| {
            let pipe = case.root().join("pipe.clnrm.toml");
            mknodat(rustix::fs::CWD, pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
            drop(UnixListener::bind(case.root().join("socket.clnrm.toml")).unwrap());
        },
        expect![[r#"
            exit 0
            -- stdout
            ok   a.clnrm.toml  1 scenario

            1 ok in [TIME]  0 queries executed, [N] recalled
        "#]],
    );
}

#[test]
fn a_pipe_that_is_named() {
    let case = Case::new(ONE);
    let pipe = case.root().join("pipe.clnrm.toml");
    mknodat(rustix::fs::CWD, pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    case.clnrm(&["dry-run", "pipe.clnrm.toml", "a.clnrm.toml"]).check(expect![[r#"
        exit 3
        -- stdout
        ok   a.clnrm.toml  1 scenario
        ERR  pipe.clnrm.toml  0 scenarios
          pipe.clnrm.toml:1:1: error[source/unreadable]: the file cannot be read: not a regular file

        1 ok, 1 with errors in [TIME]  [N] queries executed, [N] recalled
    "#]]);
}

#[test]
fn links_that_lead_nowhere_or_back() {
    check(
        |case| {
            symlink("nowhere", case.root().join("dangling.clnrm.toml")).unwrap();
            symlink("loop.clnrm.toml", case.root().join("loop.clnrm.toml")).unwrap();
            symlink(".", case.root().join("self")).unwrap();
        },
        expect![[r#"
            exit 0
            -- stdout
            ok   a.clnrm.toml  1 scenario

            1 ok in [TIME]  0 queries executed, [N] recalled
        "#]],
    );
}

#[test]
fn a_folder_with_the_name_of_a_test() {
    check(
        |case| fs::create_dir(case.root().join("folder.clnrm.toml")).unwrap(),
        expect![[r#"
        exit 0
        -- stdout
        ok   a.clnrm.toml  1 scenario

        1 ok in [TIME]  0 queries executed, [N] recalled
    "#]],
    );
}

#[test]
fn a_name_that_is_not_utf8() {
    check(
        |case| {
            let name = OsStr::from_bytes(b"odd-\xff.clnrm.toml");
            fs::write(case.root().join(name), "").unwrap();
        },
        expect![[r#"
            exit 3
            -- stdout
            ok   a.clnrm.toml  1 scenario

            1 ok in [TIME]  0 queries executed, [N] recalled
            -- stderr
            error: odd-�.clnrm.toml: its name is not UTF-8
        "#]],
    );
}

#[test]
fn folders_three_hundred_deep() {
    let case = Case::new(ONE);
    let deep = "d/".repeat(300);
    case.write(&format!("{deep}deep.clnrm.toml"), case.read("a.clnrm.toml"));
    let ran = case.clnrm(&["dry-run"]);
    assert_eq!(ran.exit, Some(0), "{}", ran.seen());
    assert!(ran.stdout.contains(&format!("{deep}deep.clnrm.toml")));
    assert!(ran.stdout.contains("2 ok"), "{}", ran.seen());
}

#[test]
fn a_file_too_large_to_be_a_test() {
    check(
        |case| {
            let file = fs::File::create(case.root().join("huge.clnrm.toml")).unwrap();
            // Without a disk that large: there is nothing in it.
            file.set_len(200 << 30).unwrap();
        },
        expect![[r#"
            exit 3
            -- stdout
            ok   a.clnrm.toml  1 scenario
            ERR  huge.clnrm.toml  0 scenarios
              huge.clnrm.toml:1:1: error[source/unreadable]: the file cannot be read: it is larger than 64 MiB

            1 ok, 1 with errors in [TIME]  0 queries executed, [N] recalled
        "#]],
    );
}

#[test]
fn a_file_nobody_may_read() {
    if rustix::process::geteuid().is_root() {
        note("odd_files::a_file_nobody_may_read", "a user who is not root");
        return;
    }
    let case = Case::new(ONE);
    case.write("secret.clnrm.toml", "");
    let mode = fs::Permissions::from_mode(0o0);
    fs::set_permissions(case.root().join("secret.clnrm.toml"), mode).unwrap();
    let ran = case.clnrm(&["dry-run"]);
    assert_eq!(ran.exit, Some(3), "{}", ran.seen());
    assert!(ran.stdout.contains("cannot be read"), "{}", ran.seen());
}

#[test]
fn files_that_come_and_go() {
    let case = Case::new(ONE);
    let restless = case.root().join("restless.clnrm.toml");
    let text = case.read("a.clnrm.toml");
    let until = std::time::Instant::now() + Duration::from_secs(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while std::time::Instant::now() < until {
                let _ = fs::write(&restless, &text);
                let _ = fs::remove_file(&restless);
                let _ = fs::create_dir(&restless);
                let _ = fs::remove_dir(&restless);
            }
        });
        while std::time::Instant::now() < until {
            let ran = case.clnrm(&["dry-run"]);
            assert!([Some(0), Some(3)].contains(&ran.exit), "{}", ran.seen());
            assert!(ran.stdout.contains("ok   a.clnrm.toml"), "{}", ran.seen());
        }
    });
    let ran = case.clnrm(&["dry-run"]);
    assert!(ran.stdout.contains("1 ok"), "{}", ran.seen());
}

#[test]
fn a_clock_that_was_set_back() {
    let case = Case::new(ONE);
    let file = case.root().join("a.clnrm.toml");
    let future = SystemTime::now() + Duration::from_secs(86_400 * 365);
    fs::File::options().write(true).open(&file).unwrap().set_modified(future).unwrap();
    case.clnrm(&["dry-run"]);
    // Of the same size and the same time, and yet another.
    case.replace("a.clnrm.toml", "name = \"a\"", "name = \"\"#");
    fs::File::options().write(true).open(&file).unwrap().set_modified(future).unwrap();
    let seen = case.clnrm(&["dry-run", "--format", "json"]).stdout;
    let cold = case.clnrm(&["dry-run", "--no-cache", "--format", "json"]).stdout;
    let names = |json: &str| {
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        json["tests"].to_string()
    };
    assert_eq!(names(&seen), names(&cold));
}

#[test]
fn a_disk_without_room() {
    let case = Case::new(ONE);
    let small = case.beside("small");
    fs::create_dir(&small).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k", "none"])
        .arg(&small)
        .output();
    if !mounted.is_ok_and(|mounted| mounted.status.success()) {
        note("odd_files::a_disk_without_room", "to mount a small file system");
        return;
    }
    let store = small.join("store.redb");
    let ran = case.clnrm(&["dry-run", "--store", store.to_str().unwrap()]);
    let unmounted = std::process::Command::new("umount").arg(&small).status().unwrap();
    assert!(unmounted.success());
    assert_eq!(ran.exit, Some(0), "{}", ran.seen());
    assert!(ran.stdout.contains("1 ok"), "{}", ran.seen());
    assert!(ran.stderr.contains("will not be remembered"), "{}", ran.seen());
}
