//! Texts before and after, and that formatting twice is formatting once.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::layout::{Order, lay_out};
use super::{sorted, tags};
use crate::dialect::is_template;
use crate::document;

fn laid_out(text: &str) -> String {
    lay_out(text, &tags(text).unwrap(), Order::Sorted)
}

#[track_caller]
fn check(text: &str, expected: Expect) {
    let once = laid_out(text);
    expected.assert_eq(&once);
    assert_eq!(laid_out(&once), once, "twice is not once");
}

#[test]
fn keys_are_sorted_in_their_groups_with_their_comments() {
    check(
        "\n\n# The test.\n[meta]   # it\n  version='1'  # first\n# by this name\nname = \"a\"\n\n\n\n\
         tags=[\"b\",\"a\"]\n# nothing follows\n\n[services]\nweb = {image=\"w\"}\ndb = { image = \"d\", args = [1,2] }\n   \n",
        expect![[r#"
            # The test.
            [meta]   # it
            # by this name
            name = "a"
            version = '1'  # first

            tags = ["b", "a"]
            # nothing follows

            [services]
            web = { image = "w" }
            db = { image = "d", args = [1, 2] }
        "#]],
    );
}

#[test]
fn long_arrays_have_an_item_a_line_and_broken_ones_stay_so() {
    check(
        "[expect.graph]\nmust_include = [[\"the first span\", \"the second span\"], [\"the second span\", \"the third\"]]\n\
         short = [\n1, 2 # two\n # three\n, 3\n]\nempty = [ ]\nnested = [[ [1], {b=1,a=2} ]]\n\
         text = [\"\"\"\none\n  two\"\"\"]\ntable = {\n  b=1, # one\n}# end\n",
        expect![[r#"
            [expect.graph]
            empty = []
            must_include = [
              ["the first span", "the second span"],
              ["the second span", "the third"],
            ]
            nested = [[[1], { a = 2, b = 1 }]]
            short = [
              1,
              2, # two
              # three
              3,
            ]
            table = {
              b=1, # one
            } # end
            text = [
              """
            one
              two""",
            ]
        "#]],
    );
}

#[test]
fn what_belongs_to_a_template_stays() {
    check(
        "{% import \"_m.toml.tera\" as m -%}\n[meta]\nversion=\"1\"\nname=\"{{ svc }}\"\nb=1\na=2\n\
         {% for n in range(end=2) %}\n[[scenario]]\nrun='''\n  {{ n }}  \nb=1\na=2\n'''\nname  =  \"s\"\n\
         {% endfor %}\n{{ m::span(\"x\") }}\nlist = [ {% if a %}1,{% endif %}\n2 ]\nz=1 # {# why #}\ny=1\n\
         # {{ a }} see [1\nx=1\n",
        expect![[r#"
            {% import "_m.toml.tera" as m -%}
            [meta]
            version = "1"
            name="{{ svc }}"
            a = 2
            b = 1
            {% for n in range(end=2) %}
            [[scenario]]
            run='''
              {{ n }}  
            b=1
            a=2
            '''
            name = "s"
            {% endfor %}
            {{ m::span("x") }}
            list = [ {% if a %}1,{% endif %}
            2 ]
            z=1 # {# why #}
            y = 1
            # {{ a }} see [1
            x = 1
        "#]],
    );
}

#[test]
fn lines_end_as_everywhere() {
    check(
        "[services] # in this order\r\nb = {}\r\na=[\r\n1]\r\n# end\r\n",
        expect![[r#"
        [services] # in this order
        b = {}
        a = [
          1,
        ]
        # end
    "#]],
    );
}

#[test]
fn what_is_not_understood_stays() {
    check(
        "b = \na = 1\n[open\nc=\"unclosed\nd=1\n",
        expect![[r#"
            b = 
            a = 1
            [open
            c="unclosed
            d = 1
        "#]],
    );
}

/// A value in TOML, as people write it.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "-?[0-9]{1,3}".prop_filter("no leading zeros", |it| it
            .parse::<i64>()
            .is_ok_and(|n| { n.to_string() == *it })),
        "[a-z #=\\[\\]{},]{0,12}".prop_map(|text| format!("\"{text}\"")),
        "[a-z \\\\\"#]{0,12}".prop_map(|text| format!("'{text}'")),
        "[a-z #\n=]{0,12}".prop_map(|text| format!("\"\"\"{text}\"\"\"")),
        Just("true".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let gap = prop_oneof![Just(""), Just(" "), Just("\n"), Just(" # note\n  ")];
        let items = prop::collection::vec((gap.clone(), inner.clone()), 0..4);
        let array = items.prop_map(|items| {
            let items = items.into_iter().map(|(gap, item)| format!("{gap}{item}"));
            format!("[{}]", items.collect::<Vec<_>>().join(","))
        });
        let entries = prop::collection::btree_map("[a-f]", (gap, inner), 0..3);
        let table = entries.prop_map(|entries| {
            let entries = entries.into_iter().rev();
            let entries = entries.map(|(key, (gap, value))| format!("{gap}{key}={value}"));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(" ,"))
        });
        prop_oneof![array, table]
    })
}

fn file() -> impl Strategy<Value = String> {
    let entry =
        ("[a-z]{1,2}(\\.[a-z])?", value(), prop_oneof![Just(""), Just("#end"), Just(" # end")]);
    let entry = entry.prop_map(|(key, value, end)| format!(" {key}  ={value}{end}\n"));
    let line = prop_oneof![
        6 => entry,
        1 => Just("\n".to_owned()),
        1 => Just("\n\n\n".to_owned()),
        1 => Just("  # a comment\n".to_owned()),
        1 => "[a-z]{3}".prop_map(|name| format!("[[{name}]]\n")),
    ];
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn formatting_twice_is_formatting_once_and_changes_no_value(text in file()) {
        prop_assume!(!is_template(&text));
        let once = laid_out(&text);
        prop_assert_eq!(&laid_out(&once), &once);
        for comment in ["# a comment", "# note", "#end", "# end"] {
            let count = |text: &str| text.matches(comment).count();
            prop_assert_eq!(count(&once), count(&text), "{}", once);
        }
        // A key that comes twice makes it no document at all.
        if let Ok(before) = document::parse(&text) {
            let after = document::parse(&once).map(sorted);
            prop_assert_eq!(after, Ok(sorted(before)), "{}", once);
        }
    }
}

#[test]
fn the_first_comment_stays_first() {
    check(
        "#:schema ./clnrm.schema.json\n# A licence.\nversion = \"1\"\nname = \"n\"\n",
        expect![[r#"
            #:schema ./clnrm.schema.json
            # A licence.
            name = "n"
            version = "1"
        "#]],
    );
    check(
        "# A licence.\n\n# first\nversion = \"1\"\nname = \"n\"\n",
        expect![[r#"
            # A licence.

            name = "n"
            # first
            version = "1"
        "#]],
    );
}

#[test]
fn a_value_that_is_no_number_is_the_same_as_itself() {
    let tree = |text: &str| vec![document::parse(text).unwrap()];
    assert_eq!(
        super::meanings(tree("[vars]\nb = nan\na = 1\n")),
        super::meanings(tree("[vars]\na = 1\nb = nan\n"))
    );
    assert_ne!(super::meanings(tree("b = nan\n")), super::meanings(tree("b = inf\n")));
}

#[test]
fn two_comments_are_never_one() {
    check(
        "a = [1 # x\n, # y\n2]\n",
        expect![[r#"
            a = [
              1, # x
              # y
              2,
            ]
        "#]],
    );
}
