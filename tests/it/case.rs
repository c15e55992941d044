//! A folder with files in it, clnrm run on them, and what is seen of that.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use expect_test::Expect;
use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;

use crate::nobody::Nobody;

/// Nothing in these tests takes longer, unless it hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
const GLANCE: Duration = Duration::from_millis(5);

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SETTINGS: &str = "backend = \"sandbox\"\n";

/// A workspace of one test that is green.
pub(crate) const ONE: &str = r#"
//- /a.clnrm.toml
[meta]
name = "a"

[[scenario]]
name = "s"
run = "echo a"
"#;

/// A workspace of its own, with a home and a folder for temporary files beside it.
pub(crate) struct Case {
    folder: TempDir,
    env: BTreeMap<String, String>,
    unprivileged: bool,
}

/// A program under way; it is killed when nobody waits for it any more.
pub(crate) struct Running {
    child: Child,
    streams: Option<[JoinHandle<Vec<u8>>; 2]>,
    folder: PathBuf,
    began: Instant,
}

/// What was seen of a program that has ended.
pub(crate) struct Ran {
    pub(crate) exit: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    folder: PathBuf,
}

/// A report in JSON, and what came with it.
pub(crate) struct Report {
    pub(crate) exit: Option<i32>,
    pub(crate) stderr: String,
    pub(crate) json: Value,
    folder: PathBuf,
}

impl Case {
    /// Files from one string, each below a line `//- /path`. Runs are in the sandbox unless the
    /// fixture has settings.
    pub(crate) fn new(fixture: &str) -> Case {
        let case = Case::empty();
        case.write("clnrm.toml", SETTINGS);
        for (path, text) in files(fixture) {
            case.write(path, &text);
        }
        case
    }

    /// A workspace without any file.
    pub(crate) fn empty() -> Case {
        let folder = tempfile::Builder::new().prefix("clnrm-it-").tempdir().unwrap();
        for name in ["w", "home", "tmp"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let own = |name: &str| folder.path().join(name).display().to_string();
        let env = [("HOME", own("home")), ("TMPDIR", own("tmp")), ("PATH", PATH.to_owned())];
        let env = env.map(|(name, value)| (name.to_owned(), value));
        Case { folder, env: env.into(), unprivileged: false }
    }

    /// The workspace.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("w")
    }

    /// A path beside the workspace.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap()
    }

    /// Puts `new` in the one place where `old` is.
    pub(crate) fn replace(&self, path: &str, old: &str, new: &str) {
        let text = self.read(path);
        assert_eq!(text.matches(old).count(), 1, "{old:?} in {path}:\n{text}");
        self.write(path, text.replace(old, new));
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.root().join(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }

    /// What runs have left in the folder for temporary files.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.beside("tmp")).unwrap().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// From now on clnrm is run by a user without privileges, to whom all of this belongs.
    pub(crate) fn give_to_nobody(&mut self) {
        self.unprivileged = true;
        for name in ["w", "home", "tmp"] {
            Nobody::owns(&self.beside(name));
        }
    }

    /// A program in the workspace, with this case's environment and no other.
    pub(crate) fn program(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.root()).env_clear().envs(&self.env);
        command
    }

    /// Starts clnrm.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        if !self.unprivileged {
            return self.start_program(self.program(clnrm(), args));
        }
        let program = Nobody::program(self.folder.path());
        let mut command = self.program(program.to_str().unwrap(), args);
        Nobody::runs(&mut command);
        self.start_program(command)
    }

    pub(crate) fn start_program(&self, mut command: Command) -> Running {
        let (stdout, stderr) = (Stdio::piped(), Stdio::piped());
        let command = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let streams = Some([drain(stdout), drain(stderr)]);
        let folder = self.folder.path().to_owned();
        Running { child, streams, folder, began: Instant::now() }
    }

    /// Runs clnrm to its end.
    pub(crate) fn clnrm(&self, args: &[&str]) -> Ran {
        self.start(args).finish()
    }

    /// Runs clnrm with something to read.
    pub(crate) fn clnrm_reading(&self, args: &[&str], input: &str) -> Ran {
        let file = self.beside("input");
        fs::write(&file, input).unwrap();
        let script = format!("exec {} \"$@\" < {}", clnrm(), file.display());
        let args = [&["-c", &script, "sh"], args].concat();
        self.start_program(self.program("sh", &args)).finish()
    }

    /// `clnrm run --format json`, and more arguments.
    pub(crate) fn run(&self, args: &[&str]) -> Report {
        self.clnrm(&[&["run", "--format", "json"], args].concat()).report()
    }
}

/// The program under test.
pub(crate) fn clnrm() -> &'static str {
    env!("CARGO_BIN_EXE_clnrm")
}

/// The folder with all crates in it.
pub(crate) fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn files(fixture: &str) -> Vec<(&str, String)> {
    let mut files: Vec<(&str, String)> = Vec::new();
    for line in fixture.split_inclusive('\n') {
        if let Some(path) = line.strip_prefix("//- ") {
            files.push((path.trim(), String::new()));
        } else if let Some((_, text)) = files.last_mut() {
            text.push_str(line);
        } else {
            assert_eq!(line.trim(), "", "a fixture begins with `//- /path`");
        }
    }
    for (_, text) in &mut files {
        // The blank line before the next file.
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    files
}

/// Waits for something that must happen.
pub(crate) fn wait_until(what: &str, limit: Duration, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < limit, "waited {limit:?} in vain: {what}");
        thread::sleep(GLANCE);
    }
}

/// Tells past the test harness, which keeps what passing tests print to itself.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn drain(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        bytes
    })
}

impl Running {
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Ran {
        let mut late = false;
        while self.is_running() {
            if self.began.elapsed() > LIMIT {
                late = true;
                self.kill();
                break;
            }
            thread::sleep(GLANCE);
        }
        let status = self.child.wait().unwrap();
        let ran = self.ran(status);
        assert!(!late, "it was killed after {LIMIT:?}\n{}", ran.seen());
        ran
    }

    fn ran(&mut self, status: ExitStatus) -> Ran {
        let streams = self.streams.take().expect("a program ends once");
        let [stdout, stderr] = streams
            .map(|stream| String::from_utf8(stream.join().unwrap()).expect("it prints UTF-8"));
        Ran { exit: status.code(), stdout, stderr, folder: self.folder.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// Compares exit code and both streams; what is not mentioned is empty.
    #[track_caller]
    pub(crate) fn check(&self, expected: Expect) {
        expected.assert_eq(&self.seen());
    }

    /// What was seen, but for times, places and digests.
    pub(crate) fn seen(&self) -> String {
        let mut seen = match self.exit {
            Some(code) => format!("exit {code}\n"),
            None => "ended by a signal\n".to_owned(),
        };
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                let _ = write!(seen, "-- {name}\n{}", masked(text, &self.folder));
            }
        }
        seen
    }

    /// What `--format json` printed.
    #[track_caller]
    pub(crate) fn report(self) -> Report {
        match serde_json::from_str(&self.stdout) {
            Ok(json) => Report { exit: self.exit, stderr: self.stderr, json, folder: self.folder },
            Err(error) => panic!("no report: {error}\n{}", self.seen()),
        }
    }
}

/// Without what differs between two equal runs.
pub(crate) fn masked(text: &str, folder: &Path) -> String {
    static VOLATILE: LazyLock<[(Regex, &str); 6]> = LazyLock::new(|| {
        [
            (r"\b\d+(\.\d+)? m?s\b", "[TIME]"),
            (r"(file|layout)_len=\d+", "${1}_len=[BYTES]"),
            (r"\b[0-9a-f]{64}\b", "[KEY]"),
            (r"\b[1-9]\d* quer(y|ies) executed", "[N] queries executed"),
            (r"\b\d+ recalled", "[N] recalled"),
            (r"(?m) +$", ""),
        ]
        .map(|(pattern, mask)| (Regex::new(pattern).unwrap(), mask))
    });
    let mut text = text.replace(&folder.display().to_string(), "[CASE]");
    for (pattern, mask) in &*VOLATILE {
        text = pattern.replace_all(&text, *mask).into_owned();
    }
    text
}

impl Report {
    /// Compares the exit code, the tests' states, what is wrong with them, and what ran.
    #[track_caller]
    pub(crate) fn check(&self, expected: Expect) {
        expected.assert_eq(&self.seen());
    }

    pub(crate) fn seen(&self) -> String {
        let mut seen = format!("exit {}\n", self.exit.map_or("none".to_owned(), |c| c.to_string()));
        for test in self.list("tests") {
            let _ = writeln!(seen, "{}  {}", text(&test["state"]), text(&test["file"]));
            let scenarios = test["scenarios"].as_array().into_iter().flatten();
            for scenario in scenarios {
                if let Some(error) = scenario["error"].as_str() {
                    let _ = writeln!(seen, "  {}: {error}", text(&scenario["name"]));
                }
                failures(scenario, &mut seen);
            }
            failures(test, &mut seen);
        }
        for diagnostic in self.list("diagnostics") {
            let [file, line, column, severity, code, message] =
                ["file", "line", "column", "severity", "code", "message"]
                    .map(|key| text(&diagnostic[key]));
            let _ = writeln!(seen, "{file}:{line}:{column}: {severity}[{code}]: {message}");
        }
        let (started, reused) = (self.stat("containers_started"), self.stat("outcomes_reused"));
        let queries = if self.stat("nodes_executed") == 0 { "no" } else { "some" };
        let _ = writeln!(seen, "{started} started, {reused} reused, {queries} queries executed");
        masked(&seen, &self.folder)
    }

    fn list(&self, key: &str) -> &[Value] {
        self.json[key].as_array().expect("it is a list")
    }

    pub(crate) fn stat(&self, name: &str) -> u64 {
        self.json["stats"][name].as_u64().expect("it is a number")
    }

    pub(crate) fn containers_started(&self) -> u64 {
        self.stat("containers_started")
    }

    /// The codes of all diagnostics.
    pub(crate) fn codes(&self) -> Vec<&str> {
        self.list("diagnostics").iter().filter_map(|each| each["code"].as_str()).collect()
    }

    /// All that two equal runs must agree on, as text.
    pub(crate) fn without_measurements(&self) -> String {
        let mut json = self.json.clone();
        json.as_object_mut().unwrap().remove("stats");
        strip(&mut json, "duration_ms");
        serde_json::to_string_pretty(&json).unwrap()
    }
}

fn failures(of: &Value, seen: &mut String) {
    for failure in of["failures"].as_array().into_iter().flatten() {
        let [line, subject, message] = ["line", "subject", "message"].map(|k| text(&failure[k]));
        let _ = writeln!(seen, "  {line}: {subject}: {message}");
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn strip(value: &mut Value, key: &str) {
    match value {
        Value::Object(entries) => {
            entries.remove(key);
            entries.values_mut().for_each(|value| strip(value, key));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| strip(item, key)),
        _ => {}
    }
}
