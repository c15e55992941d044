//! Servers, queues, packed exports and limits, with every SDK on every backend.

use expect_test::{Expect, expect};

use super::{Sdk, node_sdk, python_sdk};
use crate::engines::On;

/// Each file is a test; the words are those of [`Sdk::fill`].
const FIXTURE: &str = r#"
//- /green.clnrm.toml
HEAD
[services.sdk]
args = ["PROGRAM", "/app/SERVER"]
volumes = [MOUNTS]
ports = [8000]

[[scenario]]
name = "ask"
service = "sdk"
run = "PROGRAM /app/SERVER get http://localhost:8000/orders/0"

[[expect.span]]
name = "GET /orders/{id}"
kind = "server"
status = "error"

[expect.counts]
spans_total = 1
errors_total = 1

//- /red.clnrm.toml
HEAD
[services.sdk]
args = ["PROGRAM", "/app/SERVER"]
volumes = [MOUNTS]
ports = [8000]

[[scenario]]
name = "ask"
service = "sdk"
run = "PROGRAM /app/SERVER get http://localhost:8000/orders/0"

[expect.counts]
errors_total = 0

//- /queue.clnrm.toml
HEAD
[services.sdk]
args = ["PROGRAM", "/app/SERVER"]
volumes = [MOUNTS]
ports = [8000]

[[scenario]]
name = "queue"
service = "sdk"
run = "PROGRAM /app/SERVER get http://localhost:8000/jobs/7"
wait_for = { span = "process order", timeout = "20s" }

[[expect.span]]
name = "process order"
kind = "consumer"
count = 1
attrs.all = { "order.id" = 7 }

//- /packed.clnrm.toml
HEAD
[services.sdk]
volumes = [MOUNTS]
env = { OTEL_EXPORTER_OTLP_COMPRESSION = "gzip" }

[[scenario]]
name = "http"
service = "sdk"
run = "PROGRAM /app/SCRIPT"

[[scenario]]
name = "grpc"

[[scenario.steps]]
name = "export"
service = "sdk"
command = ["PROGRAM", "/app/SCRIPT"]
env = { OTEL_EXPORTER_OTLP_PROTOCOL = "grpc" }

[expect.counts]
by_name."LANG.root" = 2

//- /limited.clnrm.toml
HEAD
[services.sdk]
volumes = [MOUNTS]

[[scenario]]
name = "limited"

[[scenario.steps]]
name = "export"
service = "sdk"
command = ["PROGRAM", "/app/SCRIPT"]
env = { OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT = "1" }

[expect.hermeticity]
span_attrs.forbid_keys = ["secret"]

//- /unlimited.clnrm.toml
HEAD
[services.sdk]
volumes = [MOUNTS]

[[scenario]]
name = "unlimited"
service = "sdk"
run = "PROGRAM /app/SCRIPT"

[expect.hermeticity]
span_attrs.forbid_keys = ["secret"]
"#;

fn matrix(on: On, test: &str, sdk: Option<Sdk>) {
    let Some(sdk) = sdk else { return };
    let fixture = FIXTURE.replace("HEAD", "[meta]\nname = \"sdk\"\n");
    let Some(case) = on.case(&format!("sdks::{test}"), &sdk.fill(&fixture)) else { return };
    sdk.copy_scripts(&case);
    let seen = case.run(&[]).seen().replace(sdk.short, "LANG");
    // The packages are no part of the workspace; a busy machine is worth a warning, too.
    let expected_line =
        |line: &&str| !line.contains("shape/volume-outside") && !line.contains("too busy");
    let seen: Vec<&str> = seen.lines().filter(expected_line).collect();
    expected().assert_eq(&(seen.join("\n") + "\n"));
}

fn expected() -> Expect {
    expect![[r#"
        exit 1
        passed  green.clnrm.toml
        failed  limited.clnrm.toml
          17: expect.hermeticity.span_attrs.forbid_keys.secret: this cannot be said, because evidence is missing: the SDK dropped 1 attributes of `LANG.root` (1) (2 spans looked at)
        passed  packed.clnrm.toml
        passed  queue.clnrm.toml
        failed  red.clnrm.toml
          15: expect.counts.errors_total: expected exactly 0 errors, found 1 (1 span looked at)
        passed  unlimited.clnrm.toml
        limited.clnrm.toml:7:1: warning[run/incomplete]: the SDK dropped 1 attributes of `LANG.root` (1)
        6 started, 0 reused, some queries executed
    "#]]
}

/// Defines a test on each backend, in containers that have the machine's programs.
macro_rules! on_every_backend {
    ($($language:ident: $sdk:ident),+ $(,)?) => {
        on_every_backend!(@ sandbox (On::Sandbox) $($language $sdk)+);
        on_every_backend!(@ podman (On::Podman("host")) $($language $sdk)+);
        on_every_backend!(@ docker (On::Docker("host")) $($language $sdk)+);
    };
    (@ $backend:ident ($on:expr) $($language:ident $sdk:ident)+) => {
        mod $backend {
            use crate::engines::On;
            $(
                #[test]
                fn $language() {
                    let test = concat!("matrix::", stringify!($backend), "::", stringify!($language));
                    super::matrix($on, test, super::$sdk(test));
                }
            )+
        }
    };
}

on_every_backend!(python: python_sdk, node: node_sdk);
