//! Makes text from agents, repositories and other machines safe to show on a terminal.

use std::borrow::Cow;

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{
        DefaultIgnorableCodePoint, Emoji, EmojiModifier, ExtendedPictographic, GeneralCategory,
    },
};

/// Makes one picture of the two beside it, as families and professions are written.
const JOINER: char = '\u{200d}';
/// Whether the sign before it is shown as text or as a picture.
const PICTURE_OR_TEXT: [char; 2] = ['\u{fe0e}', '\u{fe0f}'];

/// What becomes of line breaks and tabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaks {
    /// They stay: the text is a block.
    Keep,
    /// Each run of white space becomes one space: the text is a cell or a title.
    Fold,
    /// They are shown, as `\n` and `\t`: the text is or has the name of a file.
    Show,
}

/// `text` without anything that could move the cursor, change a colour, hide or reorder what
/// stands there. Such characters are shown by their number, as `\x1b` or `\u{202e}`. What was
/// escaped stays as it is.
pub fn escape(text: &str, breaks: Breaks) -> Cow<'_, str> {
    let clean = match breaks {
        Breaks::Keep => judged(text).all(|(c, dangerous)| c == '\n' || !dangerous),
        Breaks::Fold => {
            let mut all = judged(text);
            text.trim() == text && !all.any(|(_, dangerous)| dangerous) && !text.contains("  ")
        }
        Breaks::Show => !judged(text).any(|(_, dangerous)| dangerous),
    };
    if clean {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = judged(text).peekable();
    while let Some((c, dangerous)) = chars.next() {
        match (c, breaks) {
            // A carriage return before a line break is only another way to end a line.
            ('\r', Breaks::Keep) if chars.peek().is_some_and(|(next, _)| *next == '\n') => {}
            ('\n', Breaks::Keep) => out.push('\n'),
            ('\t', Breaks::Keep) => out.push_str("    "),
            (' ' | '\t' | '\n' | '\r', Breaks::Fold) => {
                if !out.ends_with(' ') && !out.is_empty() {
                    out.push(' ');
                }
            }
            ('\n' | '\t' | '\r', Breaks::Show) => out.extend(c.escape_default()),
            _ if dangerous => push_number(&mut out, c),
            _ => out.push(c),
        }
    }
    if breaks == Breaks::Fold {
        out.truncate(out.trim_end_matches(' ').len());
    }
    Cow::Owned(out)
}

/// One line: for cells, titles and messages.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, Breaks::Fold)
}

/// One line in which no space is lost, for what names files.
pub fn naming(text: &str) -> Cow<'_, str> {
    escape(text, Breaks::Show)
}

/// The name of a file, as git quotes it where it has what cannot be shown: `"a\tb"`.
pub fn path(name: &str) -> Cow<'_, str> {
    let shown = naming(name);
    if matches!(shown, Cow::Borrowed(_)) && !name.contains(['"', '\\']) {
        return shown;
    }
    let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
    Cow::Owned(format!("\"{}\"", naming(&quoted)))
}

/// A block that keeps its line breaks.
pub fn block(text: &str) -> Cow<'_, str> {
    escape(text, Breaks::Keep)
}

fn push_number(out: &mut String, c: char) {
    let number = u32::from(c);
    let shown = if number < 0x100 {
        format!("\\x{number:02x}")
    } else {
        format!("\\u{{{number:x}}}")
    };
    out.push_str(&shown);
}

/// Each character, and whether it is dangerous where it stands.
fn judged(text: &str) -> impl Iterator<Item = (char, bool)> {
    let mut before = None;
    let mut chars = text.chars().peekable();
    std::iter::from_fn(move || {
        let c = chars.next()?;
        let dangerous = is_dangerous(c) && !is_of_picture(before, c, chars.peek().copied());
        before = Some(c);
        Some((c, dangerous))
    })
}

/// Steers, separates lines, is a format character, or is not seen at all.
fn is_dangerous(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    matches!(
        category,
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    ) || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether it makes a picture of the signs beside it, and hides nothing.
fn is_of_picture(before: Option<char>, c: char, after: Option<char>) -> bool {
    let Some(before) = before else {
        return false;
    };
    let is_picture = |c| CodePointSetData::new::<ExtendedPictographic>().contains(c);
    match c {
        JOINER => {
            let ends = is_picture(before)
                || CodePointSetData::new::<EmojiModifier>().contains(before)
                || PICTURE_OR_TEXT.contains(&before);
            ends && after.is_some_and(is_picture)
        }
        c if PICTURE_OR_TEXT.contains(&c) => CodePointSetData::new::<Emoji>().contains(before),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_survives() {
        let hostile = "a\x1b]0;title\x07b\x1b[2Jc\x08\u{9b}31m\u{202e}txt.exe\u{e0041}\u{200b}\r!";
        for breaks in [Breaks::Keep, Breaks::Fold, Breaks::Show] {
            let shown = escape(hostile, breaks);
            assert!(!shown.chars().any(is_dangerous), "{shown:?}");
            assert_eq!(escape(&shown, breaks), shown, "once is enough");
            assert!(
                shown.starts_with("a\\x1b]0;title\\x07b\\x1b[2Jc\\x08\\x9b31m\\u{202e}txt.exe")
            );
        }
    }

    #[test]
    fn a_block_keeps_its_lines_and_a_line_is_one() {
        assert_eq!(block("a\r\nb\tc\n"), "a\nb    c\n");
        assert_eq!(line("  a\r\nb\t\tc \n"), "a b c");
    }

    #[test]
    fn what_is_not_seen_or_reorders_is_shown_by_its_number() {
        for c in [
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{180e}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{2028}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{206f}',
            '\u{3164}',
            '\u{fe00}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{fff9}',
            '\u{1d173}',
            '\u{e0041}',
            '\u{e0100}',
        ] {
            let number = u32::from(c);
            let numbered = if number < 0x100 {
                format!("a\\x{number:x}b")
            } else {
                format!("a\\u{{{number:x}}}b")
            };
            for breaks in [Breaks::Keep, Breaks::Fold, Breaks::Show] {
                assert_eq!(escape(&format!("a{c}b"), breaks), numbered);
            }
        }
        assert_eq!(line("👩\u{200d}x"), "👩\\u{200d}x", "joins no picture");
    }

    #[test]
    fn the_name_of_a_file_is_quoted_as_git_does_it() {
        for (name, shown) in [
            ("a b/ü  c", "a b/ü  c"),
            ("a\tb\n", r#""a\tb\n""#),
            (r#"say "x""#, r#""say \"x\"""#),
            (r"a\tb", r#""a\\tb""#),
            ("a\u{202e}b", r#""a\u{202e}b""#),
        ] {
            assert_eq!(path(name), shown);
        }
    }

    #[test]
    fn ordinary_text_of_any_script_passes_untouched() {
        for text in ["plain", "Grüße, 世界 👩‍👩‍👧 👩🏽‍🚀 🏳️‍🌈 1️⃣ ✔︎ שלום", ""]
        {
            assert!(matches!(line(text), Cow::Borrowed(t) if t == text));
        }
    }
}
