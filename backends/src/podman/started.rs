//! A service of Podman that is started for the time of this process, where none listens.

use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const GLANCE: Duration = Duration::from_millis(5);
/// Starts the service in the folder `$1`, and ends it when nobody holds the other end of the standard
/// input any more, however that came.
const SCRIPT: &str = r#"
podman system service --time=0 "unix://$1/podman.sock" </dev/null &
cat
kill $!
wait
rm -rf "$1"
"#;

/// The service; it ends with this.
pub(super) struct Started {
    shell: Child,
    folder: PathBuf,
}

impl Started {
    /// Whether there is a program to start.
    pub(super) fn is_possible() -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join("podman").exists())
    }

    /// Starts the service and waits until it listens.
    ///
    /// # Errors
    /// What it said when it ended instead.
    pub(super) fn begin() -> Result<Started, String> {
        let told = |error: std::io::Error| error.to_string();
        let folder = tempfile::Builder::new().prefix("clnrm-podman-").tempdir().map_err(told)?;
        let log = folder.path().join("log");
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(folder.path())
            // Its monitors leave files where they were started.
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).map_err(told)?)
            // The terminal's Ctrl-C is ours to handle.
            .process_group(0)
            .spawn()
            .map_err(told)?;
        // The shell removes it.
        let started = Started { shell, folder: folder.keep() };
        let began = Instant::now();
        // The socket is there before anybody listens.
        while UnixStream::connect(started.socket()).is_err() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if let Some(error) = said.lines().find(|line| line.starts_with("Error")) {
                return Err(error.to_owned());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("it did not listen within {PATIENCE:?}"));
            }
            std::thread::sleep(GLANCE);
        }
        Ok(started)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("podman.sock")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
