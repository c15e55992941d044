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
    Action, Backend, Cancel, Docker, Ended, Image, Mount, Podman, Process, Readiness, Sandbox,
    Source,
};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeVal;

const CLNRM: &str = env!("CARGO_BIN_EXE_clnrm");
const IMAGE: &str = "localhost/clnrm/busybox:1";
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    if let Some(exit) = watch::if_asked() {
        return exit;
    }
    if std::env::args().nth(1).as_deref() == Some(RECEIVE) {
        receive();
        return ExitCode::SUCCESS;
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
    if let Ok(backend) = &podman {
        from_spare("Podman", backend, run("podman"), "30 ms, 0.4");
    }
    if let Ok(backend) = &docker {
        from_spare("Docker", backend, run("docker"), "0.6");
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
    let [one, settled] = [Duration::ZERO, SETTLE].map(|settle| services(&sandbox, settle));
    row("sandbox, two services with readiness", one, None, "20 ms");
    let beside = Some(("spans not judged", one));
    row("sandbox, the same where their spans are judged", settled, beside, "+ 60 ms");
    // In a process of its own, whose memory is looked at.
    let own = std::env::current_exe().expect("this program has a path");
    let status = Command::new(own).arg(RECEIVE).status().expect("it can be started");
    assert!(status.success());
    ExitCode::SUCCESS
}

/// How long services get to export their spans, by default.
const SETTLE: Duration = Duration::from_millis(40);
/// The argument for [`receive`].
const RECEIVE: &str = "receive-spans";
/// Requests, and the spans in each.
const REQUESTS: usize = 200;
const SPANS: usize = 5_000;

/// A run in the sandbox whose program exports a million spans as fast as it can.
fn receive() {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("it is ours");
    for request in 0..REQUESTS {
        std::fs::write(data.join(format!("{request:03}")), request_of(request))
            .expect("it is ours");
    }
    let sandbox = Sandbox::new(folder.path(), Path::new(CLNRM));
    let script = "for file in /data/*; do \
        curl -sSf -o /dev/null -H 'Content-Type: application/x-protobuf' --data-binary @$file \
        http://127.0.0.1:4318/v1/traces || exit 1; done";
    let mut action = action(&sandbox, "host", 1);
    action.steps[0].argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    action.services[0].mounts = vec![Mount {
        source: "data".to_owned(),
        digest: String::new(),
        target: "/data".to_owned(),
        read_only: true,
    }];
    let used = || getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask for its own");
    let cpu = |usage: Usage| {
        let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        seconds(usage.user_time()) + seconds(usage.system_time())
    };
    let (before, began) = (cpu(used()), Instant::now());
    let outcome = sandbox.run(&action, &Cancel::default()).expect("the backend works");
    let (took, used) = (began.elapsed().as_secs_f64(), used());
    assert_eq!(outcome.incomplete, Vec::<String>::new());
    let spans = outcome.spans.iter().filter(|span| span.source == Source::Otlp).count();
    assert_eq!(spans, REQUESTS * SPANS);
    let rate = spans as f64 / (cpu(used) - before);
    let megabytes = used.max_rss() >> 10;
    println!("| a receiver, {spans} spans | {:.0} | | | | |", took * 1000.0);
    println!("| … spans a second of one core | {rate:.0}/s | | | | 50000/s |");
    println!("| … memory with all of them | {megabytes} MiB | | | | 1024 MiB |");
}

/// An export in protobuf, each of whose spans has ids of its own.
fn request_of(request: usize) -> Vec<u8> {
    fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
        out.push(number << 3 | 2);
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend(bytes);
    }
    let mut scope = Vec::new();
    for number in 0..SPANS {
        let id = (request * SPANS + number + 1) as u64;
        let (mut attribute, mut value, mut span) = (Vec::new(), Vec::new(), Vec::new());
        field(&mut value, 1, format!("/orders/{id}").as_bytes());
        field(&mut attribute, 1, b"url.path");
        field(&mut attribute, 2, &value);
        field(&mut span, 1, &[1; 16]);
        field(&mut span, 2, &id.to_be_bytes());
        field(&mut span, 5, b"GET /orders/{id}");
        for (at, offset) in [(7_u8, 0), (8, 1_000_000)] {
            span.push(at << 3 | 1);
            span.extend((1_700_000_000_000_000_000 + id * 1000 + offset).to_le_bytes());
        }
        field(&mut span, 9, &attribute);
        field(&mut scope, 2, &span);
    }
    let (mut resource, mut of_resource, mut body) = (Vec::new(), Vec::new(), Vec::new());
    for key in ["service.name", "service.version", "host.name", "telemetry.sdk.language"] {
        let (mut attribute, mut value) = (Vec::new(), Vec::new());
        field(&mut value, 1, b"a value");
        field(&mut attribute, 1, key.as_bytes());
        field(&mut attribute, 2, &value);
        field(&mut resource, 1, &attribute);
    }
    field(&mut of_resource, 1, &resource);
    field(&mut of_resource, 2, &scope);
    field(&mut body, 1, &of_resource);
    body
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

/// The same with many to be run, while the next one's container is made.
fn from_spare(engine: &str, backend: &dyn Backend, mut command: Command, aim: &str) {
    const ROUNDS: usize = 12;
    let action = action(backend, IMAGE, 1);
    backend.expect(&[&action; ROUNDS + 1], 1);
    run(backend, &action);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // Meanwhile a test does its own work.
        std::thread::sleep(Duration::from_millis(500));
        ours.push(run(backend, &action));
    }
    backend.finish().expect("all is removed");
    for _ in 0..10 {
        theirs.push(time(&mut command));
    }
    let name = format!("{engine}, a trivial scenario from a spare");
    let beside = format!("`{} run --rm`", engine.to_lowercase());
    row(&name, median(ours), Some((&beside, median(theirs))), aim);
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
fn services(sandbox: &Sandbox, settle: Duration) -> Duration {
    let mut action = action(sandbox, "host", 1);
    action.settle = settle;
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
