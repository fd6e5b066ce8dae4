//! The nearest valid word for a mistyped one.

/// The one of `known` that `typed` most likely meant.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    known
        .into_iter()
        .map(|word| (strsim::jaro_winkler(&typed, word), word))
        .filter(|(likeness, _)| *likeness > 0.78)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

/// "; did you mean `claude`?" or nothing: fits after an error message.
pub fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(typed, known)
        .map(|word| format!("; did you mean `{word}`?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood_and_nonsense_is_not() {
        let runners = orchestra_types::runner::KNOWN_RUNNERS;
        assert_eq!(nearest("cluade", runners), Some("claude"));
        assert_eq!(nearest("Codex", runners), Some("codex"));
        assert_eq!(nearest("zzz", runners), None);
    }
}
