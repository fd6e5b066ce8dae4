//! Aligned tables without rules: header, rows. When the terminal is narrow, flexible columns give
//! way, then those go that matter least, and at last all become narrower, the first one last: it has
//! the names. A line that the terminal wraps is no table.

use super::{
    style::{Line, Style},
    width::{columns, fit, wrap},
};

/// Space between columns.
const GAP: usize = 2;
/// The narrowest that the flexible column becomes before other columns go.
const FLEXIBLE_MIN: usize = 16;
/// The narrowest that columns become before the first one, which has the names, does.
const OTHERS_MIN: usize = 6;
/// The same where the names are short, as ids are: half of one cannot be typed.
const OTHERS_MIN_BESIDE_IDS: usize = 3;
/// Words up to this length, such as a moment, stay whole while another column can give way.
const WORD_MAX: usize = 24;

/// One cell: its text, already escaped, and its style.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell.
    pub fn new(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Style::Plain)
    }
}

/// How a column is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Left,
    Right,
    Flexible,
}

/// What becomes of a cell that is wider than its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wide {
    /// It is cut.
    Cut,
    /// It goes on in the next line.
    Wrapped,
}

/// A table.
pub struct Table {
    titles: Vec<(&'static str, Kind)>,
    /// Titles of columns that may go, the first one first.
    spare: &'static [&'static str],
    wide: Wide,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these column titles. `>TITLE` is aligned right, `TITLE…` gives way.
    pub fn new(titles: &[&'static str]) -> Self {
        let titles =
            titles.iter().map(
                |title| match (title.strip_prefix('>'), title.strip_suffix('…')) {
                    (Some(title), _) => (title, Kind::Right),
                    (None, Some(title)) => (title, Kind::Flexible),
                    (None, None) => (*title, Kind::Left),
                },
            );
        Self {
            titles: titles.collect(),
            spare: &[],
            wide: Wide::Cut,
            rows: Vec::new(),
        }
    }

    /// The same table, that leaves out these columns on a narrow terminal, the first one first.
    #[must_use]
    pub fn sparing(mut self, spare: &'static [&'static str]) -> Self {
        debug_assert!(
            spare
                .iter()
                .all(|s| self.titles.iter().any(|(t, _)| t == s))
        );
        self.spare = spare;
        self
    }

    /// The same table, in which no cell is cut: one that is too wide goes on in the next line.
    #[must_use]
    pub fn wrapping(mut self) -> Self {
        self.wide = Wide::Wrapped;
        self
    }

    /// Adds a row; it has as many cells as there are titles.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.titles.len());
        self.rows.push(cells);
    }

    /// The text of the table. `width` is the terminal's; none means as wide as it wants.
    pub fn render(&self, width: Option<usize>, colour: bool) -> String {
        let lines = self.lines(width).into_iter();
        lines.map(|line| line.render(colour) + "\n").collect()
    }

    /// The lines of the table, as for [`render`](Self::render).
    pub fn lines(&self, width: Option<usize>) -> Vec<Line> {
        let widths = self.widths(width);
        let title = |(title, _): &(&'static str, Kind)| Cell::new(*title, Style::Dim);
        let titles: Vec<Cell> = self.titles.iter().map(title).collect();
        let rows = std::iter::once(&titles).chain(&self.rows);
        rows.flat_map(|row| self.row_lines(row, &widths)).collect()
    }

    /// The width of each column; none for those that are left out.
    fn widths(&self, limit: Option<usize>) -> Vec<Option<usize>> {
        let full = self.wanted();
        let wanted: Vec<Option<usize>> = full.iter().copied().map(Some).collect();
        let Some(limit) = limit else {
            return wanted;
        };
        let words = self.words();
        let mut widths = Vec::new();
        for left_out in 0..=self.spare.len() {
            let gone = &self.spare[..left_out];
            widths = wanted.clone();
            for ((title, _), width) in self.titles.iter().zip(&mut widths) {
                width.take_if(|_| gone.contains(title));
            }
            self.give_way(&mut widths, &words, limit);
            if total(&widths) <= limit {
                return widths;
            }
        }
        // The names stay whole as long as there is another way.
        let others = |at: usize, least: usize| if at == 0 { full[0] } else { least };
        narrow(
            &mut widths,
            |at| others(at, OTHERS_MIN.max(words[at])),
            limit,
        );
        narrow(&mut widths, |at| others(at, OTHERS_MIN), limit);
        if full[0] * 2 <= limit {
            narrow(&mut widths, |at| others(at, OTHERS_MIN_BESIDE_IDS), limit);
        }
        narrow(&mut widths, |_| OTHERS_MIN, limit);
        narrow(&mut widths, |_| 1, limit);
        widths
    }

    /// The width that each column needs to show all that it has.
    fn wanted(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .titles
            .iter()
            .map(|(title, _)| columns(title))
            .collect();
        for row in &self.rows {
            for (cell, width) in row.iter().zip(&mut widths) {
                *width = columns(&cell.text).max(*width);
            }
        }
        widths
    }

    /// The longest word of each column, where words are broken at all.
    fn words(&self) -> Vec<usize> {
        let mut words = vec![0; self.titles.len()];
        if self.wide == Wide::Cut {
            return words;
        }
        for row in &self.rows {
            for (cell, longest) in row.iter().zip(&mut words) {
                let word = cell.text.split(' ').map(columns).max().unwrap_or_default();
                *longest = word.min(WORD_MAX).max(*longest);
            }
        }
        words
    }

    /// Flexible columns become narrower, the last one first.
    fn give_way(&self, widths: &mut [Option<usize>], words: &[usize], limit: usize) {
        let mut over = total(widths).saturating_sub(limit);
        let columns = self.titles.iter().zip(widths).zip(words);
        for (((_, kind), width), word) in columns.rev() {
            let Some(width) = width else {
                continue;
            };
            if *kind == Kind::Flexible {
                let less = over.min(width.saturating_sub(FLEXIBLE_MIN.max(*word)));
                *width -= less;
                over -= less;
            }
        }
    }

    /// The line of a row, or the lines where cells go on.
    fn row_lines(&self, cells: &[Cell], widths: &[Option<usize>]) -> Vec<Line> {
        let texts: Vec<Vec<String>> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| match (*width, self.wide) {
                (None, _) => Vec::new(),
                (Some(width), Wide::Cut) => vec![fit(&cell.text, width)],
                (Some(width), Wide::Wrapped) => wrap(&cell.text, width),
            })
            .collect();
        let height = texts.iter().map(Vec::len).max().unwrap_or_default();
        (0..height)
            .map(|nth| {
                let cells = cells.iter().zip(&texts).map(|(cell, texts)| {
                    let text = texts.get(nth).cloned().unwrap_or_default();
                    Cell::new(text, cell.style)
                });
                self.one_line(&cells.collect::<Vec<_>>(), widths)
            })
            .collect()
    }

    fn one_line(&self, cells: &[Cell], widths: &[Option<usize>]) -> Line {
        let mut line = Line::default();
        let last = widths.iter().rposition(Option::is_some).unwrap_or_default();
        for (at, ((cell, (_, kind)), width)) in
            cells.iter().zip(&self.titles).zip(widths).enumerate()
        {
            let Some(width) = *width else {
                continue;
            };
            let space = " ".repeat(width.saturating_sub(columns(&cell.text)));
            let (before, after) = match kind {
                Kind::Right => (space, String::new()),
                Kind::Left | Kind::Flexible => (String::new(), space),
            };
            line = line
                .with(Style::Plain, before)
                .with(cell.style, cell.text.as_str())
                .with(Style::Plain, after);
            if at < last {
                line = line.with(Style::Plain, " ".repeat(GAP));
            }
        }
        line.trimmed()
    }
}

/// How wide lines of such columns are.
fn total(widths: &[Option<usize>]) -> usize {
    let columns = widths.iter().flatten().count();
    widths.iter().flatten().sum::<usize>() + GAP * columns.saturating_sub(1)
}

/// Takes from the widest column that is above its least width, until lines fit or none is.
fn narrow(widths: &mut [Option<usize>], least: impl Fn(usize) -> usize, limit: usize) {
    while total(widths) > limit {
        let above = widths.iter_mut().enumerate();
        let above = above.filter_map(|(at, width)| Some((at, width.as_mut()?)));
        let widest = above
            .filter(|(at, width)| **width > least(*at))
            .max_by_key(|(_, width)| **width);
        match widest {
            Some((_, width)) => *width -= 1,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["ID", ">AGE", "DESCRIPTION…"]);
        table.row(vec![
            "task_001".into(),
            "2m".into(),
            "Create README.md with project description".into(),
        ]);
        table.row(vec![
            Cell::new("task_002", Style::Good),
            "11h".into(),
            "世界".into(),
        ]);
        table
    }

    #[test]
    fn columns_stand_under_each_other() {
        assert_eq!(
            table().render(None, false),
            "ID        AGE  DESCRIPTION\n\
             task_001   2m  Create README.md with project description\n\
             task_002  11h  世界\n"
        );
    }

    #[test]
    fn the_flexible_column_gives_way_on_a_narrow_terminal() {
        let narrow = table().render(Some(32), false);
        assert!(
            narrow.contains("task_001   2m  Create README.md…\n"),
            "{narrow}"
        );
        assert!(narrow.lines().all(|l| columns(l) <= 32), "{narrow}");
    }

    #[test]
    fn what_matters_least_goes_before_lines_are_too_long() {
        let table = table().sparing(&["AGE"]);
        assert_eq!(
            table.render(Some(26), false),
            "ID        DESCRIPTION\n\
             task_001  Create README.m…\n\
             task_002  世界\n"
        );
        assert_eq!(
            table.render(Some(20), false),
            "ID        DESCRIPTI…\n\
             task_001  Create RE…\n\
             task_002  世界\n"
        );
    }

    #[test]
    fn where_cells_wrap_no_word_is_lost_and_names_stay_whole() {
        let mut table = Table::new(&["ACCOUNT", ">IN USE", "STATE…", "WHY…"])
            .sparing(&["IN USE"])
            .wrapping();
        table.row(vec![
            Cell::new("anthropic-3f9a01c2", Style::Bold),
            "2".into(),
            "parked until noon (in 12m)".into(),
            "429".into(),
        ]);
        assert_eq!(
            table.render(Some(41), false),
            "ACCOUNT             STATE             WHY\n\
             anthropic-3f9a01c2  parked until      429\n                    noon (in 12m)\n"
        );
        for width in 36..60 {
            let shown = table.render(Some(width), false);
            assert!(shown.contains("anthropic-3f9a01c2"), "{width}: {shown}");
            let words = shown.split_whitespace().filter(|w| w.starts_with("(in"));
            assert_eq!(words.count(), 1, "{width}: {shown}");
        }
    }

    #[test]
    fn ids_stay_whole_on_the_narrowest_terminal() {
        let mut table = Table::new(&["ID", "STATUS", "DESCRIPTION…"]);
        table.row(
            ["task_001", "✓ succeeded", "Create README.md"]
                .map(Cell::from)
                .into(),
        );
        assert_eq!(
            table.render(Some(20), false),
            "ID        STA…  DES…\n\
             task_001  ✓ s…  Cre…\n"
        );
    }

    #[test]
    fn no_line_is_longer_than_the_terminal() {
        let wide = "a cell that is much too wide for it";
        let mut table = Table::new(&["NAME", ">SIZE", "WHY", "PATH…", "STATE"]);
        table.row([wide; 5].map(Cell::from).into());
        for width in 20..200 {
            let shown = table.render(Some(width), false);
            assert!(
                shown.lines().all(|l| columns(l) <= width),
                "{width}: {shown}"
            );
        }
        let table = table.wrapping();
        for width in 20..200 {
            let shown = table.render(Some(width), false);
            assert!(
                shown.lines().all(|l| columns(l) <= width),
                "{width}: {shown}"
            );
        }
    }

    #[test]
    fn colour_does_not_move_a_column() {
        let coloured = table().render(None, true);
        assert!(
            coloured.contains("\x1b[32mtask_002\x1b[0m  11h  世界\n"),
            "{coloured}"
        );
    }
}
