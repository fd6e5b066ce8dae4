//! Aligned tables without rules: header, rows. When the terminal is narrow, one column gives way,
//! then those go that matter least, and at last all become narrower: a line that wraps is no table.

use super::{
    style::Style,
    width::{columns, fit, pad, pad_start},
};

/// Space between columns.
const GAP: usize = 2;
/// The narrowest that the flexible column becomes before other columns go.
const FLEXIBLE_MIN: usize = 16;

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

/// A table.
pub struct Table {
    titles: Vec<(&'static str, Kind)>,
    /// Titles of columns that may go, the first one first.
    spare: &'static [&'static str],
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

    /// Adds a row; it has as many cells as there are titles.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.titles.len());
        self.rows.push(cells);
    }

    /// The lines of the table. `width` is the terminal's; none means as wide as it wants.
    pub fn render(&self, width: Option<usize>, colour: bool) -> String {
        let widths = self.widths(width);
        let titles = self
            .titles
            .iter()
            .map(|(title, _)| Cell::new(*title, Style::Dim));
        let mut out = self.line(&titles.collect::<Vec<_>>(), &widths, colour);
        for row in &self.rows {
            out.push_str(&self.line(row, &widths, colour));
        }
        out
    }

    /// The width of each column; none for those that are left out.
    fn widths(&self, limit: Option<usize>) -> Vec<Option<usize>> {
        let wanted: Vec<Option<usize>> = self.wanted().into_iter().map(Some).collect();
        let Some(limit) = limit else {
            return wanted;
        };
        let mut widths = Vec::new();
        for left_out in 0..=self.spare.len() {
            let gone = &self.spare[..left_out];
            widths = wanted.clone();
            for ((title, _), width) in self.titles.iter().zip(&mut widths) {
                width.take_if(|_| gone.contains(title));
            }
            self.give_way(&mut widths, limit);
            if total(&widths) <= limit {
                return widths;
            }
        }
        narrow(&mut widths, limit);
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

    fn give_way(&self, widths: &mut [Option<usize>], limit: usize) {
        let over = total(widths).saturating_sub(limit);
        for ((_, kind), width) in self.titles.iter().zip(widths) {
            let Some(width) = width else {
                continue;
            };
            if *kind == Kind::Flexible {
                *width = width.saturating_sub(over).max(FLEXIBLE_MIN.min(*width));
            }
        }
    }

    fn line(&self, cells: &[Cell], widths: &[Option<usize>], colour: bool) -> String {
        let mut out = String::new();
        let last = widths.iter().rposition(Option::is_some).unwrap_or_default();
        for (at, ((cell, (_, kind)), width)) in
            cells.iter().zip(&self.titles).zip(widths).enumerate()
        {
            let Some(width) = *width else {
                continue;
            };
            let text = fit(&cell.text, width);
            let filled = match kind {
                Kind::Right => pad_start(&text, width),
                Kind::Left | Kind::Flexible if at == last => text.clone(),
                Kind::Left | Kind::Flexible => pad(&text, width),
            };
            out.push_str(&filled.replacen(&text, &cell.style.paint(&text, colour), 1));
            if at < last {
                out.push_str(&" ".repeat(GAP));
            }
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }
}

/// How wide lines of such columns are.
fn total(widths: &[Option<usize>]) -> usize {
    let columns = widths.iter().flatten().count();
    widths.iter().flatten().sum::<usize>() + GAP * columns.saturating_sub(1)
}

/// Takes from the widest column until lines fit.
fn narrow(widths: &mut [Option<usize>], limit: usize) {
    while total(widths) > limit {
        match widths.iter_mut().flatten().max() {
            Some(widest) if *widest > 1 => *widest -= 1,
            Some(_) | None => return,
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
