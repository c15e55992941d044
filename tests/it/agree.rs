//! What `run` refuses before a container starts, `dry-run` tells too, and neither tells more.

use std::collections::BTreeSet;

use crate::case::{Case, Report};

/// A test that is green, before whose scenario and at whose end something can be put.
const TOP: &str = "[meta]\nname = \"t\"\nversion = \"1.0.0\"\n";
const SCENARIO: &str = "[[scenario]]\nname = \"s\"\nrun = \"true\"\n";

/// Files, a line each: what stands at the end of a test that is green without it.
const ENDS: [&str; 38] = [
    "",
    "odd = 1\n[services.a]\nimage = \"oci:gone\"\nvolumes = [\"gone:/x\"]",
    "[expect.counts]\nspans_total = 0",
    "odd = 1",
    "retires = 3",
    "expected_exit_code = 300",
    "expected_ouput = \"x\"",
    "expected_output_regex = \"(\"",
    "expected_output_regex = \".*\"",
    "network = \"closed\"",
    "timeout = \"soon\"",
    "service = \"gone\"",
    "wait_for = { count = 1 }",
    "[services.a]\nodd = 1",
    "[services.a]\nlimits = { pids = 1 }",
    "[services.a]\nresources = { cpu_limit = \"1\" }",
    "[services.a]\ndepends_on = [\"b\"]",
    "[services.a]\nports = [0]",
    "[services.a]\nwait_for = { log = \"(\" }",
    "[services.a]\nhealth_check = {}",
    "[services.a]\nvolumes = [\"gone:/x\"]",
    "[services.a]\nvolumes = [\"./gone/deep:/x:ro\"]",
    "[services.a]\nvolumes = [\"there/../gone:/x\"]",
    "[services.a]\nvolumes = [\"/clnrm-has-no-such-folder/a:/x\"]",
    "[services.a]\nvolumes = [\"../gone:/x\"]",
    "[services.a]\nvolumes = [\"there/:/x\", \"./there:/y\"]",
    "[services.a]\nvolumes = [\"there:x\"]",
    "[services.a]\nimage = \"oci:gone.tar\"",
    "[services.a]\nplugin = \"network_service\"",
    "[services.a]\n[services.b]\nimage = \"oci:gone/\"",
    "[[expect.span]]\nname = \"{\"",
    "[[expect.span]]\nname = \"a\"\nkind = \"odd\"",
    "[expect.graph]\nacyclic = false",
    "[expect.temporal]\na = 1",
    "[assertions]\nmay_do_all = true",
    "[limits]\npids = 0",
    "[determinism]\nfreeze_clock = \"noon\"",
    "[matrix]\na = []",
];

/// Whole files.
const WHOLE: [&str; 7] = [
    "[[scenario]]\nname = \"s\"\nrun = \"true\"\n",
    "[meta]\nname = \"t\"\n",
    "[meta]\nname = \"t\"\n[[scenario]]\n",
    "[meta]\nname =\n",
    "[meta]\nname = \"{{ gone }}\"\n",
    "[meta]\nname = \"{% if %}\"\n",
    "\u{feff}\u{feff}[meta]\nname = \"t\"\n",
];

/// Settings.
const SETTINGS: [&str; 6] = [
    "backend = \"sandbox\"\nodd = 1\n",
    "backend = \"odd\"\n",
    "backend = \"sandbox\"\njobs = 0\n",
    "backend = \"sandbox\"\n[[\n",
    "backend = \"sandbox\"\ntimeout = \"soon\"\n",
    "backend = \"sandbox\"\ndefault_image = \"oci:gone.tar\"\n",
];

#[test]
fn the_two_commands_agree() {
    for end in ENDS {
        let case = Case::new("");
        case.write("there/file", "");
        case.write("t.clnrm.toml", format!("{TOP}{SCENARIO}{end}\n"));
        agree(&case, end);
    }
    for text in WHOLE {
        let case = Case::new("");
        case.write("t.clnrm.toml", text);
        agree(&case, text);
    }
    for settings in SETTINGS {
        let case = Case::new("");
        case.write("clnrm.toml", settings);
        case.write("t.clnrm.toml", format!("{TOP}{SCENARIO}"));
        agree(&case, settings);
    }
}

fn agree(case: &Case, input: &str) {
    for strict in [&[][..], &["--strict"]] {
        let arguments = |command| [&[command, "--format", "json"][..], strict].concat();
        let dry = case.clnrm(&arguments("dry-run")).report();
        let run = case.clnrm(&arguments("run")).report();
        let seen = || format!("{input} {strict:?}\n{}\n{}", dry.seen(), run.seen());
        assert_eq!(errors(&dry), errors(&run), "{}", seen());
        if errors(&dry).is_empty() {
            // A test that does not hold has been run.
            assert!(dry.exit == Some(0) && matches!(run.exit, Some(0 | 1)), "{}", seen());
        } else {
            assert!(dry.exit == Some(3) && matches!(run.exit, Some(3 | 5)), "{}", seen());
            assert_eq!(run.containers_started(), 0, "{}", seen());
        }
    }
}

/// The errors of a report that are of files: code, file and line.
fn errors(report: &Report) -> BTreeSet<(String, String, u64)> {
    let diagnostics = report.json["diagnostics"].as_array().unwrap().iter();
    let errors = diagnostics.filter(|one| one["severity"] == "error");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let errors =
        errors.map(|one| (text(&one["code"]), text(&one["file"]), one["line"].as_u64().unwrap()));
    // Of a test that has run, what it failed by.
    errors.filter(|(code, ..)| !code.starts_with("expect/")).collect()
}
