//! Scenarios on every backend, from a plan to what came of it, beside the engines' own commands in
//! one run: `cargo bench -p clnrm --bench backends`.
//!
//! Medians of so many rounds in turns. Needs root, Podman and Docker as `.ci/engines-up.sh` brings
//! them up; what is missing is said.

mod machine;
#[allow(dead_code, reason = "other benches use it")]
mod timing;
mod watch;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clnrm_backends::{
    Action, Backend, Cancel, Docker, Ended, Image, Podman, Process, Readiness, Sandbox,
};

const CLNRM: &str = env!("CARGO_BIN_EXE_clnrm");
const IMAGE: &str = "localhost/clnrm/busybox:1";
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    if let Some(exit) = watch::if_asked() {
        return exit;
    }
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    for line in machine::describe(folder.path()) {
        println!("- {line}");
    }
    println!("\n| work | ms | beside | ms | ratio | aim |\n|-|-|-|-|-|-|");
    let podman = Podman::connect(Path::new("/run/podman/podman.sock"), folder.path());
    let docker = Docker::connect(Path::new("/run/docker.sock"), folder.path());
    let sandbox = Sandbox::new(folder.path(), Path::new(CLNRM));
    let run = |engine| {
        let mut command = Command::new(engine);
        command.args(["run", "--rm", "--network", "none", IMAGE, "true"]);
        command
    };
    let beside = podman.is_ok().then(|| ("`podman run --rm`", run("podman")));
    trivial("sandbox, a trivial scenario", &sandbox, "host", 40, beside, "12 ms, 1/20");
    throughput(&sandbox);
    match &podman {
        Ok(backend) => {
            let aim = "10 ms";
            let name = "sandbox, a trivial scenario in an unpacked image";
            trivial(name, &sandbox, IMAGE, 40, None, aim);
            let beside = Some(("`podman run --rm`", run("podman")));
            trivial("Podman, a trivial scenario", backend, IMAGE, 10, beside, "110 ms, 0.4");
        }
        Err(error) => println!("\nNOT RUN: {error}"),
    }
    match &docker {
        Ok(backend) => {
            let beside = Some(("`docker run --rm`", run("docker")));
            trivial("Docker, a trivial scenario", backend, IMAGE, 10, beside, "0.6");
        }
        Err(error) => println!("\nNOT RUN: {error}"),
    }
    let (one, ten) = (steps(&sandbox, 1), steps(&sandbox, 10));
    row("sandbox, ten steps in one container", ten, Some(("one step", one)), "+ 15 ms");
    if let Ok(backend) = &podman {
        let (one, ten) = (steps_in(backend, IMAGE, 1), steps_in(backend, IMAGE, 10));
        row("Podman, ten steps in one container", ten, Some(("one step", one)), "+ 15 ms");
    }
    row("sandbox, two services with readiness", services(&sandbox), None, "20 ms");
    ExitCode::SUCCESS
}

fn trivial(
    name: &str,
    backend: &dyn Backend,
    image: &str,
    rounds: usize,
    beside: Option<(&str, Command)>,
    aim: &str,
) {
    let action = action(backend, image, 1);
    run(backend, &action);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut beside = beside;
    for round in 0..rounds {
        ours.push(run(backend, &action));
        // What is left to do is not to be in the others' way.
        backend.finish().expect("all is removed");
        if let Some((_, command)) = beside.as_mut().filter(|_| round < 10) {
            theirs.push(time(command));
        }
    }
    let beside = beside.map(|(name, _)| (name, median(theirs)));
    row(name, median(ours), beside, aim);
}

/// So many at once as the aim says.
fn throughput(sandbox: &Sandbox) {
    const JOBS: usize = 4;
    const EACH: usize = 50;
    let action = action(sandbox, "host", 1);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    run(sandbox, &action);
                }
            });
        }
    });
    sandbox.finish().expect("all is removed");
    let rate = (JOBS * EACH) as f64 / began.elapsed().as_secs_f64();
    println!("| sandbox, scenarios a second with four jobs | {rate:.0}/s | | | | 200/s |");
}

fn steps(sandbox: &Sandbox, count: usize) -> Duration {
    steps_in(sandbox, "host", count)
}

fn steps_in(backend: &dyn Backend, image: &str, count: usize) -> Duration {
    let action = action(backend, image, count);
    run(backend, &action);
    median((0..15).map(|_| run(backend, &action)).collect())
}

/// Two that listen, and a step that asks the second.
fn services(sandbox: &Sandbox) -> Duration {
    let mut action = action(sandbox, "host", 1);
    action.services.push(action.services[0].clone());
    for (service, port) in action.services.iter_mut().zip([7001, 7002]) {
        service.name = format!("on{port}");
        let words = ["busybox", "nc", "-ll", "-p", &port.to_string(), "-e", "echo", "up"];
        service.process = Process::Argv(words.map(str::to_owned).to_vec());
        service.ports = vec![port];
        service.ready = vec![Readiness::Port(port)];
    }
    action.steps[0].argv = ["busybox", "nc", "on7002", "7002"].map(str::to_owned).to_vec();
    run(sandbox, &action);
    median((0..15).map(|_| run(sandbox, &action)).collect())
}

fn action(backend: &dyn Backend, image: &str, steps: usize) -> Action {
    let image: Image = backend.image(image).expect("it can be asked").expect("it is there");
    let words: &[&str] = &["true"];
    Action::of_steps(backend.kind(), image, LIMIT, &vec![words; steps])
}

fn run(backend: &dyn Backend, action: &Action) -> Duration {
    let began = Instant::now();
    let outcome = backend.run(action, &Cancel::default()).expect("the backend works");
    let took = began.elapsed();
    assert_eq!(outcome.steps[0].ended, Ended::Code(0), "{:?}", outcome.steps);
    took
}

fn time(command: &mut Command) -> Duration {
    let began = Instant::now();
    let status = command.stdout(Stdio::null()).status().expect("it can be started");
    let took = began.elapsed();
    assert!(status.success(), "{command:?}");
    took
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn row(name: &str, ours: Duration, beside: Option<(&str, Duration)>, aim: &str) {
    let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1000.0);
    let beside = beside.map_or("| | | |".to_owned(), |(name, theirs)| {
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        format!("| {name} | {} | {ratio:.2} |", ms(theirs))
    });
    println!("| {name} | {} {beside} {aim} |", ms(ours));
}
