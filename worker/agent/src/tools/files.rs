//! `read`, `write` and `edit`.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{Done, number, object, output::Output, path::inside, text};
use crate::chat::ToolSpec;

/// Largest file that `read` and `edit` take.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Lines that `read` returns when the model names no limit.
const LINES: u64 = 2000;

/// `read` as it is offered.
pub fn read_spec() -> ToolSpec {
    ToolSpec {
        name: "read",
        description: "Read a text file. Long files are cut: use offset and limit, in lines.",
        schema: object(
            &[
                ("path", json!({ "type": "string" })),
                (
                    "offset",
                    json!({ "type": "integer", "description": "First line, counted from 1" }),
                ),
                (
                    "limit",
                    json!({ "type": "integer", "description": "Number of lines" }),
                ),
            ],
            &["path"],
        ),
    }
}

/// `write` as it is offered.
pub fn write_spec() -> ToolSpec {
    ToolSpec {
        name: "write",
        description: "Write a whole file. It replaces what was there, and makes directories.",
        schema: object(
            &[
                ("path", json!({ "type": "string" })),
                ("content", json!({ "type": "string" })),
            ],
            &["path", "content"],
        ),
    }
}

/// `edit` as it is offered.
pub fn edit_spec() -> ToolSpec {
    ToolSpec {
        name: "edit",
        description: "Replace `old` by `new` in a file. `old` must be exactly as in the file, and \
                      must stand there once, unless `all` is true.",
        schema: object(
            &[
                ("path", json!({ "type": "string" })),
                ("old", json!({ "type": "string" })),
                ("new", json!({ "type": "string" })),
                ("all", json!({ "type": "boolean" })),
            ],
            &["path", "old", "new"],
        ),
    }
}

/// Reads a file.
pub fn read(root: &Path, args: &Value) -> Done {
    let path = text(args, "path")?;
    let content = load(root, path)?;
    let first = number(args, "offset")?.unwrap_or(1).max(1);
    let most = number(args, "limit")?.unwrap_or(LINES);
    let mut output = Output::default();
    let mut total = 0;
    for line in content.split_inclusive('\n') {
        total += 1;
        if total >= first && total - first < most {
            output.push(line.as_bytes());
        }
    }
    let last = first.saturating_add(most).saturating_sub(1);
    let text = output.text();
    if total > last {
        return Ok(format!("{text}\n[lines {first} to {last} of {total}]"));
    }
    Ok(text)
}

/// Writes a file.
pub fn write(root: &Path, args: &Value) -> Done {
    let (path, content) = (text(args, "path")?, text(args, "content")?);
    let file = inside(root, path)?;
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)
            .map_err(|error| format!("failed to make the directory of `{path}`: {error}"))?;
    }
    fs::write(&file, content).map_err(|error| format!("failed to write `{path}`: {error}"))?;
    Ok(format!(
        "wrote {} bytes to `{}`",
        content.len(),
        shown(root, &file)
    ))
}

/// Replaces text in a file.
pub fn edit(root: &Path, args: &Value) -> Done {
    let path = text(args, "path")?;
    let (old, new) = (text(args, "old")?, text(args, "new")?);
    let all = args.get("all").and_then(Value::as_bool).unwrap_or(false);
    if old.is_empty() {
        return Err("`old` is empty; use write for a new file".to_owned());
    }
    let content = load(root, path)?;
    let count = content.matches(old).count();
    match count {
        0 => {
            return Err(format!(
                "`old` is not in `{path}`; read it and copy the text exactly"
            ));
        }
        1 => {}
        _ if all => {}
        _ => {
            return Err(format!(
                "`old` stands {count} times in `{path}`; add lines around it, or set `all`"
            ));
        }
    }
    let changed = content.replace(old, new);
    let file = inside(root, path)?;
    fs::write(&file, changed).map_err(|error| format!("failed to write `{path}`: {error}"))?;
    Ok(format!("replaced {count} in `{}`", shown(root, &file)))
}

/// The path as seen from the working directory.
fn shown(root: &Path, file: &Path) -> String {
    file.strip_prefix(root)
        .unwrap_or(file)
        .display()
        .to_string()
}

/// The text of a regular file of bearable size.
fn load(root: &Path, path: &str) -> Result<String, String> {
    let file = inside(root, path)?;
    let failed = |error| format!("failed to read `{path}`: {error}");
    let meta = fs::metadata(&file).map_err(failed)?;
    if !meta.is_file() {
        return Err(format!(
            "`{path}` is not a regular file; use bash to look at it"
        ));
    }
    if meta.len() > FILE_BYTES_MAX {
        let size = meta.len();
        return Err(format!(
            "`{path}` has {size} bytes, too many to read; use bash (head, sed, grep)"
        ));
    }
    let bytes = fs::read(&file).map_err(failed)?;
    String::from_utf8(bytes)
        .map_err(|_| format!("`{path}` is not UTF-8 text; use bash to look at it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_must_be_unambiguous() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path().canonicalize().expect("it exists");
        let file = json!({ "path": "d/a.txt", "content": "one\ntwo\none\n" });
        write(&root, &file).expect("written");
        let twice = json!({ "path": "d/a.txt", "old": "one", "new": "1" });
        assert!(
            edit(&root, &twice)
                .expect_err("ambiguous")
                .contains("2 times")
        );
        let missing = json!({ "path": "d/a.txt", "old": "three", "new": "3" });
        assert!(edit(&root, &missing).is_err());
        let once = json!({ "path": "d/a.txt", "old": "two\none", "new": "2\n1" });
        edit(&root, &once).expect("unambiguous");
        let text = read(&root, &json!({ "path": "d/a.txt" })).expect("readable");
        assert_eq!(text, "one\n2\n1\n");
    }

    #[test]
    fn a_part_of_a_file_says_which_part_it_is() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path().canonicalize().expect("it exists");
        fs::write(root.join("a"), "1\n2\n3\n4\n").expect("written");
        let part = read(&root, &json!({ "path": "a", "offset": 2, "limit": 2 })).expect("readable");
        assert_eq!(part, "2\n3\n\n[lines 2 to 3 of 4]");
        let rest = read(&root, &json!({ "path": "a", "offset": 3 })).expect("readable");
        assert_eq!(rest, "3\n4\n");
    }
}
