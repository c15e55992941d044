//! Programs that tests run in containers, made once and kept in `target/fixtures`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::case::workspace;
use crate::lacking::not_run;

/// The traced program of `tests/fixtures/app`, linked statically.
pub(crate) fn app() -> &'static Path {
    static APP: OnceLock<PathBuf> = OnceLock::new();
    APP.get_or_init(|| {
        let _lock = lock("app");
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut build = Command::new(cargo);
        // What cargo sets for these tests is not meant for another build.
        let inherited = std::env::vars_os()
            .map(|(name, _)| name)
            .filter(|name| name.to_str().is_some_and(|name| name.starts_with("CARGO_")));
        for name in inherited.filter(|name| name != "CARGO_HOME") {
            build.env_remove(name);
        }
        build
            .args(["build", "--release", "--locked", "--target", &triple])
            .current_dir(workspace().join("tests/fixtures/app"))
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env("CARGO_TARGET_DIR", folder());
        succeed(&mut build).unwrap_or_else(|error| panic!("{error}"));
        folder().join(triple).join("release/app")
    })
}

/// A Python with the packages of `tests/fixtures/python`.
pub(crate) struct Python {
    /// The virtual environment.
    pub(crate) venv: PathBuf,
    /// Where its interpreter is installed, when that is not part of the image `host`.
    pub(crate) prefix: Option<PathBuf>,
}

/// Python, or a loud word that `test` did not run without it.
pub(crate) fn python(test: &str) -> Option<Python> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = PYTHON.get_or_init(|| {
        let _lock = lock("venv");
        make_venv()
    });
    match made {
        Ok(venv) => {
            let interpreter = fs::canonicalize(venv.join("bin/python")).unwrap();
            let prefix = interpreter.ancestors().nth(2).expect("it is in a folder `bin`");
            let prefix = (!interpreter.starts_with("/usr")).then(|| prefix.to_owned());
            Some(Python { venv: venv.clone(), prefix })
        }
        Err(error) => {
            not_run(test, &format!("Python's packages: {error}"));
            None
        }
    }
}

/// The packages of `tests/fixtures/nodejs`, or a loud word that `test` did not run without them.
pub(crate) fn node(test: &str) -> Option<&'static Path> {
    static NODE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = NODE.get_or_init(|| {
        let _lock = lock("node");
        if !Path::new("/usr/bin/node").exists() {
            return Err("there is no /usr/bin/node".to_owned());
        }
        make_modules()
    });
    match made {
        Ok(modules) => Some(modules),
        Err(error) => {
            not_run(test, &format!("Node's packages: {error}"));
            None
        }
    }
}

/// Installs the packages unless the same list of them was installed already.
fn make_modules() -> Result<PathBuf, String> {
    let wanted = workspace().join("tests/fixtures/nodejs/package.json");
    let wanted = fs::read_to_string(wanted).unwrap();
    let (place, made_from) = (folder().join("node"), folder().join("node/made-from.json"));
    if fs::read_to_string(&made_from).is_ok_and(|text| text == wanted) {
        return Ok(place.join("node_modules"));
    }
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("package.json"), &wanted).unwrap();
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]);
    succeed(npm.current_dir(&place))?;
    fs::write(made_from, wanted).unwrap();
    Ok(place.join("node_modules"))
}

/// Makes the virtual environment unless the same requirements have made it already.
fn make_venv() -> Result<PathBuf, String> {
    let requirements = workspace().join("tests/fixtures/python/requirements.txt");
    let wanted = fs::read_to_string(&requirements).unwrap();
    let venv = folder().join("venv");
    let made_from = venv.join("made-from.txt");
    if fs::read_to_string(&made_from).is_ok_and(|text| text == wanted)
        && venv.join("bin/python").exists()
    {
        return Ok(venv);
    }
    let _ = fs::remove_dir_all(&venv);
    // One that containers of the image `host` have, too, where there is one.
    let system = Path::new("/usr/bin/python3");
    let python = if system.exists() { system } else { Path::new("python3") };
    succeed(Command::new(python).args(["-m", "venv"]).arg(&venv))?;
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
    succeed(pip.arg(&requirements))?;
    fs::write(made_from, wanted).unwrap();
    Ok(venv)
}

fn succeed(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(Output { stderr, .. }) => {
            Err(format!("{command:?} failed:\n{}", String::from_utf8_lossy(&stderr)))
        }
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// Held while something is made: test runners run tests in processes of their own.
fn lock(name: &str) -> File {
    fs::create_dir_all(folder()).unwrap();
    let file = File::create(folder().join(format!("{name}.lock"))).unwrap();
    file.lock().unwrap();
    file
}

fn folder() -> PathBuf {
    fs::canonicalize(workspace()).unwrap().join("target/fixtures")
}
