//! Words of a command line that a person is told to type.

use std::borrow::Cow;

/// `text` as one word for a shell.
#[must_use]
pub fn word(text: &str) -> Cow<'_, str> {
    let safe = |c: char| c.is_alphanumeric() || "/._-+:,@%=".contains(c);
    if !text.is_empty() && text.chars().all(safe) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::word;

    #[test]
    fn whatever_it_holds_it_is_one_word() {
        assert_eq!(word("web-2.0"), "web-2.0");
        assert_eq!(word("my proj"), "'my proj'");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(word("$(x)"), "'$(x)'");
        assert_eq!(word(""), "''");
    }
}
