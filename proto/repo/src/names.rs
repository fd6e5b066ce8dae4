//! Names that must never be written or followed, whatever a tree says.

/// How many paths a sentence names.
const LISTED_MAX: usize = 10;

/// Why a path is refused, or `None` when it may be used below a work tree.
pub(crate) fn refusal(path: &[u8]) -> Option<&'static str> {
    if path.is_empty() || path.starts_with(b"/") || path.contains(&0) {
        return Some("is not a relative path");
    }
    path.split(|b| *b == b'/').find_map(component_refusal)
}

fn component_refusal(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" | b"." | b".." => Some("does not stay below the directory"),
        _ if is_git_like(name) => Some("could be taken for a .git directory"),
        _ => None,
    }
}

/// Whether some file system takes `name` for `.git`: other case, trailing dots and spaces,
/// the 8.3 short name, an alternate data stream, or characters that HFS+ ignores.
pub(crate) fn is_git_like(name: &[u8]) -> bool {
    let visible: String = String::from_utf8_lossy(name)
        .chars()
        .filter(|c| !is_ignored_by_hfs(*c))
        .collect();
    let before_stream = visible.split(':').next().unwrap_or_default();
    let trimmed = before_stream
        .trim_end_matches(['.', ' '])
        .to_ascii_lowercase();
    trimmed == ".git" || trimmed == "git~1"
}

/// Whether git, when it fetches, looks into what has this name and may refuse everything because of
/// it: `.gitmodules` and `.gitattributes`, in whatever way a file system could write them.
pub(crate) fn is_checked_by_git(path: &[u8]) -> bool {
    path.split(|b| *b == b'/').any(|name| {
        let visible: String = String::from_utf8_lossy(name)
            .chars()
            .filter(|c| !is_ignored_by_hfs(*c))
            .collect();
        let name = visible.to_ascii_lowercase();
        let starts = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
        starts(&[".gitmodules", ".gitattributes"])
            || name.contains('~') && starts(&["gitmod", "gitatt", "gi7eba", "gi7d29"])
    })
}

fn is_ignored_by_hfs(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

/// Whether a symbolic link at `path` that says `target` stays below the work tree.
pub(crate) fn link_stays_inside(path: &[u8], target: &[u8]) -> bool {
    if target.starts_with(b"/") || target.is_empty() {
        return false;
    }
    let mut depth = path.iter().filter(|b| **b == b'/').count();
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 => return false,
            b".." => depth -= 1,
            name if is_git_like(name) => return false,
            _ => depth += 1,
        }
    }
    true
}

/// A path for people.
pub(crate) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// A path as git quotes it where that is what tells it from others: it is not UTF-8.
pub(crate) fn quoted(path: &[u8]) -> Option<String> {
    if std::str::from_utf8(path).is_ok() {
        return None;
    }
    let mut quoted = String::from("\"");
    for byte in path {
        match byte {
            b'"' => quoted.push_str("\\\""),
            b'\\' => quoted.push_str("\\\\"),
            0x07 => quoted.push_str("\\a"),
            0x08 => quoted.push_str("\\b"),
            b'\t' => quoted.push_str("\\t"),
            b'\n' => quoted.push_str("\\n"),
            0x0b => quoted.push_str("\\v"),
            0x0c => quoted.push_str("\\f"),
            b'\r' => quoted.push_str("\\r"),
            b' '..=b'~' => quoted.push(char::from(*byte)),
            _ => quoted.push_str(&format!("\\{byte:03o}")),
        }
    }
    quoted.push('"');
    Some(quoted)
}

/// The name with its line breaks and tabs shown, which would break the sentence that it is in.
fn one_line(path: &str) -> String {
    let shown = path.replace('\n', "\\n").replace('\r', "\\r");
    shown.replace('\t', "\\t")
}

/// Paths for a sentence; of many, the first ones.
#[must_use]
pub fn listed(paths: &[String]) -> String {
    let named = paths
        .iter()
        .take(LISTED_MAX)
        .map(|path| format!("`{}`", one_line(path)));
    let mut text = named.collect::<Vec<_>>().join(", ");
    if paths.len() > LISTED_MAX {
        text.push_str(&format!(" and {} more", paths.len() - LISTED_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_of_names_is_one_line() {
        let names = ["a\tb\n".to_owned(), "ü x".to_owned()];
        assert_eq!(listed(&names), r"`a\tb\n`, `ü x`");
    }

    #[test]
    fn every_disguise_of_dot_git_is_refused() {
        let names: [&[u8]; 9] = [
            b".git/config",
            b"a/.GIT/x",
            b".git.",
            b".git ",
            b".git . .",
            b"git~1",
            b"GIT~1/x",
            b".git::$INDEX_ALLOCATION",
            ".g\u{200c}it".as_bytes(),
        ];
        for name in names {
            assert!(refusal(name).is_some(), "{}", shown(name));
        }
    }

    #[test]
    fn paths_that_leave_the_directory_are_refused() {
        for name in ["/etc/passwd", "../x", "a/../../x", "a//b", "", "a/."] {
            assert!(refusal(name.as_bytes()).is_some(), "{name}");
        }
        for name in [
            ".gitignore",
            "a/.github/x",
            " ",
            "-rf",
            "git~2",
            "a\nb",
            ".gitmodules",
        ] {
            assert_eq!(refusal(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn links_may_climb_only_as_deep_as_they_are() {
        assert!(link_stays_inside(b"a/b/link", b"../../c"));
        assert!(!link_stays_inside(b"a/b/link", b"../../../c"));
        assert!(!link_stays_inside(b"link", b"/etc/passwd"));
        assert!(!link_stays_inside(b"link", b".git/config"));
        assert!(link_stays_inside(b"link", b"dir/../file"));
    }
}
