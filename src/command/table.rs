//! Tables with aligned columns.

/// To which side a column's cells are pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    /// Numbers.
    Right,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
}

/// Between two columns.
const GAP: &str = "  ";

impl Table {
    /// With a first row of titles.
    pub(super) fn new(columns: &[(&str, Side)]) -> Self {
        let titles = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        Self { sides: columns.iter().map(|(_, side)| *side).collect(), rows: vec![titles] }
    }

    /// Adds a row; as many cells as there are columns.
    pub(super) fn row<const CELLS: usize>(&mut self, cells: [String; CELLS]) {
        debug_assert_eq!(CELLS, self.sides.len());
        self.rows.push(cells.into());
    }

    /// The table as text, each row a line.
    pub(super) fn text(&self) -> String {
        let widths: Vec<usize> = (0..self.sides.len())
            .map(|column| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).zip(&self.sides).map(|((cell, width), side)| match side {
                Side::Left => format!("{cell:<width$}"),
                Side::Right => format!("{cell:>width$}"),
            });
            text.push_str(cells.collect::<Vec<_>>().join(GAP).trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("IMAGE", Side::Left), ("SIZE", Side::Right), ("PINNED", Side::Left)]);
        table.row(["a".to_owned(), "1.0 KiB".to_owned(), String::new()]);
        table.row(["länger:1".to_owned(), "9 B".to_owned(), "yes".to_owned()]);
        assert_eq!(table.text(), "IMAGE        SIZE  PINNED\na         1.0 KiB\nlänger:1      9 B  yes\n");
    }
}
