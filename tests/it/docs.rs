//! Every TOML and template snippet of the README and of `docs/` is what it says: clnrm accepts it
//! without a word against it.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::case::{Case, workspace};

/// A fenced block of a Markdown file.
struct Snippet {
    place: String,
    language: String,
    text: String,
}

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(workspace().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = docs.chain([workspace().join("README.md")]).collect();
    pages.sort();
    pages
}

fn snippets() -> Vec<Snippet> {
    let mut found = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let mut open: Option<Snippet> = None;
        for (number, line) in (1..).zip(text.lines()) {
            match (line.strip_prefix("```"), &mut open) {
                (Some(language), None) => {
                    let name = page.file_name().unwrap().to_string_lossy();
                    let place = format!("{name}:{number}");
                    let (language, text) = (language.to_owned(), String::new());
                    open = Some(Snippet { place, language, text });
                }
                (Some(_), Some(_)) => found.extend(open.take()),
                (None, Some(snippet)) => snippet.text += &format!("{line}\n"),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", page.display());
    }
    found
}

/// A snippet with what it takes to be a test.
fn completed(text: &str) -> String {
    let mut whole = String::new();
    if !text.contains("[meta]") {
        whole += "[meta]\nname = \"snippet\"\nversion = \"1.0.0\"\n";
    }
    whole += text;
    for name in ["app", "db"] {
        let used = [format!("service = \"{name}\""), format!("_start = \"{name}\"")];
        let is_used = used.iter().any(|used| text.contains(used.as_str()));
        if is_used && !text.contains(&format!("[services.{name}]")) {
            whole += &format!("[services.{name}]\nargs = [\"sleep\", \"1\"]\n");
        }
    }
    if !text.contains("[[scenario]]") && !text.contains("m::scenario") {
        whole += "[[scenario]]\nname = \"does nothing\"\nrun = \"true\"\n";
    }
    whole
}

#[test]
fn snippets_are_what_they_say() {
    let mut checked = 0;
    for Snippet { place, language, text } in snippets() {
        if !["toml", "tera"].contains(&language.as_str()) {
            continue;
        }
        let case = Case::empty();
        case.write("target/release/app", "the program that is mounted");
        if text.starts_with("# clnrm.toml") {
            case.write("clnrm.toml", &text);
            case.write("t.clnrm.toml", completed(""));
        } else {
            case.write("clnrm.toml", "");
            case.write("t.clnrm.toml.tera", completed(&text));
        }
        let report = case.clnrm(&["dry-run", "--strict", "--format", "json"]).report();
        let told = report.json["diagnostics"].as_array().unwrap();
        assert!(told.is_empty() && report.exit == Some(0), "{place}: {told:#?}");
        checked += 1;
    }
    assert!(checked >= 9, "the documentation has {checked} snippets");
}

/// Blocks and whole files that are printed are accepted, by the reader and by the schema.
#[test]
fn what_is_printed_is_accepted() {
    let case = Case::empty();
    case.write("target/release/app", "the program that is mounted");
    let print = |arguments: &[&str]| {
        let ran = case.clnrm(arguments);
        assert_eq!((ran.exit, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        ran.stdout
    };
    let schema: Value = serde_json::from_str(&print(&["schema"])).unwrap();
    let mut files: Vec<(String, String)> = Vec::new();
    for block in print(&["gen"]).lines() {
        let text = print(&["gen", block]);
        assert!(text.contains('#'), "{block} has no comments");
        match block {
            "settings" => files.push(("clnrm.toml".to_owned(), text)),
            _ => files.push((format!("{block}.clnrm.toml.tera"), completed(&text))),
        }
    }
    for kind in print(&["template"]).lines() {
        files.push((format!("{kind}-file.clnrm.toml.tera"), print(&["template", kind])));
    }
    assert!(files.len() > 20, "{} files", files.len());
    files.iter().for_each(|(name, text)| case.write(name, text));
    let report = case.clnrm(&["dry-run", "--strict", "--format", "json"]).report();
    let told = report.json["diagnostics"].as_array().unwrap();
    assert!(told.is_empty() && report.exit == Some(0), "{told:#?}");
    for (name, text) in
        files.iter().filter(|(name, text)| name.ends_with("tera") && !text.contains("{{"))
    {
        let document: toml_edit::DocumentMut = text.parse().unwrap();
        let json: Value = toml_edit::de::from_document(document).unwrap();
        check_against(&schema, &schema, &json, name);
    }
}

/// Every key of a value is a property of the schema.
fn check_against(root: &Value, schema: &Value, value: &Value, place: &str) {
    let resolve = |schema: &Value| -> Value {
        match schema["$ref"].as_str().and_then(|it| it.strip_prefix("#/")) {
            Some(path) => path.split('/').fold(root.clone(), |at, part| at[part].clone()),
            None => schema.clone(),
        }
    };
    let schema = resolve(schema);
    let says_nothing =
        ["type", "properties", "anyOf", "oneOf"].iter().all(|key| schema[*key].is_null());
    if says_nothing {
        return;
    }
    let variants = |key: &str| schema[key].as_array().cloned().unwrap_or_default();
    let mut shapes: Vec<Value> =
        variants("anyOf").iter().chain(&variants("oneOf")).map(resolve).collect();
    // Variants of variants.
    for at in 0..shapes.len() {
        let inner = shapes[at]["anyOf"].as_array().cloned().unwrap_or_default();
        shapes.extend(inner.iter().map(resolve));
    }
    shapes.push(schema.clone());
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let place = format!("{place}.{key}");
                let found = shapes.iter().find_map(|shape| {
                    let own = shape["properties"].get(key);
                    own.or_else(|| shape.get("additionalProperties").filter(|it| !it.is_boolean()))
                });
                let free = shapes.iter().any(|shape| {
                    shape["type"] == "object"
                        && shape["additionalProperties"] != false
                        && shape["properties"].get(key).is_none()
                });
                match found {
                    Some(found) => check_against(root, found, value, &place),
                    None => {
                        assert!(free || schema == true, "{place} is not in the schema: {schema:#}")
                    }
                }
            }
        }
        Value::Array(items) => {
            let inner = shapes.iter().find_map(|shape| shape.get("items"));
            for (at, item) in items.iter().enumerate() {
                if let Some(inner) = inner {
                    check_against(root, inner, item, &format!("{place}[{at}]"));
                }
            }
        }
        _ => {}
    }
}

/// The page on commands names each of them.
#[test]
fn every_command_is_described() {
    let case = Case::empty();
    let help = case.clnrm(&["--help"]).stdout;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> =
        commands.map_while(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(commands.len() > 8, "{commands:?}");
    let page = fs::read_to_string(workspace().join("docs/cli.md")).unwrap();
    for command in commands.into_iter().filter(|command| !command.is_empty() && *command != "help")
    {
        assert!(
            page.contains(&format!("clnrm {command}")),
            "docs/cli.md says nothing of {command}"
        );
    }
}
