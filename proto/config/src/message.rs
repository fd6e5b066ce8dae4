//! The YAML reader's errors in words for the person who wrote the file.

use serde_saphyr::Error;

/// What is wrong, without the place.
pub(crate) fn of(error: &Error) -> String {
    match error.without_snippet() {
        Error::SerdeUnknownField {
            field, expected, ..
        } => unknown("key", field, expected),
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => unknown("value", variant, expected),
        Error::DuplicateMappingKey { key, .. } => match key {
            Some(key) => format!("key `{key}` stands here for the second time"),
            None => "a key stands here for the second time".to_owned(),
        },
        Error::MultipleDocuments { .. } => {
            "a second document begins here; the file holds one configuration".to_owned()
        }
        Error::NullIntoString { .. } => "the value is missing".to_owned(),
        Error::Unexpected { expected, .. } => match *expected {
            "mapping start" => "`key: value` lines are expected here".to_owned(),
            "sequence start" => "a list is expected here, as `[a, b]`".to_owned(),
            "string scalar" => {
                "a text is expected here (or a number, `true` or `false`), no list and no mapping"
                    .to_owned()
            }
            other => format!("{other} is expected here"),
        },
        Error::InvalidScalar { ty, .. } => wrong_type(ty),
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            format!("{expected} is expected here")
        }
        Error::AliasError { error, .. } => of(error),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            "this is nested or repeated far beyond what a configuration needs".to_owned()
        }
        other => without_place(other),
    }
}

/// The key of `keys` whose value stands at a place in YAML or JSON: the last one that begins before it.
#[must_use]
pub fn key_at<'k>(text: &str, line: u64, column: u64, keys: &[&'k str]) -> Option<&'k str> {
    let line = usize::try_from(line).unwrap_or(usize::MAX);
    let column = usize::try_from(column).unwrap_or(usize::MAX);
    let lines: Vec<&str> = text.lines().take(line).collect();
    let mut limit = if lines.len() == line {
        column
    } else {
        usize::MAX
    };
    for line in lines.iter().rev() {
        let begins = |at: usize| line[..at].chars().count() < limit;
        let last = keys.iter().filter_map(|key| {
            let places = line.match_indices(key).map(|(at, _)| at);
            let at = places
                .filter(|at| begins(*at) && is_key(line, *at, key.len()))
                .last()?;
            Some((at, *key))
        });
        if let Some((_, key)) = last.max() {
            return Some(key);
        }
        limit = usize::MAX;
    }
    None
}

/// Whether the word at a place of a line stands alone and in front of a colon.
fn is_key(line: &str, at: usize, length: usize) -> bool {
    let before = line[..at].chars().next_back();
    let is_first = before.is_none_or(|c| c.is_whitespace() || "{,[-\"'".contains(c));
    let after = line[at + length..]
        .trim_start_matches(['"', '\''])
        .trim_start();
    is_first && after.starts_with(':')
}

/// `unknown key `worke`, did you mean `worker`?`, or the list of what there is.
pub(crate) fn unknown(what: &str, found: &str, expected: &[&str]) -> String {
    let shown: String = found.chars().take(64).collect();
    match nearest(found, expected) {
        Some(near) => format!("unknown {what} `{shown}`, did you mean `{near}`?"),
        None => format!(
            "unknown {what} `{shown}`; there are: {}",
            expected.join(", ")
        ),
    }
}

/// The name that was probably meant.
fn nearest<'a>(found: &str, expected: &[&'a str]) -> Option<&'a str> {
    // The distance takes time by the product of both lengths.
    if found.len() > 128 {
        return None;
    }
    let found = found.to_lowercase().replace('-', "_");
    let near = |name: &&'a str| {
        let distance = strsim::damerau_levenshtein(&found, name);
        (distance <= 1 + name.len() / 4).then_some((distance, *name))
    };
    let best = expected.iter().filter_map(near).min();
    best.map(|(_, name)| name)
}

fn wrong_type(ty: &str) -> String {
    match ty {
        "u32" => "a whole number from 0 to 4294967295 is expected here".to_owned(),
        "u64" => "a whole number from 0 is expected here".to_owned(),
        "boolean" | "bool" => "`true` or `false` is expected here".to_owned(),
        other => format!("{other} is expected here"),
    }
}

/// The reader ends its texts with the place, which we print in front.
fn without_place(error: &Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    if text.contains("tabs") {
        "a tab stands here; YAML indents with spaces".to_owned()
    } else if text.contains("non-finite") {
        "a number is expected here".to_owned()
    } else {
        text.to_owned()
    }
}
