//! `clnrm logs`

use std::path::PathBuf;

use clnrm_backends::{Cancel, Ended, LogRecord, Outcome, Output, log_records, metric_names};
use clnrm_engine::{Digest, Engine, Unit};
use clnrm_queries::{REPORT, Report, parts, stored};

use crate::args::{LogsArgs, StoreArgs};
use crate::exit::Exit;
use crate::interrupt;
use crate::printer;
use crate::select::select;
use crate::workspace::Workspace;

pub(crate) fn run(args: &LogsArgs) -> anyhow::Result<Exit> {
    let wanted = args.scenario.as_deref().unwrap_or_default();
    print(&args.store, &args.paths, wanted, None)
}

/// Prints what scenarios of this name wrote, or what one service did in them.
pub(super) fn print(
    store: &StoreArgs,
    paths: &[PathBuf],
    wanted: &str,
    service: Option<&str>,
) -> anyhow::Result<Exit> {
    let workspace = Workspace::find(paths, store)?;
    let mut engine = workspace.engine();
    interrupt::listen(&engine, &Cancel::default())?;
    let selection = select(&workspace, &mut engine, paths)?;
    let reports =
        engine.last(&REPORT, &selection.units, |encoded| Report::<String>::decode(encoded));
    let mut found = false;
    for (unit, report) in selection.units.iter().zip(reports) {
        let scenarios = report.into_iter().flat_map(|report| report.scenarios);
        for scenario in scenarios.filter(|scenario| scenario.name.contains(wanted)) {
            let text = scenario.key.and_then(|key| log(&engine, Digest(key.0), service));
            if service.is_some() && text.as_ref().is_none_or(String::is_empty) {
                continue;
            }
            found = true;
            let text = text.unwrap_or_else(|| "its outcome was not kept\n".to_owned());
            printer::text(&format!("{}\n{text}\n", headline(unit, &scenario.name)));
        }
    }
    if !found {
        printer::talk(&match service {
            Some(service) => format!("no service `{service}` has written anything"),
            None => format!("no scenario `{wanted}` has run"),
        });
    }
    Ok(if found { selection.exit() } else { Exit::Nothing })
}

fn headline(unit: &Unit, scenario: &str) -> String {
    format!("=== {unit}: {scenario}")
}

/// All that was written in a run, or what one service did.
fn log(engine: &Engine, key: Digest, wanted: Option<&str>) -> Option<String> {
    let bytes = engine.effect(key)?;
    let (outcome, parts) = (stored(&bytes)?.ok()?, parts(&bytes)?);
    let Outcome { steps, services, signals, .. } = outcome;
    let name = |of: &str, at: usize| {
        let quoted = parts.get(&format!("{of}[{at}].name")).cloned().unwrap_or_default();
        quoted.trim_matches('"').to_owned()
    };
    let mut text = String::new();
    let mut add = |what: String, output: &Output| {
        text += &format!("--- {what}\n");
        let written = output.text();
        text += &written;
        if !written.is_empty() && !written.ends_with('\n') {
            text.push('\n');
        }
    };
    for (at, service) in services.iter().enumerate() {
        let its_name = name("services", at);
        if !service.log.text().is_empty() && wanted.is_none_or(|wanted| wanted == its_name) {
            add(format!("service {its_name}"), &service.log);
        }
    }
    if wanted.is_some() {
        return Some(text);
    }
    for (at, step) in steps.iter().enumerate() {
        let ended = match &step.ended {
            Ended::Code(code) => format!("exit code {code}"),
            Ended::Signal(signal) => format!("signal {signal}"),
            Ended::TimedOut => "killed at its limit".to_owned(),
            Ended::NotStarted(reason) => format!("not started: {reason}"),
            Ended::Missed(what) => what.clone(),
            Ended::Skipped => "not tried".to_owned(),
        };
        add(format!("step {}, {ended}", name("steps", at)), &step.stdout);
        if !step.stderr.text().is_empty() {
            add(format!("step {}, standard error", name("steps", at)), &step.stderr);
        }
    }
    let records = log_records(&signals.logs);
    if !records.is_empty() {
        text += "--- log records\n";
        text.extend(records.iter().map(record));
    }
    let metrics = metric_names(&signals.metrics);
    if !metrics.is_empty() {
        text += &format!("--- metrics\n{}\n", metrics.join("\n"));
    }
    if signals.left_out > 0 {
        let many = printer::many(signals.left_out, "more request");
        text += &format!("--- {many} with log records or metrics had no room\n");
    }
    Some(text)
}

fn record(record: &LogRecord) -> String {
    let LogRecord { service, severity, body } = record;
    let words = [severity, service, body].map(String::as_str);
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    format!("{}\n", words.join(" "))
}
