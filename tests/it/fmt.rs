//! Files that are written as they should be, and what keeps them from it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use expect_test::expect;

use crate::case::Case;

const FIXTURE: &str = r#"
//- /plain.clnrm.toml
[meta]
version = "1"
name = "plain"   # its name
tags = [ "b","a" ]


[[scenario]]
run = "true"
name = "s"

//- /templates/_m.toml.tera
{% macro step(name) %}
[[scenario.steps]]
name = "{{ name }}"
command = "true"
{% endmacro %}

//- /template.clnrm.toml.tera
{% import "_m.toml.tera" as m %}
[meta]
version="1"
name="{{ svc }}"
[vars]
svc="api"
[[scenario]]
name="s"
{{ m::step("one") }}

//- /good.clnrm.toml
[meta]
name = "good"
version = "1"

[[scenario]]
name = "s"
run = "true"
"#;

#[test]
fn files_are_written_as_they_should_be() {
    let case = Case::new(FIXTURE);
    let odd = Permissions::from_mode(0o640);
    fs::set_permissions(case.root().join("plain.clnrm.toml"), odd).unwrap();
    case.clnrm(&["fmt", "--check"]).check(expect![[r#"
        exit 1
        -- stdout
        plain.clnrm.toml
        template.clnrm.toml.tera
        -- stderr
        2 of 3 files would be formatted
    "#]]);
    case.clnrm(&["fmt", "--diff"]).check(expect![[r#"
        exit 0
        -- stdout
        --- a/plain.clnrm.toml
        +++ b/plain.clnrm.toml
        @@ -1,9 +1,8 @@
         [meta]
        -version = "1"
         name = "plain"   # its name
        -tags = [ "b","a" ]
        -
        +tags = ["b", "a"]
        +version = "1"

         [[scenario]]
        -run = "true"
         name = "s"
        +run = "true"
        --- a/template.clnrm.toml.tera
        +++ b/template.clnrm.toml.tera
        @@ -1,9 +1,9 @@
         {% import "_m.toml.tera" as m %}
         [meta]
        -version="1"
        +version = "1"
         name="{{ svc }}"
         [vars]
        -svc="api"
        +svc = "api"
         [[scenario]]
        -name="s"
        +name = "s"
         {{ m::step("one") }}
        -- stderr
        2 of 3 files would be formatted
    "#]]);
    case.clnrm(&["fmt"]).check(expect![[r#"
        exit 0
        -- stdout
        plain.clnrm.toml
        template.clnrm.toml.tera
        -- stderr
        2 of 3 files formatted
    "#]]);
    expect![[r#"
        [meta]
        name = "plain"   # its name
        tags = ["b", "a"]
        version = "1"

        [[scenario]]
        name = "s"
        run = "true"
    "#]]
    .assert_eq(&case.read("plain.clnrm.toml"));
    expect![[r#"
        {% import "_m.toml.tera" as m %}
        [meta]
        version = "1"
        name="{{ svc }}"
        [vars]
        svc = "api"
        [[scenario]]
        name = "s"
        {{ m::step("one") }}
    "#]]
    .assert_eq(&case.read("template.clnrm.toml.tera"));
    let mode = fs::metadata(case.root().join("plain.clnrm.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    case.clnrm(&["fmt", "--check"]).check(expect![[r#"
        exit 0
        -- stderr
        0 of 3 files would be formatted
    "#]]);
}

#[test]
fn many_files_are_written_at_once_and_one_that_cannot_be_is_told() {
    let mut case = Case::new("");
    let text = |number| format!("[meta]\nversion = \"1\"\nname = \"t{number}\"\n");
    for number in 0..40 {
        case.write(&format!("t{number:02}.clnrm.toml"), text(number));
    }
    case.write("shut/t.clnrm.toml", text(40));
    case.give_to_nobody();
    fs::set_permissions(case.root().join("shut"), Permissions::from_mode(0o555)).unwrap();
    let told = case.clnrm(&["fmt"]);
    assert_eq!(told.exit, Some(2), "{}", told.seen());
    assert_eq!(told.stdout.lines().count(), 40, "{}", told.seen());
    expect![[r#"
        error: cannot format shut/t.clnrm.toml: nothing can be made beside it: permission denied
        40 of 41 files formatted
    "#]]
    .assert_eq(&told.stderr);
    assert_eq!(case.read("t39.clnrm.toml"), "[meta]\nname = \"t39\"\nversion = \"1\"\n");
    assert_eq!(case.read("shut/t.clnrm.toml"), text(40));
    assert_eq!(case.clnrm(&["fmt", "--check"]).stdout, "shut/t.clnrm.toml\n");
    let names = fs::read_dir(case.root()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().starts_with(".tmp")).count(), 0);
}

#[test]
fn a_formatted_file_is_known() {
    let case = Case::new(FIXTURE);
    case.clnrm(&["fmt"]);
    case.clnrm(&["fmt"]);
    // Every one of them is recalled, and so not a single one is read again.
    let text = case.clnrm(&["fmt", "--check"]);
    assert_eq!((text.exit, text.stdout.as_str()), (Some(0), ""), "{}", text.seen());
    // Its outcome is that of the test as it was written before.
    let case = Case::new(FIXTURE);
    case.run(&[]);
    case.clnrm(&["fmt"]);
    let report = case.run(&[]);
    assert_eq!((report.exit, report.containers_started()), (Some(0), 0), "{}", report.seen());
}

#[test]
fn a_file_that_cannot_be_read_stays_as_it_is() {
    let case = Case::new(FIXTURE);
    let broken = "[meta\nb=1\na=2\n";
    case.write("broken.clnrm.toml", broken);
    let latin = b"[meta]\nname = \"\xe9\"\n";
    case.write("latin.clnrm.toml", latin);
    case.clnrm(&["fmt"]).check(expect![[r#"
        exit 3
        -- stdout
        plain.clnrm.toml
        template.clnrm.toml.tera
        -- stderr
        broken.clnrm.toml:1:6: error[parse/syntax]: unclosed table, expected `]`
          |
        1 | [meta
          |      ^
        latin.clnrm.toml:2:9: error[source/not-utf8]: byte 15 is not UTF-8
          hint: save the file as UTF-8
        2 of 5 files formatted
    "#]]);
    assert_eq!(case.read("broken.clnrm.toml"), broken);
    assert_eq!(fs::read(case.root().join("latin.clnrm.toml")).unwrap(), latin);
}

#[test]
fn links_and_marks_are_kept() {
    let case = Case::new("");
    case.write("shared/real.toml", "\u{feff}[meta]\nversion=\"1\"\nname=\"a\"\n");
    symlink("shared/real.toml", case.root().join("a.clnrm.toml")).unwrap();
    assert_eq!(case.clnrm(&["fmt", "a.clnrm.toml"]).exit, Some(0));
    assert!(case.root().join("a.clnrm.toml").is_symlink());
    let text = "\u{feff}[meta]\nname = \"a\"\nversion = \"1\"\n";
    assert_eq!(case.read("shared/real.toml"), text);
}

#[test]
fn what_an_editor_has_not_saved_is_formatted() {
    let case = Case::new(FIXTURE);
    let unsaved = "{% import \"_m.toml.tera\" as m %}\n[meta]\nversion=\"2\"\nname=\"b\"\n\n\
                   [[scenario]]\nname=\"s\"\n{{ m::step(\"one\") }}\n";
    let formatted = case.clnrm_reading(&["fmt", "--stdin", "new.clnrm.toml"], unsaved);
    formatted.check(expect![[r#"
        exit 0
        -- stdout
        {% import "_m.toml.tera" as m %}
        [meta]
        name = "b"
        version = "2"

        [[scenario]]
        name = "s"
        {{ m::step("one") }}
    "#]]);
    let check = case.clnrm_reading(&["fmt", "--stdin", "--check"], &formatted.stdout);
    assert_eq!((check.exit, check.stdout.as_str()), (Some(0), ""), "{}", check.seen());
    assert!(!case.root().join("new.clnrm.toml").exists());
}

/// Every template that clnrm prints is written as it should be.
#[test]
fn our_own_templates_are() {
    let case = Case::new("");
    let kinds = case.clnrm(&["template"]).stdout;
    let kinds = kinds.lines().filter_map(|line| line.split_whitespace().next());
    let mut count = 0;
    for kind in kinds {
        let text = case.clnrm(&["template", kind]).stdout;
        case.write(&format!("{kind}.clnrm.toml"), text);
        count += 1;
    }
    assert!(count > 3);
    let check = case.clnrm(&["fmt", "--check"]);
    assert_eq!(check.exit, Some(0), "{}", case.clnrm(&["fmt", "--diff"]).stdout);
}
