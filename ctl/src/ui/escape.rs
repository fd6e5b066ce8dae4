//! Makes text from agents, repositories and other machines safe to show on a terminal.

use std::borrow::Cow;

/// What becomes of line breaks and tabs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaks {
    /// They stay: the text is a block.
    Keep,
    /// Each run of white space becomes one space: the text is a cell or a title.
    Fold,
}

/// `text` without anything that could move the cursor, change a colour, hide or reorder what
/// stands there. Such characters are shown by their number, as `\x1b` or `\u{202e}`.
pub fn escape(text: &str, breaks: Breaks) -> Cow<'_, str> {
    let clean = match breaks {
        Breaks::Keep => text.chars().all(|c| c == '\n' || !is_dangerous(c)),
        Breaks::Fold => {
            text.trim() == text && !text.chars().any(is_dangerous) && !text.contains("  ")
        }
    };
    if clean {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, breaks) {
            // A carriage return before a line break is only another way to end a line.
            ('\r', Breaks::Keep) if chars.peek() == Some(&'\n') => {}
            ('\n', Breaks::Keep) => out.push('\n'),
            ('\t', Breaks::Keep) => out.push_str("    "),
            (' ' | '\t' | '\n' | '\r', Breaks::Fold) => {
                if !out.ends_with(' ') && !out.is_empty() {
                    out.push(' ');
                }
            }
            _ if is_dangerous(c) => push_number(&mut out, c),
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

fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200e}' | '\u{200f}'      // direction marks
            | '\u{202a}'..='\u{202e}'                  // direction embeddings and overrides
            | '\u{2066}'..='\u{2069}'                  // direction isolates
            | '\u{2028}' | '\u{2029}'                  // line and paragraph separators
            | '\u{200b}' | '\u{2060}' | '\u{feff}'     // invisible, zero width
            | '\u{fff9}'..='\u{fffb}'                  // annotations
            | '\u{e0000}'..='\u{e007f}') // tags: invisible text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_survives() {
        let hostile = "a\x1b]0;title\x07b\x1b[2Jc\x08\u{9b}31m\u{202e}txt.exe\u{e0041}\u{200b}\r!";
        for breaks in [Breaks::Keep, Breaks::Fold] {
            let shown = escape(hostile, breaks);
            assert!(!shown.chars().any(is_dangerous), "{shown:?}");
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
    fn ordinary_text_of_any_script_passes_untouched() {
        for text in ["plain", "Grüße, 世界 👩‍👩‍👧 שלום", ""] {
            assert!(matches!(line(text), Cow::Borrowed(t) if t == text));
        }
    }
}
