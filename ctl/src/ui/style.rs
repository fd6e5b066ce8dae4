//! Colours, which only ever repeat what words already say.

use super::escape::block;

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// As the terminal has it.
    #[default]
    Plain,
    /// Titles.
    Bold,
    /// What matters less: thinking, times, paths.
    Dim,
    /// Success, added lines.
    Good,
    /// Failure, removed lines.
    Bad,
    /// What a person should look at.
    Attention,
    /// What is going on; names of runners and tools.
    Active,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Attention => "33",
            Self::Active => "36",
        }
    }

    /// `text` in this style where `colour` allows it. All that people read passes here, so that what
    /// nobody escaped before steers no terminal either.
    pub fn paint(self, text: &str, colour: bool) -> String {
        let text = block(text);
        if !colour || self == Self::Plain || text.is_empty() {
            return text.into_owned();
        }
        format!("\x1b[{}m{text}\x1b[0m", self.code())
    }
}

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// What stands there, already escaped.
    pub text: String,
    /// How it looks.
    pub style: Style,
}

/// A line of pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(pub Vec<Span>);

impl Line {
    /// The line with one more piece.
    #[must_use]
    pub fn with(mut self, style: Style, text: impl Into<String>) -> Self {
        let text = text.into();
        if !text.is_empty() {
            self.0.push(Span { text, style });
        }
        self
    }

    /// A line of one piece.
    pub fn of(style: Style, text: impl Into<String>) -> Self {
        Self::default().with(style, text)
    }

    /// The same without space at its end, unless that has a style.
    #[must_use]
    pub fn trimmed(mut self) -> Self {
        while let Some(last) = self.0.last_mut().filter(|span| span.style == Style::Plain) {
            last.text.truncate(last.text.trim_end().len());
            if !last.text.is_empty() {
                break;
            }
            self.0.pop();
        }
        self
    }

    /// The text for a terminal, or plain.
    pub fn render(&self, colour: bool) -> String {
        self.0
            .iter()
            .map(|span| span.style.paint(&span.text, colour))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_escaped_steers_no_terminal() {
        for colour in [false, true] {
            let line = Line::of(Style::Bad, "a\x1b[2J").with(Style::Plain, "\u{202e}b\u{200c}");
            let shown = line.render(colour);
            assert!(shown.contains("a\\x1b[2J"), "{shown:?}");
            assert!(shown.ends_with("\\u{202e}b\\u{200c}"), "{shown:?}");
        }
    }

    #[test]
    fn without_colour_there_is_no_escape_code() {
        let line = Line::of(Style::Good, "done").with(Style::Dim, " 3s");
        assert_eq!(line.render(false), "done 3s");
        assert_eq!(line.render(true), "\x1b[32mdone\x1b[0m\x1b[2m 3s\x1b[0m");
    }
}
