//! The cases every backend must pass, whatever it is made of.
//!
//! Each case runs one action and looks at its outcome. They use nothing but a POSIX shell and its
//! usual companions, and busybox for its servers, so they run in the host image and in a busybox image alike.

use std::collections::BTreeMap;
use std::io;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::{
    Action, Backend, BackendError, Cancel, Ended, Expected, Host, Image, Mount, Network, Outcome,
    Process, Readiness, Retry, Source,
};

/// One thing that must hold.
pub struct Case {
    /// What must hold, as a name.
    pub name: &'static str,
    /// Whether the case needs real processes; the fake backend has none.
    pub real: bool,
    check: fn(&Bench<'_>) -> Result<(), String>,
}

/// What a case runs on.
pub struct Bench<'a> {
    /// The backend under test.
    pub backend: &'a dyn Backend,
    /// The image to use.
    pub image: Image,
    /// A folder of the workspace with a file `data/note` that reads `from the workspace`.
    pub workspace: &'a Path,
    /// Whether whoever runs it may set limits.
    pub privileged: bool,
}

impl Case {
    /// Runs the case.
    ///
    /// # Errors
    /// What was expected and what was seen.
    pub fn run(&self, bench: &Bench<'_>) -> Result<(), String> {
        (self.check)(bench)
    }
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let plain = |name, check| Case { name, real: false, check };
    let real = |name, check| Case { name, real: true, check };
    vec![
        plain("standard output is captured", |b| {
            let outcome = b.step(&["echo", "one", "two"])?;
            b.same(outcome.steps[0].stdout.text(), "one two\n")
        }),
        plain("exit codes are told", |b| {
            let outcome = b.shell("exit 7")?;
            b.same(outcome.steps[0].ended.clone(), Ended::Code(7))
        }),
        plain("nothing runs after an unexpected end", |b| {
            let mut action = b.action(&[&["sh", "-c", "exit 1"], &["echo", "no"]]);
            action.steps[0].goes_on_after = Expected::Code(0);
            let outcome = b.run(&action)?;
            b.same(outcome.steps[1].ended.clone(), Ended::Skipped)
        }),
        plain("an expected failure lets the run go on", |b| {
            let mut action = b.action(&[&["sh", "-c", "exit 4"], &["echo", "yes"]]);
            action.steps[0].goes_on_after = Expected::Failure;
            let outcome = b.run(&action)?;
            b.same(outcome.steps[1].ended.clone(), Ended::Code(0))
        }),
        real("the streams are told apart", |b| {
            let outcome = b.shell("echo out; echo err >&2")?;
            b.same(outcome.steps[0].stdout.text(), "out\n")?;
            b.same(outcome.steps[0].stderr.text(), "err\n")
        }),
        real("a signal is told", |b| {
            let outcome = b.shell("kill -9 $$")?;
            b.same(outcome.steps[0].ended.clone(), Ended::Signal(9))
        }),
        real("a program that is not there is named", |b| {
            let outcome = b.step(&["no-such-program"])?;
            match &outcome.steps[0].ended {
                Ended::NotStarted(reason) if reason.contains("no-such-program") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        }),
        real("a step that never ends is killed at its limit", |b| {
            let mut action = b.action(&[&["sh", "-c", "sleep 1000 & sleep 1000"]]);
            action.steps[0].time_limit = Duration::from_millis(300);
            let began = Instant::now();
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].ended.clone(), Ended::TimedOut)?;
            b.holds(!outcome.is_complete(), "such an outcome is not complete")?;
            b.holds(began.elapsed() < Duration::from_secs(10), "it took too long")
        }),
        real("a process left in the background does not hold a step up", |b| {
            let began = Instant::now();
            let outcome = b.shell("sleep 1000 & echo done")?;
            b.same(outcome.steps[0].stdout.text(), "done\n")?;
            b.holds(began.elapsed() < Duration::from_secs(10), "it took too long")
        }),
        real("the environment of service and step is set", |b| {
            let mut action =
                b.action(&[&["sh", "-c", "echo $A $B $CLNRM_SEED $SOURCE_DATE_EPOCH"]]);
            action.services[0].env = map(&[("A", "service"), ("B", "service")]);
            action.steps[0].env = map(&[("B", "step")]);
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].stdout.text(), "service step 42 1735689600\n")
        }),
        real("nothing of our own environment gets in", |b| {
            let outcome = b.step(&["env"])?;
            let text = outcome.steps[0].stdout.text();
            b.holds(!text.contains("CARGO"), &text)
        }),
        real("variables in arguments expand from the container's environment", |b| {
            let mut action = b.action(&[&["echo", "${A}-${UNSET_VARIABLE}"]]);
            action.services[0].env = map(&[("A", "b")]);
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].stdout.text(), "b-${UNSET_VARIABLE}\n")
        }),
        real("the run's trace context is handed on", |b| {
            let outcome = b.shell("echo $TRACEPARENT $OTEL_EXPORTER_OTLP_ENDPOINT")?;
            let text = outcome.steps[0].stdout.text();
            let span = outcome.spans.iter().find(|span| span.name == "clnrm.step:step 0");
            let span = span.ok_or("the step has no span")?;
            let context =
                format!("00-{}-{}-01 http://127.0.0.1:4318\n", span.trace_id, span.span_id);
            b.same(text, context)
        }),
        real("a step runs in its working directory", |b| {
            let mut action = b.action(&[&["pwd"]]);
            action.steps[0].workdir = Some("/tmp/made/on/demand".into());
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].stdout.text(), "/tmp/made/on/demand\n")
        }),
        real("steps of a service share its files", |b| {
            let action = b.action(&[
                &["sh", "-c", "echo shared > /tmp/file; echo root > /file"],
                &["cat", "/tmp/file", "/file"],
            ]);
            let outcome = b.run(&action)?;
            b.same(outcome.steps[1].stdout.text(), "shared\nroot\n")
        }),
        real("a process left behind that never stops writing holds nothing up", |b| {
            let began = Instant::now();
            let outcome = b.shell("setsid yes & exit 3")?;
            b.same(outcome.steps[0].ended.clone(), Ended::Code(3))?;
            b.holds(began.elapsed() < Duration::from_secs(15), "it took too long")
        }),
        real("a service that will not end is killed, and that is told", |b| {
            let mut action = b.action(&[&["true"]]);
            let script = "trap '' TERM; echo up; while :; do sleep 0.05; done";
            action.services[0].process = argv(&["sh", "-c", script]);
            action.services[0].ready = vec![Readiness::Log("up".into())];
            let outcome = b.run(&action)?;
            b.holds(!outcome.doubts.is_empty(), "it is told")?;
            b.holds(!outcome.is_complete(), "such an outcome is not kept")
        }),
        real("a service that ended is told", |b| {
            let mut action = b.action(&[&["sleep", "0.2"]]);
            let mut other = action.services[0].clone();
            other.name = "other".into();
            other.process = argv(&["sh", "-c", "exit 5"]);
            action.services.push(other);
            let outcome = b.run(&action)?;
            b.same(outcome.services[1].ended.clone(), Some(Ended::Code(5)))
        }),
        real("the kernel's settings cannot be changed", |b| {
            let outcome =
                b.shell("echo x 2>/dev/null > /proc/sys/kernel/core_pattern || echo no")?;
            b.same(outcome.steps[0].stdout.text(), "no\n")
        }),
        real("files are made with the usual mode", |b| {
            let outcome = b.shell("umask")?;
            b.same(outcome.steps[0].stdout.text(), "0022\n")
        }),
        real("every run is fresh", |b| {
            b.shell("echo stale > /tmp/stale; echo stale > /stale")?;
            let outcome = b.shell("ls /tmp/stale /stale 2>/dev/null; echo checked")?;
            b.same(outcome.steps[0].stdout.text(), "checked\n")
        }),
        real("only the loopback is there", |b| {
            let outcome = b.shell("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '")?;
            b.same(outcome.steps[0].stdout.text(), "lo\n")
        }),
        real("a mount is seen and cannot be written", |b| {
            let mut action =
                b.action(&[&["sh", "-c", "cat /data/note; echo x > /data/note || echo refused"]]);
            action.services[0].mounts = vec![b.mount(true)];
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].stdout.text(), "from the workspace\nrefused\n")
        }),
        real("a writable mount is a copy", |b| {
            let mut action =
                b.action(&[&["sh", "-c", "echo changed > /data/note; cat /data/note"]]);
            action.services[0].mounts = vec![b.mount(false)];
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].stdout.text(), "changed\n")?;
            let kept = std::fs::read_to_string(b.workspace.join("data/note"));
            b.same(kept.unwrap_or_default(), "from the workspace\n")
        }),
        real("a service is waited for by its log", |b| {
            let mut action = b.action(&[&["echo", "went on"]]);
            action.services[0].process =
                argv(&["sh", "-c", "sleep 0.1; echo I am ready; exec sleep 1000"]);
            action.services[0].ready = vec![Readiness::Log("am r.ady".into())];
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].stdout.text(), "went on\n")?;
            b.same(outcome.services[0].log.text(), "I am ready\n")
        }),
        real("a service is waited for by a command", |b| {
            let mut action = b.action(&[&["cat", "/tmp/up"]]);
            action.services[0].process =
                argv(&["sh", "-c", "sleep 0.1; echo up > /tmp/up; exec sleep 1000"]);
            let argv = ["test", "-s", "/tmp/up"].map(str::to_owned).to_vec();
            let (interval, limit) = (Duration::from_millis(10), Duration::from_secs(5));
            action.services[0].ready = vec![Readiness::Exec { argv, interval, limit }];
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].stdout.text(), "up\n")
        }),
        real("a service that ends before it is ready is the cause", |b| {
            let mut action = b.action(&[&["echo", "no"]]);
            action.services[0].process = argv(&["sh", "-c", "echo broken; exit 3"]);
            action.services[0].ready = vec![Readiness::Port(80)];
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].ended.clone(), Ended::Skipped)?;
            let reason = outcome.services[0].failed.clone().unwrap_or_default();
            b.holds(reason.contains("ended with exit code 3"), &reason)?;
            b.same(outcome.services[0].log.text(), "broken\n")
        }),
        real("a service that is never ready is given up", |b| {
            let mut action = b.action(&[&["echo", "no"]]);
            action.services[0].process = argv(&["sleep", "1000"]);
            action.services[0].ready = vec![Readiness::Port(80)];
            action.services[0].ready_limit = Duration::from_millis(200);
            let outcome = b.run(&action)?;
            let reason = outcome.services[0].failed.clone().unwrap_or_default();
            b.holds(reason.contains("port 80"), &reason)
        }),
        real("services share a network and not their files", |b| {
            let mut action = b.action(&[
                &["sh", "-c", "echo mine > /tmp/file"],
                &["sh", "-c", "ls /tmp/file 2>/dev/null; grep -c other /etc/hosts"],
            ]);
            let mut other = action.services[0].clone();
            other.name = "other".into();
            action.services.push(other);
            action.steps[1].service = 1;
            let outcome = b.run(&action)?;
            b.same(outcome.steps[1].stdout.text(), "1\n")
        }),
        real("services reach each other by name", |b| {
            let action = b.two_servers([7001, 7002]);
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].stdout.text(), "app\nother\n")?;
            b.same(outcome.steps[1].stdout.text(), "app\nother\n")?;
            b.same(outcome.attempts, Some(0))
        }),
        real("services that listen on one port reach each other by name", |b| {
            let mut action = b.two_servers([7003, 7003]);
            // One that started before them, so that it is told later, and one of each.
            let mut asker = action.services[0].clone();
            (asker.name, asker.process) = ("asker".to_owned(), Process::Idle);
            (asker.ports, asker.ready) = (Vec::new(), Vec::new());
            action.services.insert(0, asker);
            let mut step = action.steps[0].clone();
            action.steps.iter_mut().for_each(|step| step.service += 1);
            step.service = 0;
            action.steps.push(step);
            let outcome = b.run(&action)?;
            for step in &outcome.steps {
                b.same(step.stdout.text(), "app\nother\n")?;
            }
            b.same(outcome.attempts, Some(0))
        }),
        real("names of the test are found, and others are told with who asked", |b| {
            let mut action = b.two_servers([7001, 7002]);
            let ask = "for name in app other localhost payments.example.com; do \
                busybox nslookup $name >/dev/null 2>&1 && echo $name; done; true";
            action.steps[0].argv[2] = ask.to_owned();
            action.steps.truncate(1);
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].stdout.text(), "app\nother\nlocalhost\n")?;
            let service = &action.services[action.steps[0].service].name;
            let asked = outcome.outside.iter().map(|contact| {
                (contact.host.as_str(), contact.service.as_deref(), contact.step.as_deref())
            });
            let step = action.steps[0].name.as_str();
            let expected = ("payments.example.com", Some(service.as_str()), Some(step));
            b.same(asked.collect::<Vec<_>>(), vec![expected])
        }),
        real("nor do those have a way outside", |b| {
            let mut action = b.two_servers([7003, 7003]);
            let ask = "for to in 1.1.1.1 169.254.169.254 10.0.0.1; do \
                busybox nc -w 2 $to 80 </dev/null && echo reached; done; \
                grep nameserver /etc/resolv.conf; true";
            action.steps[0].argv[2] = ask.to_owned();
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].stdout.text(), "nameserver 127.0.53.1\n")?;
            b.holds(outcome.attempts.is_some_and(|count| count >= 3), "they are counted")
        }),
        real("attempts to get out by IPv6 are counted, too", |b| {
            if !Path::new("/proc/sys/net/ipv6").exists() {
                return Ok(());
            }
            let attempts = |address: &str| {
                let ask = format!("busybox nc -w 1 {address} 80 </dev/null; true");
                let outcome = b.run(&b.action(&[&["sh", "-c", &ask]]))?;
                Ok::<_, String>(outcome.attempts)
            };
            b.same(attempts("::1")?, Some(0))?;
            let outside = attempts("2001:db8::1")?;
            b.holds(outside.is_some_and(|count| count >= 1), &format!("{outside:?} were counted"))
        }),
        real("without a network they do not", |b| {
            let mut action = b.two_servers([7001, 7002]);
            action.network = Network::None;
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].stdout.text(), "app\n")?;
            b.same(outcome.steps[1].stdout.text(), "other\n")
        }),
        real("an open network has a way outside", |b| {
            let (server, address) = outward().map_err(|error| error.to_string())?;
            let ask = format!("busybox nc {} {}", address.ip(), address.port());
            let mut action = b.action(&[&["cat", "/proc/net/route"], &["sh", "-c", &ask]]);
            action.network = Network::Open;
            answer(server, "from outside\n");
            let outcome = b.run(&action)?;
            let routes = outcome.steps[0].stdout.text();
            let default = |line: &str| line.split_whitespace().nth(1) == Some("00000000");
            b.holds(routes.lines().any(default), &routes)?;
            b.same(outcome.steps[1].stdout.text(), "from outside\n")?;
            b.same(outcome.attempts, None)
        }),
        real("a host that is allowed is reached, and no other", |b| {
            let server = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
            let port = server.local_addr().map_err(|error| error.to_string())?.port();
            answer(server, "from outside\n");
            let (name, outside) = ("allowed.example".to_owned(), "localhost".to_owned());
            let ask = format!("busybox nc {name} {port}; busybox nc other.example {port}; true");
            let mut action = b.action(&[&["sh", "-c", &ask]]);
            action.allowed = vec![Host { name, port, outside, service: None }];
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].stdout.text(), "from outside\n")
        }),
        real("a service ends itself when it is asked to", |b| {
            let mut action = b.action(&[&["echo", "stop"]]);
            let script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done";
            action.services[0].process = argv(&["sh", "-c", script]);
            action.services[0].ready = vec![Readiness::Log("up".into())];
            let outcome = b.run(&action)?;
            b.same(outcome.services[0].log.text(), "up\nbye\n")
        }),
        real("of endless output the two ends are kept", |b| {
            let script = "echo first; head -c 200000000 /dev/zero; echo last";
            let outcome = b.shell(script)?;
            let stdout = &outcome.steps[0].stdout;
            b.holds(stdout.head.starts_with(b"first\n"), "the beginning")?;
            b.holds(stdout.tail.ends_with(b"last\n"), "the end")?;
            b.holds(stdout.dropped > 190_000_000, "what was left out is counted")
        }),
        real("the lifecycle is told in spans", |b| {
            let outcome = b.shell("true")?;
            let lifecycle = outcome.spans.iter().filter(|span| span.source == Source::Lifecycle);
            let mut names: Vec<_> = lifecycle.map(|span| span.name.as_str()).collect();
            names.sort();
            let expected =
                ["app.exec", "app.start", "app.stop", "clnrm.scenario", "clnrm.step:step 0"];
            b.same(names, expected.to_vec())
        }),
        real("no more processes than the test allows", |b| {
            let many = "for i in $(seq 60); do sleep 30 & done";
            let mut action = b.action(&[&["sh", "-c", many]]);
            action.limits.pids = Some(25);
            let outcome = b.run(&action)?;
            let errors = outcome.steps[0].stderr.text();
            b.holds(errors.contains("fork"), &format!("all could be started: {errors}"))?;
            let told = outcome.doubts.iter().any(|doubt| doubt.contains("25 processes"));
            // Without a group there is nobody who counts.
            b.holds(told || !b.privileged, &format!("{:?}", outcome.doubts))
        }),
        real("a service that starts processes without end ends with the run", |b| {
            let mut action = b.action(&[&["sh", "-c", "sleep 1; echo done"]]);
            let bomb = "while :; do sleep 1000 & done 2>/dev/null";
            action.services[0].process = argv(&["sh", "-c", bomb]);
            action.limits.pids = Some(200);
            let began = Instant::now();
            b.run(&action)?;
            b.holds(began.elapsed() < Duration::from_secs(20), "it took too long")
        }),
        real("no more memory than the test allows", |b| {
            let mut action =
                b.action(&[&["dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1"]]);
            action.limits.memory_mb = Some(40);
            let outcome = b.run(&action)?;
            if !b.privileged {
                let told = |words: &String| words.starts_with("no limit of memory");
                return b.holds(outcome.isolation.iter().any(told), "what is missing is not told");
            }
            b.holds(outcome.steps[0].ended != Ended::Code(0), "it had all it wanted")?;
            let told = outcome.doubts.iter().any(|doubt| doubt.contains("40 MiB of memory"));
            b.holds(told, &format!("{:?}", outcome.doubts))
        }),
        real("no more time than the test allows", |b| {
            let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done
                cd /sys/fs/cgroup; cat cpu.stat cpu/cpu.stat 2>&1";
            let mut action = b.action(&[&["sh", "-c", busy]]);
            action.limits.cpu_millicores = Some(100);
            let outcome = b.run(&action)?;
            if !b.privileged {
                let told = |words: &String| words.starts_with("no limit of CPU");
                return b.holds(outcome.isolation.iter().any(told), "what is missing is not told");
            }
            let stat = outcome.steps[0].stdout.text();
            let throttled = stat.lines().find_map(|line| line.strip_prefix("nr_throttled "));
            b.holds(throttled.is_some_and(|times| times != "0"), &stat)
        }),
        real("binary output is kept as it is", |b| {
            let outcome = b.shell(r"printf '\377\000\001\n'")?;
            b.same(outcome.steps[0].stdout.head.clone(), vec![255, 0, 1, b'\n'])
        }),
        real("no output is none", |b| {
            let outcome = b.step(&["true"])?;
            b.same(outcome.steps[0].stdout.clone(), crate::Output::default())?;
            b.same(outcome.steps[0].stderr.clone(), crate::Output::default())
        }),
        real("arguments arrive as they are", |b| {
            let words =
                ["", " two words ", "\"quoted\" 'too'", "line\nbreak", "ü€😀", "*", "$HOME"];
            let script = "for word; do printf '<%s>' \"$word\"; done";
            let argv = [&["sh", "-c", script, "sh"][..], &words].concat();
            let outcome = b.step(&argv)?;
            let expected: String = words.iter().map(|word| format!("<{word}>")).collect();
            b.same(outcome.steps[0].stdout.text(), expected)
        }),
        real("a long argument arrives whole", |b| {
            let long = "x".repeat(100_000);
            let outcome = b.step(&["sh", "-c", "echo ${#1}", "sh", &long])?;
            b.same(outcome.steps[0].stdout.text(), "100000\n")
        }),
        real("standard input is empty", |b| {
            let outcome = b.shell("wc -c; tty || true")?;
            b.same(outcome.steps[0].stdout.text().replace(' ', ""), "0\nnotatty\n")
        }),
        real("no file is left open for a step", |b| {
            let outcome = b.shell("ls /proc/self/fd | wc -l")?;
            // The three streams and the folder that is listed.
            b.same(outcome.steps[0].stdout.text().trim().to_owned(), "4")
        }),
        real("the usual devices are there", |b| {
            let script = "echo x > /dev/null && head -c 4 /dev/zero | wc -c && \
                head -c 4 /dev/urandom | wc -c && echo y > /dev/shm/file && cat /dev/shm/file && \
                { echo z > /dev/full; } 2>/dev/null || echo full";
            let outcome = b.shell(script)?;
            b.same(outcome.steps[0].stdout.text().replace(' ', ""), "4\n4\ny\nfull\n")
        }),
        real("no device of the machine is", |b| {
            let outcome = b.shell("ls -l /dev | grep -c '^b'; true")?;
            b.same(outcome.steps[0].stdout.text().trim().to_owned(), "0")
        }),
        real("anybody may write to /tmp", |b| {
            let outcome = b.shell("stat -c %a /tmp && touch /tmp/file && echo written")?;
            b.same(outcome.steps[0].stdout.text(), "1777\nwritten\n")
        }),
        real("nothing can gain privileges", |b| {
            let outcome = b.shell("grep NoNewPrivs /proc/self/status | tr -d '\\t'")?;
            b.same(outcome.steps[0].stdout.text(), "NoNewPrivs:1\n")
        }),
        real("system calls are filtered", |b| {
            let outcome = b.shell("grep -w Seccomp /proc/self/status | tr -d '\\t'")?;
            b.same(outcome.steps[0].stdout.text(), "Seccomp:2\n")
        }),
        real("no capability is held but one over files", |b| {
            let outcome = b.shell("grep CapEff /proc/self/status | cut -f2")?;
            let text = outcome.steps[0].stdout.text();
            let held = u64::from_str_radix(text.trim(), 16).map_err(|error| error.to_string())?;
            b.holds(held & !2 == 0, &text)
        }),
        real("processes of other services are not seen", |b| {
            let mut action =
                b.action(&[&["sh", "-c", "ps 2>/dev/null | grep -c 'sleep 3[3]'; true"]]);
            action.services.push(action.services[0].clone());
            action.services[1].name = "other".into();
            action.services[1].process = argv(&["sleep", "33"]);
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].stdout.text().trim().to_owned(), "0")
        }),
        real("no way leads outside", |b| {
            let ask = "for to in 1.1.1.1 169.254.169.254 10.0.0.1; do \
                busybox nc -w 2 $to 80 </dev/null && echo reached; done; \
                busybox nslookup example.com 2>&1 | grep -c '^Address.*[0-9]$' ; true";
            let outcome = b.shell(ask)?;
            b.same(outcome.steps[0].stdout.text().contains("reached"), false)?;
            b.holds(outcome.attempts.is_some_and(|count| count >= 3), "they are counted")
        }),
        real("the machine's own loopback is not the container's", |b| {
            let server = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
            let port = server.local_addr().map_err(|error| error.to_string())?.port();
            let ask = format!("busybox nc -w 2 127.0.0.1 {port} </dev/null && echo reached; true");
            let outcome = b.shell(&ask)?;
            b.same(outcome.steps[0].stdout.text(), "")
        }),
        real("seed and clock are told", |b| {
            let outcome = b.shell("echo $CLNRM_SEED $SOURCE_DATE_EPOCH")?;
            b.same(outcome.steps[0].stdout.text(), "42 1735689600\n")
        }),
        real("a step's variable goes before the service's", |b| {
            let mut action =
                b.action(&[&["sh", "-c", "echo $WHOSE"], &["sh", "-c", "echo $WHOSE"]]);
            action.services[0].env = map(&[("WHOSE", "service")]);
            action.steps[1].env = map(&[("WHOSE", "step")]);
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].stdout.text(), "service\n")?;
            b.same(outcome.steps[1].stdout.text(), "step\n")
        }),
        real("a step is tried until it passes", |b| {
            let script = "echo x >> /tmp/tries; [ $(wc -l < /tmp/tries) -ge 3 ]";
            let mut action =
                b.action(&[&["sh", "-c", script], &["sh", "-c", "wc -l < /tmp/tries"]]);
            let (delay, until) = (Duration::from_millis(1), Expected::Code(0));
            action.steps[0].retry = Some(Retry { attempts: 5, delay, until });
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].ended.clone(), Ended::Code(0))?;
            b.same(outcome.steps[1].stdout.text().trim().to_owned(), "3")
        }),
        real("a step is tried no more often than told", |b| {
            let script = "echo x >> /tmp/tries; false";
            let mut action =
                b.action(&[&["sh", "-c", script], &["sh", "-c", "wc -l < /tmp/tries"]]);
            let (delay, until) = (Duration::from_millis(1), Expected::Code(0));
            action.steps[0].retry = Some(Retry { attempts: 4, delay, until });
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].ended.clone(), Ended::Code(1))?;
            b.same(outcome.steps[1].stdout.text().trim().to_owned(), "4")
        }),
        real("children of children end with a step at its limit", |b| {
            let script = "(sleep 1 && touch /tmp/late) & (sleep 60 & wait) & wait";
            let mut action = b.action(&[
                &["sh", "-c", script],
                &["sh", "-c", "sleep 1.2; ls /tmp/late 2>&1 | wc -l; ls /tmp | wc -l"],
            ]);
            action.steps[0].time_limit = Duration::from_millis(300);
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].ended.clone(), Ended::TimedOut)?;
            b.same(outcome.steps[1].stdout.text().replace(' ', ""), "1\n0\n")
        }),
        real("what a step wrote before its limit is kept", |b| {
            let mut action = b.action(&[&["sh", "-c", "echo early; sleep 60"]]);
            action.steps[0].time_limit = Duration::from_millis(500);
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].stdout.text(), "early\n")
        }),
        real("the run has a limit, too", |b| {
            let mut action = b.action(&[&["sleep", "60"], &["echo", "never"]]);
            action.time_limit = Duration::from_secs(2);
            action.steps[0].goes_on_after = Expected::Code(0);
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].ended.clone(), Ended::TimedOut)?;
            b.same(outcome.steps[1].ended.clone(), Ended::Skipped)?;
            b.holds(!outcome.incomplete.is_empty(), "that is told")
        }),
        real("a service is waited for by its answer", |b| {
            let mut action = b.action(&[&["echo", "ready"]]);
            let script =
                "sleep 0.3; exec busybox nc -ll -p 7003 -e printf 'HTTP/1.0 204 None\r\n\r\n'";
            action.services[0].process = argv(&["sh", "-c", script]);
            let path = "/health".to_owned();
            action.services[0].ready = vec![Readiness::Http { port: 7003, path, status: 204 }];
            let outcome = b.run(&action)?;
            b.same(outcome.services[0].failed.clone(), None)?;
            b.same(outcome.steps[0].stdout.text(), "ready\n")
        }),
        real("all conditions of a service must hold", |b| {
            let mut action = b.action(&[&["cat", "/tmp/both"]]);
            let script = "echo one; sleep 0.3; echo done > /tmp/both; sleep 60";
            action.services[0].process = argv(&["sh", "-c", script]);
            let file = ["test", "-s", "/tmp/both"].map(str::to_owned).to_vec();
            let (interval, limit) = (Duration::from_millis(20), Duration::from_secs(5));
            action.services[0].ready =
                vec![Readiness::Log("one".into()), Readiness::Exec { argv: file, interval, limit }];
            b.same(b.run(&action)?.steps[0].stdout.text(), "done\n")
        }),
        real("a service that is not ready keeps later ones from starting", |b| {
            let mut action = b.action(&[&["echo", "never"]]);
            action.services[0].ready = vec![Readiness::Port(7004)];
            action.services[0].process = argv(&["sleep", "60"]);
            action.services[0].ready_limit = Duration::from_millis(300);
            action.services.push(action.services[0].clone());
            action.services[1].name = "other".into();
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].ended.clone(), Ended::Skipped)?;
            let told = |at: usize| outcome.services[at].failed.clone().unwrap_or_default();
            b.holds(told(0).contains("7004"), &told(0))?;
            b.holds(told(1).contains("not started"), &told(1))
        }),
        real("spans on standard output are taken where they are looked for", |b| {
            let line = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"told","startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}"#;
            let mut action = b.action(&[&["echo", line]]);
            let count =
                |outcome: &Outcome| outcome.spans.iter().filter(|span| span.name == "told").count();
            b.same(count(&b.run(&action)?), 0)?;
            action.spans_on_stdout = true;
            b.same(count(&b.run(&action)?), 1)
        }),
        real("concurrent steps wait for each other", |b| {
            let meet = |own: &str, other: &str| {
                format!(
                    "touch /tmp/{own}; until [ -e /tmp/{other} ]; do sleep 0.02; done; echo {own}"
                )
            };
            let (one, two) = (meet("one", "two"), meet("two", "one"));
            let mut action = b.action(&[&["sh", "-c", &one], &["sh", "-c", &two]]);
            action.concurrent = true;
            let outcome = b.run(&action)?;
            b.same(outcome.steps[0].stdout.text(), "one\n")?;
            b.same(outcome.steps[1].stdout.text(), "two\n")
        }),
        real("a cancelled run ends soon", |b| {
            let action = b.action(&[&["sleep", "1000"]]);
            let cancel = Cancel::default();
            let (began, trigger) = (Instant::now(), cancel.clone());
            let result = std::thread::scope(|scope| {
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(500));
                    trigger.cancel();
                });
                b.backend.run(&action, &cancel)
            });
            b.same(result.err(), Some(BackendError::Cancelled))?;
            b.holds(began.elapsed() < Duration::from_secs(10), "it took too long")
        }),
    ]
}

impl Bench<'_> {
    /// An action with one idle service `app` and these steps in it.
    fn action(&self, steps: &[&[&str]]) -> Action {
        let limit = Duration::from_secs(20);
        let mut action = Action::of_steps(self.backend.kind(), self.image.clone(), limit, steps);
        (action.seed, action.clock) = (42, Some(1_735_689_600));
        action
    }

    /// Two services that tell their names on a port each, and a step in each that asks both.
    fn two_servers(&self, ports: [u16; 2]) -> Action {
        let [one, two] = ports;
        let ask = format!("busybox nc app {one}; busybox nc other {two}; true");
        let mut action = self.action(&[&["sh", "-c", &ask], &["sh", "-c", &ask]]);
        action.services.push(action.services[0].clone());
        action.services[1].name = "other".to_owned();
        action.steps[1].service = 1;
        for (service, port) in action.services.iter_mut().zip(ports) {
            let tell =
                ["busybox", "nc", "-ll", "-p", &port.to_string(), "-e", "echo", &service.name];
            service.process = argv(&tell);
            service.ports = vec![port];
            service.ready = vec![Readiness::Port(port)];
        }
        action
    }

    fn run(&self, action: &Action) -> Result<Outcome, String> {
        self.backend.run(action, &Cancel::default()).map_err(|error| error.to_string())
    }

    fn step(&self, words: &[&str]) -> Result<Outcome, String> {
        self.run(&self.action(&[words]))
    }

    fn shell(&self, script: &str) -> Result<Outcome, String> {
        self.step(&["sh", "-c", script])
    }

    fn mount(&self, read_only: bool) -> Mount {
        let (source, target) = ("data".to_owned(), "/data".to_owned());
        Mount { source, target, digest: String::new(), read_only }
    }

    fn same<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(
        &self,
        seen: T,
        expected: U,
    ) -> Result<(), String> {
        self.holds(seen == expected, &format!("expected {expected:?}, saw {seen:?}"))
    }

    fn holds(&self, holds: bool, otherwise: &str) -> Result<(), String> {
        if holds { Ok(()) } else { Err(otherwise.to_owned()) }
    }
}

/// A server that is reached from other machines, and where.
fn outward() -> io::Result<(TcpListener, SocketAddr)> {
    let asked = UdpSocket::bind("0.0.0.0:0")?;
    // Nothing is sent: the kernel only looks for the way to that address, which is for documents.
    asked.connect("198.51.100.1:9")?;
    let server = TcpListener::bind((asked.local_addr()?.ip(), 0))?;
    let address = server.local_addr()?;
    Ok((server, address))
}

/// Has a server say the same to everybody.
fn answer(server: TcpListener, text: &'static str) {
    std::thread::spawn(move || {
        for stream in server.incoming().flatten() {
            let _ = (&stream).write_all(text.as_bytes());
        }
    });
}

fn argv(words: &[&str]) -> Process {
    Process::Argv(words.iter().map(|word| (*word).to_owned()).collect())
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
