//! Text without what only a terminal understands.

/// The text without escape sequences (colours, links, moves of the cursor) and other control characters.
pub(super) fn text(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        match char {
            '\u{1b}' => skip(&mut rest),
            '\t' => plain.push(char),
            char if char.is_control() => {}
            char => plain.push(char),
        }
    }
    plain
}

/// Skips the rest of a sequence: to its final letter, or to the bell or the end mark of a text for the
/// terminal.
fn skip(rest: &mut std::str::Chars<'_>) {
    match rest.next() {
        Some('[') => {
            rest.find(|char| ('@'..='~').contains(char));
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            let end = |char: &char| matches!(char, '\u{7}' | '\u{9c}' | '\u{1b}');
            // The end mark is an escape and one more.
            if rest.find(end) == Some('\u{1b}') {
                rest.next();
            }
        }
        // A choice of characters: one more follows.
        Some('(' | ')' | '#' | '%' | ' ') => {
            rest.next();
        }
        Some(_) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_a_terminal_alone_is_left_out() {
        for (shown, plain) in [
            ("\u{1b}[1;31merror\u{1b}[0m: no\tway", "error: no\tway"),
            (
                "\u{1b}]8;;http://x\u{7}link\u{1b}]8;;\u{1b}\\ here",
                "link here",
            ),
            ("\u{1b}(B\u{1b}=on\u{8}e\r", "one"),
            ("\u{1b}[2", ""),
            ("é [31m]", "é [31m]"),
        ] {
            assert_eq!(text(shown), plain);
        }
    }
}
