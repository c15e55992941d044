//! Judges `[assertions]`, on the spans clnrm makes of a run.

use clnrm_backends::{Source, Span, StatusCode, Value};

use super::names::plural;
use super::traces::Index;
use crate::expectation::{Assertion, Verdict};

pub(super) fn judge(index: &Index<'_>, expected: &Assertion, verdict: &mut Verdict) {
    let lifecycle = || index.spans.iter().copied().filter(|span| span.source == Source::Lifecycle);
    let named = |name: &str| lifecycle().find(|span| span.name == name);
    match expected {
        Assertion::ExecutedCommands(expected) => {
            let steps = lifecycle().filter(|span| span.name.starts_with("clnrm.step:"));
            let found = steps.count() as u64;
            if found != *expected {
                let expected = plural(*expected, "command");
                verdict.fail(
                    "",
                    format!("expected {expected} to be executed, found {found}"),
                    None,
                );
            }
        }
        Assertion::AllStepsSucceed => {
            let passed = |span: &Span| {
                span.attributes.get("result") == Some(&Value::String("pass".to_owned()))
            };
            if !named("clnrm.run").is_some_and(passed) {
                verdict.fail("", "a step or a service did not end as it must", None);
            }
        }
        Assertion::Unknown(name) => {
            let message = format!("`{name}` cannot be checked: clnrm knows no such assertion");
            verdict.fail("", message, None);
        }
        Assertion::ServiceStarts(service) => match named(&format!("{service}.start")) {
            Some(span) if span.status.code != StatusCode::Error => {}
            Some(_) => verdict.fail("", format!("`{service}` did not become ready"), None),
            None => verdict.fail("", format!("`{service}` was not started"), None),
        },
    }
    verdict.looked_at = lifecycle().count() as u64;
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::traces::table::check;
    use super::*;
    use crate::expectation::Expectation;

    const RUN: &str = "clnrm.run 0..9 lifecycle result=pass\n  db.start 0..1 lifecycle ok\n  \
                       clnrm.step:a 1..2 lifecycle\n  clnrm.step:b 2..3 lifecycle\nclnrm.step:own 1..2";

    #[test]
    fn assertions_of_the_run() {
        let check = |table, assertion, told| check(table, Expectation::Assertion(assertion), told);
        check(RUN, Assertion::ExecutedCommands(2), expect!["holds, 4 looked at"]);
        check(
            RUN,
            Assertion::ExecutedCommands(3),
            expect![[r#"
            fails, 4 looked at
            : expected 3 commands to be executed, found 2
        "#]],
        );
        check(RUN, Assertion::AllStepsSucceed, expect!["holds, 4 looked at"]);
        check(
            "clnrm.run 0..9 lifecycle result=fail",
            Assertion::AllStepsSucceed,
            expect![[r#"
            fails, 1 looked at
            : a step or a service did not end as it must
        "#]],
        );
        check(
            "",
            Assertion::AllStepsSucceed,
            expect![[r#"
            fails, 0 looked at
            : a step or a service did not end as it must
        "#]],
        );
        check(RUN, Assertion::ServiceStarts("db".to_owned()), expect!["holds, 4 looked at"]);
        check(
            RUN,
            Assertion::ServiceStarts("api".to_owned()),
            expect![[r#"
            fails, 4 looked at
            : `api` was not started
        "#]],
        );
        check(
            "db.start 0..1 lifecycle error",
            Assertion::ServiceStarts("db".to_owned()),
            expect![[r#"
                fails, 1 looked at
                : `db` did not become ready
            "#]],
        );
    }
}
