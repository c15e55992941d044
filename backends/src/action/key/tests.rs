//! Two actions have one key exactly when they would do the same.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::super::BackendKind;
use super::*;

/// Few of them, with ends that run into each other's beginnings.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(""), Just("a"), Just("ab"), Just("b"), Just("\"]"), Just("unset"), Just("1")]
        .prop_map(str::to_owned)
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..3)
}

fn env() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(text(), text(), 0..3)
}

fn duration() -> impl Strategy<Value = Duration> {
    (0..3u64).prop_map(Duration::from_nanos)
}

fn image() -> impl Strategy<Value = Image> {
    prop_oneof![text().prop_map(Image::Host), text().prop_map(Image::Id)]
}

fn process() -> impl Strategy<Value = Process> {
    prop_oneof![Just(Process::Idle), Just(Process::OfImage), texts().prop_map(Process::Argv)]
}

fn mount() -> impl Strategy<Value = Mount> {
    (text(), text(), text(), any::<bool>()).prop_map(|(source, digest, target, read_only)| Mount {
        source,
        digest,
        target,
        read_only,
    })
}

fn readiness() -> impl Strategy<Value = Readiness> {
    prop_oneof![
        (0..2u16).prop_map(Readiness::Port),
        (0..2u16, text(), 0..2u16).prop_map(|(port, path, status)| Readiness::Http {
            port,
            path,
            status
        }),
        text().prop_map(Readiness::Log),
        text().prop_map(Readiness::Span),
        (texts(), duration(), duration()).prop_map(|(argv, interval, limit)| Readiness::Exec {
            argv,
            interval,
            limit
        }),
        duration().prop_map(Readiness::After),
    ]
}

fn expected() -> impl Strategy<Value = Expected> {
    prop_oneof![
        (0..2i32).prop_map(Expected::Code),
        Just(Expected::Failure),
        Just(Expected::Anything)
    ]
}

fn service() -> impl Strategy<Value = ServicePlan> {
    let outside = (text(), image(), process(), env());
    let ready = (vec(readiness(), 0..2), duration());
    let ports = (vec(0..2u16, 0..2), any::<bool>());
    let inside = (vec(mount(), 0..2), option::of(text()), ports, ready);
    (outside, inside).prop_map(
        |(
            (name, image, process, env),
            (mounts, workdir, (ports, publish), (ready, ready_limit)),
        )| {
            ServicePlan {
                name,
                image,
                process,
                env,
                mounts,
                workdir,
                ports,
                publish,
                ready,
                ready_limit,
            }
        },
    )
}

fn step() -> impl Strategy<Value = StepPlan> {
    let retry = (1..3u32, duration(), expected()).prop_map(|(attempts, delay, until)| Retry {
        attempts,
        delay,
        until,
    });
    let awaits = (text(), 1..3u64).prop_map(|(span, count)| Awaited { span, count });
    let ends = (expected(), option::of(retry), option::of(awaits));
    (text(), 0..2usize, texts(), env(), option::of(text()), duration(), ends).prop_map(
        |(name, service, argv, env, workdir, time_limit, (goes_on_after, retry, awaits))| {
            StepPlan { name, service, argv, awaits, env, workdir, time_limit, goes_on_after, retry }
        },
    )
}

fn backend() -> impl Strategy<Value = BackendKind> {
    prop_oneof![Just(BackendKind::Fake), Just(BackendKind::Sandbox), Just(BackendKind::Podman)]
}

fn network() -> impl Strategy<Value = Network> {
    prop_oneof![Just(Network::Isolated), Just(Network::None), Just(Network::Open)]
}

fn action() -> impl Strategy<Value = Action> {
    let limits = (option::of(1..3u32), option::of(1..3u64), option::of(1..3u32))
        .prop_map(|(cpu_millicores, memory_mb, pids)| Limits { cpu_millicores, memory_mb, pids });
    let host = (text(), 1..3u16, text(), option::of(text()))
        .prop_map(|(name, port, outside, service)| Host { name, port, outside, service });
    let reach = (
        network(),
        vec(host, 0..2),
        any::<bool>(),
        any::<bool>(),
        0..2u32,
        option::of(text()),
        any::<bool>(),
    );
    let how = (backend(), 0..2u64, option::of(-1..2i64), duration(), limits, reach);
    (how, vec(service(), 0..3), vec(step(), 0..3)).prop_map(
        |(
            (
                backend,
                seed,
                clock,
                time_limit,
                limits,
                (network, allowed, lasting, spans_on_stdout, retries, group, concurrent),
            ),
            services,
            steps,
        )| Action {
            backend,
            network,
            allowed,
            lasting,
            spans_on_stdout,
            forward: None,
            retries,
            group,
            seed,
            clock,
            time_limit,
            settle: Duration::ZERO,
            limits,
            services,
            concurrent,
            steps,
        },
    )
}

/// Puts one field of another action into `action`.
fn graft(action: &mut Action, other: Action, field: usize) {
    let Action {
        backend,
        network,
        allowed,
        lasting,
        spans_on_stdout,
        forward: _,
        retries,
        group,
        seed,
        clock,
        time_limit,
        settle: _,
        limits,
        services,
        concurrent,
        steps,
    } = other;
    match field {
        0 => action.backend = backend,
        1 => action.seed = seed,
        2 => action.clock = clock,
        3 => action.time_limit = time_limit,
        4 => action.services = services,
        5 => action.steps = steps,
        6 => action.services.extend(services),
        7 => action.steps.extend(steps),
        8 => drop(action.services.pop()),
        9 => drop(action.steps.pop()),
        29 => action.limits = limits,
        30 => action.network = network,
        31 => action.allowed = allowed,
        32 => action.lasting = lasting,
        34 => action.spans_on_stdout = spans_on_stdout,
        35 => action.retries = retries,
        36 => action.group = group,
        37 => action.concurrent = concurrent,
        33 => {
            if let (Some(at), Some(from)) = (action.services.first_mut(), services.first()) {
                at.ports.clone_from(&from.ports);
            }
        }
        38 => {
            if let (Some(at), Some(from)) = (action.services.first_mut(), services.first()) {
                at.publish = from.publish;
            }
        }
        10..=19 => {
            let (Some(at), Some(from)) = (action.services.first_mut(), services.into_iter().next())
            else {
                return;
            };
            match field {
                10 => at.name = from.name,
                11 => at.image = from.image,
                12 => at.process = from.process,
                13 => at.env = from.env,
                14 => at.env.extend(from.env),
                15 => at.mounts = from.mounts,
                16 => at.mounts.iter_mut().for_each(|mount| mount.source.push('x')),
                17 => at.workdir = from.workdir,
                18 => at.ready = from.ready,
                _ => at.ready_limit = from.ready_limit,
            }
        }
        _ => {
            let (Some(at), Some(from)) = (action.steps.last_mut(), steps.into_iter().next()) else {
                return;
            };
            match field {
                20 => at.name = from.name,
                21 => at.service = from.service,
                22 => at.argv = from.argv,
                23 => at.argv.extend(from.argv),
                24 => at.env = from.env,
                25 => at.workdir = from.workdir,
                26 => at.time_limit = from.time_limit,
                27 => at.goes_on_after = from.goes_on_after,
                28 => at.retry = from.retry,
                _ => unreachable!(),
            }
        }
    }
}

const FIELDS: usize = 39;

/// Where mounts come from means nothing; all else does.
fn would_do_the_same(a: &Action, b: &Action) -> bool {
    let [mut a, mut b] = [a.clone(), b.clone()];
    for service in a.services.iter_mut().chain(&mut b.services) {
        service.mounts.iter_mut().for_each(|mount| mount.source.clear());
    }
    a == b
}

#[test]
fn equal_keys_are_equal_plans() {
    let full = std::env::var("CLNRM_PROOF").is_ok_and(|size| size == "full");
    let cases = if full { 1_000_000 } else { 10_000 };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let (same, told) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let result = TestRunner::new(config).run(&(action(), action(), 0..FIELDS), |(a, b, field)| {
        let mut grafted = a.clone();
        graft(&mut grafted, b.clone(), field);
        for other in [grafted, b] {
            let equal = would_do_the_same(&a, &other);
            prop_assert_eq!(a.key() == other.key(), equal);
            let differences = differences(&a.parts(), &other.parts());
            prop_assert_eq!(differences.is_empty(), equal, "{:?}", differences);
            same.set(same.get() + usize::from(equal));
            told.set(told.get() + differences.len());
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    println!("{cases} actions: {} equal pairs, {} differences", same.get(), told.get());
    assert!(same.get() > cases as usize / 20, "equal plans are tried, too");
}

#[test]
fn differences_are_told_and_values_of_variables_are_not() {
    let mut runner = TestRunner::deterministic();
    let mut before = action().new_tree(&mut runner).unwrap().current();
    before.services = vec![service().new_tree(&mut runner).unwrap().current()];
    before.services[0].env = BTreeMap::from([("TOKEN".to_owned(), "secret".to_owned())]);
    before.services[0].workdir = None;
    let mut now = before.clone();
    now.services[0].env.insert("TOKEN".to_owned(), "other".to_owned());
    now.services[0].workdir = Some("/srv".to_owned());
    let differences = differences(&before.parts(), &now.parts());
    let parts: Vec<&str> = differences.iter().map(|difference| &*difference.part).collect();
    assert_eq!(parts, ["services[0].env[\"TOKEN\"]", "services[0].workdir"]);
    assert_eq!(differences[1].before.as_deref(), Some("unset"));
    assert_eq!(differences[1].now.as_deref(), Some("\"/srv\""));
    let text = format!("{:?}{:?}", before.parts(), differences);
    assert!(!text.contains("secret") && !text.contains("other"), "{text}");
}
