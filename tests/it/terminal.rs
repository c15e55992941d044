//! What is seen at a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use expect_test::{Expect, expect};
use nix::pty::{Winsize, openpty};

use crate::case::{Case, clnrm, wait_until};
use crate::watch::FIXTURE;

const LIMIT: Duration = Duration::from_secs(30);
const ROWS: NonZero<u16> = NonZero::new(40).unwrap();
const COLUMNS: NonZero<u16> = NonZero::new(100).unwrap();

/// clnrm at a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: File,
    parser: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    fn start(case: &Case, args: &[&str]) -> Terminal {
        Terminal::start_program(case, &[&[clnrm()], args].concat())
    }

    fn start_program(case: &Case, words: &[&str]) -> Terminal {
        let size =
            Winsize { ws_row: ROWS.get(), ws_col: COLUMNS.get(), ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).unwrap();
        // It gets the terminal as the one its Ctrl-C comes from.
        let mut command = case.program("setsid", &[&["--ctty"], words].concat());
        command.env("TERM", "xterm-256color");
        let ends = [(); 2].map(|()| Stdio::from(pair.slave.try_clone().unwrap()));
        let [stdin, stdout] = ends;
        command.stdin(stdin).stdout(stdout).stderr(pair.slave);
        let child = command.spawn().unwrap();
        drop(command);
        let keyboard = File::from(pair.master);
        let mut output = keyboard.try_clone().unwrap();
        let parser = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let seen = parser.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The other end is gone when nobody has it any more.
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                seen.lock().unwrap().process(&bytes[..read]);
            }
        });
        Terminal { child, keyboard, parser }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// What is on the screen, without times.
    fn screen(&self) -> String {
        let text = self.parser.lock().unwrap().screen().contents();
        let times = regex::Regex::new(r"\d+(\.\d+)? (ms|s)\b").unwrap();
        let queries = regex::Regex::new(r"\d+ (quer(y|ies) executed|executed|recalled)").unwrap();
        let text = times.replace_all(&text, "[TIME]");
        queries.replace_all(&text, "[N] $1").into_owned()
    }

    /// Waits until this is the last line.
    #[track_caller]
    fn until_last(&self, wanted: &str) {
        wait_until(wanted, LIMIT, || {
            self.screen().lines().last().is_some_and(|last| last.contains(wanted))
        });
    }

    /// Waits until this is somewhere.
    #[track_caller]
    fn until(&self, wanted: &str) {
        wait_until(wanted, LIMIT, || self.screen().contains(wanted));
    }

    /// Compares the screen.
    #[track_caller]
    fn check(&self, expected: Expect) {
        expected.assert_eq(&self.screen());
    }

    fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("at the end there was\n{}", self.screen());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn keys_say_what_runs() {
    let case = Case::new(FIXTURE);
    let mut terminal = Terminal::start(&case, &["watch"]);
    terminal.until_last("watching 2 tests: 2 passed");
    case.replace("one.clnrm.toml", "true one", "sleep 2");
    terminal.until("0 of 1 run done");
    terminal.until("one.clnrm.toml: s  ");
    terminal.until("1 run, 1 outcome reused");
    terminal.press("w");
    terminal.until("\none.clnrm.toml\n");
    terminal.press("pwto\x7f\x7fo\r");
    terminal.until_last("watching 1 test: 1 passed");
    terminal.press("a");
    terminal.until("all tests\n");
    terminal.press("tno such test");
    terminal.until_last("as it was): no such test");
    terminal.press("\x1b");
    terminal.until_last("watching 1 test: 1 passed");
    terminal.until("1 run, 0 outcomes reused");
    terminal.check(expect![[r#"

        2 passed in [TIME]
        2 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox

        changed: one.clnrm.toml
        PASS  one.clnrm.toml  one  [TIME]
              why: s: steps[0].argv[2] was "true one", is "sleep 2"

        2 passed in [TIME]
        1 run, 1 outcome reused, [N] queries executed, [N] recalled; the built-in sandbox
        one.clnrm.toml
          s: steps[0].argv[2] was "true one", is "sleep 2"

        only tests with `wo` in their path

        1 passed in [TIME]
        0 runs, 1 outcome reused, [N] queries executed, [N] recalled; the built-in sandbox

        all tests
        PASS  two.clnrm.toml.tera  two  [TIME]

        1 passed in [TIME]
        1 run, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        watching 1 test: 1 passed, 0 failed | h help, q quit, a all, f failed, r again, w why, p path, t n…"#]]);
    terminal.press("q");
    assert_eq!(terminal.end(), Some(0));
    assert!(case.leftovers().is_empty());
}

#[test]
fn the_terminal_is_given_back() {
    for (end, exit) in [("\x03", 130), ("q", 0)] {
        let case = Case::new(FIXTURE);
        let script = format!(
            "trap : INT; stty -a > before; {} watch; echo ended $?; stty -a > after",
            clnrm()
        );
        let mut terminal = Terminal::start_program(&case, &["sh", "-c", &script]);
        terminal.until_last("watching 2 tests");
        terminal.press("p");
        terminal.until_last("only paths with");
        terminal.press(if end == "q" { "\x1bq" } else { end });
        terminal.until_last(&format!("ended {exit}"));
        assert_eq!(terminal.end(), Some(0));
        assert_eq!(case.read("before"), case.read("after"));
    }
}

/// What it is all for: a first project, and the loop in which it is changed.
#[test]
fn from_nothing_to_red_to_green() {
    let case = Case::empty();
    let mut terminal = Terminal::start(&case, &["init", "demo"]);
    assert_eq!(terminal.end(), Some(0));
    terminal = Terminal::start(&case, &["watch", "demo", "--backend", "sandbox"]);
    terminal.until_last("0 failed");
    let test = "demo/tests/hello.clnrm.toml";
    let good = case.read(test);
    let bad = good.replace("^hello", "^goodbye");
    case.write(test, bad);
    terminal.until_last("1 failed");
    terminal.check(expect![[r#"

        2 passed in [TIME]
        3 runs, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox

        changed: tests/hello.clnrm.toml
        FAIL  tests/hello.clnrm.toml  hello  [TIME]
          tests/hello.clnrm.toml:16:1: scenario `greet`, step `read`
            standard output does not match `^goodbye\n$`
            | hello

        1 passed, 1 failed in [TIME]
        0 runs, 3 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        watching 2 tests: 1 passed, 1 failed | h help, q quit, a all, f failed, r again, w why, p path, t …"#]]);
    case.write(test, good);
    terminal.until_last("0 failed");
    terminal.press("\x03");
    assert_eq!(terminal.end(), Some(130));
}

#[test]
fn what_fails_runs_again_when_asked() {
    let case = Case::new(FIXTURE);
    // Of one that was killed nothing is remembered.
    case.write(
        "slow.clnrm.toml",
        "[meta]\nname = \"slow\"\n[[scenario]]\nname = \"s\"\nrun = \"sleep 60\"\ntimeout = \"300ms\"\n",
    );
    let mut terminal = Terminal::start(&case, &["watch"]);
    terminal.until_last("watching 3 tests: 2 passed, 1 failed |");
    terminal.press("f");
    terminal.until("the tests that fail\n");
    terminal.until("1 run, 2 outcomes reused");
    case.write("two.clnrm.toml.tera", "[meta\n");
    terminal.until_last("watching 3 tests: 1 passed, 1 failed, 1 not run |");
    terminal.press("g");
    terminal.until("  source two.clnrm.toml.tera");
    terminal.press("\x03");
    assert_eq!(terminal.end(), Some(130));
}
