//! Columns of a terminal: how wide a text is, and how to make it fit.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How many columns `text` takes.
pub fn columns(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// `text` in at most `max` columns, with `…` where it was cut.
pub fn fit(text: &str, max: usize) -> String {
    if columns(text) <= max {
        return text.to_owned();
    }
    let mut out = head(text, max.saturating_sub(1));
    out.truncate(out.trim_end().len());
    if max > 0 {
        out.push('…');
    }
    out
}

/// As much of the beginning of `text` as fits into `max` columns.
pub fn head(text: &str, max: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= max
    };
    text.chars().take_while(fits).collect()
}

/// `text` filled with spaces to `width` columns.
pub fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

/// Breaks one line at spaces so that each part fits into `max` columns; a word that is longer
/// than that is broken inside.
pub fn wrap(text: &str, max: usize) -> Vec<String> {
    let max = max.max(1);
    let mut rest = text;
    let mut lines = Vec::new();
    while columns(rest) > max && rest.chars().count() > 1 {
        let (line, after) = break_at(rest, max);
        lines.push(line.to_owned());
        rest = after;
    }
    lines.push(rest.to_owned());
    lines
}

/// The first line of `text` that fits, and what comes after it.
pub fn break_at(text: &str, max: usize) -> (&str, &str) {
    let longest = head(text, max).len();
    // A character that is wider than the whole line still has to go somewhere.
    let longest = longest.max(text.chars().next().map_or(0, char::len_utf8));
    let fits_whole_words = text[longest..].starts_with(' ');
    let cut = if fits_whole_words {
        Some(longest)
    } else {
        text[..longest].rfind(' ')
    };
    match cut {
        Some(at) if !text[..at].trim().is_empty() => (&text[..at], text[at..].trim_start()),
        Some(_) | None => text.split_at(longest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_fits_and_shows_that_it_was_cut() {
        assert_eq!(fit("a long description", 8), "a long…");
        assert_eq!(fit("short", 8), "short");
        assert_eq!(fit("世界世界", 5), "世界…");
        assert_eq!(fit("anything", 0), "");
    }

    #[test]
    fn wrapping_breaks_at_spaces_and_loses_no_word() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("世界", 1), ["世", "界"]);
    }
}
