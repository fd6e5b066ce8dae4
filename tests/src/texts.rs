//! What the sources say to people.

use std::{fs, path::Path};

use crate::binaries::workspace;

/// A text that goes on in the next line without a backslash before it becomes one with the indentation in
/// it once it is formatted.
#[test]
fn no_message_has_the_indentation_of_its_source_in_it() {
    let mut bad = Vec::new();
    for member in ["ctl", "head", "proto", "worker", "tests"] {
        look(&workspace().join(member), &mut bad);
    }
    assert!(bad.is_empty(), "blanks within a text:\n{}", bad.join("\n"));
    assert!(is_bad(
        r#"    "have the head say one that                  other machines know","#
    ));
}

fn look(dir: &Path, bad: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            look(&path, bad);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().enumerate().filter(|(_, line)| is_bad(line));
            bad.extend(lines.map(|(at, _)| format!("{}:{}", path.display(), at + 1)));
        }
    }
}

/// Whether a line is a sentence, as a whole, with a gap that nobody would write. Columns are shorter.
fn is_bad(line: &str) -> bool {
    const SENTENCE: usize = 60;
    const GAP: &str = "          ";
    let line = line.trim().trim_end_matches([',', ')', ';']);
    let text = line.strip_prefix('"').and_then(|l| l.strip_suffix('"'));
    text.is_some_and(|text| {
        text.len() >= SENTENCE && !text.contains(r"\n") && text.trim().contains(GAP)
    })
}
