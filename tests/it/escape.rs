//! Ways out of the sandbox, none of which leads anywhere.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::case::workspace;
use crate::engines::{On, in_every_sandbox, on_every_engine};
use crate::lacking::has_program;

in_every_sandbox!(no_way_leads_out);

const FIXTURE: &str = r#"
//- /escape.clnrm.toml
[meta]
name = "escape"

[services.prisoner]
volumes = ["./probes.py:/probes.py:ro"]

[[scenario]]
name = "escape"

[[scenario.steps]]
name = "probe"
service = "prisoner"
command = ["python3", "/probes.py", "PORT", "ABSTRACT", "SECRET"]
expected_output_regex_not = "OPEN"
expected_output_regex = "[0-9]+ ways were tried"
"#;

fn no_way_leads_out(on: On) {
    let test = "escape::no_way_leads_out";
    if !has_program(test, "python3") {
        return;
    }
    // What is there on the machine for somebody who gets out.
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("clnrm-escape-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap());
    let secret = workspace().join("Cargo.toml");
    let fixture = FIXTURE
        .replace("PORT", &tcp.local_addr().unwrap().port().to_string())
        .replace("ABSTRACT", &name)
        .replace("SECRET", &secret.display().to_string());
    let Some(case) = on.case(test, &fixture) else { return };
    let script = std::fs::read_to_string(workspace().join("tests/fixtures/probes.py")).unwrap();
    case.write("probes.py", script);
    let ran = case.run(&["escape.clnrm.toml"]);
    assert_eq!(ran.exit, Some(0), "{}", ran.seen());
    tcp.set_nonblocking(true).unwrap();
    assert!(tcp.accept().is_err(), "nobody came");
}
